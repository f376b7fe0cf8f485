"""Energy from a counter that advances in ticks: between two of them, whose moments were observed.

A counter is right at its ticks only. A tick fell between the last sample that still showed the old value
and the first that showed the new one; read densely, that is a millisecond. So the span begins and ends on
a tick inside the window that was timed as sharply as any near that edge, the joules are the difference
of two readings, and what remains open is the power at two moments times how well these are known.
Before that the counter must be believable: it neither went back, nor stood still, nor jumped.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bench.analysis.joules import MIN_TICKS, WINDOW_SHORT, Energy, EnergySource, Refused
from bench.analysis.recorded import Series, length_s
from bench.analysis.stats import Array, integral
from bench.records import Interval
from bench.units import PERCENT, to_ms

FROZEN_S = 1.0
"""A counter that shows the same for longer than this, and than three of its ticks, stands still."""
FROZEN_TICKS = 3.0
CAUGHT_UP = 0.5
"""After a standstill the counter must show at least this share of what the power says was drawn."""
MAX_OVER_LIMIT = 1.5
"""No interval between two ticks can hold more than the power limit times this."""
EDGE_S, EDGE_SHARE = 1.0, 0.1
"""The tick at an edge is looked for in this time, or in this share of a short window."""
ALIGNED_S, ALIGNED_TICKS = 0.005, 0.1
"""An edge is aligned with its tick when that is timed to 5 ms, or to a tenth of the tick."""
MAX_UNALIGNED = 0.005
"""Unaligned, at most this share of the energy may be open."""
LATE_TICK = 1.2
"""A tick may come this much later than its period says."""
AS_SHARP = 2.0
"""Of two ticks, one of up to this times the other's uncertainty is as well timed; the outer is taken."""


class Ticks(msgspec.Struct, frozen=True):
    """The ticks that were seen: each lies in `(low_s, high_s]`; `at` is its first sample's index."""

    at: Array
    low_s: Array
    high_s: Array

    def __len__(self) -> int:
        return len(self.at)

    @property
    def width_s(self) -> Array:
        """How well each is timed."""
        return self.high_s - self.low_s

    @property
    def middle_s(self) -> Array:
        """When each is taken to have been."""
        return (self.low_s + self.high_s) / 2.0

    def inside(self, window: Interval) -> Ticks:
        """Return the ticks that are taken to have been inside `window`."""
        kept = (self.middle_s >= window.start_s) & (self.middle_s <= window.end_s)
        return Ticks(self.at[kept], self.low_s[kept], self.high_s[kept])


def from_counter(
    samples: Series,
    window: Interval,
    *,
    tick_s: float | None = None,
    limit_w: float | None = None,
    power: Series | None = None,
    source: EnergySource = "counter",
) -> Energy | Refused:
    """Return the energy between the first and last well-timed tick inside `window`, or why there is none.

    `tick_s` is the counter's period as calibrated, `limit_w` the power limit, `power` the power samples;
    each sharpens the checks where it is known.
    """
    if _went_back(samples, window):
        return Refused(why="the energy counter went backwards", distrusted=True)
    ticks = ticks_of(samples, tick_s).inside(window)
    if (why := _stood_still(samples, ticks, window, tick_s, power)) is not None:
        return Refused(why=why, distrusted=True)
    if len(ticks) < 2:
        return Refused(why=f"{WINDOW_SHORT}: the energy counter did not advance twice inside the window")
    if limit_w is not None and (why := _jumped(samples, ticks, limit_w)) is not None:
        return Refused(why=why, distrusted=True)
    return _between(samples, ticks, window, tick_s, limit_w, power, source)


def ticks_of(samples: Series, tick_s: float | None) -> Ticks:
    """Return every tick that the samples show."""
    at = np.flatnonzero(np.diff(samples.values) != 0) + 1
    half_s = np.zeros(len(samples.t_s)) if samples.read_s is None else samples.read_s / 2.0
    before_s, after_s = samples.t_s - half_s, samples.t_s + half_s
    low_s, high_s = before_s[at - 1], after_s[at]
    if tick_s is not None:
        # Where several ticks fell between two samples, the value is the last one's: no older than a tick.
        low_s = np.maximum(low_s, before_s[at] - LATE_TICK * tick_s)
    return Ticks(at, low_s, high_s)


def _went_back(samples: Series, window: Interval) -> bool:
    inside = samples.within(window)
    before = np.count_nonzero(samples.t_s < window.start_s)
    # Also the step into the window's first sample is looked at: a reset there is a reset.
    steps = np.diff(samples.values)[max(before - 1, 0) : before + max(len(inside.t_s) - 1, 0)]
    return bool(np.any(steps < 0))


def _stood_still(
    samples: Series, ticks: Ticks, window: Interval, tick_s: float | None, power: Series | None
) -> str | None:
    """Say that the counter showed one value for too long; a hole in the samples is no standstill."""
    inside = np.flatnonzero((samples.t_s >= window.start_s) & (samples.t_s <= window.end_s))
    if len(inside) < 2:
        return None
    first, last = int(inside[0]), int(inside[-1])
    starts = np.concatenate(([first], ticks.at))
    ends = np.concatenate((ticks.at - 1, [last]))
    still_s = samples.t_s[np.maximum(ends, starts)] - samples.t_s[starts]
    longest = int(np.argmax(still_s))
    period_s = tick_s if tick_s is not None else _median_gap_s(ticks)
    if still_s[longest] <= max(FROZEN_S, FROZEN_TICKS * period_s):
        return None
    start, end = int(starts[longest]), int(min(ends[longest] + 1, last))
    if power is not None and _explained(samples, start, end, power):
        return None
    if len(ticks) < 2:
        return "the energy counter did not advance twice inside the window"
    return f"the energy counter stood still for {still_s[longest]:.3g} s"


def _median_gap_s(ticks: Ticks) -> float:
    return float(np.median(np.diff(ticks.high_s))) if len(ticks) > 1 else 0.0


def _explained(samples: Series, start: int, end: int, power: Series) -> bool:
    """Say whether the power stood still as well, and the counter then made up for it."""
    from_s, to_s = float(samples.t_s[start]), float(samples.t_s[end])
    during = power.within(Interval(start_s=from_s, end_s=to_s)).values
    if len(during) < 2 or np.ptp(during) > 0:
        return False
    drawn_j = integral(power.t_s, power.values, from_s, to_s)
    return bool(samples.values[end] - samples.values[start] >= CAUGHT_UP * drawn_j)


def _jumped(samples: Series, ticks: Ticks, limit_w: float) -> str | None:
    """Say that more was counted between two ticks than the GPU can draw in the longest time they allow."""
    apart_s = ticks.high_s[1:] - ticks.low_s[:-1]
    most_w = float((np.diff(samples.values[ticks.at]) / apart_s).max())
    if most_w <= MAX_OVER_LIMIT * limit_w:
        return None
    return f"the energy counter jumped: {most_w:.0f} W between two ticks, the power limit is {limit_w:.0f} W"


def _between(
    samples: Series,
    ticks: Ticks,
    window: Interval,
    tick_s: float | None,
    limit_w: float | None,
    power: Series | None,
    source: EnergySource,
) -> Energy | Refused:
    first, last = _edges(ticks, window)
    span = Interval(start_s=float(ticks.middle_s[first]), end_s=float(ticks.middle_s[last]))
    joules = float(samples.values[ticks.at[last]] - samples.values[ticks.at[first]])
    seen = last - first
    period_s = tick_s if tick_s is not None else _median_gap_s(ticks)
    n = max(seen, int(length_s(span) / tick_s)) if tick_s is not None else seen
    if n + 1 < MIN_TICKS:
        return Refused(why=f"{WINDOW_SHORT}: only {n + 1} ticks of the energy counter lie inside the window")
    width_s = ticks.width_s[[first, last]]
    aligned = bool((width_s <= max(ALIGNED_S, ALIGNED_TICKS * period_s)).all())
    peak_w = _peak_w(samples, ticks, window, power, joules / length_s(span))
    if aligned and limit_w is not None:
        # Within a tick the power may be anything that the board allows.
        peak_w = max(peak_w, limit_w)
    open_j = float(width_s.sum()) / 2.0 * peak_w
    energy = Energy(
        joules=joules,
        span=span,
        low=joules - open_j,
        high=joules + open_j,
        source=source,
        method="energy counter between ticks",
        ticks=n + 1,
        tick_s=period_s,
        timed_s=float(width_s.max()),
        aligned=aligned,
    )
    if aligned or open_j <= MAX_UNALIGNED * joules:
        return energy
    text = f"its ticks are timed to {to_ms(float(width_s.max())):.0f} ms only, which leaves "
    share = f"{open_j / joules * PERCENT:.2g} % of {length_s(span):.3g} s open"
    why = f"{WINDOW_SHORT}: the energy counter is not aligned: {text}{share}"
    return Refused(why=why, coarse=energy)


def _edges(ticks: Ticks, window: Interval) -> tuple[int, int]:
    """Return the outermost ticks that are as sharply timed as any near the same edge."""
    reach_s = min(EDGE_S, EDGE_SHARE * length_s(window))
    near_start = np.flatnonzero(ticks.high_s <= ticks.high_s[0] + reach_s)
    near_end = np.flatnonzero(ticks.high_s >= ticks.high_s[-1] - reach_s)
    width_s = ticks.width_s
    first = near_start[width_s[near_start] <= AS_SHARP * width_s[near_start].min()][0]
    last = near_end[width_s[near_end] <= AS_SHARP * width_s[near_end].min()][-1]
    return (int(first), int(last)) if first < last else (0, len(ticks) - 1)


def _peak_w(samples: Series, ticks: Ticks, window: Interval, power: Series | None, mean_w: float) -> float:
    """Return the highest power that was seen, between ticks or by the power sensor."""
    between_w = np.diff(samples.values[ticks.at]) / (ticks.high_s[1:] - ticks.low_s[:-1])
    polled_w = np.array([]) if power is None else power.within(window).values
    return float(np.concatenate(([mean_w], between_w, polled_w)).max())
