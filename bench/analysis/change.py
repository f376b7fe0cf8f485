"""The change from one value to another, with an interval and its direction.

The interval of the ratio is taken on the logarithm (so that +100 % and -50 % are mirror images), from the
repeats in pairs where both have them (see `contrast`); where a value is not positive or too uncertain for
that, it is Welch's interval of the difference: of a figure above 0 no more than all of it can be lost, so it
ends at -100 %. Without an interval on both sides the change is a point value. Figures that are alike in
every digit of a CSV have not changed.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from bench.analysis.contrast import degrees_of, log_contrast, standard_error, welch_degrees
from bench.analysis.numbers import alike
from bench.analysis.stats import t_quantile
from bench.records import Value
from bench.units import PERCENT

_FARTHEST = 300.0
"""Logarithm of a ratio beyond which it may be no number any more times a figure."""
Direction = Literal["better", "worse", "same", "unclear", "not resolved", "not comparable", "not judged"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change from baseline to optimized.

    `pct_change` is None when the baseline is 0 or either value is missing. `low_pct` and `high_pct`
    bound its 95 % interval, `low` and `high` that of `delta`; None where one side has no interval.
    """

    delta: float | None = None
    pct_change: float | None = None
    low: float | None = None
    high: float | None = None
    low_pct: float | None = None
    high_pct: float | None = None
    direction: Direction


def change(baseline: Value, optimized: Value, better: Literal["lower", "higher"] | None) -> Change:
    """Return the change and whether it is for the better.

    `unclear` when the interval includes no change; `not judged` when neither way is better; `not resolved`,
    without an interval, when one of an honest width cannot be stated of either value.
    """
    if baseline.value is None or optimized.value is None:
        return Change(direction="not comparable")
    same = alike(baseline.value, optimized.value)
    delta = 0.0 if same else optimized.value - baseline.value
    pct = delta / baseline.value * PERCENT if baseline.value != 0 else None
    unresolved = bool(baseline.unresolved or optimized.unresolved)
    ends = None if unresolved else _interval(baseline, optimized)
    low, high = (None, None) if ends is None else (ends[0], ends[1])
    return Change(
        delta=delta,
        pct_change=pct,
        low=low,
        high=high,
        low_pct=_pct(low, baseline.value),
        high_pct=_pct(high, baseline.value),
        direction="not resolved" if unresolved and better else _direction(delta, low, high, better),
    )


def bounded(
    found: Change, base: float, ends: tuple[float, float], better: Literal["lower", "higher"] | None
) -> Change:
    """Return a change with the ends of an interval that is known from elsewhere, and judged by it."""
    low, high = ends
    return msgspec.structs.replace(
        found,
        low=low,
        high=high,
        low_pct=_pct(low, base),
        high_pct=_pct(high, base),
        direction=_direction(found.delta or 0.0, low, high, better),
    )


def _pct(delta: float | None, base: float) -> float | None:
    return None if delta is None or base <= 0 else delta / base * PERCENT


def _direction(
    delta: float, low: float | None, high: float | None, better: Literal["lower", "higher"] | None
) -> Direction:
    if better is None:
        return "not judged"
    if delta == 0:
        return "same"
    if low is not None and high is not None and low <= 0 <= high:
        return "unclear"
    return "better" if (delta < 0) == (better == "lower") else "worse"


def _interval(baseline: Value, optimized: Value) -> tuple[float, float] | None:
    """Return the ends of the change's interval, in the metric's unit."""
    old, new = baseline.value, optimized.value
    if old is None or new is None:
        return None
    ratio = log_contrast((baseline, optimized), (-1.0, 1.0))
    if ratio is not None and ratio.low is not None and ratio.high is not None and ratio.high < _FARTHEST:
        return old * math.expm1(ratio.low), old * math.expm1(ratio.high)
    ends = _of_difference(baseline, optimized, new - old)
    if ends is None or old <= 0 or new < 0:
        return ends
    return max(ends[0], -old), ends[1]


def _of_difference(baseline: Value, optimized: Value, delta: float) -> tuple[float, float] | None:
    """Return Welch's interval of the difference; None where one side has no interval."""
    one, two = standard_error(baseline), standard_error(optimized)
    if one is None or two is None:
        return None
    degrees = welch_degrees((one, two), (degrees_of(baseline), degrees_of(optimized)))
    half = t_quantile(degrees, max(baseline.confidence, optimized.confidence)) * math.hypot(one, two)
    return delta - half, delta + half
