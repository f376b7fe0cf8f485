"""Contrasts of figures on the logarithm: a change between two systems, an effect among four.

With weights that sum to zero, `Σ w · log(figure)` is the logarithm of a ratio (weights -1 and +1: optimized
over baseline), of a ratio's mean over a second factor, or of a ratio of ratios (an interaction). Where every
figure is a mean over repeats, the contrast is formed in each repeat first: repeats of one number had the same
traffic, and what they share cancels; of one repeat, in each part of its window. Otherwise the standard errors
of the figures are combined as those of independent ones. What a meter leaves open of a figure beyond its
repeats is added in full.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from bench.analysis.stats import level_interval, t_quantile
from bench.records import Value

MAX_RELATIVE_ERROR = 0.2
"""Beyond this relative standard error a logarithm's error is no longer the relative error."""


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """A weighted sum of logarithms with its interval, where there is one, and the pairs behind it.

    `pairs` is how many repeats all figures had in common; 0 where they were taken as independent.
    """

    log: float
    low: float | None = None
    high: float | None = None
    pairs: int = 0


def log_contrast(values: Sequence[Value], weights: Sequence[float]) -> Contrast | None:
    """Return `Σ w · log(value)` with its interval; None where a figure is missing or not positive.

    There is no interval where a figure has none, or one too wide for logarithms.
    """
    figures = [value.value for value in values]
    if any(figure is None or figure <= 0 for figure in figures):
        return None
    log = math.fsum(w * math.log(figure) for w, figure in zip(weights, figures, strict=True) if figure)
    confidence = max(value.confidence for value in values)
    paired = _paired(values, weights)
    if len(paired) >= 2:
        error, degrees, pairs = _error_of_mean(paired), float(len(paired) - 1), len(paired)
        below, above = _left_open(values, weights)
    else:
        independent = _independent(values, weights)
        if independent is None:
            return Contrast(log=log)
        (error, degrees), pairs, below, above = independent, 0, 0.0, 0.0
    half = t_quantile(degrees, confidence) * error
    return Contrast(log=log, low=log - half - below, high=log + half + above, pairs=pairs)


def by_repeat(values: Sequence[Value], weights: Sequence[float]) -> list[float]:
    """Return `Σ w · log(figure)` of each repeat that all values have; [] where one is not positive."""
    return _contrasts([value.repeats or {} for value in values], weights)


def standard_error(value: Value) -> float | None:
    """Return the standard error behind a value's interval; None without one."""
    if value.low is None or value.high is None or degrees_of(value) < 1:
        return None
    return (value.high - value.low) / 2.0 / t_quantile(degrees_of(value), value.confidence)


def degrees_of(value: Value) -> float:
    """Return the degrees of freedom behind a value's interval.

    Without end where the value is exact: an interval of no width that comes from no observations.
    """
    if value.n is None:
        return math.inf if value.low == value.high else 0.0
    return value.n - 1.0


def welch_degrees(errors: Sequence[float], degrees: Sequence[float]) -> float:
    """Return the Welch-Satterthwaite degrees of freedom of a sum of independent errors."""
    largest = max(errors)
    if largest == 0:
        return min(degrees)
    # Scaled, so that no fourth power vanishes or overflows.
    squares = [(error / largest) ** 2 for error in errors]
    return math.fsum(squares) ** 2 / math.fsum(s**2 / d for s, d in zip(squares, degrees, strict=True))


def beyond_repeats(value: Value) -> tuple[float, float]:
    """Return what a value's interval has below and above beside the scatter of its repeats, in its unit."""
    repeats = list((value.repeats or {}).values())
    if value.value is None or value.low is None or value.high is None or len(repeats) < 2:
        return 0.0, 0.0
    plain = level_interval(repeats, value.confidence)
    assert plain.low is not None
    assert plain.high is not None
    return max(0.0, plain.low - value.low), max(0.0, value.high - plain.high)


def _paired(values: Sequence[Value], weights: Sequence[float]) -> list[float]:
    """Return the contrast in each common repeat; of the same one everywhere: in each part of its window."""
    repeats = [list(value.repeats or {}) for value in values]
    if len(repeats[0]) == 1 and all(numbers == repeats[0] for numbers in repeats):
        return _contrasts([value.blocks or {} for value in values], weights)
    return by_repeat(values, weights)


def _contrasts(tables: Sequence[Mapping[int, float]], weights: Sequence[float]) -> list[float]:
    """Return the contrast of each number that all tables have; [] where a figure is not positive."""
    numbers = sorted(set(tables[0]).intersection(*tables[1:]))
    if any(table[k] <= 0 for table in tables for k in numbers):
        return []
    return [
        math.fsum(w * math.log(table[k]) for w, table in zip(weights, tables, strict=True)) for k in numbers
    ]


def _independent(values: Sequence[Value], weights: Sequence[float]) -> tuple[float, float] | None:
    """Return the standard error and degrees of freedom of a contrast of independent figures."""
    errors, degrees = [], []
    for value, weight in zip(values, weights, strict=True):
        error = standard_error(value)
        if error is None or value.value is None:
            return None
        # To first order the error of a logarithm is the relative error.
        if error / value.value > MAX_RELATIVE_ERROR:
            return None
        errors.append(abs(weight) * error / value.value)
        degrees.append(degrees_of(value))
    return math.hypot(*errors), welch_degrees(errors, degrees)


def _left_open(values: Sequence[Value], weights: Sequence[float]) -> tuple[float, float]:
    """Return how far meters leave a contrast open below and above, as shares: they may err alike."""
    below = above = 0.0
    for value, weight in zip(values, weights, strict=True):
        down, up = (arm / (value.value or 1.0) for arm in beyond_repeats(value))
        below += abs(weight) * (down if weight > 0 else up)
        above += abs(weight) * (up if weight > 0 else down)
    return below, above


def _error_of_mean(numbers: Sequence[float]) -> float:
    n = len(numbers)
    mean = math.fsum(numbers) / n
    return math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (n - 1) / n)
