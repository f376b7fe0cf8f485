from __future__ import annotations

import pytest

from bench.analysis.figures.stages import ALL, SLOW, stages
from tests.analysis.figures.evaluating import cells, evaluation_of, of_requests, of_runs
from tests.recorded import completion, steady, system_runs


def test_the_stages_sum_to_the_mean_latency() -> None:
    rows = [
        completion(
            10.0 + i / 4,
            0.5 + i / 100,
            tokenize_s=0.001,
            queue_s=0.099,
            decode_s=0.299 + i / 100,
            detokenize_s=0.001,
        )
        for i in range(40)
    ]
    figure = stages(evaluation_of(of_requests(rows)))
    (mean_ms,) = (ms for (ms,) in cells(figure, "totals", "mean_ms", of=ALL))
    assert mean_ms == pytest.approx(500 + 195)
    parts = dict(cells(figure, "stages", "stage", "mean_ms", of=ALL))
    assert sum(parts.values()) == pytest.approx(695, rel=1e-4)
    assert parts == {
        "harness lag": pytest.approx(0.2),
        "queue": pytest.approx(98.8),
        "tokenize": 1.0,
        "prefill": 100.0,
        "decode": pytest.approx(494.0),
        "detokenize": 1.0,
    }
    ends = cells(figure, "stages", "start_ms", "end_ms", of=ALL)
    assert ends[0][0] == 0.0
    assert ends[-1][1] == pytest.approx(695, rel=1e-4)
    assert "decode is 71 % of 695 ms" in figure.reading


def test_the_slowest_are_those_of_all_repeats_together() -> None:
    figure = stages(evaluation_of(system_runs("a", (0.5, 0.5, 2.0), n=20)))
    assert cells(figure, "totals", "mean_ms", "n", of=SLOW) == [(2000.0, 3)]
    slow = dict(cells(figure, "stages", "stage", "mean_ms", of=SLOW))
    assert slow["decode"] == 1800.0


def test_the_stage_that_grew_is_named_of_the_slowest_and_not_the_longest() -> None:
    slow = [completion(19.0 + i / 4, 0.7, admitted_s=19.3, queue_s=0.3, decode_s=0.3) for i in range(2)]
    figure = stages(evaluation_of(of_requests([*steady(n=38), *slow])))
    # The queue is 38 times 100 ms and twice 300 ms, so 110 ms on average.
    assert figure.reading == (
        "baseline: decode is 59 % of 510 ms; of the slowest 5 % (700 ms) queue has 190 ms more."
    )


def test_of_few_requests_there_are_no_slowest() -> None:
    figure = stages(evaluation_of(of_requests(steady(n=19))))
    assert {of for (of,) in cells(figure, "totals", "of")} == {ALL}
    assert figure.reading == "baseline: decode is 60 % of 500 ms."
    assert "of the slowest 5 % as well" in stages(evaluation_of(of_requests(steady(n=20)))).reading


def test_what_no_stage_accounts_for_is_shown_as_not_timed() -> None:
    figure = stages(evaluation_of(of_requests([completion(10.0 + i, prefill_s=None) for i in range(5)])))
    assert dict(cells(figure, "stages", "stage", "mean_ms", of=ALL))["not timed"] == pytest.approx(100.0)
    assert any("not every stage was timed" in note for note in figure.notes)


def test_unanswered_requests_are_left_out_and_counted() -> None:
    rows = [*steady(), completion(19.5, 9.0, status="timeout")]
    figure = stages(evaluation_of(of_requests(rows)))
    assert cells(figure, "totals", "mean_ms", "n", of=ALL) == [(500.0, 10)]
    assert any("1 requests that were not answered" in note for note in figure.notes)


def test_without_answers_there_are_no_stages() -> None:
    assert "none of its requests was answered" in stages(evaluation_of(of_runs())).missing
