"""Requests, engines and checks that the serving tests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from bench.clock import Clock
from bench.model.fake import FailOn, FakeEngine
from bench.records import Completion, Failure, Generation, Request, ServiceLaw


def request(uid: int, due_s: float = 0.0, prompt_tokens: int = 4, output_tokens: int = 3) -> Request:
    prompt_ids = tuple(range(uid, uid + prompt_tokens))
    return Request(uid=uid, due_s=due_s, prompt_ids=prompt_ids, output_tokens=output_tokens)


def poisoned(*uids: int, error: type[BaseException] = ValueError) -> FailOn:
    """Fail every batch that holds one of `uids`."""

    def look(batch: Sequence[Request]) -> BaseException | None:
        found = [r.uid for r in batch if r.uid in uids]
        return error(f"poison in {found}\nsecond line") if found else None

    return look


def too_big_above(size: int) -> FailOn:
    """Fail like a device whose memory holds `size` requests."""
    return lambda batch: MemoryError(f"{len(batch)} do not fit") if len(batch) > size else None


Spoil = Callable[[list[Generation | Failure]], list[Generation | Failure]]


class WrongEngine(FakeEngine):
    """A fake engine whose answers are spoilt on their way."""

    def __init__(self, clock: Clock, spoil: Spoil) -> None:
        super().__init__(clock, ServiceLaw(decode_s=0.1))
        self._spoil = spoil

    def step(self, until_s: float) -> Sequence[Generation | Failure]:
        return self._spoil(list(super().step(until_s)))


def assert_stages_sum_to_latency(outcome: Completion) -> None:
    stages = (
        outcome.queue_s,
        outcome.tokenize_s,
        outcome.prefill_s,
        outcome.decode_s,
        outcome.detokenize_s,
    )
    known = [stage for stage in stages if stage is not None]
    assert known
    assert min(known) >= -1e-9
    assert outcome.done_s is not None
    assert sum(known) == pytest.approx(outcome.done_s - outcome.due_s, abs=1e-9)
