from __future__ import annotations

import numpy as np
import pytest

from bench.analysis import energy
from bench.analysis.recorded import Series, coverage
from bench.records import Interval, Sample
from tests.analysis.conftest import WINDOW, constant_power, number, sample, steady, window_run

HUNDRED_JOULES_KWH_PER_1K = 100 * 1000 / 3.6e6
"""Ten requests in 10 s at 100 W."""


def test_a_counter_gives_the_exact_energy_of_constant_power() -> None:
    reading = energy.kwh_per_1k(window_run())
    assert number(reading) == pytest.approx(HUNDRED_JOULES_KWH_PER_1K)
    assert reading.how == "gross, energy counter between ticks"


@pytest.mark.parametrize("offset_s", [0.0, 0.13, 0.4, 0.77])
def test_a_coarse_tick_does_not_bias_the_power(offset_s: float) -> None:
    # The counter advances once a second, sampled at 10 Hz, at any phase against the window.
    ticking = [
        sample(t, "energy_j", 100.0 * np.floor(t + offset_s)) for t in np.arange(5.0, 25.0, 0.1).tolist()
    ]
    counted = energy.metered(window_run(telemetry=ticking))
    assert not isinstance(counted, str)
    assert counted[0].power_w == pytest.approx(100.0, rel=0.001)


def test_requests_are_counted_in_the_span_of_the_joules() -> None:
    # The counter is sampled only from 14 to 16 s, where two of the ten requests end.
    short = [s for s in constant_power() if s.field != "energy_j" or 13.9 < s.t_s < 16.05]
    reading = energy.kwh_per_1k(window_run(telemetry=short))
    assert reading.n == 2
    assert number(reading) == pytest.approx(HUNDRED_JOULES_KWH_PER_1K, rel=0.06)


def test_without_a_counter_the_power_samples_are_integrated_and_it_is_said() -> None:
    run = window_run(telemetry=constant_power(counter=False), missing={"energy_j": "not supported"})
    reading = energy.kwh_per_1k(run)
    assert number(reading) == pytest.approx(HUNDRED_JOULES_KWH_PER_1K)
    assert reading.how == "gross, power samples integrated (not supported)"


def test_a_step_of_power_is_integrated_exactly_enough() -> None:
    step = [sample(5 + i / 10, "power_w", 300.0 if 100 <= i < 150 else 60.0) for i in range(201)]
    metered = energy.metered(window_run(telemetry=step))
    assert not isinstance(metered, str)
    assert metered[0].joules == pytest.approx(5 * 60 + 5 * 300, rel=0.01)


def test_a_counter_that_went_backwards_is_discarded_for_the_power() -> None:
    reset = [
        sample(s.t_s, s.field, s.value - 1000.0) if s.field == "energy_j" and s.t_s > 15 else s
        for s in constant_power()
    ]
    reading = energy.kwh_per_1k(window_run(telemetry=reset))
    assert number(reading) == pytest.approx(HUNDRED_JOULES_KWH_PER_1K)
    assert "the energy counter went backwards" in reading.how


def test_a_counter_reset_at_the_edge_of_the_window_is_seen() -> None:
    samples = Series(np.array([9.9, 10.0, 15.0, 20.0]), np.array([500.0, 0.0, 50.0, 100.0]))
    assert energy.from_counter(samples, WINDOW) == "the energy counter went backwards"


def test_a_counter_reset_outside_the_window_does_no_harm() -> None:
    samples = Series(
        np.array([7.0, 8.0, 10.0, 15.0, 20.0, 21.0]), np.array([500.0, 0.0, 1.0, 50.0, 100.0, 0.0])
    )
    assert not isinstance(energy.from_counter(samples, WINDOW), str)


def test_a_frozen_counter_is_discarded() -> None:
    frozen = [sample(s.t_s, s.field, 7.0 if s.field == "energy_j" else s.value) for s in constant_power()]
    reading = energy.kwh_per_1k(window_run(telemetry=frozen))
    assert "did not advance" in reading.how
    assert number(reading) > 0


def test_power_with_holes_is_refused_rather_than_bridged() -> None:
    holes = [s for s in constant_power(counter=False) if not 12 < s.t_s < 15]
    reading = energy.kwh_per_1k(window_run(telemetry=holes))
    assert reading.value is None
    assert "cover only 7" in reading.why


def test_neither_counter_nor_power_is_missing_with_both_reasons_and_never_zero() -> None:
    reasons = {"energy_j": "mig: whole-GPU counter only", "power_w": "no permission"}
    reading = energy.kwh_per_1k(window_run(telemetry=[], missing=reasons))
    assert reading.value is None
    assert reading.why == "mig: whole-GPU counter only; no permission"


def test_no_completion_while_metering_has_no_energy_per_request() -> None:
    reading = energy.kwh_per_1k(window_run(requests=steady(latency_s=50.0)))
    assert reading.value is None
    assert "no request was completed" in reading.why


def test_two_gpus_add_up_and_one_that_is_silent_makes_the_total_unknown() -> None:
    second = [sample(s.t_s, s.field, s.value, "GPU-2") for s in constant_power(50.0)]
    both = energy.kwh_per_1k(window_run(telemetry=constant_power() + second))
    assert number(both) == pytest.approx(1.5 * HUNDRED_JOULES_KWH_PER_1K)
    mute: list[Sample] = [s for s in second if s.field == "energy_j" and s.t_s < 9]
    partial = energy.kwh_per_1k(window_run(telemetry=constant_power() + mute))
    assert partial.value is None


def test_rapl_packages_and_dram_add_up_on_a_cpu() -> None:
    package = [sample(5 + i / 10, "rapl_package_j", 5.0 * i, None) for i in range(201)]
    dram = [sample(5 + i / 10, "rapl_dram_j", 1.0 * i, None) for i in range(201)]
    alone = energy.kwh_per_1k(window_run(telemetry=package, device="cpu", facts={"gpu_name": None}))
    assert number(alone) == pytest.approx(0.5 * HUNDRED_JOULES_KWH_PER_1K)
    assert "without DRAM" in alone.how
    both = energy.kwh_per_1k(window_run(telemetry=package + dram, device="cpu", facts={"gpu_name": None}))
    assert number(both) == pytest.approx(0.6 * HUNDRED_JOULES_KWH_PER_1K)
    back = [s if s.t_s < 15 else sample(s.t_s, s.field, 0.0, None) for s in package]
    assert (
        "went backwards"
        in energy.kwh_per_1k(window_run(telemetry=back, device="cpu", facts={"gpu_name": None})).why
    )


def test_coverage_counts_gaps_and_uncovered_ends() -> None:
    full = Series(np.arange(10.0, 20.01, 0.1), np.ones(101))
    assert coverage(full, WINDOW) == pytest.approx(1.0)
    assert coverage(full, Interval(start_s=10, end_s=40)) == pytest.approx(1 / 3, abs=0.01)
    assert coverage(Series(np.array([]), np.array([])), WINDOW) == 0.0


def test_counter_and_power_are_held_against_each_other() -> None:
    assert energy.disagreement(window_run()) == pytest.approx(0.0, abs=1e-9)
    low = [sample(s.t_s, s.field, 80.0 if s.field == "power_w" else s.value) for s in constant_power()]
    assert energy.disagreement(window_run(telemetry=low)) == pytest.approx(0.2)
    assert energy.disagreement(window_run(telemetry=constant_power(counter=False))) is None


def test_a_run_on_the_cpu_under_a_modelled_gpu_takes_the_modelled_counter() -> None:
    run = window_run(device="cpu", source="simulated", facts={"gpu_name": "Modelled GPU"})
    assert number(energy.kwh_per_1k(run)) == pytest.approx(HUNDRED_JOULES_KWH_PER_1K)
