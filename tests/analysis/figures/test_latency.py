from __future__ import annotations

import itertools
import math

import pytest

from bench.analysis.figures.latency import CURVE, latency
from tests.analysis.figures.evaluating import cells, evaluation_of, of_requests, of_runs
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


def test_the_sentence_compares_p95_with_the_objective() -> None:
    figure = latency(evaluation_of(system_runs("a", (0.5, 0.5)), system_runs("b", (1.5, 1.5))))
    assert "500 ms with a and 1500 ms with b" in figure.reading
    assert "a alone keeps the objective of 1200 ms" in figure.reading
    assert cells(figure, "objective", "what", "ms") == [("latency", 1200.0)]


def test_a_system_whose_queue_grew_has_a_curve_but_no_percentiles() -> None:
    rows = [completion(10.0 + i / 50, 0.3 + i / 25) for i in range(500)]
    figure = latency(evaluation_of(of_requests(rows)))
    assert cells(figure, "ecdf", "ms")
    assert figure.datasets["percentiles"].rows == ()
    assert any("its queue grew all along" in note for note in figure.notes)
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
