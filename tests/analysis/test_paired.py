"""The median of pairs covers what it says, and only an interval on one side of a limit decides."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.paired import Median, median_interval, resolve


def test_the_interval_of_a_median_is_the_one_of_the_published_table() -> None:
    # David and Nagaraja, Order Statistics: 10 values, 2nd and 9th (97.9 %); 20 values, 6th and 15th (95.9 %).
    ten, twenty = median_interval(range(1, 11)), median_interval(range(1, 21))
    assert (ten.low, ten.median, ten.high) == (2, 5.5, 9)
    assert (twenty.low, twenty.median, twenty.high) == (6, 10.5, 15)


def test_fewer_than_six_values_have_a_median_and_no_interval() -> None:
    assert median_interval([3.0, 1.0, 2.0, 9.0, 4.0]) == Median(median=3.0, low=None, high=None, n=5)
    six = median_interval([3.0, 1.0, 2.0, 9.0, 4.0, 5.0])
    assert (six.low, six.high) == (1.0, 9.0)


def test_no_value_has_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


def test_the_interval_covers_the_median_of_a_skewed_law_at_least_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [median_interval(rng.lognormal(0.0, 1.0, 15).tolist()) for _ in range(1_000)]
    covered = sum(
        one.low is not None and one.high is not None and one.low <= 1.0 <= one.high for one in found
    )
    assert 940 <= covered < 1_000


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.991, 1.02, "passed"),
        (0.99, 0.995, "passed"),
        (0.985, 0.992, "not resolved"),
        (0.97, 0.9899, "exceeded"),
        (None, None, "not resolved"),
    ],
)
def test_only_an_interval_on_one_side_of_the_limit_decides(
    low: float | None, high: float | None, says: str
) -> None:
    assert resolve(Median(median=0.99, low=low, high=high, n=9), 0.99) == says


def test_without_a_ratio_nothing_is_resolved() -> None:
    assert resolve(None, 0.99) == "not resolved"
