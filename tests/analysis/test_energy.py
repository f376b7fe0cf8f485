from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from bench.analysis import energy
from bench.analysis.joules import Energy
from bench.analysis.metered import disagreement, metered
from bench.analysis.recorded import Series, coverage, served_between
from bench.analysis.system import Reading, SystemRuns
from bench.records import Interval, Run, Sample
from tests.recorded import (
    WINDOW,
    completion,
    constant_power,
    number,
    sample,
    steady,
    window_run,
)

HUNDRED_JOULES_KWH_PER_1K = 100 * 1000 / 3.6e6
"""Ten requests in 10 s at 100 W."""


def test_a_counter_gives_the_exact_energy_of_constant_power() -> None:
    reading = energy.kwh_per_1k(window_run())
    assert number(reading) == pytest.approx(HUNDRED_JOULES_KWH_PER_1K)
    assert reading.how == "gross, energy counter between ticks"


@pytest.mark.parametrize("offset_s", [0.0, 0.13, 0.4, 0.77])
def test_a_coarse_tick_does_not_bias_the_power(offset_s: float) -> None:
    # The counter advances once a second, sampled at 50 Hz, at any phase against the window.
    ticking = [
        sample(t, "energy_j", 100.0 * np.floor(t + offset_s)) for t in np.arange(5.0, 25.0, 0.02).tolist()
    ]
    counted = metered(window_run(telemetry=ticking))
    assert not isinstance(counted, str)
    assert counted[0].power_w == pytest.approx(100.0, rel=0.001)


def test_requests_are_counted_in_the_span_of_the_joules() -> None:
    # The counter is sampled only from 14 to 16 s, where two of the ten requests are served.
    fine = [sample(t, "energy_j", 100.0 * t) for t in np.arange(14.0, 16.0, 0.002).tolist()]
    reading = energy.kwh_per_1k(window_run(telemetry=fine))
    assert reading.n == 2
    assert number(reading) == pytest.approx(HUNDRED_JOULES_KWH_PER_1K, rel=0.005)


@pytest.mark.parametrize("cuts", [[10.0, 20.0], [10.0, 10.3, 13.7, 13.8, 20.0]])
def test_the_requests_of_consecutive_spans_sum_to_all_of_them(cuts: list[float]) -> None:
    run = window_run(requests=[*steady(2.7, 13), completion(12.0, status="timeout", done_s=None)])
    spans = itertools.pairwise([5.0, *cuts, 40.0])
    assert sum(served_between(run, start_s, end_s) for start_s, end_s in spans) == pytest.approx(13.0)


def test_a_request_counts_by_the_share_of_its_service_in_the_span() -> None:
    run = window_run(requests=[completion(10.0, 4.1)])  # served from 10.1 s to 14.1 s
    assert served_between(run, 0.0, 11.1) == pytest.approx(0.25)
    assert served_between(run, 0.0, 10.1) == 0.0
    at_once = window_run(requests=[completion(10.0, 1.0, admitted_s=11.0)])
    assert [served_between(at_once, *span) for span in ((10.0, 11.0), (11.0, 12.0))] == [1.0, 0.0]


def test_without_a_counter_the_power_samples_are_integrated_and_it_is_said() -> None:
    run = window_run(telemetry=constant_power(counter=False), missing={"energy_j": "not supported"})
    reading = energy.kwh_per_1k(run)
    assert number(reading) == pytest.approx(HUNDRED_JOULES_KWH_PER_1K)
    assert reading.how == "gross, power samples integrated (not supported)"


def test_a_step_of_power_is_integrated_exactly_enough() -> None:
    step = [sample(5 + i / 10, "power_w", 300.0 if 100 <= i < 150 else 60.0) for i in range(201)]
    devices = metered(window_run(telemetry=step))
    assert not isinstance(devices, str)
    assert devices[0].joules == pytest.approx(5 * 60 + 5 * 300, rel=0.01)


def test_a_counter_that_went_backwards_is_discarded_for_the_power() -> None:
    reset = [
        sample(s.t_s, s.field, s.value - 1000.0) if s.field == "energy_j" and s.t_s > 15 else s
        for s in constant_power()
    ]
    reading = energy.kwh_per_1k(window_run(telemetry=reset))
    assert number(reading) == pytest.approx(HUNDRED_JOULES_KWH_PER_1K)
    assert "the energy counter went backwards" in reading.how


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
    never = [completion(12.0, done_s=None, status="timeout")]
    reading = energy.kwh_per_1k(window_run(requests=never))
    assert reading.value is None
    assert reading.why == "no answered request was served while energy was metered"


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
    # Its span lacks up to a sampling period in which no request is served.
    assert number(alone) == pytest.approx(0.5 * HUNDRED_JOULES_KWH_PER_1K, rel=0.02)
    assert "without DRAM" in alone.how
    both = energy.kwh_per_1k(window_run(telemetry=package + dram, device="cpu", facts={"gpu_name": None}))
    assert number(both) == pytest.approx(0.6 * HUNDRED_JOULES_KWH_PER_1K, rel=0.02)
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
    assert disagreement(window_run()) == pytest.approx(0.0, abs=1e-9)
    low = [sample(s.t_s, s.field, 80.0 if s.field == "power_w" else s.value) for s in constant_power()]
    assert disagreement(window_run(telemetry=low)) == pytest.approx(0.2)
    assert disagreement(window_run(telemetry=constant_power(counter=False))) is None


def test_a_run_on_the_cpu_under_a_modelled_gpu_takes_the_modelled_counter() -> None:
    run = window_run(device="cpu", source="simulated", facts={"gpu_name": "Modelled GPU"})
    assert number(energy.kwh_per_1k(run)) == pytest.approx(HUNDRED_JOULES_KWH_PER_1K)


def on_gpu(telemetry: list[Sample] | None = None, **facts: Any) -> Run:
    """Return a run whose GPU's meter said so of itself; `idle` are the spans of the run."""
    idle = facts.pop("idle", None)
    known = {"meters": {"gpu": facts}} | ({} if idle is None else {"idle": idle})
    return window_run(telemetry=telemetry, facts=known)


def only(run: Run) -> Energy:
    """Return the energy of the run's one device."""
    devices = metered(run)
    assert not isinstance(devices, str), devices
    (device,) = devices
    return device


def scaled(field: str, factor: float) -> list[Sample]:
    return [sample(s.t_s, s.field, s.value * (factor if s.field == field else 1.0)) for s in constant_power()]


def test_the_bounds_of_a_run_are_those_of_its_joules() -> None:
    reading = energy.kwh_per_1k(on_gpu(power_limit_w=700.0))
    assert reading.low is not None
    assert reading.high is not None
    # Each end is known to 1.1 ms, in which the board may have drawn its limit.
    assert reading.high / number(reading) - 1 == pytest.approx(700.0 * 0.0011 / 1000.0, rel=0.01)
    assert reading.low + reading.high == pytest.approx(2 * number(reading))


@pytest.mark.parametrize(
    ("factor", "facts", "why"),
    [
        (8.0, {"power_limit_w": 700.0}, "above the limit of 700 W"),
        (0.4, {"idle": {"cold": {"start_s": 5.0, "end_s": 9.0}}}, "below half of the idle"),
    ],
)
def test_a_counter_whose_mean_power_cannot_be_is_replaced_by_the_power_and_it_is_said(
    factor: float, facts: dict[str, Any], why: str
) -> None:
    telemetry = scaled("energy_j", factor)
    if "idle" in facts:  # the counter was right while the GPU was idle
        telemetry = [
            sample(s.t_s, s.field, 500.0 + 100.0 * (s.t_s - 5.0))
            if s.field == "energy_j" and s.t_s < 9
            else s
            for s in telemetry
        ]
    run = on_gpu(telemetry, **facts)
    found = only(run)
    assert found.source == "instant_poll"
    assert found.distrusted
    assert why in found.instead
    assert found.power_w == pytest.approx(100.0)


def test_a_gpu_that_draws_nothing_at_all_has_no_energy_and_never_zero() -> None:
    dead = [s for s in constant_power(0.0) if s.field != "energy_j"]
    reading = energy.kwh_per_1k(window_run(telemetry=dead))
    assert (reading.value, reading.why) == (
        None,
        "no energy_j was recorded; power samples integrated: no power was drawn at all",
    )
    assert energy.open_percent(window_run(telemetry=dead)).value is None


def test_when_neither_counter_nor_power_can_be_the_energy_is_missing_with_both_reasons() -> None:
    reading = energy.kwh_per_1k(on_gpu(power_limit_w=80.0))
    assert reading.value is None
    assert reading.why.count("above the limit of 80 W") == 2


def test_each_gpu_is_held_against_its_own_limit() -> None:
    second = [sample(s.t_s, s.field, s.value, "GPU-2") for s in constant_power(300.0)]

    def limited(second_w: float) -> Reading:
        gpus = {
            "gpu": {"uuid": "GPU-1", "power_limit_w": 120.0},
            "gpu 1": {"uuid": "GPU-2", "power_limit_w": second_w},
        }
        return energy.mean_power_w(window_run(telemetry=constant_power() + second, facts={"meters": gpus}))

    assert number(limited(700.0)) == pytest.approx(400.0)
    assert limited(120.0).value is None


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"mig": True}, "mig: whole-GPU counter only"),
        ({"mig": False, "after": {"mig": True}}, "mig: whole-GPU counter only"),
        ({"other_processes": [{"pid": 42, "memory_gb": 1.0}]}, "not attributable: other processes were on"),
        ({"after": {"other_processes": [{"pid": 43}], "own_pid_listed": True}}, "the GPU (pids 43)"),
    ],
)
def test_energy_that_is_not_this_runs_alone_is_missing(facts: dict[str, Any], why: str) -> None:
    for read in (energy.kwh_per_1k, energy.mean_power_w, energy.peak_power_w):
        reading = read(on_gpu(**facts))
        assert reading.value is None
        assert why in reading.why


def test_a_single_process_under_another_id_is_this_run_in_a_container() -> None:
    hidden = {"other_processes": [{"pid": 4711}], "own_pid_listed": False}
    assert number(energy.kwh_per_1k(on_gpu(after=hidden))) > 0
    two = hidden | {"other_processes": [{"pid": 4711}, {"pid": 4712}]}
    assert energy.kwh_per_1k(on_gpu(after=two)).value is None


def test_a_window_too_short_for_counter_and_power_has_no_energy() -> None:
    run = window_run(window=Interval(start_s=12.02, end_s=12.4))
    reading = energy.kwh_per_1k(run)
    assert reading.value is None
    assert reading.why.startswith("window_short: ")


def test_the_mean_of_a_second_is_preferred_where_the_instant_power_sees_a_part_of_the_time() -> None:
    both = [*constant_power(90.0, counter=False), *power_average(100.0)]
    run = window_run(telemetry=both, missing={"energy_j": "nvml: Not Supported"})
    found = only(run)
    assert found.source == "avg_poll"
    assert found.power_w == pytest.approx(100.0)


def power_average(watts: float) -> list[Sample]:
    return [sample(5.0 + i / 10, "power_average_w", watts) for i in range(201)]


def test_a_power_reading_that_is_a_mean_of_a_second_is_treated_as_one() -> None:
    run = on_gpu(constant_power(counter=False), sensor={"window_s": 1.0, "update_s": 0.1})
    found = only(run)
    assert found.source == "avg_poll"


def test_peak_power_is_the_highest_sample_inside_the_window() -> None:
    spiked = [*constant_power(), sample(9.0, "power_w", 900.0), sample(15.03, "power_w", 450.0)]
    assert number(energy.peak_power_w(window_run(telemetry=spiked))) == 450.0
    assert energy.peak_power_w(window_run(telemetry=[])).why == "no power_w was recorded"


def test_the_note_of_the_energy_says_how_it_was_metered() -> None:
    runs = [
        window_run(repeat=i, facts={"meters": {"gpu": {"energy_scope": "gpu", "power_limit_w": 700.0}}})
        for i in (1, 2)
    ]
    value = energy.per_1k(SystemRuns(name="baseline", offline=None, windows=runs))
    for part in (
        "source counter, scope gpu, span 10 s to 10 s, tick 100 ms timed to 1.1 ms (aligned)",
        "sampling leaves +/- 0.077 % open",
        "the sensor's gain +/- 5 % is the same in every run on a card",
    ):
        assert part in value.note


def test_the_interval_over_repeats_is_widened_by_what_sampling_leaves_open() -> None:
    def total(limit_w: float | None) -> tuple[float, float, float]:
        runs = [on_gpu(constant_power(watts), power_limit_w=limit_w) for watts in (99.0, 100.0, 101.0)]
        value = energy.per_1k(SystemRuns(name="baseline", offline=None, windows=runs))
        assert value.value is not None
        assert value.low is not None
        assert value.high is not None
        assert f"95 % interval {value.low:.4g}" in value.note
        return value.low, value.value, value.high

    low, mean, high = total(700.0)
    # exp of t(2) = 4.303 times 1 % / sqrt(3), and 0.077 % that the ticks leave open.
    assert (high - mean) / mean == pytest.approx(math.expm1(0.024842) + 0.00077, rel=0.001)
    assert (mean - low) / mean == pytest.approx(-math.expm1(-0.024842) + 0.00077, rel=0.001)
