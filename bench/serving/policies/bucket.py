"""Batches of prompts of like length, so that little is padded; each length class has its own timer.

The price is company: requests spread over the buckets, so that each fills more slowly. Which of the two
weighs more depends on the traffic, and is what a comparison with `dynamic` shows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from bench.protocols import Admission, Running, Waiting
from bench.serving.policies.whole import BUSY, WholeBatches, check_ascending, check_at_least, window_end_s

_USUAL_BUCKETS = 12
"""Of the powers of two, those up to 2,048 tokens."""


class BucketBatching(WholeBatches, frozen=True):
    """Up to `max_size` requests of one bucket; a bucket's oldest waits at most `max_wait_ms` for company.

    `edges` are the longest prompts, in tokens, of all buckets but the last, which takes whatever is longer.
    Without `edges` the buckets end at the powers of two.
    """

    max_size: int
    max_wait_ms: float
    edges: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a size below 1, a time below 0, edges that do not rise."""
        check_at_least(1, max_size=self.max_size)
        check_at_least(0, max_wait_ms=self.max_wait_ms)
        if self.edges is not None:
            check_ascending("edges", self.edges)

    @property
    def max_batch(self) -> int:
        """The most requests that run together."""
        return self.max_size

    @property
    def backlog(self) -> int:
        """How many must wait for it to choose as from a queue without end: a batch for each bucket."""
        buckets = _USUAL_BUCKETS if self.edges is None else len(self.edges) + 1
        return self.max_size * buckets

    def bucket(self, prompt_tokens: int) -> int:
        """Return the number of the bucket, from 0, that a prompt belongs to."""
        if self.edges is None:
            return (prompt_tokens - 1).bit_length()
        return bisect_left(self.edges, prompt_tokens)

    def admit(
        self, waiting: Sequence[Waiting], running: Running, now_s: float, *, draining: bool
    ) -> Admission:
        """Take a bucket that is full (reason `size`), whose window is over (`window`), or any (`drain`).

        Among several the one whose oldest request is the oldest goes. All windows are equally long, so
        the first to end is that of the oldest request of all, and it is also when to ask again.
        """
        if running.size:
            return BUSY
        ends_s = window_end_s(waiting[0], self.max_wait_ms)
        if now_s >= ends_s or draining:
            oldest = self._of_the_oldest(waiting)
            reason = "size" if len(oldest) == self.max_size else "window" if now_s >= ends_s else "drain"
            return Admission(take=oldest, reason=reason)
        if full := self._full(waiting):
            return Admission(take=full, reason="size")
        return Admission(reason="window", wake_s=ends_s)

    def _of_the_oldest(self, waiting: Sequence[Waiting]) -> tuple[int, ...]:
        """Return the oldest `max_size` of the oldest request's bucket; reads no further than needed."""
        wanted = self._bucket_of(waiting[0])
        found = [0]
        for index in range(1, len(waiting)):
            if len(found) == self.max_size:
                break
            if self._bucket_of(waiting[index]) == wanted:
                found.append(index)
        return tuple(found)

    def _full(self, waiting: Sequence[Waiting]) -> tuple[int, ...]:
        """Return the full bucket with the oldest request, empty if none is full."""
        buckets: dict[int, list[int]] = {}  # in the order of their oldest
        for index, ticket in enumerate(waiting):
            members = buckets.setdefault(self._bucket_of(ticket), [])
            if len(members) < self.max_size:
                members.append(index)
        return next((tuple(m) for m in buckets.values() if len(m) == self.max_size), ())

    def _bucket_of(self, ticket: Waiting) -> int:
        return self.bucket(len(ticket.request.prompt_ids))
