from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.correlation import correlation, together


def autoregressive(rho: float, n: int, seed: int = 3) -> np.ndarray:
    """Return a first-order autoregressive sequence, whose integrated autocorrelation time is known."""
    noise = np.random.default_rng(seed).standard_normal(n)
    values = np.empty(n)
    values[0] = noise[0] / np.sqrt(1.0 - rho**2)
    for i in range(1, n):
        values[i] = rho * values[i - 1] + noise[i]
    return values


def test_independent_values_are_worth_their_number() -> None:
    found = correlation(np.random.default_rng(1).standard_normal(20_000))
    assert found.effective == pytest.approx(20_000, rel=0.05)
    assert found.lag1 == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("rho", [0.5, 0.8, 0.95])
def test_correlated_values_are_worth_as_many_as_their_autocorrelation_time_says(rho: float) -> None:
    found = correlation(autoregressive(rho, 60_000))
    assert found.lag1 == pytest.approx(rho, abs=0.02)
    assert found.effective == pytest.approx(60_000 * (1.0 - rho) / (1.0 + rho), rel=0.15)


def test_a_sequence_longer_than_a_piece_is_worth_the_sum_of_its_pieces() -> None:
    values = autoregressive(0.8, 150_000)
    assert correlation(values).effective == pytest.approx(150_000 / 9.0, rel=0.1)


def test_failed_requests_count_as_the_slowest_and_equal_values_as_independent() -> None:
    values = autoregressive(0.8, 2_000)
    failed = values.copy()
    failed[100:120] = np.inf
    slowest = values.copy()
    slowest[100:120] = np.delete(values, range(100, 120)).max()
    assert correlation(failed) == correlation(slowest)
    assert correlation(np.full(50, 0.4)).effective == 50
    assert correlation(np.full(50, 0.4)).lag1 is None
    assert correlation(np.full(9, np.inf)).effective == 9


def test_repeats_are_worth_their_sum_and_their_neighbours_correlation_is_the_mean_by_length() -> None:
    one, two = correlation(autoregressive(0.5, 1_000)), correlation(autoregressive(0.9, 3_000))
    both = together([one, two, correlation(np.zeros(10))])
    assert one.lag1 is not None
    assert two.lag1 is not None
    assert both.n == 4_010
    assert both.effective == pytest.approx(one.effective + two.effective + 10)
    assert both.lag1 == pytest.approx((one.lag1 + 3 * two.lag1) / 4)
