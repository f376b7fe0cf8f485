"""Arrival laws keep the asked rate exactly and have the variation that their name promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import choose
from bench.errors import ConfigError
from bench.protocols import Arrivals
from bench.workload.arrivals import ARRIVALS, Poisson, Steady

LAWS: list[Arrivals] = [Steady(), Steady(jitter=0), Steady(jitter=0.5), Poisson()]


def gap_variation(times_s: np.ndarray[Any, Any]) -> float:
    gaps = np.diff(times_s)
    return float(gaps.std() / gaps.mean())


@given(
    law=st.sampled_from(LAWS),
    n=st.integers(1, 300),
    rate_rps=st.floats(1e-3, 1e4),
    seed=st.integers(0, 2**32),
)
def test_every_law_puts_exactly_n_ascending_times_into_n_over_rate_seconds(
    law: Arrivals, n: int, rate_rps: float, seed: int
) -> None:
    times_s = law.times_s(n, rate_rps, np.random.default_rng(seed))
    assert len(times_s) == n
    assert times_s[0] >= 0
    assert times_s[-1] <= n / rate_rps
    assert np.all(np.diff(times_s) >= 0)


def test_steady_puts_one_request_into_every_gap_so_any_long_stretch_has_the_rate() -> None:
    times_s = Steady(jitter=0.5).times_s(1000, 4.0, np.random.default_rng(1))
    assert np.array_equal(np.floor(times_s * 4.0), np.arange(1000))


def test_steady_without_jitter_is_a_metronome() -> None:
    times_s = Steady(jitter=0).times_s(100, 10.0, np.random.default_rng(1))
    assert np.allclose(np.diff(times_s), 0.1)


def test_steady_moves_each_request_by_at_most_the_jitter_and_uses_all_of_it() -> None:
    offsets = Steady().times_s(5000, 1.0, np.random.default_rng(2)) - (np.arange(5000) + 0.5)
    assert np.abs(offsets).max() <= 0.1
    assert np.abs(offsets).max() > 0.099
    assert gap_variation(np.arange(5000) + offsets) == pytest.approx(0.1 * np.sqrt(2 / 3), rel=0.05)


def test_poisson_gaps_are_exponential() -> None:
    from scipy.stats import kstest

    times_s = Poisson().times_s(5000, 50.0, np.random.default_rng(3))
    gaps_s = np.diff(times_s)
    assert gap_variation(times_s) == pytest.approx(1.0, abs=0.05)
    assert kstest(gaps_s, "expon", args=(0, 1 / 50.0)).pvalue > 0.01


def test_jitter_beyond_half_a_gap_would_reorder_and_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"workload\.arrivals\.jitter"):
        choose(ARRIVALS, {"kind": "steady", "jitter": 0.6}, "x.toml", "workload.arrivals")
