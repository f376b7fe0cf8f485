"""What holds for every batching policy, whatever waits, runs and shows on the clock."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import choose
from bench.errors import ConfigError
from bench.protocols import Admission, Policy, Running
from bench.serving.policies import POLICIES

from .waiting import ANY_POLICY, QUEUES, Waits, class_of, waits

IDLE = Running()
LATER_S = st.one_of(st.just(0.0), st.floats(0, 10))


@st.composite
def engines(draw: st.DrawFn) -> Running:
    """An idle engine that may have ended something, or a busy one."""
    ended_s = draw(st.none() | st.floats(0, 10))
    idle = IDLE if ended_s is None else Running(ended_s=ended_s, ended=draw(st.integers(0, 12)))
    if draw(st.booleans()):
        return idle
    size = draw(st.integers(1, 12))
    return msgspec.structs.replace(idle, size=size, tokens=size * draw(st.integers(2, 100)))


def at(queue: Sequence[Waits], running: Running, later_s: float) -> float:
    """Return a time that is no earlier than all that has happened."""
    return max(queue[-1].sent_s, running.ended_s) + later_s


@given(ANY_POLICY, QUEUES, engines(), LATER_S, st.booleans())
def test_an_answer_is_either_a_batch_within_bounds_or_a_reason_to_wait(
    policy: Policy, queue: Sequence[Waits], running: Running, later_s: float, draining: bool
) -> None:
    now_s = at(queue, running, later_s)
    answer = policy.admit(queue, running, now_s, draining=draining)
    assert answer.reason
    if answer.take:
        assert answer.wake_s is None
        assert list(answer.take) == sorted(set(answer.take))
        assert answer.take[0] >= 0
        assert answer.take[-1] < len(queue)
        assert running.size + len(answer.take) <= policy.max_batch
        assert policy.joins or not running.size
    else:
        assert answer.wake_s is None or answer.wake_s > now_s
        # With an idle engine only the clock can help once nobody else comes: it must be a batch.
        assert running.size or not draining


@given(ANY_POLICY, QUEUES, engines(), LATER_S)
def test_a_hold_ends_at_the_moment_that_it_names(
    policy: Policy, queue: Sequence[Waits], running: Running, later_s: float
) -> None:
    answer = policy.admit(queue, running, at(queue, running, later_s), draining=False)
    if answer.wake_s is not None:
        assert policy.admit(queue, running, answer.wake_s, draining=False).take


@given(ANY_POLICY, QUEUES, engines(), LATER_S, st.booleans())
def test_the_same_question_has_the_same_answer(
    policy: Policy, queue: Sequence[Waits], running: Running, later_s: float, draining: bool
) -> None:
    now_s = at(queue, running, later_s)
    first = policy.admit(queue, running, now_s, draining=draining)
    assert policy.admit(tuple(queue), running, now_s, draining=draining) == first


@given(ANY_POLICY.filter(lambda policy: not policy.joins), QUEUES, LATER_S, st.booleans())
def test_a_batch_grows_while_the_engine_is_busy(
    policy: Policy, queue: Sequence[Waits], later_s: float, draining: bool
) -> None:
    busy = Running(size=1, tokens=10, ended_s=0.0)
    answer = policy.admit(queue, busy, at(queue, busy, later_s), draining=draining)
    assert answer == Admission(reason="busy")


@given(ANY_POLICY, QUEUES, engines(), LATER_S, st.booleans())
def test_nobody_overtakes_within_a_class(
    policy: Policy, queue: Sequence[Waits], running: Running, later_s: float, draining: bool
) -> None:
    answer = policy.admit(queue, running, at(queue, running, later_s), draining=draining)
    left = set(range(len(queue))) - set(answer.take)
    for index in answer.take:
        mine = class_of(policy, queue[index].request)
        assert not any(other < index and class_of(policy, queue[other].request) == mine for other in left)


@given(ANY_POLICY, QUEUES)
def test_nobody_waits_for_more_batches_than_there_were_requests_before_it(
    policy: Policy, queue: Sequence[Waits]
) -> None:
    left = list(queue)
    now_s = 1000.0  # every window is over
    batches = 0
    while left:
        answer = policy.admit(left, IDLE, now_s, draining=True)
        assert answer.take
        for index in answer.take:
            assert batches <= left[index].request.uid  # requests are numbered by age
        left = [ticket for index, ticket in enumerate(left) if index not in answer.take]
        batches += 1


@given(ANY_POLICY, QUEUES, st.lists(st.tuples(st.integers(1, 80), st.integers(1, 40)), min_size=1))
def test_the_oldest_is_served_though_ever_more_requests_arrive(
    policy: Policy, queue: Sequence[Waits], shapes: list[tuple[int, int]]
) -> None:
    left, now_s, uid = list(queue), 1000.0, len(queue)
    oldest = left[0]
    for _ in range(2):
        left += [waits(uid + k, now_s, *shape) for k, shape in enumerate(shapes * 20)]
        answer = policy.admit(left, IDLE, now_s, draining=False)
        left = [ticket for index, ticket in enumerate(left) if index not in answer.take]
        now_s += 1.0
    assert oldest not in left


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"kind": "none", "max_size": 4}, "max_size is an unknown key"),
        ({"kind": "static"}, "size is missing"),
        ({"kind": "static", "size": 0}, "size = 0 must be a finite number of at least 1"),
        ({"kind": "dynamic", "max_size": 4}, "max_wait_ms is missing"),
        ({"kind": "dynamic", "max_size": 0, "max_wait_ms": 1}, "max_size = 0"),
        ({"kind": "dynamic", "max_size": 4, "max_wait_ms": -1}, "max_wait_ms = -1"),
        ({"kind": "dynamic", "max_size": 4, "max_wait_ms": float("inf")}, "max_wait_ms = inf"),
        ({"kind": "dynamic", "max_size": 4, "max_wait_ms": float("nan")}, "max_wait_ms = nan"),
        ({"kind": "dynamic", "max_size": 4, "max_wait_ms": 1, "look_ahead": 0}, "look_ahead = 0"),
        ({"kind": "dynamic", "max_size": 4, "max_wait_ms": 1, "settle_ms": -1}, "settle_ms = -1"),
        ({"kind": "dynamic", "max_size": 4, "max_wait_ms": 1, "max_batch_tokens": 0}, "max_batch_tokens = 0"),
        ({"kind": "dynamic", "max_size": 4, "max_wait_ms": 1, "preferred_sizes": [4, 2]}, "must be rising"),
        ({"kind": "dynamic", "max_size": 4, "max_wait_ms": 1, "preferred_sizes": [2, 8]}, "max_size = 4"),
        ({"kind": "dynamic", "max_size": 4, "max_wait_ms": 1, "deadline": {"ms": 9}}, "base_ms is missing"),
        (
            {
                "kind": "dynamic",
                "max_size": 4,
                "max_wait_ms": 1,
                "deadline": {"ms": 9, "base_ms": 8, "per_request_ms": 1},
            },
            "ms = 9 cannot be kept: a request alone takes 9 ms",
        ),
        ({"kind": "bucket", "max_size": 4, "max_wait_ms": 1, "edges": []}, "edges = .* must be rising"),
        ({"kind": "bucket", "max_size": 4, "max_wait_ms": 1, "edges": [8, 8]}, "edges = .* must be rising"),
        ({"kind": "bucket", "max_size": 4, "max_wait_ms": 1, "edges": [0, 8]}, "edges = .* at least 1"),
        ({"kind": "continuous", "max_size": 0}, "max_size = 0"),
        ({"kind": "continuous", "max_size": 4, "max_batch_tokens": 0}, "max_batch_tokens = 0"),
        ({"kind": "continuous", "max_size": 4, "prefill_chunk": 0}, "prefill_chunk = 0"),
        ({"kind": "continuous", "max_size": 4, "max_wait_ms": 5}, "max_wait_ms is an unknown key"),
    ],
)
def test_a_misplaced_or_impossible_option_is_refused(table: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=rf"x\.toml: systems\.a\.batching.*{complaint}"):
        choose(POLICIES, table, "x.toml", "systems.a.batching")


@pytest.mark.parametrize(
    "table",
    [
        "none",
        {"kind": "static", "size": 8},
        {"kind": "dynamic", "max_size": 8, "max_wait_ms": 5},
        {
            "kind": "dynamic",
            "max_size": 8,
            "max_wait_ms": 5,
            "preferred_sizes": [4, 8],
            "max_batch_tokens": 4096,
            "look_ahead": 4,
            "settle_ms": 1,
            "deadline": {"ms": 500, "base_ms": 20, "per_request_ms": 3.5},
        },
        {"kind": "bucket", "max_size": 8, "max_wait_ms": 5, "edges": [64, 256]},
        {"kind": "continuous", "max_size": 8, "max_batch_tokens": 4096, "prefill_chunk": 64},
    ],
)
def test_every_option_is_a_key_of_the_experiment_file(table: str | dict[str, object]) -> None:
    policy = choose(POLICIES, table, "x.toml", "systems.a.batching")
    assert policy.max_batch == (1 if table == "none" else 8)
    assert policy.joins == (isinstance(table, dict) and table["kind"] == "continuous")
    assert policy.prefill_chunk == (64 if policy.joins else None)
