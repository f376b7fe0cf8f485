"""The control chart behind the gate: what it takes for a worsening, and what it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from bench.analysis.regression import LEVEL_RUNS, Chart, Judgement, Observed, scale_of
from bench.records import Value
from tests.recorded import repeated

LOWER = scale_of("lower", share=False)
HIGHER = scale_of("higher", share=False)
SHARE = scale_of("lower", share=True)
QUIET = (100.0, 101.0, 99.5, 100.5, 99.0, 100.0)
"""Clean runs that differ by about 1 %."""


def observed(run: int, *repeats: float) -> Observed:
    """Return a run with these repeats; of one number, five that scatter by a tenth of a percent around it."""
    if math.isinf(repeats[0]):
        return Observed(f"run{run}", Value(value=math.inf, source="derived", note="it crashed"))
    if len(repeats) == 1:
        repeats = tuple(repeats[0] * (1.0 + off) for off in (-0.001, 0.0, 0.001, 0.0005, -0.0005))
    return Observed(f"run{run}", repeated(*repeats))


def chart_of(figures: Sequence[float], scale: object = LOWER) -> list[Judgement]:
    """Accept the first figure as the baseline, and return the judgements of the others."""
    chart = Chart(scale)  # type: ignore[arg-type]
    chart.accept(observed(0, figures[0]))
    return [chart.add(observed(i, figure)) for i, figure in enumerate(figures[1:], 1)]


def outcomes(figures: Sequence[float], scale: object = LOWER) -> list[str]:
    return [judgement.outcome for judgement in chart_of(figures, scale)]


def test_one_run_beyond_the_threshold_is_suspected_and_the_second_in_a_row_is_a_regression() -> None:
    found = chart_of([*QUIET, 115.0, 116.0])
    assert [judgement.outcome for judgement in found[-2:]] == ["suspected", "regressed"]
    assert found[-1].group == ("run6", "run7")
    assert found[-1].low is not None
    assert found[-1].low > 5.0
    assert found[-1].change == pytest.approx(15.5, abs=0.5)


def test_a_run_that_comes_back_clears_the_suspicion() -> None:
    assert outcomes([*QUIET, 115.0, 100.0, 115.0]) == ["in line"] * 5 + ["suspected", "in line", "suspected"]


def test_a_regression_stands_until_a_run_comes_back_and_leaves_the_level_as_it_was() -> None:
    found = chart_of([*QUIET, 115.0, 116.0, 115.0, 100.0])
    assert [judgement.outcome for judgement in found[-3:]] == ["regressed", "regressed", "in line"]
    assert found[-1].level == pytest.approx(100.0, abs=0.2)
    assert found[-1].clean == len(QUIET)


def test_less_throughput_is_worse_and_more_is_better() -> None:
    assert outcomes([*QUIET, 85.0, 86.0], HIGHER)[-2:] == ["suspected", "regressed"]
    found = chart_of([*QUIET, 115.0, 115.0], HIGHER)
    assert [judgement.outcome for judgement in found[-2:]] == ["in line", "improved"]
    assert found[-1].change == pytest.approx(15.0, abs=0.2)
    assert found[-1].low is not None
    assert found[-1].high is not None
    assert found[-1].low < found[-1].change < found[-1].high


def test_a_persistent_worsening_below_the_threshold_is_none() -> None:
    assert set(outcomes([*QUIET, 104.0, 104.0, 104.0])) == {"in line"}


def test_a_worsening_whose_interval_reaches_below_the_threshold_is_not_resolved() -> None:
    noisy = (100.0, 104.0, 96.0, 103.0, 97.0, 101.0)
    assert outcomes([*noisy, 108.0, 108.0])[-2:] == ["not resolved", "not resolved"]


def test_how_days_differ_counts_once_three_runs_tell_and_the_repeats_alone_before() -> None:
    found = chart_of([100.0, 103.0, 98.0, 101.0, 112.0])
    assert [judgement.between for judgement in found] == [False, False, True, True]
    assert found[0].low is not None
    assert found[0].high is not None
    assert found[0].high - found[0].low < 0.5, "five repeats that scatter by a tenth of a percent"
    assert found[-1].outcome == "not resolved", "a day may bring this much"


def test_slow_drift_is_found_although_every_run_is_close_to_the_one_before() -> None:
    drift = [100.0 * 1.004**i for i in range(60)]
    found = outcomes(drift)
    assert "regressed" in found
    assert drift[1 + found.index("regressed")] < 120.0


def test_the_level_is_that_of_the_first_clean_runs_only() -> None:
    figures = [100.0] * LEVEL_RUNS + [104.0] * 30
    found = chart_of(figures)
    assert found[-1].level == pytest.approx(100.0)
    assert found[-1].change == pytest.approx(4.0, abs=0.1)


def test_a_large_step_does_not_drown_among_runs_that_a_lucky_baseline_left_open() -> None:
    found = chart_of([580.0, 1079.0, 733.0, 704.0, 652.0, 2085.0, 2198.0])
    assert [judgement.outcome for judgement in found[2:4]] == ["not resolved"] * 2
    assert [judgement.outcome for judgement in found[4:]] == ["suspected", "regressed"]
    assert found[-1].group == ("run5", "run6")
    assert found[-1].level == pytest.approx(733.0, rel=0.02), "of all runs before the step"


def test_how_runs_varied_about_an_earlier_level_is_known_at_the_next_one() -> None:
    chart = Chart(LOWER)
    chart.accept(observed(0, 100.0))
    for i, figure in enumerate((104.0, 96.0, 103.0, 97.0), 1):
        chart.add(observed(i, figure))
    chart.accept(observed(5, 50.0))
    found = chart.add(observed(6, 53.0))
    assert found.between
    assert found.degrees == 4
    assert found.outcome == "not resolved"


def test_without_any_interval_nothing_is_called_a_regression() -> None:
    def bare(run: int, figure: float) -> Observed:
        return Observed(f"run{run}", Value(value=figure, source="measured", note=""))

    chart = Chart(LOWER)
    chart.accept(bare(0, 100.0))
    first, second = chart.add(bare(1, 150.0)), chart.add(bare(2, 151.0))
    assert (first.outcome, second.outcome) == ("not resolved", "not resolved")
    assert (second.low, second.high) == (None, None)
    assert chart.add(bare(3, 100.0)).outcome == "too uncertain", "nor in line"


@pytest.mark.parametrize(("scatter", "outcome"), [(0.001, "in line"), (0.5, "too uncertain")])
def test_a_run_is_in_line_only_where_its_interval_excludes_several_thresholds(
    scatter: float, outcome: str
) -> None:
    chart = Chart(LOWER)
    chart.accept(observed(0, 100.0))
    found = chart.add(observed(1, 90.0 * (1 - scatter), 90.0, 90.0 * (1 + scatter)))
    assert found.outcome == outcome


def test_repeats_that_cannot_carry_an_interval_give_none_but_runs_do() -> None:
    def unresolved(run: int, figure: float) -> Observed:
        why = "requests of a queue are too alike"
        return Observed(f"run{run}", Value(value=figure, source="measured", note="", unresolved=why))

    chart = Chart(LOWER)
    chart.accept(unresolved(0, QUIET[0]))
    found = [chart.add(unresolved(i, figure)) for i, figure in enumerate((*QUIET[1:], 115.0, 116.0), 1)]
    assert found[0].low is None
    assert [judgement.outcome for judgement in found[-2:]] == ["suspected", "regressed"]


def test_a_figure_without_a_bound_is_worse_than_any_number_but_not_in_one_shot() -> None:
    found = chart_of([*QUIET, math.inf, math.inf, 100.0])
    assert [judgement.outcome for judgement in found[-3:]] == ["suspected", "regressed", "in line"]
    assert math.isinf(found[-2].change)
    assert found[-1].level == pytest.approx(100.0, abs=0.2)
    assert outcomes([*QUIET, math.inf, math.inf], HIGHER)[-1] == "regressed"


def test_shares_are_judged_by_points_and_may_be_zero() -> None:
    found = chart_of([0.0, 0.0, 0.0, 0.0, 0.03, 0.03], SHARE)
    assert [judgement.outcome for judgement in found] == ["in line"] * 3 + ["suspected", "regressed"]
    assert found[-1].change == pytest.approx(3.0)
    assert found[-1].level == 0.0
    assert set(outcomes([0.0, 0.004, 0.004, 0.004], SHARE)) == {"in line"}


def test_repeats_with_the_same_traffic_are_compared_in_pairs() -> None:
    traffic = (80.0, 120.0, 100.0, 90.0, 110.0)
    chart = Chart(LOWER)
    chart.accept(observed(0, *traffic))
    chart.add(observed(1, *(x * 1.12 for x in traffic)))
    found = chart.add(observed(2, *(x * 1.12 for x in traffic)))
    assert found.outcome == "regressed"
    assert found.low == pytest.approx(12.0, abs=0.01)


def test_a_material_threshold_of_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="below 100 percent"):
        scale_of("lower", share=False, material_pct=100)


def test_clean_histories_with_days_that_resemble_their_neighbours_raise_no_alarm() -> None:
    rng, alarms, naive = np.random.default_rng(5), 0, 0
    for _ in range(12):
        figures, day = [], rng.normal(0, 0.03)
        for _ in range(60):
            figures.append(100.0 * math.exp(day))
            day = 0.6 * day + rng.normal(0, 0.03 * 0.8)
        alarms += outcomes(figures).count("regressed")
        naive += sum(figure > 1.05 * figures[0] for figure in figures)
    assert alarms == 0
    assert naive > 20
