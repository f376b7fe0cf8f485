"""What one at a time, static, bucket and continuous batching each promise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.protocols import Admission, Running
from bench.serving.policies import BucketBatching, ContinuousBatching, NoBatching, StaticBatching

from .waiting import QUEUES, Waits, of_lengths, waiting, waits

IDLE = Running()


def test_no_batching_takes_one_at_once() -> None:
    answer = NoBatching().admit(waiting(0.0, 0.0), IDLE, 0.0, draining=False)
    assert answer == Admission(take=(0,), reason="idle")


@given(size=st.integers(1, 12), queue=QUEUES, draining=st.booleans())
def test_static_takes_exactly_its_size_and_less_only_at_the_end_of_the_stream(
    size: int, queue: Sequence[Waits], draining: bool
) -> None:
    answer = StaticBatching(size=size).admit(queue, IDLE, 1e9, draining=draining)
    if len(queue) >= size:
        assert answer == Admission(take=tuple(range(size)), reason="size")
    elif draining:
        assert answer == Admission(take=tuple(range(len(queue))), reason="drain")
    else:
        assert answer == Admission(reason="size")


@given(lengths=st.lists(st.integers(1, 5000), min_size=1), edges=st.sets(st.integers(1, 4000), min_size=1))
def test_every_prompt_has_a_bucket_and_none_is_longer_than_its_edge(
    lengths: list[int], edges: set[int]
) -> None:
    rising = tuple(sorted(edges))
    policy = BucketBatching(max_size=4, max_wait_ms=1, edges=rising)
    for length in lengths:
        number = policy.bucket(length)
        assert 0 <= number <= len(rising)
        assert number == len(rising) or length <= rising[number]
        assert number == 0 or length > rising[number - 1]


def test_the_derived_buckets_end_at_the_powers_of_two() -> None:
    policy = BucketBatching(max_size=4, max_wait_ms=1)
    assert [policy.bucket(n) for n in (1, 2, 3, 4, 5, 8, 9, 16, 17)] == [0, 1, 2, 2, 3, 3, 4, 4, 5]


@given(queue=QUEUES, edges=st.none() | st.just((10, 30)), later_s=st.floats(0, 10), draining=st.booleans())
def test_a_batch_never_mixes_buckets(
    queue: Sequence[Waits], edges: tuple[int, ...] | None, later_s: float, draining: bool
) -> None:
    policy = BucketBatching(max_size=5, max_wait_ms=2000, edges=edges)
    answer = policy.admit(queue, IDLE, queue[-1].sent_s + later_s, draining=draining)
    assert len({policy.bucket(len(queue[index].request.prompt_ids)) for index in answer.take}) <= 1


BUCKETS = BucketBatching(max_size=2, max_wait_ms=1000, edges=(10,))


@pytest.mark.parametrize(
    ("queue", "now_s", "draining", "expected"),
    [
        pytest.param(
            [waits(0, 0.0, 5), waits(1, 0.1, 50), waits(2, 0.2, 60)],
            0.3,
            False,
            Admission(take=(1, 2), reason="size"),
            id="a full bucket does not wait for the others",
        ),
        pytest.param(
            [waits(0, 0.0, 50), waits(1, 0.1, 5), waits(2, 0.2, 6), waits(3, 0.3, 60)],
            0.4,
            False,
            Admission(take=(0, 3), reason="size"),
            id="of two full buckets the one with the oldest goes",
        ),
        pytest.param(
            [waits(0, 0.0, 5), waits(1, 0.1, 50), waits(2, 0.2, 60)],
            1.0,
            False,
            Admission(take=(0,), reason="window"),
            id="the oldest goes when its window is over though another bucket is full",
        ),
        pytest.param(
            [waits(0, 0.5, 50), waits(1, 0.9, 5)],
            1.0,
            False,
            Admission(reason="window", wake_s=1.5),
            id="the first window to end is that of the oldest",
        ),
        pytest.param(
            [waits(0, 0.5, 50), waits(1, 0.9, 5)],
            1.0,
            True,
            Admission(take=(0,), reason="drain"),
            id="the end of the stream sends what there is",
        ),
    ],
)
def test_each_bucket_has_its_own_timer(
    queue: list[Waits], now_s: float, draining: bool, expected: Admission
) -> None:
    assert BUCKETS.admit(queue, IDLE, now_s, draining=draining) == expected


def test_continuous_fills_the_free_slots_at_once_and_in_order() -> None:
    policy = ContinuousBatching(max_size=4)
    queue = waiting(0.0, 0.0, 0.0)
    assert policy.admit(queue, IDLE, 0.0, draining=False) == Admission(take=(0, 1, 2), reason="slot")
    two_run = Running(size=2, tokens=100)
    assert policy.admit(queue, two_run, 0.0, draining=False) == Admission(take=(0, 1), reason="slot")
    all_run = Running(size=4, tokens=100)
    assert policy.admit(queue, all_run, 0.0, draining=True) == Admission(reason="size")


@given(queue=QUEUES, budget=st.integers(1, 300), size=st.integers(0, 7), tokens=st.integers(0, 300))
def test_continuous_keeps_its_token_budget_and_fills_it_as_far_as_order_allows(
    queue: Sequence[Waits], budget: int, size: int, tokens: int
) -> None:
    running = Running(size=size, tokens=tokens if size else 0)
    answer = ContinuousBatching(max_size=8, max_batch_tokens=budget).admit(
        queue, running, 99.0, draining=False
    )
    needs = [len(t.request.prompt_ids) + t.request.output_tokens for t in queue]
    taken = len(answer.take)
    held = running.tokens + sum(needs[:taken])
    assert held <= budget or size + taken == 1 or not taken
    if taken < min(8 - size, len(queue)):  # the next did not fit
        assert held + needs[taken] > budget
        assert taken or answer.reason == "budget"


def test_a_request_beyond_the_budget_runs_when_nothing_else_does() -> None:
    policy = ContinuousBatching(max_size=4, max_batch_tokens=20)
    queue = of_lengths(50, 4)
    assert policy.admit(queue, IDLE, 0.0, draining=False) == Admission(take=(0,), reason="slot")
    assert policy.admit(queue, Running(size=1, tokens=7), 0.0, draining=False) == Admission(reason="budget")
