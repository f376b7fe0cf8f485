"""Batches that form while the engine is busy, and wait a little for company when it is not.

Without options this is the rule that most serving systems offer: full, or the oldest has waited long
enough. The options answer what that rule is known to get wrong: shapes that are compiled for certain sizes
(`preferred_sizes`), memory that depends on tokens and not on requests (`max_batch_tokens`), padding
(`look_ahead`), clients that split into two half-empty cohorts (`settle_ms`) and objectives (`deadline`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from bench.protocols import Admission, Running, Waiting
from bench.serving.policies.whole import BUSY, WholeBatches, check_ascending, check_at_least, window_end_s
from bench.units import MS_PER_S

SETTLE_LIMIT = 10
"""How many times `settle_ms` after a batch's end settling is over whatever still arrives."""


class Deadline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The latency to keep (`ms`, from the due time); a batch of n takes `base_ms + per_request_ms × n`."""

    ms: float
    base_ms: float
    per_request_ms: float

    def __post_init__(self) -> None:
        """Refuse a deadline that not even a request alone could keep."""
        check_at_least(0, ms=self.ms, base_ms=self.base_ms, per_request_ms=self.per_request_ms)
        alone_ms = self.base_ms + self.per_request_ms
        if self.ms <= alone_ms:
            raise ValueError(f"ms = {self.ms:g} cannot be kept: a request alone takes {alone_ms:g} ms")

    def latest_start_s(self, oldest: Waiting, size: int) -> float:
        """Return when a batch of `size` must start for `oldest` to be done `ms` after it was due."""
        return oldest.request.due_s + (self.ms - self.base_ms - self.per_request_ms * size) / MS_PER_S


class DynamicBatching(WholeBatches, frozen=True):
    """Up to `max_size` requests together; the oldest waits at most `max_wait_ms` for company.

    With `max_wait_ms = 0` an idle engine takes at once whatever waits. Further options:

    - `preferred_sizes`, rising: the largest goes as soon as it is reached; when the window ends, the
      largest that can be filled goes, or everything where there are fewer than the smallest.
    - `max_batch_tokens`: rows × (longest prompt + longest output) stays within it, so padding counts. A
      request that is over it by itself goes alone.
    - `look_ahead` k: beside the oldest go those nearest to it in length among the first k × `max_size`.
      Every batch takes the oldest, so nobody waits for more batches than there are requests before it.
    - `settle_ms`: after a batch has ended its clients are expected back: the next one waits until they are,
      or until none has come for `settle_ms`. Otherwise clients that send when they are answered fall into
      two cohorts that take turns for ever, in batches of half the size. It never waits beyond ten
      times `settle_ms` after the batch's end, and not at all where the engine has been idle for longer.
    - `deadline`: go when waiting longer would make the oldest miss it, whatever the rules above say.
    """

    max_size: int
    max_wait_ms: float
    preferred_sizes: tuple[int, ...] = ()
    max_batch_tokens: int | None = None
    look_ahead: int = 1
    settle_ms: float = 0.0
    deadline: Deadline | None = None

    def __post_init__(self) -> None:
        """Refuse sizes and budgets below 1, times below 0, preferred sizes that do not rise to `max_size`."""
        check_at_least(
            1, max_size=self.max_size, max_batch_tokens=self.max_batch_tokens, look_ahead=self.look_ahead
        )
        check_at_least(0, max_wait_ms=self.max_wait_ms, settle_ms=self.settle_ms)
        if self.preferred_sizes:
            check_ascending("preferred_sizes", self.preferred_sizes)
            if self.preferred_sizes[-1] > self.max_size:
                raise ValueError(
                    f"preferred_sizes = {list(self.preferred_sizes)} must not exceed "
                    f"max_size = {self.max_size}"
                )

    @property
    def max_batch(self) -> int:
        """The most requests that run together: the largest preferred size, where there are any."""
        return self.preferred_sizes[-1] if self.preferred_sizes else self.max_size

    @property
    def backlog(self) -> int:
        """How many must wait for it to choose as from a queue without end: all that it looks at."""
        return self.look_ahead * self.max_size

    def admit(
        self, waiting: Sequence[Waiting], running: Running, now_s: float, *, draining: bool
    ) -> Admission:
        """Take a batch when nothing runs and waiting longer is no use; else say when to ask again.

        That is: enough wait (reason `size`), no other would fit (`budget`), the oldest's window is over
        (`window`) and the clients are back (`settle`), its deadline is near (`deadline`), or nothing more
        will come (`drain`).
        """
        if running.size:
            return BUSY
        batch, full = self._batch(waiting)
        if full:
            return _going(batch, full)
        start_s, reason = held_until_s, held_by = self._ready(waiting, running)
        if self.deadline is not None:
            latest_s = self.deadline.latest_start_s(waiting[0], len(batch))
            if latest_s < held_until_s:
                start_s, reason = latest_s, "deadline"
        if now_s >= start_s:
            return _going(batch, reason)
        if draining:
            return _going(batch, "drain")
        return Admission(reason=held_by, wake_s=start_s)

    def _ready(self, waiting: Sequence[Waiting], running: Running) -> tuple[float, str]:
        """Return from when on a batch that is not full may go, and which rule says so."""
        window_s = window_end_s(waiting[0], self.max_wait_ms)
        if self.settle_ms:
            settled_s = self._settled_s(waiting, running)
            if settled_s > window_s:
                return settled_s, "settle"
        return window_s, "window"

    def _settled_s(self, waiting: Sequence[Waiting], running: Running) -> float:
        """Return when the clients of the last batch are back or no longer expected; -inf if that is over.

        They are back when as many requests have come since the last end as ended then.
        """
        settle_s = self.settle_ms / MS_PER_S
        ended_s, expected = running.ended_s, running.ended
        idle_before = waiting[0].sent_s > ended_s + settle_s
        back = 0 < expected <= len(waiting) and waiting[-expected].sent_s >= ended_s
        if idle_before or back:
            return -math.inf
        return min(max(waiting[-1].sent_s, ended_s) + settle_s, ended_s + SETTLE_LIMIT * settle_s)

    def _batch(self, waiting: Sequence[Waiting]) -> tuple[Sequence[int], str]:
        """Return who would go now, and why nobody else could (`size`, `budget`); "" if others could."""
        limit = self.max_batch
        if self.max_batch_tokens is None:
            if len(waiting) < limit:
                return range(self._preferred(len(waiting))), ""
            return self._by_likeness(waiting)[:limit], "size"
        chosen, full = self._within_budget(waiting, self._by_likeness(waiting), self.max_batch_tokens)
        return chosen[: self._preferred(len(chosen))], full

    def _preferred(self, size: int) -> int:
        """Return the largest preferred size that `size` requests fill, `size` where there is none."""
        if not self.preferred_sizes:
            return size
        return max((preferred for preferred in self.preferred_sizes if preferred <= size), default=size)

    def _by_likeness(self, waiting: Sequence[Waiting]) -> Sequence[int]:
        """Return the candidates: the oldest, then those nearest to it in length, then by age."""
        if self.look_ahead == 1:
            return range(min(len(waiting), self.max_batch))
        lengths = [
            len(waiting[index].request.prompt_ids) + waiting[index].request.output_tokens
            for index in range(min(len(waiting), self.look_ahead * self.max_size))
        ]
        return sorted(range(len(lengths)), key=lambda index: abs(lengths[index] - lengths[0]))

    def _within_budget(
        self, waiting: Sequence[Waiting], candidates: Sequence[int], budget: int
    ) -> tuple[list[int], str]:
        """Return those of `candidates` that go together within `budget` tokens, and why no other could.

        In the order of arrival nobody overtakes one that does not fit; with a look-ahead the next in
        likeness takes its place.
        """
        chosen: list[int] = []
        prompt = output = 0
        for index in candidates:
            request = waiting[index].request
            longer_prompt = max(prompt, len(request.prompt_ids))
            longer_output = max(output, request.output_tokens)
            if chosen and (len(chosen) + 1) * (longer_prompt + longer_output) > budget:
                if self.look_ahead == 1:
                    return chosen, "budget"
                continue
            chosen.append(index)
            prompt, output = longer_prompt, longer_output
            if len(chosen) == self.max_batch:
                return chosen, "size"
        return chosen, "budget" if (len(chosen) + 1) * (prompt + output) > budget else ""


def _going(batch: Sequence[int], reason: str) -> Admission:
    """Return the answer that `batch` goes, the oldest first."""
    return Admission(take=tuple(batch if isinstance(batch, range) else sorted(batch)), reason=reason)
