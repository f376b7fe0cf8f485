"""How a figure's rows are kept few: numbers rounded to what can be seen, curves cut to what can be drawn.

A page holds its rows as text, so a row more is a hundred bytes more. What is left out follows a rule that
keeps the extremes, and that the dataset states.
"""

from __future__ import annotations

import math

import numpy as np

from bench.analysis.stats import Array

DIGITS = 5
"""Significant digits of a row's numbers: finer than any screen."""


def seen(value: float | None) -> float | None:
    """Return a number as a row holds it; None for one that is missing or infinite.

    >>> seen(1234.5678), seen(float("inf"))
    (1234.6, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def points_each(curves: int, total: int, least: int, most: int) -> int:
    """Return how many points each of several curves may have for `total` together.

    >>> points_each(2, 1000, least=50, most=400), points_each(100, 1000, least=50, most=400)
    (400, 50)
    """
    return max(least, min(most, total // max(curves, 1)))


def kept_ranks(n: int, points: int, shares: tuple[float, ...]) -> Array:
    """Return which ranks of `n` ordered values are drawn: about `points`, with the ends and `shares`."""
    even = np.linspace(0, n - 1, min(n, points))
    named = [math.ceil(share * n) - 1 for share in shares]
    found: Array = np.unique(np.clip(np.concatenate((even, named)).round().astype(int), 0, n - 1))
    return found


def kept_extremes(values: Array, points: int) -> Array:
    """Return which of consecutive values are drawn: of each group the lowest, the median and the highest.

    All are where there are at most `points`.
    """
    n = len(values)
    if n <= points:
        return np.arange(n)
    kept: list[int] = []
    for group in np.array_split(np.arange(n), max(points // 3, 1)):
        ordered = group[np.argsort(values[group], kind="stable")]
        kept += [int(ordered[i]) for i in {0, len(ordered) // 2, len(ordered) - 1}]
    return np.unique(kept)
