"""Iteration-level batching: a request joins at the next step when there is room, and leaves when it ends.

No batch waits for its longest output and no request for a batch's end (Orca, Yu et al., OSDI 2022). What
it needs is an engine that lets requests join.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.protocols import Admission, Running, Waiting
from bench.serving.policies.whole import check_at_least


class ContinuousBatching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to `max_size` requests at a time that hold at most `max_batch_tokens` tokens of context together.

    A request counts with its prompt and its whole output from the start, so that none has to be thrown
    out later; one that alone is over the budget runs when nothing else does. With `prefill_chunk` a prompt
    is computed in steps of at most that many tokens, so that a long one does not stall those that run.
    """

    max_size: int
    max_batch_tokens: int | None = None
    prefill_chunk: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes, budgets and chunks below 1."""
        check_at_least(
            1,
            max_size=self.max_size,
            max_batch_tokens=self.max_batch_tokens,
            prefill_chunk=self.prefill_chunk,
        )

    @property
    def max_batch(self) -> int:
        """The most requests that run together."""
        return self.max_size

    @property
    def backlog(self) -> int:
        """How many must wait for it to choose as from a queue without end: one for every slot."""
        return self.max_size

    @property
    def joins(self) -> bool:
        """Whether requests may join while others run: yes."""
        return True

    def admit(
        self, waiting: Sequence[Waiting], running: Running, now_s: float, *, draining: bool
    ) -> Admission:
        """Take the oldest for which there is room (reason `slot`); nobody overtakes.

        What holds the oldest is that all slots are taken (`size`) or the tokens (`budget`); an ending
        request changes either.
        """
        free = min(self.max_size - running.size, len(waiting))
        if free <= 0:
            return Admission(reason="size")
        if self.max_batch_tokens is not None:
            free = self._within_budget(waiting, running, free)
        if not free:
            return Admission(reason="budget")
        return Admission(take=tuple(range(free)), reason="slot")

    def _within_budget(self, waiting: Sequence[Waiting], running: Running, free: int) -> int:
        """Return how many of the oldest `free` fit into the token budget beside those that run."""
        assert self.max_batch_tokens is not None
        tokens = running.tokens
        for count in range(free):
            request = waiting[count].request
            tokens += len(request.prompt_ids) + request.output_tokens
            if tokens > self.max_batch_tokens and count + running.size:
                return count
        return free
