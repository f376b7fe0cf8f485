"""The change from one value to another, with an interval and its direction.

Both values are means over independent repeats. The interval of the ratio is Welch's, taken on the
logarithm (so that +100 % and -50 % are mirror images); where a value is not positive it is Welch's
interval of the difference. Without an interval on either side the change is a point value.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from bench.analysis.stats import t_quantile
from bench.records import Value
from bench.units import PERCENT

Direction = Literal["better", "worse", "same", "unclear", "not comparable", "not judged"]


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

    `unclear` when the interval includes no change; `not judged` when neither way is better.
    """
    if baseline.value is None or optimized.value is None:
        return Change(direction="not comparable")
    delta = optimized.value - baseline.value
    pct = delta / baseline.value * PERCENT if baseline.value != 0 else None
    low = high = low_pct = high_pct = None
    if (half := _half_width(baseline, optimized)) is not None:
        if baseline.value > 0 and optimized.value > 0:
            ratio = optimized.value / baseline.value
            low_ratio, high_ratio = ratio * math.exp(-half), ratio * math.exp(half)
            low_pct, high_pct = (low_ratio - 1.0) * PERCENT, (high_ratio - 1.0) * PERCENT
            low, high = baseline.value * (low_ratio - 1.0), baseline.value * (high_ratio - 1.0)
        else:
            low, high = delta - half, delta + half
    return Change(
        delta=delta,
        pct_change=pct,
        low=low,
        high=high,
        low_pct=low_pct,
        high_pct=high_pct,
        direction=_direction(delta, low, high, better),
    )


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


def _half_width(baseline: Value, optimized: Value) -> float | None:
    """Return the interval's half width: of the log ratio for positive values, else of the difference."""
    one, two = standard_error(baseline), standard_error(optimized)
    if one is None or two is None:
        return None
    assert baseline.value is not None
    assert optimized.value is not None
    if baseline.value > 0 and optimized.value > 0:
        # First order: the error of a logarithm is the relative error.
        one, two = one / baseline.value, two / optimized.value
    variance = one**2 + two**2
    if variance == 0:
        return 0.0
    # Welch-Satterthwaite degrees of freedom.
    degrees = variance**2 / (one**4 / _degrees(baseline) + two**4 / _degrees(optimized))
    return t_quantile(degrees) * math.sqrt(variance)


def standard_error(value: Value) -> float | None:
    """Return the standard error behind a value's 95 % interval; None without one."""
    if value.low is None or value.high is None or value.n is None or value.n < 2:
        return None
    return (value.high - value.low) / 2.0 / t_quantile(value.n - 1)


def _degrees(value: Value) -> int:
    return (value.n or 2) - 1
