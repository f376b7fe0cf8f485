"""The change from one value to another, with an interval and its direction.

Both values are means over independent repeats. The interval of the ratio is Welch's, taken on the
logarithm (so that +100 % and -50 % are mirror images); where a value is not positive or too uncertain
for that, it is Welch's interval of the difference. Without an interval on both sides the change is a
point value.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from bench.analysis.stats import t_quantile
from bench.records import Value
from bench.units import PERCENT

MAX_RELATIVE_ERROR = 0.2
"""Beyond this relative standard error a logarithm's error is no longer the relative error."""
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
    ends = _interval(baseline, optimized)
    low, high = (None, None) if ends is None else (ends[0], ends[1])
    return Change(
        delta=delta,
        pct_change=pct,
        low=low,
        high=high,
        low_pct=_pct(low, baseline.value),
        high_pct=_pct(high, baseline.value),
        direction=_direction(delta, low, high, better),
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
    one, two = standard_error(baseline), standard_error(optimized)
    old, new = baseline.value, optimized.value
    if one is None or two is None or old is None or new is None:
        return None
    if old > 0 and new > 0 and max(one / old, two / new) <= MAX_RELATIVE_ERROR:
        # To first order the error of a logarithm is the relative error.
        half = _welch(baseline, optimized, one / old, two / new)
        return new * math.exp(-half) - old, new * math.exp(half) - old
    half = _welch(baseline, optimized, one, two)
    return new - old - half, new - old + half


def _welch(baseline: Value, optimized: Value, one: float, two: float) -> float:
    """Return the half width of Welch's interval from two standard errors."""
    largest = max(one, two)
    if largest == 0:
        return 0.0
    # Welch-Satterthwaite degrees of freedom; scaled, so that no fourth power vanishes or overflows.
    a, b = (one / largest) ** 2, (two / largest) ** 2
    degrees = (a + b) ** 2 / (a**2 / _degrees(baseline) + b**2 / _degrees(optimized))
    return t_quantile(degrees) * math.hypot(one, two)


def standard_error(value: Value) -> float | None:
    """Return the standard error behind a value's 95 % interval; None without one."""
    if value.low is None or value.high is None or value.n is None or value.n < 2:
        return None
    return (value.high - value.low) / 2.0 / t_quantile(value.n - 1)


def _degrees(value: Value) -> int:
    return (value.n or 2) - 1
