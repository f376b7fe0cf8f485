"""Every policy with both styles of engine: each request ends exactly once, whatever happens on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.clock import VirtualClock, WallClock
from bench.errors import EngineLost
from bench.model.fake import FakeEngine, Style
from bench.protocols import Policy
from bench.records import Completion, Request, ServiceLaw
from bench.serving.loop import simulate
from bench.serving.policies import (
    BucketBatching,
    ContinuousBatching,
    DynamicBatching,
    NoBatching,
    StaticBatching,
)
from bench.serving.queue import Ticket
from bench.serving.server import Server

from .conformance_bench import SAMPLES, FailOn, Watched
from .traffic import assert_stages_sum_to_latency, poisoned
from .waiting import ANY_POLICY, class_of

PATIENCE_S = 10.0
STYLES: tuple[Style, ...] = ("static", "steps")
PAIRS = [
    pytest.param(policy, style, id=f"{name}, {style}")
    for name, policy in SAMPLES.items()
    for style in STYLES
    if style == "steps" or not policy.joins  # a static batch cannot be joined
]
every_pair = pytest.mark.parametrize(("policy", "style"), PAIRS)
TAKE_REASONS = {"idle", "slot", "size", "budget", "window", "settle", "deadline", "drain"}
WAIT_REASONS = {None, "busy", "size", "budget", "window", "settle"}
QUICK = ServiceLaw(prefill_s=1e-4, prefill_s_per_token=1e-6, decode_s=1e-4)


def make_request(uid: int, due_s: float = 0.0, prompt_tokens: int = 4, output_tokens: int = 3) -> Request:
    prompt_ids = tuple(3 + (uid * 7 + k) % 50 for k in range(prompt_tokens))
    return Request(uid=uid, due_s=due_s, prompt_ids=prompt_ids, output_tokens=output_tokens)


@st.composite
def _traffic(draw: st.DrawFn) -> list[Request]:
    gaps_s = draw(st.lists(st.sampled_from([0.0, 0.001, 0.05, 1.0]), min_size=1, max_size=30))
    lengths = st.tuples(st.integers(1, 40), st.integers(1, 12))
    due_s, requests = 0.0, []
    for uid, gap_s in enumerate(gaps_s):
        due_s += gap_s
        requests.append(make_request(uid, due_s, *draw(lengths)))
    return requests


LAWS = st.sampled_from(
    [ServiceLaw(), QUICK, ServiceLaw(prefill_s=0.1, decode_s=0.05, decode_s_per_sequence=0.01)]
)
UIDS = st.sets(st.integers(0, 29), max_size=3)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    policy=ANY_POLICY,
    style=st.sampled_from(STYLES),
    requests=_traffic(),
    law=LAWS,
    poison=UIDS,
    own_faults=UIDS,
    queue_limit=st.integers(1, 40),
    timeout_s=st.sampled_from([0.3, 3.0, math.inf]),
)
def test_every_request_ends_exactly_once_within_bounds_and_in_order(
    policy: Policy,
    style: Style,
    requests: list[Request],
    law: ServiceLaw,
    poison: set[int],
    own_faults: set[int],
    queue_limit: int,
    timeout_s: float,
) -> None:
    clock = VirtualClock()
    engine = Watched(
        FakeEngine(
            clock,
            law,
            style="steps" if policy.joins else style,
            prefill_chunk=policy.prefill_chunk,
            fail_alone=lambda request: "its own fault" if request.uid in own_faults else None,
        ),
        fail_on=poisoned(*poison),
    )
    outcomes = simulate(requests, policy, engine, clock, queue_limit=queue_limit, timeout_s=timeout_s)
    assert [outcome.uid for outcome in outcomes] == [request.uid for request in requests]
    assert engine.most_running <= policy.max_batch
    for request, outcome in zip(requests, outcomes, strict=True):
        check_outcome(request, outcome, engine, guilty=request.uid in poison | own_faults)
    check_order(policy, requests, engine)


def check_outcome(request: Request, outcome: Completion, engine: Watched, *, guilty: bool) -> None:
    """Check that the outcome is one that the request can have, and is told in full."""
    assert outcome.status != ("ok" if guilty else "error"), outcome.error
    assert (outcome.error is None) == (outcome.status == "ok")
    if outcome.status == "ok":
        assert_stages_sum_to_latency(outcome)
        assert engine.tokens(request.uid) == alone(request)
        assert outcome.admit_reason in TAKE_REASONS or (outcome.admit_reason or "").startswith("retry after")
        assert outcome.wait_reason in WAIT_REASONS
    if outcome.status == "rejected":
        assert request.uid not in engine.ended


def alone(request: Request) -> list[int]:
    """Return the tokens of a request that nobody runs beside."""
    engine = Watched(FakeEngine(VirtualClock()))
    engine.admit([request])
    engine.step(math.inf)
    return engine.tokens(request.uid)


def check_order(policy: Policy, requests: Sequence[Request], engine: Watched) -> None:
    """Check that nobody overtook within its class; a retry is no second arrival."""
    first = list(dict.fromkeys(engine.admitted))
    classes: dict[object, list[int]] = {}
    for uid in first:
        classes.setdefault(class_of(policy, requests[uid]), []).append(uid)
    assert all(uids == sorted(uids) for uids in classes.values())


@every_pair
def test_under_light_traffic_nobody_waits_longer_than_the_policy_says(policy: Policy, style: Style) -> None:
    # Two requests of like length every second: an idle engine, and never a full batch.
    requests = [make_request(uid, due_s=uid // 2 + 0.0005 * (uid % 2)) for uid in range(20)]
    clock = VirtualClock()
    engine = FakeEngine(clock, QUICK, style=style)
    outcomes = simulate(requests, policy, engine, clock, queue_limit=100, timeout_s=math.inf)
    bounds_s: dict[object, float] = {
        NoBatching: 0.0005,  # behind the other one
        StaticBatching: 1.0005,  # two pairs fill a batch
        DynamicBatching: 0.002,
        BucketBatching: 0.002,
        ContinuousBatching: 0.0,
    }
    step_s = QUICK.prefill_s + 4 * QUICK.prefill_s_per_token + QUICK.decode_s
    for outcome in outcomes:
        assert outcome.queue_s is not None
        assert outcome.queue_s <= bounds_s[type(policy)] + step_s


def serve_live(
    policy: Policy, engine: Watched, clock: WallClock, n: int = 12
) -> tuple[Server, list[Ticket], list[int]]:
    """Start a server with `n` requests in its queue; return it, their tickets and who was answered."""
    server = Server(policy, engine, clock, queue_limit=100, timeout_s=math.inf)
    answered: list[int] = []
    tickets = [
        server.submit(make_request(uid, due_s=0.0), lambda ticket: answered.append(ticket.request.uid))
        for uid in range(n)
    ]
    server.start()
    return server, tickets, answered


def watched(clock: WallClock, policy: Policy, style: Style, fail_on: FailOn | None = None) -> Watched:
    return Watched(FakeEngine(clock, QUICK, style=style, prefill_chunk=policy.prefill_chunk), fail_on)


@every_pair
def test_a_poisoned_request_fails_alone_and_its_neighbours_have_their_tokens(
    policy: Policy, style: Style
) -> None:
    clock = WallClock()
    engine = watched(clock, policy, style, poisoned(2))
    server, tickets, answered = serve_live(policy, engine, clock)
    assert server.drain(PATIENCE_S)
    assert sorted(answered) == list(range(12))
    for uid, ticket in enumerate(tickets):
        outcome = ticket.result(0)
        assert outcome.status == ("error" if uid == 2 else "ok")
        if uid == 2:
            assert "poison" in (outcome.error or "")
        else:
            assert engine.tokens(uid) == alone(ticket.request)


@every_pair
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, EngineLost], ids=lambda error: error.__name__
)
def test_the_death_of_the_engine_answers_every_caller_once(
    policy: Policy, style: Style, error: type[BaseException]
) -> None:
    clock = WallClock()
    server, tickets, answered = serve_live(
        policy, watched(clock, policy, style, poisoned(5, error=error)), clock
    )
    with pytest.raises(error):
        server.drain(PATIENCE_S)
    outcomes = [ticket.result(0) for ticket in tickets]
    assert sorted(answered) == list(range(12))
    assert {outcome.status for outcome in outcomes} <= {"ok", "error"}
    assert outcomes[5].status == "error"
    assert error.__name__ in (outcomes[5].error or "")
    assert server.submit(make_request(99)).result(0).status == "rejected"


@every_pair
def test_the_death_of_the_worker_answers_every_caller_once(policy: Policy, style: Style) -> None:
    class BreaksWhenCleared(Watched):
        def clear(self) -> None:
            raise ZeroDivisionError("a defect while cleaning up")

    clock = WallClock()
    engine = BreaksWhenCleared(
        FakeEngine(clock, QUICK, style=style, prefill_chunk=policy.prefill_chunk), poisoned(5)
    )
    server, tickets, answered = serve_live(policy, engine, clock)
    with pytest.raises(ZeroDivisionError):
        server.drain(PATIENCE_S)
    assert sorted(answered) == list(range(12))
    assert tickets[5].result(0).status == "error"
    assert server.submit(make_request(99)).result(0).status == "rejected"


@every_pair
@pytest.mark.parametrize("end", ["drain", "close", "abandon"])
def test_every_end_of_a_server_answers_every_caller_once(policy: Policy, style: Style, end: str) -> None:
    clock = WallClock()
    server, tickets, answered = serve_live(policy, watched(clock, policy, style), clock, n=20)
    if end == "drain":
        assert server.drain(PATIENCE_S)
    else:
        (server.close if end == "close" else server.abandon)()
    statuses = [ticket.result(1.0).status for ticket in tickets]
    # Abandoned while they ran, requests are errors: the server does not wait for them.
    ends = {"drain": {"ok"}, "close": {"ok", "rejected"}, "abandon": {"ok", "rejected", "error"}}
    assert set(statuses) <= ends[end]
    assert sorted(answered) == list(range(20))
    late = server.submit(make_request(99))
    assert late.result(0).status == "rejected"
    server.close()


@every_pair
def test_a_full_queue_refuses_and_a_late_request_expires(policy: Policy, style: Style) -> None:
    clock = VirtualClock()
    engine = FakeEngine(clock, ServiceLaw(prefill_s=1.0, decode_s=1.0), style=style)
    requests = [make_request(uid, due_s=0.01 * uid) for uid in range(12)]
    outcomes = simulate(requests, policy, engine, clock, queue_limit=6, timeout_s=4.0)
    statuses = {outcome.status for outcome in outcomes}
    assert {"ok", "rejected"} <= statuses
    assert statuses <= {"ok", "rejected", "timeout"}
    assert all(outcome.done_s is not None and outcome.error for outcome in outcomes if outcome.status != "ok")


def test_a_policy_that_joins_is_refused_with_an_engine_that_cannot_be_joined() -> None:
    clock = WallClock()
    with pytest.raises(ValueError, match="ContinuousBatching lets requests join"):
        Server(ContinuousBatching(max_size=2), FakeEngine(clock), clock, queue_limit=1, timeout_s=1.0)
