from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.change import change
from bench.analysis.contrast import beyond_repeats
from bench.analysis.latency import first_tokens, latencies
from bench.analysis.percentiles import percentile_over_repeats
from bench.analysis.stats import level_interval, mean_interval, rate_dispersion
from bench.analysis.system import SystemRuns
from bench.records import Value
from tests.recorded import offline_run, steady, system_runs, window_run


def test_a_level_never_reaches_below_zero_and_is_the_plain_one_where_repeats_hardly_differ() -> None:
    wide = level_interval([1.0, 2.0, 9.0])
    plain = mean_interval([1.0, 2.0, 9.0])
    assert plain.low is not None
    assert wide.low is not None
    assert wide.high is not None
    assert plain.low < 0.0 < wide.low
    assert wide.low * wide.high == pytest.approx(wide.mean**2), "symmetric on the logarithm"
    near, same = level_interval([100.0, 100.1, 99.9]), mean_interval([100.0, 100.1, 99.9])
    assert near.low == pytest.approx(same.low, rel=1e-5)
    assert level_interval([0.0, 0.0, 0.3]).low == 0.0
    assert level_interval([-1.0, 0.0, 3.0]) == mean_interval([-1.0, 0.0, 3.0])


def test_what_a_meter_leaves_open_is_told_apart_from_the_scatter_of_repeats() -> None:
    repeats = {1: 99.0, 2: 100.0, 3: 102.0}
    plain = level_interval(list(repeats.values()))
    assert plain.low is not None
    assert plain.high is not None
    value = Value(
        value=plain.mean, source="measured", note="", low=plain.low - 1.0, high=plain.high + 2.0, n=3,
        repeats=repeats,
    )  # fmt: skip
    assert beyond_repeats(value) == pytest.approx((1.0, 2.0))


def test_the_note_says_what_the_sample_is_worth_and_whether_that_is_enough() -> None:
    few = percentile_over_repeats(system_runs(), latencies, 0.95)
    assert "worth 30 independent requests, too few for p95, which needs 130" in few.note
    runs = [window_run(steady(latency_s, 100), repeat=i) for i, latency_s in enumerate((0.4, 0.5))]
    enough = percentile_over_repeats(
        SystemRuns(name="baseline", offline=offline_run(200.0), windows=runs), first_tokens, 0.95
    )
    assert "worth 200 independent requests; at most 200 with 99 % confidence (early stopping)" in enough.note


def test_one_repeat_without_enough_requests_in_its_blocks_has_no_interval() -> None:
    value = percentile_over_repeats(system_runs(latencies_s=(0.5,), rps=40.0, n=130), latencies, 0.95)
    assert (value.low, value.high, value.blocks) == (None, None, None)
    assert "one run, so no interval" in value.note


@pytest.mark.parametrize(
    ("repeats", "n", "least"),
    [(5, 80, 0), (5, 79, 80), (1, 130, 0), (1, 129, 130), (2, 80, 0), (20, 26, 80)],
)
def test_a_percentile_of_too_few_requests_has_no_interval_however_many_repeats(
    repeats: int, n: int, least: int
) -> None:
    system = system_runs(latencies_s=((0.5, 0.51) * 10)[:repeats], rps=40.0, n=n)
    value = percentile_over_repeats(system, latencies, 0.95)
    said = f"{n} requests in a repeat are too few for p95, which needs {least}"
    assert value.unresolved == (said if least else "")
    assert (value.low is None) == bool(least or repeats == 1)


def test_a_change_of_a_figure_that_is_not_resolved_has_a_size_and_no_direction() -> None:
    known = Value(value=100.0, source="measured", note="", low=99.0, high=101.0, n=3)
    doubtful = Value(value=50.0, source="measured", note="", n=3, unresolved="too short")
    for pair in ((known, doubtful), (doubtful, known)):
        found = change(*pair, "lower")
        assert found.direction == "not resolved"
        assert found.pct_change is not None
        assert (found.low, found.low_pct) == (None, None)
    assert change(known, doubtful, None).direction == "not judged"


def test_the_dispersion_of_counts_is_that_of_the_times_between_them() -> None:
    rng = np.random.default_rng(8)
    poisson = np.cumsum(rng.standard_exponential(60_000))
    assert rate_dispersion(poisson, np.ones(60_000), 0.0) == pytest.approx(1.0, rel=0.6)
    assert rate_dispersion(np.arange(1.0, 101.0), np.ones(100), 0.0) == pytest.approx(0.0, abs=1e-9)
    assert rate_dispersion(np.arange(1.0, 4.0), np.ones(3), 0.0) is None
