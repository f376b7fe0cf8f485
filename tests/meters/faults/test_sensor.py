"""A sensor, a sampler or an idle span that shows less than all: bounds, doubts, and reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from bench.analysis import idle
from bench.analysis.energy import kwh_per_1k
from bench.analysis.validity import judge_run
from bench.records import Interval, Run
from tests.fake_nvml.in_process import Modelled
from tests.fake_nvml.metered import Disturbance
from tests.meters.faults.asking import IDLE, LONG, NO_COUNTER, SEES_ALL, Measure, doubts_of, energy_of

A_QUARTER: dict[str, Any] = {"sensor": (25, 100, 30), "average": (1000, 100), "capability": "8.0"}
"""GPUs whose power sensor sees 25 ms of every 100."""


@pytest.mark.parametrize("phase_ms", [5, 30, 55, 80])
def test_a_ripple_in_step_with_a_sensor_of_part_of_the_time_is_within_the_bounds(
    measure: Measure, library: Modelled, phase_ms: int
) -> None:
    ripple = {"power_w": "square:200:400:0.1:0.5", "window": LONG, "step_s": 0.1}
    options = A_QUARTER | ripple | {"sensor": (25, 100, phase_ms)}
    polled = measure(faults=[*NO_COUNTER, "185:3"], **options)
    energy, true_j = energy_of(polled), library.true_energy_j(0, LONG.start_s, LONG.end_s)
    assert energy.source == "instant_poll"
    assert abs(energy.joules / true_j - 1) > 0.1, "the readings hardly differ and are far off"
    assert energy.low <= true_j <= energy.high
    said = doubts_of(polled)
    assert "bounded by the idle power and the power limit only" in said["part-time sensor"]
    assert "decode step takes 100 ms" in said["step lock"]


def test_a_counter_beside_a_sensor_of_part_of_the_time_is_doubted_and_one_beside_another_is_not(
    measure: Measure,
) -> None:
    blind = measure(counter="readings", **A_QUARTER)
    assert energy_of(blind).source == "counter"
    assert "documented nowhere" in doubts_of(blind)["part-time sensor"]
    assert "part-time sensor" not in doubts_of(measure(capability=SEES_ALL))
    mean = measure(faults=NO_COUNTER, **A_QUARTER)
    assert energy_of(mean).source == "avg_poll"
    assert "part-time sensor" not in doubts_of(mean), "the mean of a second misses nothing"


def test_a_missing_tail_is_open(measure: Measure, library: Modelled) -> None:
    import pyarrow.compute as pc

    window = Interval(start_s=14.0, end_s=30.0)
    options: dict[str, Any] = {"window": window, "power_w": "400,60@29.45"} | A_QUARTER
    run = measure(faults=NO_COUNTER, idle_spans={}, **options)
    cut = run.telemetry.filter(pc.field("t_s") <= 29.95)
    short = energy_of(Run(folder=run.folder, meta=run.meta, requests=run.requests, telemetry=cut))
    assert short.source == "avg_poll"
    assert short.high - short.low > energy_of(run).high - energy_of(run).low + 0.5 * 400.0
    assert short.low <= library.true_energy_j(0, 14.0, 30.0) <= short.high


def test_net_energy_is_what_the_load_adds_to_the_idle(measure: Measure) -> None:
    run = measure(power_w="60,80@10,300@17", idle_spans=IDLE, utilization="0,87@17")
    assert idle.cold_w(run).value == pytest.approx(60, rel=0.01)
    assert idle.resident_w(run).value == pytest.approx(80, rel=0.01)
    net, gross = idle.net_kwh_per_1k(run).value, kwh_per_1k(run).value
    assert net is not None
    assert gross is not None
    assert net / gross == pytest.approx(220 / 300, rel=0.01)


def test_an_idle_that_was_none_leaves_net_energy_missing_and_doubted(measure: Measure) -> None:
    run = measure(power_w="60,270@10,300@17", idle_spans=IDLE, utilization="0,87@17")
    assert idle.net_kwh_per_1k(run).value is None
    assert "idle was not idle" in str(idle.net_kwh_per_1k(run).why)
    assert "idle was not idle" in doubts_of(run)["idle not idle"]
    assert kwh_per_1k(run).value is not None, "gross energy does not depend on it"


def test_an_idle_that_differs_before_and_after_is_none(measure: Measure) -> None:
    spans = IDLE | {"resident_after": Interval(start_s=33.0, end_s=38.0)}
    run = measure(power_w="60,80@10,300@17,100@32", idle_spans=spans, utilization="0,87@17,0@32")
    assert "80 W before and 100 W after" in str(idle.net_kwh_per_1k(run).why)


def test_an_idle_in_which_somebody_computed_is_none(measure: Measure) -> None:
    options: dict[str, Any] = {"power_w": "60,80@10,300@17", "idle_spans": IDLE}
    resident = measure(utilization="0,30@10,87@17", **options)
    assert "kernels ran on the GPU for 30 % of the resident idle span" in doubts_of(resident)["idle not idle"]
    assert idle.net_kwh_per_1k(resident).value is None
    cold = measure(utilization="30,0@10,87@17", **options)
    assert "of the cold idle span" in doubts_of(cold)["idle not idle"]
    assert idle.net_kwh_per_1k(cold).value is not None, "the resident idle is taken off"
    # What ran within the second before a span is not of it.
    assert "idle not idle" not in doubts_of(measure(utilization="0,87@9,0@11.5,87@17", **options))


def test_a_power_below_half_of_the_idle_is_believed_by_nobody(measure: Measure) -> None:
    run = measure(power_w="200,40@17", idle_spans=IDLE)
    assert kwh_per_1k(run).value is None
    assert "below half of the idle" in str(kwh_per_1k(run).why)


STARVED = Disturbance(stall_every_s=1.0, stall_s=2.0)


def test_a_starved_sampler_leaves_the_counter_and_takes_the_polled_power(measure: Measure) -> None:
    window = Interval(start_s=20.0, end_s=60.0)
    counted = measure(disturbance=STARVED, window=window, power_w="square:100:300:0.5:0.5")
    assert energy_of(counted).source == "counter"
    assert "cover only" in doubts_of(counted)["sampler gaps"]
    assert counted.meta.facts["sampler"]["skipped"] > 0
    polled = measure(disturbance=STARVED, window=window, faults=NO_COUNTER)
    assert kwh_per_1k(polled).value is None
    assert "cover only" in str(kwh_per_1k(polled).why)


class HeldUp(Disturbance, frozen=True, kw_only=True):
    """The sampler is held up over the first tick of the window and the one that is searched at its end."""

    def stalls(self, rng: np.random.Generator) -> Iterator[Interval]:
        yield Interval(start_s=20.02, end_s=20.11)
        yield Interval(start_s=29.82, end_s=29.905)


def test_a_tick_that_fell_while_the_sampler_was_held_up_is_looked_for_once_more(measure: Measure) -> None:
    held_up = HeldUp(late_s=0.0, read_s=0.0)
    energy = energy_of(measure(disturbance=held_up, tick_ms=100, tick_phase_ms=50))
    assert energy.source == "counter"
    assert energy.aligned
    assert energy.timed_s is not None
    assert energy.timed_s < 0.005
    assert 20.1 < energy.span.start_s < 20.2
    assert 29.9 < energy.span.end_s < 30.0


def test_a_counter_that_was_never_seen_to_tick_sharply_is_still_better_than_power(measure: Measure) -> None:
    # Every tick is missed by tens of milliseconds, which leaves more than 0.5 % of ten seconds open.
    slow = Disturbance(late_s=0.06, late_spread=0.1, stall_every_s=math.inf)
    energy = energy_of(measure(disturbance=slow, power_w="square:60:300:0.73:0.5"))
    assert energy.source == "counter"
    assert not energy.aligned
    assert 0.005 < energy.open_share < 0.05


def test_a_window_that_is_too_short_for_counter_and_sensor_has_no_joules(measure: Measure) -> None:
    run = measure(window=Interval(start_s=20.0, end_s=20.8), sensor=(25, 100), average=(1000, 100))
    assert kwh_per_1k(run).value is None
    assert "window_short" in str(kwh_per_1k(run).why)


def test_a_wall_clock_that_was_set_is_doubted_and_durations_are_not(measure: Measure) -> None:
    run = measure()
    run.meta.facts["clock_step_s"] = -0.4
    assert "set by 400 ms" in doubts_of(run)["clock step"]
    assert judge_run(run).level == "VALID"


def test_batches_in_step_with_a_sensor_that_looks_now_and_then_are_doubted(measure: Measure) -> None:
    options: dict[str, Any] = {
        "sensor": (25, 100),
        "average": (1000, 100),
        "capability": "8.0",
        "power_w": "square:100:300:0.1:0.3",
    }
    locked = measure(jitter=0.0, **options)  # a request every 200 ms, on the dot
    assert "in step with the power sensor" in doubts_of(locked)["phase lock"]
    assert "phase lock" not in doubts_of(measure(**options))


def _joules(runs: Sequence[Run]) -> list[float]:
    return [energy_of(run).joules for run in runs]


def test_the_same_failure_gives_the_same_figures_every_time(measure: Measure) -> None:
    runs = [
        measure(disturbance=Disturbance(), power_w="burst:60:600:0.3:0.4:3", faults=NO_COUNTER) for _ in "ab"
    ]
    one, two = _joules(runs)
    assert math.isfinite(one)
    assert one == two
