"""A counter between two of its ticks: exact where it can be believed, refused where it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.counter import from_counter
from bench.analysis.joules import Energy, Refused
from bench.analysis.recorded import Series
from bench.records import Interval
from tests.analysis.sensing import (
    Trace,
    bursts,
    counter,
    drift,
    energy_j,
    read_times_s,
    sensor,
    square,
    true_j,
)
from tests.recorded import WINDOW

WAVES = {
    "square": lambda seed: square(0.5, phase_s=0.005 * seed),
    "bursts": lambda seed: bursts(seed),
    "drift": drift,
}
LIMIT_W = 700.0


def metered(trace: Trace, window: Interval, seed: int) -> Energy | Refused:
    """Meter as the sampler does: 10 Hz, and densely at both edges."""
    moments_s = read_times_s(5.0, window.end_s + 2.0, 10.0, seed, (window.start_s, window.end_s - 0.2))
    shown = counter(trace, moments_s, phase_s=0.0013 * seed)
    power = sensor(trace, moments_s, window_s=0.025, phase_s=0.0007 * seed)
    return from_counter(shown, window, tick_s=0.1, limit_w=LIMIT_W, power=power)


def accepted(found: Energy | Refused) -> Energy:
    assert isinstance(found, Energy), found
    return found


def refused(found: Energy | Refused) -> Refused:
    assert isinstance(found, Refused), found
    return found


def ramp(t_s: np.ndarray, watts: float = 100.0) -> Series:
    """Return a counter of constant power that advances every 100 ms."""
    return Series(t_s, np.floor(t_s * 10 + 1e-9) * watts / 10.0)


FINE_S = np.arange(8.0, 22.0, 0.004)


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("length_s", [10.0, 30.0])
def test_the_joules_are_within_half_a_percent_and_their_bounds_cover_the_truth(
    wave: str, length_s: float
) -> None:
    covered = 0
    for seed in range(50):
        trace = WAVES[wave](seed)
        found = accepted(metered(trace, Interval(start_s=10.0, end_s=10.0 + length_s), seed))
        truth = true_j(trace, found.span.start_s, found.span.end_s)
        assert found.joules == pytest.approx(truth, rel=0.005)
        assert found.open_share < 0.001
        assert found.aligned
        covered += found.low <= truth <= found.high
    assert covered >= 48


def test_the_span_lies_inside_the_window_and_misses_less_than_two_ticks_of_it() -> None:
    found = accepted(metered(square(0.5), WINDOW, seed=3))
    assert WINDOW.start_s <= found.span.start_s <= WINDOW.start_s + 0.2
    assert WINDOW.end_s - 0.2 <= found.span.end_s <= WINDOW.end_s


def test_a_sharply_timed_tick_is_preferred_to_a_coarse_one_nearer_to_the_edge() -> None:
    coarse, dense = np.arange(9.95, 20.5, 0.1), np.arange(10.32, 10.55, 0.001)
    moments_s = np.sort(np.concatenate([coarse, dense, dense + 9.0]))
    found = accepted(from_counter(ramp(moments_s), WINDOW))
    assert found.span.start_s == pytest.approx(10.4, abs=0.001)
    assert found.span.end_s == pytest.approx(19.5, abs=0.001)


@pytest.mark.parametrize("seed", range(5))
def test_without_dense_reading_the_bounds_are_wide_and_a_short_window_is_refused(seed: int) -> None:
    trace = square(0.5, phase_s=0.02 * seed)
    moments_s = read_times_s(5.0, 80.0, 10.0, seed)
    shown = counter(trace, moments_s)
    power = sensor(trace, moments_s, window_s=0.025)
    found = refused(from_counter(shown, WINDOW, tick_s=0.1, power=power))
    assert found.why.startswith("window_short: the energy counter is not aligned")
    assert not found.distrusted
    minute = accepted(from_counter(shown, Interval(start_s=10, end_s=75), tick_s=0.1, power=power))
    truth = true_j(trace, minute.span.start_s, minute.span.end_s)
    assert not minute.aligned
    assert minute.low <= truth <= minute.high
    assert 0.001 < minute.open_share <= 0.005


def test_a_sampler_slower_than_the_tick_knows_the_last_tick_by_the_period() -> None:
    slow = ramp(np.arange(5.03, 80.0, 0.5))
    window = Interval(start_s=10, end_s=75)
    found = accepted(from_counter(slow, window, tick_s=0.1))
    assert found.ticks == pytest.approx(650, abs=10)
    assert found.timed_s == pytest.approx(0.12)
    blind = refused(from_counter(slow, window))
    assert blind.why.startswith("window_short")


@pytest.mark.parametrize("end_s", [10.05, 10.15, 10.8])
def test_a_window_of_fewer_than_ten_ticks_is_too_short(end_s: float) -> None:
    found = refused(from_counter(ramp(FINE_S), Interval(start_s=10.0, end_s=end_s), tick_s=0.1))
    assert found.why.startswith("window_short: ")
    assert not found.distrusted
    accepted(from_counter(ramp(FINE_S), Interval(start_s=10.0, end_s=11.2), tick_s=0.1))


def test_a_counter_that_went_backwards_is_distrusted() -> None:
    shown = ramp(FINE_S)
    reset = Series(shown.t_s, np.where(shown.t_s > 15, shown.values - 1000.0, shown.values))
    found = refused(from_counter(reset, WINDOW))
    assert (found.why, found.distrusted) == ("the energy counter went backwards", True)


def test_a_reset_in_the_step_into_the_window_is_seen_and_one_outside_does_no_harm() -> None:
    shown = ramp(FINE_S)
    at_edge = Series(shown.t_s, np.where(shown.t_s >= 10, shown.values - 500.0, shown.values))
    assert "backwards" in refused(from_counter(at_edge, WINDOW)).why
    outside = np.where((shown.t_s < 9) | (shown.t_s > 21), shown.values + 5000.0, shown.values)
    before_and_after = Series(shown.t_s, np.where(shown.t_s > 21, 0.0, outside))
    accepted(from_counter(before_and_after, WINDOW))


@pytest.mark.parametrize("caught_up", [False, True])
def test_a_counter_that_stood_still_while_power_changed_is_distrusted(caught_up: bool) -> None:
    shown = ramp(FINE_S)
    still = (shown.t_s > 13) & (shown.t_s < 14.5)
    values = np.where(still, 1300.0 / 10 * 10, shown.values)
    if not caught_up:
        values = np.where(shown.t_s >= 14.5, shown.values - 150.0, values)
    power = Series(FINE_S, 100.0 + np.sin(FINE_S))
    found = refused(from_counter(Series(shown.t_s, values), WINDOW, power=power))
    assert found.why.startswith("the energy counter stood still for 1.")
    assert found.distrusted


def test_a_pause_of_the_driver_that_both_sensors_show_and_the_counter_makes_up_for_is_no_fault() -> None:
    shown, power = ramp(FINE_S), Series(FINE_S, np.full(len(FINE_S), 100.0))
    paused = np.where((shown.t_s > 13) & (shown.t_s < 14.5), 1300.0, shown.values)
    accepted(from_counter(Series(shown.t_s, paused), WINDOW, power=power))
    lost = np.where(shown.t_s >= 14.5, shown.values - 150.0, paused)
    assert "stood still" in refused(from_counter(Series(shown.t_s, lost), WINDOW, power=power)).why


def test_a_hole_in_the_samples_is_no_standstill() -> None:
    shown = ramp(FINE_S[(FINE_S < 13) | (FINE_S > 16)])
    found = accepted(from_counter(shown, WINDOW))
    assert found.joules == pytest.approx(100.0 * (found.span.end_s - found.span.start_s), rel=0.001)


def test_a_jump_beyond_what_the_board_can_draw_is_distrusted_and_a_burst_of_ticks_is_not() -> None:
    shown = ramp(FINE_S)
    jumped = Series(shown.t_s, np.where(shown.t_s > 15, shown.values + 300.0, shown.values))
    found = refused(from_counter(jumped, WINDOW, tick_s=0.1, limit_w=700.0))
    assert found.why.startswith("the energy counter jumped")
    assert "the power limit is 700 W" in found.why
    # At 95 W under a limit of 100 W, a sampler of the tick's own period sees now none, now two ticks.
    moments_s = read_times_s(5.0, 80.0, 10.0, seed=1)
    full = counter((np.array([0.0]), np.array([95.0])), moments_s)
    accepted(from_counter(full, Interval(start_s=10, end_s=75), tick_s=0.1, limit_w=100.0))


def test_the_true_energy_of_the_paper_gpu_is_that_of_its_trace() -> None:
    trace = (np.array([0.0, 1.0, 3.0]), np.array([100.0, 10.0, 50.0]))
    assert energy_j(trace, np.array([0.5, 2.0, 4.0])) == pytest.approx([50.0, 110.0, 170.0])
