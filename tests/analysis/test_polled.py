"""Polled power: what a sensor of part of the time, or one that comes late, leaves open."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.joules import Energy, Refused
from bench.analysis.polled import PowerSensor, from_power
from bench.analysis.recorded import Series
from bench.records import Interval
from tests.analysis.sensing import Trace, bursts, drift, read_times_s, sensor, square, true_j
from tests.recorded import WINDOW

QUARTER = PowerSensor(window_s=0.025, update_s=0.1)
SECOND = PowerSensor(window_s=1.0, update_s=0.1)
SEEDS = 60


def polled(
    trace: Trace, shows: PowerSensor, window: Interval, seed: int, *, tail_s: float = 2.0
) -> Energy | Refused:
    moments_s = read_times_s(5.0, window.end_s + tail_s, 10.0, seed)
    assert shows.window_s is not None
    assert shows.update_s is not None
    series = sensor(trace, moments_s, window_s=shows.window_s, update_s=shows.update_s, phase_s=0.0017 * seed)
    return from_power(series, window, shows, period_s=0.1, most_w=400.0)


def accepted(found: Energy | Refused) -> Energy:
    assert isinstance(found, Energy), found
    return found


WAVES = {
    "square of 0.5 s, in step with the sensor": lambda seed: square(0.5, phase_s=0.008 * seed),
    "square of 0.137 s": lambda seed: square(0.137, phase_s=0.002 * seed),
    "square of 7 s": lambda seed: square(7.0, phase_s=0.11 * seed),
    "bursts of 150 ms": lambda seed: bursts(seed),
    "bursts of 40 ms": lambda seed: bursts(seed, mean_s=0.04),
    "drift": drift,
}


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("shows", [QUARTER, SECOND], ids=["instant", "mean of a second"])
def test_the_bounds_cover_the_truth(wave: str, shows: PowerSensor) -> None:
    covered = 0
    for seed in range(SEEDS):
        trace = WAVES[wave](seed)
        found = accepted(polled(trace, shows, WINDOW, seed))
        covered += found.low <= true_j(trace, 10.0, 20.0) <= found.high
    assert covered >= 0.95 * SEEDS


def test_constant_power_leaves_open_what_a_reading_cannot_show() -> None:
    found = accepted(polled((np.array([0.0]), np.array([60.0])), QUARTER, WINDOW, 1))
    assert found.joules == pytest.approx(600.0)
    assert found.high - found.joules == pytest.approx(0.0005 * 10.0)  # half a milliwatt for ten seconds
    assert found.source == "instant_poll"


@pytest.mark.parametrize("phase_s", [0.01, 0.035, 0.06, 0.085])
@pytest.mark.parametrize("period_s", [0.1, 0.05])
def test_a_ripple_in_step_with_the_sensor_is_within_the_bounds_though_no_reading_shows_it(
    period_s: float, phase_s: float
) -> None:
    trace = square(period_s, low_w=200.0, high_w=400.0)
    series = sensor(trace, read_times_s(5.0, 25.0, 10.0, 1), window_s=0.025, phase_s=phase_s)
    found = accepted(from_power(series, WINDOW, QUARTER, period_s=0.1, most_w=700.0, least_w=60.0))
    # A quarter was seen; of the rest only idle power and limit are known.
    assert found.low == pytest.approx(0.25 * found.joules + 0.75 * 600.0, rel=2e-3)
    assert found.high == pytest.approx(0.25 * found.joules + 0.75 * 7000.0, rel=2e-3)
    assert found.low <= true_j(trace, 10.0, 20.0) <= found.high


def test_what_was_not_seen_while_nothing_ran_or_by_a_sensor_of_all_the_time_was_like_the_rest() -> None:
    constant = Series(np.arange(5.0, 25.0, 0.1), np.full(200, 60.0))
    idle = accepted(from_power(constant, WINDOW, QUARTER, most_w=700.0))
    whole = PowerSensor(window_s=0.1, update_s=0.1013)
    busy = accepted(from_power(constant, WINDOW, whole, most_w=700.0, least_w=0.0))
    for found in (idle, busy):
        assert found.high - found.low == pytest.approx(0.001 * 10.0)


@pytest.mark.parametrize(("until_s", "lacks_s"), [(20.31, 0.29), (21.0, 0.0)])
def test_what_the_samples_do_not_reach_is_open_from_the_least_to_the_most(
    until_s: float, lacks_s: float
) -> None:
    t_s = np.arange(5.06, until_s, 0.1)
    mean = Series(t_s, np.full(len(t_s), 200.0))

    def bounds(samples: Series) -> tuple[float, float]:
        found = accepted(from_power(samples, WINDOW, SECOND, period_s=0.1, most_w=700.0, least_w=60.0))
        return found.joules - found.low, found.high - found.joules

    whole = bounds(Series(np.arange(5.06, 25.0, 0.1), np.full(200, 200.0)))
    low, high = (cut - full for cut, full in zip(bounds(mean), whole, strict=True))
    assert low == pytest.approx(lacks_s * 140.0, abs=0.5)
    assert high == pytest.approx(lacks_s * 500.0, abs=0.5)


def test_a_mean_of_a_second_is_shifted_and_its_tail_belongs_to_the_window() -> None:
    # A step up at the start and down at the end: without shift and tail the mean comes 0.55 s late.
    trace = (np.array([0.0, 10.0, 15.0]), np.array([60.0, 300.0, 60.0]))
    window = Interval(start_s=9.0, end_s=16.0)
    found = accepted(polled(trace, SECOND, window, 4))
    assert found.joules == pytest.approx(2 * 60.0 + 5 * 300.0, rel=0.005)
    assert found.source == "avg_poll"
    cut = polled(trace, SECOND, window, 4, tail_s=0.0)
    assert isinstance(cut, Refused)
    assert cut.why.endswith("of the window and the time after it that they belong to")


def test_the_swing_that_a_mean_hides_is_taken_from_the_limit_or_from_another_sensor() -> None:
    trace = square(0.5)
    moments_s = read_times_s(5.0, 25.0, 10.0, 1)
    mean, instant = (sensor(trace, moments_s, window_s=w) for w in (1.0, 0.025))

    def open_j(**known: float | Series) -> float:
        found = accepted(from_power(mean, WINDOW, SECOND, period_s=0.1, **known))  # type: ignore[arg-type]
        return found.high - found.joules

    # Two edges, an eighth of the second and half of the sensor's period each, times the swing.
    assert open_j(seen=instant) == pytest.approx(2 * 0.175 * 240.0, rel=0.01)
    assert open_j(most_w=700.0) == pytest.approx(2 * 0.175 * (700.0 - 180.0), rel=0.01)
    assert open_j() == pytest.approx(2 * 0.175 * 180.0, rel=0.01)


def test_holes_and_too_few_readings_are_refused() -> None:
    t_s = np.arange(5.0, 25.0, 0.1)
    constant = Series(t_s, np.full(len(t_s), 100.0))
    holes = Series(*(a[(t_s < 12) | (t_s > 15)] for a in (constant.t_s, constant.values)))
    found = from_power(holes, WINDOW)
    assert isinstance(found, Refused)
    assert found.why == "power samples cover only 69 % of the window"
    short = from_power(constant, Interval(start_s=10.0, end_s=10.75), QUARTER)
    assert isinstance(short, Refused)
    assert short.why == "window_short: only 7 power readings lie inside the window"


def test_a_sampler_that_was_slow_throughout_is_held_against_the_declared_period() -> None:
    t_s = np.arange(5.0, 25.0, 0.5)
    slow = Series(t_s, np.full(len(t_s), 100.0))
    assert isinstance(from_power(slow, WINDOW), Energy)
    starved = from_power(slow, WINDOW, period_s=0.1)
    assert isinstance(starved, Refused)
    assert "cover only 0 %" in starved.why
