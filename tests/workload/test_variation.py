"""What is said of realised arrivals tells a metronome, Poisson traffic and bursts apart, or why it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from bench.workload.arrivals import Diurnal, OnOff, Poisson, Steady
from bench.workload.variation import describe


def test_a_metronome_does_not_vary() -> None:
    facts = describe(np.arange(400) / 4.0)
    assert facts["n"] == 400
    assert facts["rate_rps"] == pytest.approx(4.0)
    assert facts["gap_cv"] == pytest.approx(0, abs=1e-9)
    assert facts["dispersion"] < 0.01


def test_poisson_traffic_has_a_dispersion_of_one_at_any_width() -> None:
    times_s = Poisson().times_s(100_000, 10.0, np.random.default_rng(2))
    for bin_s in (1.0, 5.0, 20.0):
        assert describe(times_s, bin_s)["dispersion"] == pytest.approx(1, rel=0.15)


def test_bursts_raise_both_and_slow_swings_the_dispersion_alone() -> None:
    rng = np.random.default_rng(3)
    steady, bursts = (
        describe(law.times_s(10_000, 10.0, rng), 4.0) for law in (Steady(), OnOff(on_s=1, off_s=3))
    )
    assert bursts["gap_cv"] > 2 > 0.1 > steady["gap_cv"]
    swings = describe(Diurnal(amplitude=0.5, period_s=500).times_s(10_000, 10.0, rng), 20.0)
    assert swings["gap_cv"] < 1.2
    assert swings["dispersion"] > 10


@pytest.mark.parametrize("times_s", [[], [1.0], [2.0, 2.0]])
def test_without_two_times_nothing_is_known_and_it_says_so(times_s: list[float]) -> None:
    facts = describe(times_s)
    assert facts["n"] == len(times_s)
    assert facts["rate_rps"] is facts["gap_cv"] is facts["dispersion"] is None
    assert facts["why"]


def test_a_few_times_have_gaps_and_no_dispersion() -> None:
    facts = describe([0.0, 1.0, 3.0])
    assert facts["gap_cv"] == pytest.approx(1 / 3)
    assert facts["dispersion"] is None
    assert "bin" in facts["why"]
