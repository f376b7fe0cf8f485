"""The two policies without a clock: one request at a time, and batches of one fixed size."""

from __future__ import annotations

from collections.abc import Sequence

from bench.protocols import Admission, Running, Waiting
from bench.serving.policies.whole import BUSY, WholeBatches, check_at_least


class NoBatching(WholeBatches, frozen=True):
    """One request at a time, first come first served."""

    @property
    def max_batch(self) -> int:
        """The most requests that run together: one."""
        return 1

    def admit(
        self, waiting: Sequence[Waiting], running: Running, now_s: float, *, draining: bool
    ) -> Admission:
        """Take the oldest as soon as nothing runs; reason `idle`."""
        if running.size:
            return BUSY
        return Admission(take=(0,), reason="idle")


class StaticBatching(WholeBatches, frozen=True):
    """Batches of exactly `size`, the last one aside: what an offline job over a data set does.

    Under live traffic a request may wait without a limit for the batch to fill; only the end of the
    stream sends a smaller one.
    """

    size: int

    def __post_init__(self) -> None:
        """Refuse a size below 1."""
        check_at_least(1, size=self.size)

    @property
    def max_batch(self) -> int:
        """The most requests that run together."""
        return self.size

    def admit(
        self, waiting: Sequence[Waiting], running: Running, now_s: float, *, draining: bool
    ) -> Admission:
        """Take the oldest `size` (reason `size`), or all when no more will come (`drain`); else wait."""
        if running.size:
            return BUSY
        if len(waiting) >= self.size:
            return Admission(take=tuple(range(self.size)), reason="size")
        if draining:
            return Admission(take=tuple(range(len(waiting))), reason="drain")
        return Admission(reason="size")
