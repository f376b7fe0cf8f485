"""The verdict on the client: its rate, its lag and its ends, and what an adoption may rest on."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.doubts import find_doubts
from bench.analysis.metrics import summarize
from bench.analysis.system import SystemRuns, Validity
from bench.analysis.validity import judge_validity, worst_validity
from bench.records import Completion, Run
from bench.workload.arrivals import Poisson, Steady
from tests.analysis.conftest import ASSUMED, END_S, OBJECTIVES, START_S, completion, steady, window_run
from tests.analysis.pairs import FASTER, judge, metrics

ASKED_RPS = 100.0


def sent(
    lag_s: float = 0.0, *, pacer_s: float = 0.0, latency_s: float = 0.5, n: int = 1000
) -> list[Completion]:
    """Return requests that were all sent `lag_s` late, `pacer_s` of it by the pacer."""
    return [
        completion(
            row.due_s,
            latency_s,
            sent_s=row.due_s + lag_s,
            pacer_lag_s=pacer_s,
            interpreter_lag_s=lag_s - pacer_s,
        )
        for row in steady(n=n)
    ]


def judged(requests: list[Completion], **changes: Any) -> Validity:
    return judge_validity(run(requests, **changes))


def run(requests: list[Completion], **changes: Any) -> Run:
    return window_run(requests, [], **({"offered_rps": ASKED_RPS} | changes))


def dropped(share: float) -> list[Completion]:
    """Return requests of which `share` were never sent: they have a row without `sent_s`."""
    rows = sent()
    every = round(1 / share)
    return [
        msgspec.structs.replace(row, sent_s=None, done_s=None, status="rejected") if i % every == 0 else row
        for i, row in enumerate(rows)
    ]


def stretched(share: float) -> list[Completion]:
    """Return requests whose sender fell behind more and more, with all latencies as if it had not."""
    rows = sent(latency_s=100.0)  # so slow a system that the lag itself is within its limit
    return [msgspec.structs.replace(row, sent_s=row.due_s + share * (row.due_s - START_S)) for row in rows]


def test_a_client_that_kept_its_schedule_is_valid_and_says_so_in_one_line() -> None:
    found = judged(sent(0.0004, pacer_s=0.0001))
    assert (found.level, found.faults) == ("VALID", ())
    assert found.in_words == (
        "VALID, realised 100 of 100 requests/s, lag p99 0.4 ms (pacer 0.1, interpreter 0.3)"
    )


@pytest.mark.parametrize(
    ("requests", "level", "rate"),
    [
        (dropped(0.001), "VALID", 99.9),
        (dropped(0.0125), "DEGRADED", 98.75),
        (dropped(0.05), "INVALID", 95.0),
        (stretched(0.005), "VALID", 99.5),
        (stretched(0.015), "DEGRADED", 98.52),
        (stretched(0.025), "INVALID", 97.56),
    ],
)
def test_a_rate_that_was_not_reached_degrades_at_one_and_invalidates_at_two_percent(
    requests: list[Completion], level: str, rate: float
) -> None:
    found = judged(requests)
    assert found.level == level
    assert found.realised_rps == pytest.approx(rate, rel=2e-3)
    assert all("of 100 requests/s asked" in fault.text for fault in found.faults)
    assert all("limit 2 %" in fault.text for fault in found.faults)


def test_requests_that_were_due_and_never_sent_count_although_they_have_no_row() -> None:
    found = judged(sent()[:357], facts={"due_in_window": 1000})
    assert found.level == "INVALID"
    assert "sent 35.7 of 100 requests/s asked (-64.3 %, limit 2 %)" in found.reasons
    assert "lower the rate" in found.recommendation


def test_a_schedule_of_another_rate_than_asked_is_invalid() -> None:
    found = judged(sent(n=714), offered_rps=200.0)
    assert found.level == "INVALID"
    assert "71.4 of 200 requests/s asked were scheduled" in found.reasons


@pytest.mark.parametrize("law", [Steady(jitter=0.5), Poisson()])
@given(seed=st.integers(0, 10_000), rate=st.floats(0.3, 30.0))
def test_the_scatter_of_a_drawn_schedule_is_not_the_clients_fault(
    law: Steady | Poisson, seed: int, rate: float
) -> None:
    # As in a run: drawn over warm-up, window and tail, of which the window is a part.
    due_s = law.times_s(round(rate * 30), rate, np.random.default_rng(seed))
    inside = [float(t_s) for t_s in due_s if START_S <= t_s < END_S]
    found = judged([completion(t_s, sent_s=t_s) for t_s in inside], offered_rps=rate)
    assert found.level == "VALID", found.reasons
    assert found.realised_rps == pytest.approx(rate)


@pytest.mark.parametrize(
    ("lag_ms", "latency_s", "level"),
    [
        (0.4, 0.001, "VALID"),
        (0.6, 0.001, "DEGRADED"),
        (1.1, 0.001, "INVALID"),
        (12.0, 0.5, "VALID"),  # 5 % of 500 ms are 25 ms
        (13.0, 0.5, "DEGRADED"),
        (26.0, 0.5, "INVALID"),
    ],
)
def test_a_lag_is_held_against_a_millisecond_or_a_twentieth_of_p99_latency(
    lag_ms: float, latency_s: float, level: str
) -> None:
    found = judged(sent(lag_ms / 1000, latency_s=latency_s))
    assert found.level == level
    if level != "VALID":
        limit_ms = max(1.0, 50 * latency_s)
        assert f"dispatch lag p99 {lag_ms:g} ms (pacer 0, interpreter {lag_ms:g}), limit {limit_ms:g} ms" in (
            found.reasons
        )


def test_the_split_of_the_lag_is_that_of_the_latest_requests_and_sums_to_p99() -> None:
    punctual, late = sent(0.0001)[:980], sent(0.02, pacer_s=0.015)[980:]
    found = judged([*punctual, *late])
    assert found.lag is not None
    assert found.lag.pacer_s == pytest.approx(0.015)
    assert found.lag.interpreter_s == pytest.approx(0.005)


def test_a_run_that_did_not_record_the_split_has_a_lag_without_parts() -> None:
    rows = [msgspec.structs.replace(row, pacer_lag_s=None, interpreter_lag_s=None) for row in sent(0.002)]
    found = judged(rows)
    assert found.in_words == "VALID, realised 100 of 100 requests/s, lag p99 2 ms"


@pytest.mark.parametrize(
    ("pacer_ms", "facts", "remedy"),
    [
        (25.0, {}, "the sender was still busy with earlier requests"),
        (0.0, {"pacer": {"run_queue_s": 20.0}}, "free a CPU core: the sender waited 20 s for one"),
        (0.0, {"pacer": {"run_queue_s": 0.1}}, "releases the interpreter more often"),
        (0.0, {"pacer": {"run_queue_s": None}}, "free a CPU core, or lower model.cpu_threads"),
    ],
)
def test_the_recommendation_follows_from_what_the_lag_is_made_of(
    pacer_ms: float, facts: dict[str, Any], remedy: str
) -> None:
    found = judged(sent(0.03, pacer_s=pacer_ms / 1000), facts=facts)
    assert remedy in found.recommendation


def test_a_request_that_was_sent_and_never_ended_makes_the_run_invalid() -> None:
    rows = sent()
    rows[7] = msgspec.structs.replace(
        rows[7], done_s=None, first_token_s=None, status="error", error="unfinished"
    )
    found = judged(rows)
    assert (found.level, found.unfinished) == ("INVALID", 1)
    assert "1 of 1000 requests were sent and never came to an end (limit 0)" in found.reasons
    assert found.in_words.endswith("1 unfinished")


@pytest.mark.parametrize("status", ["error", "timeout", "rejected"])
def test_what_the_system_did_to_its_requests_is_no_fault_of_the_client(status: str) -> None:
    rows = [msgspec.structs.replace(row, status=status, first_token_s=None) for row in sent()]
    assert judged(rows).level == "VALID"


def test_of_several_repeats_the_worst_one_counts_and_those_that_did_not_complete_do_not() -> None:
    degraded, invalid = run(sent(0.013)), run(sent(0.03))
    crashed = run(sent(0.9), status="failed")
    assert worst_validity([run(sent()), degraded, crashed]) == judge_validity(degraded)
    assert worst_validity([run(sent()), invalid, degraded]) == judge_validity(invalid)
    assert worst_validity([crashed]) is None
    assert worst_validity([]) is None


@pytest.mark.parametrize(("lag_s", "said"), [(0.0, None), (0.013, "DEGRADED"), (0.03, "INVALID")])
def test_a_client_that_is_not_valid_is_doubted(lag_s: float, said: str | None) -> None:
    system = SystemRuns(name="baseline", offline=None, windows=[run(sent()), run(sent(lag_s))])
    found = {doubt.key: doubt for doubt in find_doubts(system, summarize(system, ASSUMED, OBJECTIVES))}
    if said is None:
        assert "client" not in found
    else:
        assert f"the client is {said} in its worst repeat" in found["client"].text
        assert found["client"].remedy


INVALID = judge_validity(run(sent(0.03)))


@pytest.mark.parametrize("side", ["baseline", "optimized"])
def test_nothing_is_adopted_or_rejected_on_the_word_of_an_invalid_client(side: str) -> None:
    assert judge(FASTER).decision.startswith("adopt")
    if side == "baseline":
        verdict = judge(FASTER, baseline=metrics("baseline", client=INVALID))
    else:
        verdict = judge(FASTER, client=INVALID)
    assert verdict.decision == "not enough evidence"
    assert verdict.binding.startswith(f"the client is INVALID: {side}: requests left late")
    assert verdict.settle == INVALID.recommendation
    too_slow = FASTER | {"p95_latency_ms": (2000.0, 2001.0, 1999.0)}
    assert judge(too_slow).decision == "reject"
    assert judge(too_slow, client=INVALID).decision == "not enough evidence"


def test_a_degraded_client_is_a_doubt_and_no_obstacle() -> None:
    degraded = judge_validity(run(sent(0.013)))
    verdict = judge(FASTER, client=degraded)
    assert verdict.decision.startswith("adopt")
    (gate,) = [gate for gate in verdict.gates if gate.name == "client"]
    assert gate.outcome == "pass"
    assert gate.text.startswith(
        "baseline: VALID; optimized: DEGRADED (requests left late: dispatch lag p99 13 ms"
    )


def test_a_job_without_a_window_has_no_client_to_judge() -> None:
    with pytest.raises(ValueError, match="has no scored window"):
        judge_validity(run(sent(), window=None))
