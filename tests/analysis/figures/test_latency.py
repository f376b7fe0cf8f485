from __future__ import annotations

import itertools
import math
import re

import msgspec
import pytest

from bench.analysis.evaluation import Evaluation
from bench.analysis.figures import FIGURES
from bench.analysis.figures.latency import CURVE, latency
from bench.records import Value
from tests.analysis.figures.evaluating import cells, evaluation_of, invalid, of_requests, of_runs
from tests.recorded import completion, steady, system_runs, window_run


def test_a_curve_has_every_request_at_its_latency() -> None:
    rows = [completion(10.0 + i, seconds) for i, seconds in enumerate((0.4, 0.3, 0.6, 0.5))]
    figure = latency(evaluation_of(of_requests(rows)))
    assert cells(figure, "ecdf", "ms", "percent", what="latency") == [
        (300.0, 0.0),
        (300.0, 25.0),
        (400.0, 50.0),
        (500.0, 75.0),
        (600.0, 100.0),
    ]
    assert cells(figure, "ecdf", "ms", "percent", what="TTFT")[-1] == (200.0, 100.0)
    # Five tokens: the time after the first, 100 to 400 ms, goes to four of them.
    assert [ms for (ms,) in cells(figure, "ecdf", "ms", what="TPOT")][1:] == [25.0, 50.0, 75.0, 100.0]
    assert figure.datasets["ecdf"].thinned == ""
    assert figure.missing == ""


def test_only_scored_requests_count_and_those_of_all_repeats() -> None:
    outside = [completion(5.0, 3.0), completion(20.5, 3.0)]
    runs = [
        window_run([*steady(seconds, 2), *outside], [], repeat=i) for i, seconds in enumerate((0.5, 0.7), 1)
    ]
    figure = latency(evaluation_of(of_runs(*runs)))
    assert cells(figure, "ecdf", "ms", "percent", what="latency")[1:] == [
        (500.0, 25.0),
        (500.0, 50.0),
        (700.0, 75.0),
        (700.0, 100.0),
    ]


def test_a_curve_with_failed_requests_ends_below_all_and_says_so() -> None:
    rows = [completion(10.0 + i, 0.5, status="timeout" if i < 3 else "ok") for i in range(10)]
    figure = latency(evaluation_of(of_requests(rows)))
    assert max(percent for (percent,) in cells(figure, "ecdf", "percent", what="latency")) == 70.0
    assert any(
        "3 of 10 requests were not answered, so its curve ends at 70 %" in note for note in figure.notes
    )
    found = dict(cells(figure, "percentiles", "percentile", "ms", what="latency"))
    assert found == {"p50": 500.0, "p90": None, "p95": None, "p99": None}


def test_a_long_curve_is_thinned_with_its_ends_and_says_by_which_rule() -> None:
    rows = [completion(10.0 + i / 500, 0.3 + i / 10_000) for i in range(5000)]
    figure = latency(evaluation_of(of_requests(rows)))
    curve = cells(figure, "ecdf", "ms", "percent", what="latency")
    assert len(curve) <= CURVE + 6
    assert curve[0] == (300.0, 0.0)
    assert curve[-1] == (799.9, 100.0)
    assert (774.9, 95.0) in curve
    assert "5000" in figure.datasets["ecdf"].thinned
    assert all(one <= other for one, other in itertools.pairwise(ms for ms, _ in curve))


def test_the_bins_of_all_systems_are_the_same_and_hold_all_requests() -> None:
    slow, fast = system_runs("slow", (0.9, 1.8)), system_runs("fast", (0.3, 0.45))
    figure = latency(evaluation_of(slow, fast))
    for name in ("slow", "fast"):
        shares = [share for (share,) in cells(figure, "histogram", "percent", what="latency", system=name)]
        assert sum(shares) == pytest.approx(100.0)
    edges = {edge for pair in cells(figure, "histogram", "from_ms", "to_ms", what="latency") for edge in pair}
    # 36 bins of one ratio from 300 to 1800 ms: every edge is a whole number of them from the first.
    steps = [36 * math.log(edge / 300, 6) for edge in edges]
    assert all(step == pytest.approx(round(step), abs=1e-2) for step in steps)
    assert max(steps) == pytest.approx(36)


def test_a_histogram_counts_unanswered_requests_in_the_whole() -> None:
    rows = [completion(10.0 + i, 0.5 + i / 10, status="timeout" if i < 3 else "ok") for i in range(10)]
    shares = cells(latency(evaluation_of(of_requests(rows))), "histogram", "percent", what="latency")
    assert sum(share for (share,) in shares) == pytest.approx(70.0)


def test_one_failure_of_many_does_not_let_the_curve_end_at_all() -> None:
    n = 25_000
    rows = [completion(10.0 + i / 2500, 0.5, status="timeout" if i == 0 else "ok") for i in range(n)]
    figure = latency(evaluation_of(of_requests(rows)))
    assert f"baseline: 1 of {n} requests were not answered, so its curve ends at 99.99 %." in figure.notes


def of_p95(**values: Value) -> Evaluation:
    """Return systems with these p95 latencies."""
    evaluation = evaluation_of(*(system_runs(name) for name in values))
    sets = {
        name: msgspec.structs.replace(own, values={**own.values, "p95_latency_ms": values[name]})
        for name, own in evaluation.sets.items()
    }
    return msgspec.structs.replace(evaluation, sets=sets)


def p95(ms: float | None, low: float | None = None, high: float | None = None, unresolved: str = "") -> Value:
    return Value(value=ms, source="measured", note="", low=low, high=high, n=3, unresolved=unresolved)


def test_the_sentence_holds_the_interval_of_p95_against_the_objective_as_the_gate_does() -> None:
    figure = latency(
        of_p95(
            a=p95(1000.0, 900.0, 1100.0),
            b=p95(1100.0, 900.0, 1300.0),
            c=p95(1400.0, 1300.0, 1500.0),
        )
    )
    assert figure.reading == (
        "The p95 latency, mean over repeats, is 1000 ms (900 to 1100) with a, 1100 ms (900 to 1300) with b "
        "and 1400 ms (1300 to 1500) with c. "
        "At this rate the objective of 1200 ms is kept by a; unclear with b; broken by c."
    )
    assert cells(figure, "objective", "what", "ms") == [("latency", 1200.0)]


def test_a_p95_that_is_not_resolved_is_a_point_value_and_keeps_nothing() -> None:
    reading = latency(of_p95(a=p95(500.0, unresolved="few"))).reading
    assert "500 ms (point value of 30 requests) with a" in reading
    assert "is unclear with a." in reading


def test_of_a_system_that_was_not_measured_the_sentence_says_nothing() -> None:
    assert latency(of_p95(a=p95(500.0, 400.0, 600.0), b=p95(None))).reading.endswith("is kept by a.")


def test_systems_at_different_rates_are_each_judged_at_its_own() -> None:
    slow, fast = system_runs("a", n=10), system_runs("b", n=20, rps=9.0)
    assert "Each at its rate, the objective" in latency(evaluation_of(slow, fast)).reading


def test_of_an_invalid_system_nothing_is_claimed_and_every_figure_says_so() -> None:
    evaluation = invalid(evaluation_of(system_runs("a", n=20, rps=9.0), system_runs("b", n=20, rps=9.0)), "b")
    for kind in ("latency", "timeline", "batches", "stages"):
        reading = FIGURES[kind](evaluation).reading
        assert "a" in re.findall(r"\w+", reading)
        assert "b" not in re.findall(r"\w+", reading)
    both = invalid(evaluation, "a", "b")
    for kind, make in FIGURES.items():
        note = "b is not to be relied on: INVALID client: requests left late."
        assert note in make(evaluation).notes, kind
    for kind in ("timeline", "batches", "stages"):
        assert FIGURES[kind](both).reading.startswith("Every system that was measured is INVALID")
    assert latency(both).reading.startswith("No system has a p95 latency to go by")


def test_a_rate_above_the_saturated_throughput_is_told_from_a_queue_that_grew() -> None:
    figure = latency(evaluation_of(system_runs("a", rps=0.5)))
    assert figure.datasets["percentiles"].rows == ()
    (note,) = (note for note in figure.notes if note.startswith("a cannot carry this rate"))
    assert "answers at most 0.5 when saturated" in note
    assert "queue" not in note


def test_a_system_whose_queue_grew_has_a_curve_but_no_percentiles() -> None:
    rows = [completion(10.0 + i / 50, 0.3 + i / 25) for i in range(500)]
    figure = latency(evaluation_of(of_requests(rows)))
    assert cells(figure, "ecdf", "ms")
    assert figure.datasets["percentiles"].rows == ()
    assert any("(the queue grew through the window)" in note for note in figure.notes)
    assert figure.reading.startswith("No system has a p95 latency")


def test_without_windows_or_answers_it_says_why_there_is_nothing() -> None:
    alone = of_runs(name="alone")
    assert "no repeat at a common rate was made" in latency(evaluation_of(alone)).missing
    failed = of_runs(window_run([], [], status="failed", error="out of memory", window=None))
    assert "out of memory" in latency(evaluation_of(failed)).missing
    rejected = of_requests([completion(10.0 + i, status="rejected") for i in range(5)])
    assert "no scored request was answered" in latency(evaluation_of(rejected)).missing
    mixed = latency(evaluation_of(system_runs("a"), alone))
    assert mixed.missing == ""
    assert any(note.startswith("alone: no repeat at a common rate was made") for note in mixed.notes)
