from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.stats import (
    MAX_REPEATS,
    block_interval,
    integral,
    mean_interval,
    minimum_count,
    percentile,
    rate_interval,
    repeats_needed,
    t_quantile,
    time_weighted_mean,
)

finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=1, max_size=50), st.floats(0, 1))
def test_a_percentile_is_numpys_linear_one(values: list[float], share: float) -> None:
    array = np.array(values)
    assert percentile(array, share) == pytest.approx(float(np.quantile(array, share)), abs=1e-6)


def test_a_percentile_that_touches_a_failed_request_is_infinite() -> None:
    values = np.array([1.0] * 95 + [math.inf] * 5)
    assert percentile(values, 0.94) == 1.0
    assert percentile(values, 0.95) == math.inf, "rank 94.05 lies between a success and a failure"
    assert percentile(np.array([1.0, 2.0, math.inf]), 0.5) == 2.0, "an exact rank needs no neighbour"


def test_nothing_has_no_percentile_and_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile(np.array([]), 0.5)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


@pytest.mark.parametrize(("share", "n"), [(0.5, 20), (0.9, 100), (0.95, 200), (0.99, 1000), (0.999, 10_000)])
def test_a_percentile_needs_ten_requests_beyond_it(share: float, n: int) -> None:
    assert minimum_count(share) == n


def test_the_t_quantile_is_the_tables() -> None:
    assert t_quantile(4) == pytest.approx(2.776, abs=1e-3)
    assert t_quantile(1) == pytest.approx(12.706, abs=1e-3)


def test_the_interval_of_repeats_is_students() -> None:
    estimate = mean_interval([1.0, 2.0, 3.0])
    assert estimate.mean == 2.0
    # t(2) = 4.3027, standard error 1 / sqrt(3).
    assert estimate.high == pytest.approx(2.0 + 4.30265 / math.sqrt(3), abs=1e-4)
    assert estimate.low == pytest.approx(2.0 - 4.30265 / math.sqrt(3), abs=1e-4)


def test_one_repeat_has_no_interval() -> None:
    estimate = mean_interval([5.0])
    assert (estimate.mean, estimate.low, estimate.high, estimate.n) == (5.0, None, None, 1)


def test_students_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        estimate = mean_interval(rng.normal(10.0, 2.0, 5).tolist())
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= 10.0 <= estimate.high
    assert 930 <= hits <= 970


@pytest.mark.parametrize(("n", "half", "target", "needed"), [(3, 4.30265, 1.0, 15), (2, 12.7062, 12.0, 3)])
def test_the_repeats_that_an_interval_needs_count_with_students_t(
    n: int, half: float, target: float, needed: int
) -> None:
    # The deviation is sqrt(n): t(14) · sqrt(3 / 15) is 0.959, t(13) · sqrt(3 / 14) just above 1.
    assert repeats_needed(n, half, target, MAX_REPEATS) == needed
    deviation = math.sqrt(n)
    assert t_quantile(needed - 1) * deviation / math.sqrt(needed) <= target
    assert needed == n + 1 or t_quantile(needed - 2) * deviation / math.sqrt(needed - 1) > target


def test_an_interval_that_cannot_be_narrowed_enough_has_no_number_of_repeats() -> None:
    assert repeats_needed(3, 4.3, 0.01, MAX_REPEATS) is None
    assert repeats_needed(3, 4.3, 0.0, MAX_REPEATS) is None
    assert repeats_needed(1, 4.3, 1.0, MAX_REPEATS) is None


def test_blocks_widen_the_interval_of_correlated_values() -> None:
    rng = np.random.default_rng(2)
    correlated = np.repeat(rng.normal(size=100), 50)
    naive = 1.96 * correlated.std() / math.sqrt(len(correlated))
    estimate = block_interval(correlated)
    assert estimate.high is not None
    assert estimate.high - estimate.mean > 3 * naive
    assert block_interval(np.ones(5)).low is None, "too few values for blocks"


def test_a_constant_signal_has_its_full_integral() -> None:
    t_s = np.arange(0.0, 10.1, 0.5)
    assert integral(t_s, np.full(len(t_s), 60.0), 1.25, 5.25) == pytest.approx(240.0)


def test_a_mean_over_time_weighs_by_duration_and_not_by_samples() -> None:
    t_s = np.array([0.0, 0.1, 0.2, 0.3, 9.9, 10.0])
    values = np.array([1.0, 1.0, 1.0, 1.0, 3.0, 3.0])
    mean = time_weighted_mean(t_s, values, 0.0, 10.0)
    assert mean == pytest.approx((0.3 * 1 + 9.6 * 2 + 0.1 * 3) / 10)


def test_a_rate_has_an_interval_from_blocks_that_never_cut_a_batch() -> None:
    # 40 batches of 8, each of 0.5 s: exactly 16/s whatever the batch size.
    ends_s = 3.0 + 0.5 * np.arange(1, 41)
    estimate = rate_interval(ends_s, np.full(40, 8.0), 3.0)
    assert estimate.mean == pytest.approx(16.0)
    assert (estimate.low, estimate.high) == pytest.approx((16.0, 16.0))
    few = rate_interval(ends_s[:4], np.full(4, 8.0), 3.0)
    assert few.mean == pytest.approx(16.0)
    assert few.low is None


@pytest.mark.parametrize("pieces", [8, 60])
def test_the_interval_of_a_rate_covers_it_as_often_as_it_says(pieces: int) -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(1000):
        ends_s = np.cumsum(rng.gamma(4.0, 0.25, pieces))
        estimate = rate_interval(ends_s, np.full(pieces, 8.0), 0.0)
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= 8.0 <= estimate.high
    assert 920 <= hits <= 980
