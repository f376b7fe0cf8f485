"""The verdict on the client: its rate, its lag and its ends, and what an adoption may rest on."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.records import Completion, Interval
from bench.workload.arrivals import Poisson, Steady
from tests.analysis.clients import judged, sent
from tests.recorded import CONFIG, END_S, START_S, completion


def dropped(share: float) -> list[Completion]:
    """Return requests of which `share` were never sent: they have a row without `sent_s`."""
    rows = sent()
    every = round(1 / share)
    return [
        msgspec.structs.replace(row, sent_s=None, done_s=None, status="rejected") if i % every == 0 else row
        for i, row in enumerate(rows)
    ]


def stretched(share: float, latency_s: float = 100.0) -> list[Completion]:
    """Return requests whose sender fell behind more and more; by default the lag is within its limit."""
    rows = sent(latency_s=latency_s)
    return [msgspec.structs.replace(row, sent_s=row.due_s + share * (row.due_s - START_S)) for row in rows]


def test_a_client_that_kept_its_schedule_is_valid_and_says_so_in_one_line() -> None:
    found = judged(sent(0.0004, pacer_s=0.0001))
    assert (found.level, found.faults) == ("VALID", ())
    assert found.in_words == (
        "VALID, realised 100 of 100 requests/s (1000 due, 1000 sent), "
        "lag p99 0.4 ms (pacer 0.1, interpreter 0.3)"
    )


@pytest.mark.parametrize(
    ("requests", "level", "rate"),
    [
        (dropped(0.001), "VALID", 99.9),
        (dropped(0.0125), "DEGRADED", 98.7),
        (dropped(0.05), "INVALID", 95.0),
        (stretched(0.005), "VALID", 99.6),
        (stretched(0.015), "DEGRADED", 98.6),
        (stretched(0.025, latency_s=1.0), "INVALID", 97.6),
    ],
)
def test_a_rate_that_was_not_reached_degrades_at_one_and_invalidates_at_two_percent(
    requests: list[Completion], level: str, rate: float
) -> None:
    found = judged(requests)
    assert found.level == level
    assert found.realised_rps == pytest.approx(rate)
    assert found.sent == round(rate * 10)
    rated = [fault for fault in found.faults if "late" not in fault.what]
    assert {fault.level for fault in rated} == ({level} if level != "VALID" else set())
    assert all("limit 2 %" in fault.text for fault in rated)


@pytest.mark.parametrize("share", [0.025, 0.1, -0.1])
def test_a_rate_that_was_missed_while_the_lag_is_within_its_limit_is_degraded_at_most(share: float) -> None:
    found = judged(stretched(share, latency_s=100.0))
    assert found.level == "DEGRADED"
    assert "another rate was sent than scheduled" in found.reasons


@pytest.mark.parametrize(("late", "n"), [(0, 5), (-1, 5), (0, 2), (-1, 2), (0, 50), (-1, 50)])
def test_one_late_request_in_a_short_window_is_judged_by_its_lag_alone(late: int, n: int) -> None:
    window = Interval(start_s=START_S, end_s=START_S + 1.0)
    rows = [completion(START_S + (i + 0.5) / n, 0.6, sent_s=START_S + (i + 0.5) / n) for i in range(n)]
    rows[late] = msgspec.structs.replace(rows[late], sent_s=rows[late].due_s + 0.025)
    found = judged(rows, window=window, offered_rps=float(n))
    assert found.level == "DEGRADED"
    (fault,) = found.faults
    assert fault.text.startswith("requests left late: largest dispatch lag 25 ms")
    assert "limit 30 ms" in fault.text
    assert "largest lag 25 ms" in found.in_words


def test_of_a_hundred_requests_there_is_a_99th_percentile_and_of_fewer_their_largest_lag() -> None:
    def lag_of(n: int) -> str:
        rows = sent(0.0, n=n)
        rows[0] = msgspec.structs.replace(rows[0], sent_s=rows[0].due_s + 0.01)
        return judged(rows, offered_rps=n / 10).in_words.rpartition(", lag")[2]

    assert "largest lag 10 ms" in lag_of(99)
    assert lag_of(101).startswith(" p99 0 ms")


def test_the_rate_in_the_line_is_that_of_the_requests_that_were_sent() -> None:
    poisson = CONFIG | {"workload": {"arrivals": {"kind": "poisson"}}}
    found = judged(sent(n=10)[:5], offered_rps=1.0, config=poisson)
    assert found.in_words.startswith("VALID, realised 0.5 of 1 requests/s (5 due, 5 sent), ")
    early = msgspec.structs.replace(sent(n=10)[0], due_s=START_S - 1.0, sent_s=START_S + 0.1)
    found = judged([early, *sent(n=10)], offered_rps=1.0)
    assert (found.due, found.sent, found.realised_rps) == (10, 11, 1.1)


@pytest.mark.parametrize("kind", ["steady", "poisson"])
def test_a_window_in_which_nothing_was_due_is_invalid(kind: str) -> None:
    config = CONFIG | {"workload": {"arrivals": {"kind": kind, "jitter": 0.1}}}
    found = judged([], offered_rps=0.1, facts={"due_in_window": 0}, config=config)
    assert found.level == "INVALID"
    assert found.reasons == "no request was due inside the window: it is 10 s long"
    assert found.in_words == "INVALID, realised 0 of 0.1 requests/s (0 due, 0 sent)"


@pytest.mark.parametrize(
    ("kind", "due", "level"),
    [
        ("steady", 10, "VALID"),
        ("steady", 9, "VALID"),
        ("steady", 11, "VALID"),
        ("steady", 5, "INVALID"),
        ("steady", 15, "INVALID"),
        ("poisson", 5, "VALID"),
    ],
)
def test_a_steady_schedule_may_miss_its_rate_by_one_request_a_random_one_by_chance(
    kind: str, due: int, level: str
) -> None:
    config = CONFIG | {"workload": {"arrivals": {"kind": kind, "jitter": 0.1}}}
    found = judged(sent(n=due), offered_rps=1.0, config=config)
    assert found.level == level
    if level != "VALID":
        assert f"another rate was scheduled than asked: {due / 10:g} of 1 requests/s" in found.reasons


def test_requests_that_were_due_and_never_sent_count_although_they_have_no_row() -> None:
    found = judged(sent()[:357], facts={"due_in_window": 1000})
    assert found.level == "INVALID"
    assert found.reasons == "requests were never sent: 643 of 1000 due (64.3 %, limit 2 %)"
    assert found.realised_rps == pytest.approx(35.7)
    assert "lower the rate" in found.recommendation


def test_a_schedule_of_another_rate_than_asked_is_invalid() -> None:
    found = judged(sent(n=714), offered_rps=200.0)
    assert found.level == "INVALID"
    assert "another rate was scheduled than asked: 71.4 of 200 requests/s" in found.reasons


@pytest.mark.parametrize(
    ("law", "arrivals"),
    [
        (Steady(jitter=0.5), {"kind": "steady", "jitter": 0.5}),
        (Steady(jitter=0.1), {"kind": "steady", "jitter": 0.1}),
        (Poisson(), {"kind": "poisson"}),
    ],
)
@given(seed=st.integers(0, 10_000), rate=st.floats(0.5, 30.0))
def test_the_scatter_of_a_drawn_schedule_is_not_the_clients_fault(
    law: Steady | Poisson, arrivals: dict[str, Any], seed: int, rate: float
) -> None:
    # As in a run: drawn over warm-up, window and tail, of which the window is a part.
    due_s = law.times_s(round(rate * 30), rate, np.random.default_rng(seed))
    inside = [float(t_s) for t_s in due_s if START_S <= t_s < END_S]
    assume(inside)
    config = CONFIG | {"workload": {"arrivals": arrivals}}
    found = judged([completion(t_s, sent_s=t_s) for t_s in inside], offered_rps=rate, config=config)
    assert found.level == "VALID", found.reasons
    assert found.realised_rps == len(inside) / 10.0


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
    assert found.in_words.endswith("lag p99 2 ms")


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


@pytest.mark.parametrize(
    ("warm_up_s", "remedy"), [(50.0, "releases the interpreter"), (0.0, "free a CPU core")]
)
def test_the_senders_time_in_the_queue_is_held_against_the_waits_of_all_its_requests(
    warm_up_s: float, remedy: str
) -> None:
    # In the window 30 s were waited for the interpreter, in the warm-up `warm_up_s` more.
    before = completion(START_S - 1.0, sent_s=START_S, pacer_lag_s=0.0, interpreter_lag_s=warm_up_s)
    found = judged([before, *sent(0.03)], facts={"pacer": {"run_queue_s": 16.0}})
    assert remedy in found.recommendation
