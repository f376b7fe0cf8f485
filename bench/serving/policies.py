"""Which waiting requests go next: batching policies as pure functions, without threads or clocks.

A policy answers "these, for this reason" or "ask me again at that time". The loop asks whenever the
engine is free, so a batch keeps growing while the engine is busy, and a request's window is counted
from when it entered the queue: under load it has long passed by the time the engine is free again,
and batching then costs no waiting at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.config import NonNegative, PositiveInt
from bench.protocols import Admission, Policy, Waiting
from bench.units import MS_PER_S


class NoBatching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request at a time, first come first served."""

    @property
    def max_batch(self) -> int:
        """The most requests that run together: one."""
        return 1

    def admit(self, waiting: Sequence[Waiting], running: int, now_s: float, *, draining: bool) -> Admission:
        """Take the oldest as soon as nothing runs; reason `idle`."""
        if running or not waiting:
            return Admission()
        return Admission(take=(0,), reason="idle")


class DynamicBatching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to `max_size` requests together; the oldest waits at most `max_wait_ms` for company.

    With `max_wait_ms = 0` an idle engine takes at once whatever waits.
    """

    max_size: PositiveInt
    max_wait_ms: NonNegative

    @property
    def max_batch(self) -> int:
        """The most requests that run together."""
        return self.max_size

    def admit(self, waiting: Sequence[Waiting], running: int, now_s: float, *, draining: bool) -> Admission:
        """Take the oldest `max_size` when nothing runs and waiting longer is no use.

        That is: enough wait (reason `size`), the oldest's window is over (`window`), or nothing more
        will come (`drain`). Otherwise ask again when the oldest's window ends.
        """
        if running or not waiting:
            return Admission()
        window_ends_s = waiting[0].sent_s + self.max_wait_ms / MS_PER_S
        if len(waiting) >= self.max_size:
            reason = "size"
        elif now_s >= window_ends_s:
            reason = "window"
        elif draining:
            reason = "drain"
        else:
            return Admission(wake_s=window_ends_s)
        return Admission(take=tuple(range(min(len(waiting), self.max_size))), reason=reason)


POLICIES: dict[str, type[Policy]] = {"none": NoBatching, "dynamic": DynamicBatching}
"""The `kind`s of `[systems.NAME] batching`."""
