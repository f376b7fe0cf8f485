"""The loop on virtual time: one outcome per request on every path, and queueing theory's answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.clock import VirtualClock
from bench.model.fake import FakeEngine
from bench.protocols import Policy
from bench.records import Completion, Request, ServiceLaw
from bench.serving.loop import EngineLoop
from bench.serving.policies import ContinuousBatching, DynamicBatching, NoBatching
from bench.serving.queue import ScheduledQueue
from tests.serving.looping import serve

from .traffic import assert_stages_sum_to_latency, poisoned, request, too_big_above


@settings(max_examples=150, deadline=None)
@given(
    due_s=st.lists(st.floats(0, 20), max_size=40),
    policy=st.one_of(
        st.builds(NoBatching),
        st.builds(DynamicBatching, max_size=st.integers(1, 9), max_wait_ms=st.sampled_from([0.0, 300.0])),
    ),
    poison=st.sets(st.integers(0, 39), max_size=4),
    memory=st.integers(1, 9),
    limit=st.integers(1, 40),
    timeout_s=st.sampled_from([0.5, 2.0, math.inf]),
    too_long=st.sets(st.integers(0, 39), max_size=3),
    shape=st.integers(1, 12),
)
def test_nothing_is_lost_or_duplicated_whatever_comes_and_whatever_fails(
    due_s: list[float],
    policy: DynamicBatching | NoBatching,
    poison: set[int],
    memory: int,
    limit: int,
    timeout_s: float,
    too_long: set[int],
    shape: int,
) -> None:
    def fails(batch: Sequence[Request]) -> BaseException | None:
        return poisoned(*poison)(batch) or too_big_above(memory)(batch)

    requests = [
        request(uid, t, prompt_tokens=5000 if uid in too_long else 1 + uid % 5, output_tokens=1 + uid % shape)
        for uid, t in enumerate(due_s)
    ]
    outcomes = serve(
        requests,
        policy,
        engine=lambda clock: FakeEngine(
            clock,
            ServiceLaw(prefill_s_per_token=0.01, decode_s=0.05, decode_s_per_sequence=0.01),
            fail_on=fails,
        ),
        queue_limit=limit,
        timeout_s=timeout_s,
    )
    assert [outcome.uid for outcome in outcomes] == list(range(len(requests)))
    batches = Counter(o.batch_id for o in outcomes if o.batch_id is not None)
    for wanted, outcome in zip(requests, outcomes, strict=True):
        check_outcome(wanted, outcome, poison, too_long, timeout_s)
        if outcome.batch_id is not None:
            assert outcome.batch_size == batches[outcome.batch_id] <= min(policy.max_batch, memory)
    check_one_batch_at_a_time(outcomes)


def check_outcome(
    wanted: Request, outcome: Completion, poison: set[int], too_long: set[int], timeout_s: float
) -> None:
    served = outcome.first_token_s is not None
    match outcome.status:
        case "ok":
            assert outcome.uid not in poison | too_long
            assert outcome.output_tokens == wanted.output_tokens
            assert outcome.done_s is not None
            assert outcome.done_s - wanted.due_s <= timeout_s
        case "error":
            assert outcome.uid in poison | too_long
            assert ("too long" in (outcome.error or "")) == (outcome.uid in too_long)
        case "timeout":
            assert math.isfinite(timeout_s)
            assert served == (outcome.output_tokens > 0)
        case "rejected":
            assert "full" in (outcome.error or "")
    if served or outcome.status == "timeout":
        assert_stages_sum_to_latency(outcome)


def check_one_batch_at_a_time(outcomes: list[Completion]) -> None:
    spans = sorted(
        {
            (o.admitted_s, o.done_s)
            for o in outcomes
            if o.first_token_s is not None and o.admitted_s is not None
        }
    )
    for (_, done_s), (next_admitted_s, _) in pairwise(spans):
        assert done_s is not None
        assert done_s <= next_admitted_s


@given(due_s=st.lists(st.floats(0, 20), min_size=1, max_size=60), max_size=st.integers(1, 6))
def test_requests_start_in_the_order_in_which_they_came(due_s: list[float], max_size: int) -> None:
    outcomes = serve(
        [request(uid, t) for uid, t in enumerate(due_s)], DynamicBatching(max_size=max_size, max_wait_ms=200)
    )
    admitted_s = [o.admitted_s for o in sorted(outcomes, key=lambda o: o.due_s)]
    assert admitted_s == sorted(t for t in admitted_s if t is not None)


def test_one_server_with_fixed_times_has_exactly_the_wait_of_d_d_1() -> None:
    # Service is 0.2 s (2 decode steps): no wait at a gap of 0.25 s; at 0.15 s each waits 0.05 s more.
    calm = serve([request(k, due_s=0.25 * k) for k in range(50)], NoBatching())
    assert [o.queue_s for o in calm] == pytest.approx([0.0] * 50)
    overloaded = serve([request(k, due_s=0.15 * k) for k in range(50)], NoBatching())
    assert [o.queue_s for o in overloaded] == pytest.approx([0.05 * k for k in range(50)])


def test_one_server_under_poisson_traffic_has_the_mean_wait_of_m_d_1() -> None:
    service_s, load, n = 0.1, 0.6, 20_000
    due_s = np.cumsum(np.random.default_rng(4).exponential(service_s / load, n)).tolist()
    requests = [request(uid, t, output_tokens=2) for uid, t in enumerate(due_s)]
    waits_s = [o.queue_s for o in serve(requests, NoBatching()) if o.queue_s is not None]
    # Pollaczek–Khinchine with fixed service: W = load · service / (2 (1 − load)).
    assert np.mean(waits_s) == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.05)


def test_a_batch_grows_while_the_engine_is_busy() -> None:
    first = request(0, due_s=0.0, output_tokens=101)  # 10 s
    later = [request(uid, due_s=uid * 1.0) for uid in range(1, 6)]
    outcomes = serve([first, *later], DynamicBatching(max_size=8, max_wait_ms=20))
    assert [o.batch_size for o in outcomes] == [1, 5, 5, 5, 5, 5]
    # The window of the oldest was over long before the engine was free: it adds nothing.
    assert {o.admitted_s for o in outcomes[1:]} == {outcomes[0].done_s}


def test_the_window_of_the_oldest_ends_on_time_without_a_further_arrival() -> None:
    requests = [request(0, due_s=1.0), request(1, due_s=1.3), request(2, due_s=100.0)]
    outcomes = serve(requests, DynamicBatching(max_size=8, max_wait_ms=500))
    assert [o.admitted_s for o in outcomes] == pytest.approx([1.5, 1.5, 100.0])
    assert [o.admit_reason for o in outcomes] == ["window", "window", "drain"]


def test_a_full_batch_goes_at_once() -> None:
    outcomes = serve(
        [request(uid, due_s=1.0) for uid in range(4)], DynamicBatching(max_size=4, max_wait_ms=500)
    )
    assert [(o.admitted_s, o.admit_reason, o.batch_size) for o in outcomes] == [(1.0, "size", 4)] * 4


def test_a_request_that_is_too_long_fails_alone_before_it_takes_anyones_place() -> None:
    requests = [request(uid, prompt_tokens=4094 if uid == 1 else 4) for uid in range(3)]
    outcomes = serve(requests)
    assert [o.status for o in outcomes] == ["ok", "error", "ok"]
    assert outcomes[1].error == "too long: 4097 tokens with its output, the context is 4096"
    assert [o.batch_size for o in outcomes] == [2, None, 2]
    assert serve([request(0, prompt_tokens=4093)])[0].status == "ok"


def test_a_request_that_is_too_long_does_not_fill_a_batch() -> None:
    requests = [request(0, prompt_tokens=5000), request(1), request(2, due_s=9.0)]
    outcomes = serve(requests, DynamicBatching(max_size=2, max_wait_ms=500))
    assert (outcomes[1].admit_reason, outcomes[1].admitted_s) == ("window", 0.5)


def test_a_request_that_waits_too_long_is_never_served() -> None:
    # The first runs from 0 to 10 s and is late itself; the second expires at 3 s meanwhile.
    requests = [request(0, 0.0, output_tokens=101), request(1, 1.0), request(2, 8.9), request(3, 9.5)]
    outcomes = serve(requests, NoBatching(), timeout_s=2.0)
    assert [o.status for o in outcomes] == ["timeout", "timeout", "ok", "ok"]
    assert outcomes[0].done_s == pytest.approx(10.0)
    assert outcomes[0].output_tokens == 101
    assert (outcomes[1].admitted_s, outcomes[1].first_token_s) == (None, None)
    assert outcomes[1].error == "not started 2 s after it was due"


def test_a_waiting_request_expires_by_a_timer_while_the_policy_holds_it() -> None:
    requests = [request(0, due_s=1.0), request(1, due_s=100.0)]
    outcomes = serve(requests, DynamicBatching(max_size=8, max_wait_ms=9000), timeout_s=2.0)
    assert [(o.status, o.done_s) for o in outcomes] == [("timeout", 3.0), ("ok", pytest.approx(100.2))]


def test_a_queue_that_is_full_rejects_and_serves_the_others() -> None:
    outcomes = serve([request(uid, due_s=0.01 * uid) for uid in range(6)], NoBatching(), queue_limit=2)
    assert [o.status for o in outcomes] == ["ok", "ok", "ok", "rejected", "rejected", "rejected"]


def test_a_record_says_why_a_request_waited_and_why_it_went() -> None:
    requests = [request(0, 0.0, output_tokens=101), request(1, 1.0), request(2, 20.0), request(3, 30.0)]
    outcomes = serve(requests, DynamicBatching(max_size=2, max_wait_ms=500))
    # 0 waits for its window and runs from 0.5 to 10.5 s, 1 waits until the engine is free.
    assert [(o.wait_reason, o.admit_reason) for o in outcomes] == [
        ("window", "window"),
        ("busy", "window"),
        ("window", "window"),
        (None, "drain"),
    ]


def test_of_two_running_requests_with_one_uid_the_second_is_refused() -> None:
    outcomes = serve([request(5), request(5)])
    assert [o.status for o in outcomes] == ["ok", "error"]
    assert "another request with uid 5 is running" in (outcomes[1].error or "")


def test_a_policy_that_lets_requests_join_needs_an_engine_that_can() -> None:
    clock = VirtualClock()
    policy = ContinuousBatching(max_size=4)
    with pytest.raises(ValueError, match="join"):
        EngineLoop(ScheduledQueue([], clock, 1), policy, FakeEngine(clock), clock, 1.0)


def test_requests_join_a_running_batch_at_its_next_step_and_leave_it_when_they_end() -> None:
    requests = [request(0, 0.0, output_tokens=101), request(1, 1.05), request(2, 1.05), request(3, 1.05)]
    outcomes = serve(
        requests,
        ContinuousBatching(max_size=3),
        engine=lambda clock: FakeEngine(clock, ServiceLaw(prefill_s=0.1, decode_s=0.1), style="steps"),
    )
    admitted_s = [o.admitted_s for o in outcomes]
    done_s = [o.done_s for o in outcomes]
    assert admitted_s == pytest.approx([0.0, 1.1, 1.1, 1.4])
    assert done_s == pytest.approx([10.1, 1.4, 1.4, 1.7])
    assert [o.batch_size for o in outcomes] == [1, 3, 3, 2]
    assert [o.wait_reason for o in outcomes] == [None, "busy", "busy", "size"]


def test_the_same_traffic_gives_the_same_outcomes() -> None:
    due_s = np.cumsum(np.random.default_rng(1).exponential(0.1, 200)).tolist()
    requests = [request(uid, t) for uid, t in enumerate(due_s)]
    assert serve(requests) == serve(requests)


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        (NoBatching(), [None, "busy", "busy"]),
        (DynamicBatching(max_size=1, max_wait_ms=500), [None, "busy", "busy"]),
        (DynamicBatching(max_size=2, max_wait_ms=500), ["window", None, "window"]),
    ],
)
def test_who_leaves_somebody_behind_keeps_its_own_reason(policy: Policy, waits: list[str | None]) -> None:
    apart_s = 0.0 if policy.max_batch == 1 else 0.3
    requests = [request(0, 1.0), request(1, 1.0 + apart_s), request(2, 1.0 + apart_s), request(3, 50.0)]
    outcomes = serve(requests, policy)
    assert [o.wait_reason for o in outcomes[:3]] == waits
