"""The queueing validation in a few seconds, and that it would notice a simulator that is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import pytest

from bench.clock import VirtualClock
from bench.model.fake import Style
from bench.records import Failure, Generation, Request, ServiceLaw
from bench.serving.policies import ContinuousBatching, NoBatching
from tests.validate.queueing import (
    LAW,
    QUEUES,
    Occupancy,
    WatchedEngine,
    batch_differences,
    expected_wait_s,
    exponential,
    little_violation,
    replicate,
    serve,
)


@pytest.mark.parametrize("queue", QUEUES)
def test_the_mean_wait_of_a_known_queue_comes_out(queue: str) -> None:
    draw, second_moment = QUEUES[queue]
    found = replicate(draw, 0.6, 4_000, 8, seed=11)
    low, high = found.wait_s.low, found.wait_s.high
    assert low is not None
    assert high is not None
    expected_s = expected_wait_s(0.6, second_moment)
    assert low < expected_s < high
    assert high - low < 0.3 * expected_s
    assert found.little < 1e-9


def test_a_queue_of_another_law_is_told_apart() -> None:
    found = replicate(exponential, 0.6, 4_000, 8, seed=11)
    assert found.wait_s.low is not None
    assert found.wait_s.low > expected_wait_s(0.6, second_moment=1.0)


@pytest.mark.parametrize("way", ["greedy", "window", "joining"])
def test_batches_are_those_of_a_plain_loop_to_rounding(way: str) -> None:
    worst, little = batch_differences(1_000, seed=3)[way]
    assert worst < 1e-12
    assert little < 1e-10


class StampsLate(WatchedEngine):
    """Says that its requests end 0.1 % later than they do."""

    def step(self, until_s: float) -> list[Generation | Failure]:
        return [
            msgspec.structs.replace(one, finished_s=one.finished_s * 1.001)
            if isinstance(one, Generation)
            else one
            for one in super().step(until_s)
        ]


class HoldsBack(WatchedEngine):
    """Lets time pass before it takes requests in, which nothing stamps."""

    def admit(self, batch: Sequence[Request]) -> None:
        self._clock_of_all.sleep_until(self._clock_of_all.now_s() + 0.01)
        super().admit(batch)

    def __init__(self, clock: VirtualClock, law: ServiceLaw, style: Style, occupancy: Occupancy) -> None:
        super().__init__(clock, law, style, occupancy)
        self._clock_of_all = clock


@pytest.mark.parametrize("engine_class", [StampsLate, HoldsBack])
def test_a_wrong_stamp_or_time_that_nobody_accounts_for_breaks_littles_law(
    engine_class: type[WatchedEngine],
) -> None:
    requests = [Request(uid=i, due_s=0.1 * i, prompt_ids=range(50), output_tokens=9) for i in range(200)]
    policy = ContinuousBatching(max_size=4)
    assert little_violation(serve(requests, policy, LAW, "steps")) < 1e-10
    assert little_violation(serve(requests, policy, LAW, "steps", engine_class)) > 1e-4


def test_a_request_that_never_leaves_breaks_littles_law() -> None:
    served = serve([Request(uid=0, due_s=5.0, prompt_ids=(1,), output_tokens=1)], NoBatching(), LAW, "static")
    assert little_violation(served) < 1e-10
    served.occupancy.running += 1
    assert math.isinf(little_violation(served))
