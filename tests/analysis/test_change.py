from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.change import change
from bench.records import Value
from tests.analysis.sides import point
from tests.recorded import unpaired


@pytest.mark.parametrize(
    ("better", "new", "direction"),
    [
        ("lower", 90.0, "better"),
        ("lower", 110.0, "worse"),
        ("higher", 110.0, "better"),
        ("higher", 90.0, "worse"),
        ("lower", 100.0, "same"),
        (None, 110.0, "not judged"),
    ],
)
def test_direction_follows_the_metric(better: Any, new: float, direction: str) -> None:
    assert change(point(100.0), point(new), better).direction == direction


def test_an_interval_that_includes_no_change_is_unclear() -> None:
    result = change(unpaired(90, 100, 110), unpaired(92, 103, 112), "lower")
    assert result.direction == "unclear"
    assert result.low_pct is not None
    assert result.high_pct is not None
    assert result.low_pct < 0 < result.high_pct


def test_a_clear_change_has_welchs_interval() -> None:
    baseline, optimized = unpaired(99, 100, 101), unpaired(79, 80, 81)
    result = change(baseline, optimized, "lower")
    assert result.direction == "better"
    assert result.pct_change == pytest.approx(-20.0)
    relative = math.sqrt((1 / 100) ** 2 / 3 + (1 / 80) ** 2 / 3)
    # Welch's degrees of freedom for these two are 3.82; t(0.975, 3.82) is 2.83.
    assert result.low_pct == pytest.approx((0.8 * math.exp(-2.83 * relative) - 1) * 100, abs=0.05)


def test_welchs_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(1000):
        result = change(unpaired(*rng.normal(100, 5, 5)), unpaired(*rng.normal(80, 8, 5)), "lower")
        assert result.low_pct is not None
        assert result.high_pct is not None
        hits += result.low_pct <= -20.0 <= result.high_pct
    assert 930 <= hits <= 975


@given(
    st.lists(st.floats(0, 1e9), min_size=2, max_size=5), st.lists(st.floats(0, 1e9), min_size=2, max_size=5)
)
def test_any_repeats_give_a_finite_interval_around_the_change(one: list[float], two: list[float]) -> None:
    result = change(unpaired(*one), unpaired(*two), "lower")
    assert result.delta is not None
    assert result.low is not None
    assert result.high is not None
    assert math.isfinite(result.low)
    assert math.isfinite(result.high)
    slack = 1e-9 * (abs(result.delta) + max(one) + max(two))
    assert result.low - slack <= result.delta <= result.high + slack


def test_two_wild_repeats_give_a_wide_interval_and_no_error() -> None:
    result = change(unpaired(0.1, 0.15), unpaired(0.1, 3.0), "lower")
    assert result.direction == "unclear"
    assert result.high_pct is not None
    assert result.high_pct > 1000


def test_a_change_of_positive_figures_is_not_said_to_lose_more_than_all() -> None:
    result = change(unpaired(1, 30, 60), unpaired(1, 80, 200), "higher")
    assert result.low_pct == pytest.approx(-100.0)
    assert result.direction == "unclear"


def test_no_more_than_all_of_a_figure_is_lost() -> None:
    result = change(unpaired(0.47, 0.27, 0.40), unpaired(0.0, 0.0, 0.0), "higher")
    assert (result.pct_change, result.low_pct, result.direction) == (-100.0, -100.0, "worse")
    assert result.high_pct is not None
    assert -100.0 < result.high_pct < 0.0


def test_a_base_of_zero_has_a_delta_and_no_percentage() -> None:
    result = change(unpaired(0, 0, 0), unpaired(0.1, 0.1, 0.1), "lower")
    assert result.pct_change is None
    assert result.delta == pytest.approx(0.1)
    assert result.direction == "worse"


def test_a_base_that_is_known_exactly_adds_no_width() -> None:
    exact = Value(value=0.0, source="derived", note="", low=0.0, high=0.0)
    drift = Value(value=0.02, source="measured", note="", low=0.01, high=0.03, n=10)
    found = change(exact, drift, "lower")
    assert [found.low, found.high] == pytest.approx([0.01, 0.03])
    assert found.direction == "worse"
    still = change(exact, exact, "lower")
    assert (still.low, still.high, still.direction) == (0.0, 0.0, "same")


def test_a_missing_side_is_not_comparable_rather_than_zero_or_nan() -> None:
    result = change(point(None), point(1.0), "lower")
    assert (result.delta, result.pct_change, result.direction) == (None, None, "not comparable")
