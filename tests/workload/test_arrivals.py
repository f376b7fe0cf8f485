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
from bench.workload.arrivals import ARRIVALS, Diurnal, Gamma, OnOff, Poisson, Steady

LAWS: list[Arrivals] = [
    Steady(),
    Steady(jitter=0),
    Steady(jitter=0.5),
    Poisson(),
    Gamma(burstiness=0.01),
    Gamma(burstiness=0.25),
    Gamma(burstiness=50),
    OnOff(on_s=2, off_s=8),
    OnOff(on_s=0.3, off_s=0.1, peak=1.2),
    OnOff(on_s=1, off_s=3, peak=1),
    Diurnal(amplitude=0.99, period_s=7),
    Diurnal(amplitude=0.5, period_s=1000, peak_s=300),
]


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
    assert times_s[-1] < n / rate_rps
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


@pytest.mark.parametrize(
    ("law", "cv", "rel"),
    [
        (Steady(), 0.1 * np.sqrt(2 / 3), 0.03),
        (Poisson(), 1.0, 0.03),
        (Gamma(burstiness=0.25), 2.0, 0.05),
        (Gamma(burstiness=1), 1.0, 0.03),
        (Gamma(burstiness=16), 0.25, 0.03),
        (OnOff(on_s=2, off_s=8), np.sqrt(2 * 0.04 + 4 * 0.16 + 0.64 * 100 - 1), 0.03),
        (OnOff(on_s=40, off_s=60, peak=2), np.sqrt(2 * (0.4 / 2 + 0.6 * 3) - 1), 0.05),
        (OnOff(on_s=2, off_s=8, peak=1), 1.0, 0.03),
        (Diurnal(amplitude=0, period_s=100), 1.0, 0.03),
        (Diurnal(amplitude=0.8, period_s=400), np.sqrt(2 / 0.6 - 1), 0.05),
    ],
    ids=repr,
)
def test_gaps_have_the_mean_of_the_rate_and_the_variation_that_the_law_states(
    law: Arrivals, cv: float, rel: float
) -> None:
    times_s = law.times_s(20_000, 10.0, np.random.default_rng(11))
    assert np.diff(times_s).mean() == pytest.approx(0.1, rel=0.006)
    assert gap_variation(times_s) == pytest.approx(cv, rel=rel)


def test_steady_traffic_is_far_steadier_than_random_traffic() -> None:
    assert gap_variation(Steady().times_s(5000, 10.0, np.random.default_rng(1))) < 0.1
    assert gap_variation(Steady(jitter=0.5).times_s(5000, 10.0, np.random.default_rng(1))) < 0.45


@given(burstiness=st.floats(0.2, 100), seed=st.integers(0, 2**32))
def test_any_burstiness_gives_its_variation(burstiness: float, seed: int) -> None:
    times_s = Gamma(burstiness=burstiness).times_s(20_000, 10.0, np.random.default_rng(seed))
    assert gap_variation(times_s) == pytest.approx(1 / np.sqrt(burstiness), rel=0.15)


def test_bursts_fill_their_phases_and_nothing_comes_between_them() -> None:
    times_s = OnOff(on_s=2, off_s=8).times_s(10_000, 10.0, np.random.default_rng(4))
    assert (times_s % 10).max() < 2
    per_burst = np.bincount((times_s // 10).astype(int))
    assert per_burst.min() > 50  # every burst comes
    assert per_burst.var(ddof=1) / per_burst.mean() == pytest.approx(1, abs=0.5)  # of Poisson numbers
    # Counts in bins as long as a burst: 1 + w · var(rate) / rate for a rate of 50 a fifth of the time.
    counts = np.bincount((times_s // 2).astype(int), minlength=500)
    assert counts.var() / counts.mean() == pytest.approx(1 + 2 * 40, rel=0.05)


def test_a_peak_below_the_largest_leaves_the_rest_to_the_off_phases() -> None:
    times_s = OnOff(on_s=2, off_s=8, peak=3).times_s(40_000, 10.0, np.random.default_rng(4))
    in_burst = (times_s % 10 < 2).mean()
    assert in_burst == pytest.approx(0.6, abs=0.01)  # 3 times the mean rate in a fifth of the time


@pytest.mark.parametrize("peak_s", [None, 0.0, 30.0])
def test_a_day_has_its_peak_and_its_trough_where_and_as_high_as_stated(peak_s: float | None) -> None:
    law = Diurnal(amplitude=0.6, period_s=100, peak_s=peak_s)
    phase_s = law.times_s(200_000, 100.0, np.random.default_rng(5)) % 100
    at_peak_s = 50.0 if peak_s is None else peak_s
    hours = np.bincount(((phase_s - at_peak_s + 2) % 100 // 4).astype(int), minlength=25)
    mean = len(phase_s) / 25
    assert hours.argmax() in (24, 0, 1)
    assert hours[0] / mean == pytest.approx(1.6, rel=0.03)
    assert hours[0] / hours[12:14].mean() == pytest.approx(1.6 / 0.4, rel=0.06)


def test_a_part_of_a_period_holds_its_part_of_the_requests_and_all_are_scaled_to_the_exact_rate() -> None:
    times_s = OnOff(on_s=4, off_s=16).times_s(240, 10.0, np.random.default_rng(5))
    assert len(times_s) == 240  # in 24 s: two bursts of 120 each
    assert ((times_s >= 20).sum()) == pytest.approx(120, abs=35)
    short = Diurnal(amplitude=0.9, period_s=100).times_s(400, 100.0, np.random.default_rng(6))
    assert short[-1] < 4.0
    assert (short < 2).mean() < 0.5  # the day begins at its lowest


def test_laws_of_one_rate_and_seed_agree_where_their_law_does() -> None:
    poisson = Poisson().times_s(500, 5.0, np.random.default_rng(9))
    for same in (OnOff(on_s=2, off_s=8, peak=1), Diurnal(amplitude=0, period_s=10)):
        assert np.allclose(same.times_s(500, 5.0, np.random.default_rng(9)), poisson)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"kind": "gamma"}, "workload.arrivals.burstiness is missing"),
        ({"kind": "gamma", "burstiness": 0}, "workload.arrivals.burstiness"),
        ({"kind": "on_off", "on_s": 2, "off_s": 8, "peak": 5.1}, "all requests come in the on-phases"),
        ({"kind": "on_off", "on_s": 2, "off_s": 8, "peak": 0.5}, "workload.arrivals.peak"),
        ({"kind": "diurnal", "amplitude": 1, "period_s": 8}, "workload.arrivals.amplitude"),
        ({"kind": "diurnal", "amplitude": 0.5, "period_s": 0}, "workload.arrivals.period_s"),
    ],
)
def test_a_law_that_cannot_be_is_refused_by_its_key(table: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        choose(ARRIVALS, table, "x.toml", "workload.arrivals")


def test_jitter_beyond_half_a_gap_would_reorder_and_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"workload\.arrivals\.jitter"):
        choose(ARRIVALS, {"kind": "steady", "jitter": 0.6}, "x.toml", "workload.arrivals")
