"""How a GPU's energy counter and power sensor tick, measured on the machine before anything runs.

The counter advances in ticks whose period no document states. Both readings are polled densely for some
seconds; the times at which a value changes are the ticks. A tick lies between the last read with the old
value and the first with the new one, so half that distance is how well its time is known.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

import msgspec

from bench.clock import Clock
from bench.protocols import PacedMeter

COUNTER, POWER = "energy_j", "power_w"
DENSE_S = 0.001
"""The pause between two reads of a dense series."""
MIN_TICKS = 5
"""Fewer changes of the counter than this do not give its period."""
MAX_UNCERTAINTY = 0.1
"""A tick's time should be known to this share of the period; otherwise the search is made once more."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; `reason` says why `tick_s` was not, and is None where it was.

    `tick_s` is the median time between two changes of the energy counter and `tick_uncertainty_s` how well
    the time of one is known (median, ±); `power_update_s` the median time between two changes of the power
    reading, None where it changed too seldom; `read_latency_us` what NVML itself says that a read takes.
    """

    tick_s: float | None = None
    tick_uncertainty_s: float | None = None
    ticks: int = 0
    power_update_s: float | None = None
    read_latency_us: float | None = None
    reason: str | None = None


class _Changes:
    """When a value changed, and how well that is known."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.half_widths_s: list[float] = []
        self._last: tuple[float, float] | None = None

    def note(self, t_s: float, value: float) -> None:
        """Take in a reading."""
        if self._last is not None and value != self._last[1]:
            self.times_s.append((self._last[0] + t_s) / 2)
            self.half_widths_s.append((t_s - self._last[0]) / 2)
        self._last = (t_s, value)

    @property
    def period_s(self) -> float | None:
        """The median time between two changes; None where there are too few."""
        if len(self.times_s) < MIN_TICKS:
            return None
        return _median_distance(self.times_s)


def calibrate(meter: PacedMeter, clock: Clock, seconds: float) -> Calibration:
    """Poll `meter` for `seconds`, and once more where that left a tick's time too uncertain.

    The first fault ends it: repeated at this rate it would count as the end of the reading. Raises what the
    meter raises.
    """
    found = _search(meter, clock, seconds)
    if (
        found.tick_s
        and found.tick_uncertainty_s
        and found.tick_uncertainty_s > MAX_UNCERTAINTY * found.tick_s
    ):
        again = _search(meter, clock, seconds)
        if again.tick_uncertainty_s is not None and again.tick_uncertainty_s < found.tick_uncertainty_s:
            return again
    return found


def _search(meter: PacedMeter, clock: Clock, seconds: float) -> Calibration:
    watched = {field: _Changes() for field in (COUNTER, POWER) if field in meter.periods_s}
    if COUNTER not in watched:
        return Calibration(reason=f"no energy counter: {meter.missing.get(COUNTER, 'no reason is known')}")
    end_s = clock.now_s() + seconds
    why_short = f"in {seconds:g} s"
    while (began_s := clock.now_s()) < end_s:
        readings = meter.read(watched)
        t_s = (began_s + clock.now_s()) / 2
        for field, value, _ in readings:
            watched[field].note(t_s, value)
        if len(readings) < len(watched):
            why_short = "before a read failed"
            break
        clock.sleep_until(clock.now_s() + DENSE_S)
    counter = watched[COUNTER]
    tick_s = counter.period_s
    power = watched.get(POWER)
    return Calibration(
        tick_s=tick_s,
        tick_uncertainty_s=None if tick_s is None else statistics.median(counter.half_widths_s),
        ticks=len(counter.times_s),
        power_update_s=None if power is None else power.period_s,
        read_latency_us=meter.facts.get("read_latency_us"),
        reason=None
        if tick_s is not None
        else f"the energy counter changed only {len(counter.times_s)} times {why_short}",
    )


def _median_distance(times_s: Sequence[float]) -> float:
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(times_s))
