"""Energy from polled power: what a sensor showed, integrated, with bounds for what it did not see.

A power reading is the mean of a while, and a new one comes every so often. Two kinds matter:

- The *mean of a second* misses nothing but comes late: a reading belongs to the middle of its second. So
  the samples are shifted by that, those of the second after the window belong to it, and only the two
  edges are blurred.
- The *instant* reading sees a part of the time (25 ms of every 100 on some GPUs). Between two readings the
  power went from the one to the other at a moment nobody saw. Each such step leaves open its height times
  half the unseen time, and these are added up: a load in phase with the sensor errs the same way each
  time, so nothing may be averaged away. What comes and goes unseen shows in no reading: a ripple in step
  with the sensor looks like constant power. So under load the unseen time may hold anything from the least
  to the most that the device can draw, whatever the readings were. That is wide, and it is what such a
  sensor leaves open; where there is a mean of a second, it is taken instead.

What the samples do not reach at either end was not seen either.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bench.analysis.joules import MIN_TICKS, WINDOW_SHORT, Energy, Refused
from bench.analysis.recorded import MIN_COVERAGE, Series, coverage, length_s
from bench.analysis.stats import integral
from bench.records import Interval
from bench.units import PERCENT

AVERAGE_S = 0.5
"""A reading that averages over more than this is a running mean, not an instant."""
BLUR = 1.0 / 8.0
"""A running mean blurs a step at the edge by at most this share of its length: the area between a step and
the ramp that replaces it, on one side."""
MIN_UNSEEN = 0.05
"""A sensor's window and period are known to a few percent: a smaller share unseen is none."""
RESOLUTION_W = 0.001
"""NVML tells power in whole milliwatts: a power that seems not to change may still be off by half of one."""


class PowerSensor(msgspec.Struct, frozen=True, kw_only=True):
    """A value is the mean over `window_s`, and there is a new one every `update_s`; None: not known."""

    window_s: float | None = None
    update_s: float | None = None

    @property
    def averages(self) -> bool:
        """Whether it is a running mean."""
        return self.window_s is not None and self.window_s > AVERAGE_S


def from_power(
    samples: Series,
    window: Interval,
    sensor: PowerSensor | None = None,
    *,
    period_s: float | None = None,
    most_w: float | None = None,
    least_w: float | None = None,
    seen: Series | None = None,
) -> Energy | Refused:
    """Return the integral of the power over `window`, or why the samples do not suffice.

    `period_s` is the declared sampling period. `most_w` is the most that the device can draw and `seen`
    another sensor's samples: either says how far the power can be from a mean that shows no peaks.
    `least_w` is the least that it can draw under load; without it nothing ran, and what a sensor of part of
    the time did not see was like what it saw.
    """
    sensor = sensor or PowerSensor()
    averaged_s, update_s = sensor.window_s or 0.0, sensor.update_s or 0.0
    shifted = samples.earlier((averaged_s + update_s) / 2.0)
    covered = coverage(shifted, window, period_s)
    if covered < MIN_COVERAGE:
        late = " and the time after it that they belong to" if sensor.averages else ""
        return Refused(why=f"power samples cover only {covered * PERCENT:.0f} % of the window{late}")
    inside = shifted.within(window)
    readings = len(inside.t_s) if not update_s else int(length_s(window) / update_s)
    if min(readings, len(inside.t_s)) < MIN_TICKS:
        return Refused(why=f"{WINDOW_SHORT}: only {readings} power readings lie inside the window")
    joules = integral(shifted.t_s, shifted.values, window.start_s, window.end_s)
    if sensor.averages:
        open_j = _open_at_edges(inside, sensor, window, most_w, seen)
    else:
        open_j = _open_between(inside, sensor)
    open_j += RESOLUTION_W / 2.0 * length_s(window)
    bounds = _bounds(inside, least_w, most_w)
    low_j, high_j = (0.0, 0.0) if least_w is None else _unseen(inside, joules, sensor, window, bounds)
    below_j, above_j = _beyond(shifted, window, bounds)
    return Energy(
        joules=joules,
        span=window,
        low=joules - max(open_j, low_j) - below_j,
        high=joules + max(open_j, high_j) + above_j,
        source="avg_poll" if sensor.averages else "instant_poll",
        method="power samples integrated",
    )


def _open_at_edges(
    inside: Series, sensor: PowerSensor, window: Interval, most_w: float | None, seen: Series | None
) -> float:
    """Return what the blur and a reading's unknown age leave open at the two edges."""
    assert sensor.window_s is not None
    swing_w = float(np.ptp(inside.values))
    instant = None if seen is None else seen.within(window).values
    if instant is not None and len(instant) >= MIN_TICKS:
        swing_w = max(swing_w, float(np.ptp(instant)))
    else:
        # A mean of a second shows no burst: any power between the least seen and the most possible.
        highest_w = float(inside.values.max())
        swing_w = max(highest_w, most_w or 0.0) - float(inside.values.min()) if most_w else highest_w
    age_s = (sensor.update_s or 0.0) / 2.0
    return 2.0 * swing_w * (BLUR * sensor.window_s + age_s)


def _open_between(inside: Series, sensor: PowerSensor) -> float:
    """Return what the steps between readings leave open, and the readings' age at the edges."""
    gap_s = float(np.median(np.diff(inside.t_s)))
    unseen_s = max(_apart_s(inside, sensor) - (sensor.window_s or 0.0), 0.0)
    steps_w = float(np.abs(np.diff(inside.values)).sum())
    edge_s = ((sensor.update_s or gap_s) + (sensor.window_s or 0.0)) / 2.0
    return steps_w * unseen_s / 2.0 + float(np.ptp(inside.values)) * edge_s


def _apart_s(inside: Series, sensor: PowerSensor) -> float:
    """Return how far apart new readings are: the sensor's period, or the sampler's where that is longer."""
    return max(float(np.median(np.diff(inside.t_s))), sensor.update_s or 0.0)


def _bounds(inside: Series, least_w: float | None, most_w: float | None) -> tuple[float, float]:
    """Return between which powers lies what was not seen; what is not known is bounded by the readings."""
    lowest_w, highest_w = float(inside.values.min()), float(inside.values.max())
    return (
        lowest_w if least_w is None else min(least_w, lowest_w),
        highest_w if most_w is None else max(most_w, highest_w),
    )


def _unseen(
    inside: Series, joules: float, sensor: PowerSensor, window: Interval, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Return how far below and above `joules` the truth may be by what fell between the sensor's looks.

    Nothing where it is not known how much each of them sees.
    """
    share = 0.0 if sensor.window_s is None else 1.0 - sensor.window_s / _apart_s(inside, sensor)
    if share < MIN_UNSEEN:
        return 0.0, 0.0
    least_j, most_j = (watts * length_s(window) for watts in bounds)
    return share * max(joules - least_j, 0.0), share * max(most_j - joules, 0.0)


def _beyond(samples: Series, window: Interval, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return how far below and above the truth may be where the window has no samples at its ends.

    There the nearest sample was taken to go on.
    """
    ends = (
        (float(samples.t_s[0]) - window.start_s, float(samples.values[0])),
        (window.end_s - float(samples.t_s[-1]), float(samples.values[-1])),
    )
    below_j = sum(max(lacks_s, 0.0) * max(held_w - bounds[0], 0.0) for lacks_s, held_w in ends)
    above_j = sum(max(lacks_s, 0.0) * max(bounds[1] - held_w, 0.0) for lacks_s, held_w in ends)
    return below_j, above_j
