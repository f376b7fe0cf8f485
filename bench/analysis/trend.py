"""Does a sequence rise or fall? Mann and Kendall's test, corrected for neighbours that resemble each other.

Block figures of a queue are correlated, and the plain test would find trends in them that are none. Hamed and
Rao (Journal of Hydrology 204, 1998) widen its variance by the autocorrelation of the ranks. How large the
trend is comes from the median of all pairwise slopes (Sen, 1968), which no single block can make.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bench.analysis.stats import Array

SIGNIFICANT = 1.96
"""An autocorrelation beyond this many standard errors counts in the correction."""


class Trend(msgspec.Struct, frozen=True):
    """`relative` is the change from the first value to the last over their median; `p` is two-sided."""

    relative: float
    p: float


def trend(values: Array) -> Trend:
    """Return the trend of a sequence; ValueError with fewer than four values, which cannot show one."""
    n = len(values)
    if n < 4:
        raise ValueError(f"{n} values show no trend")
    first, second = np.triu_indices(n, 1)
    rises = values[second] - values[first]
    slope = float(np.median(rises / (second - first)))
    score = float(np.sign(rises).sum())
    _, ties = np.unique(values, return_counts=True)
    tied = float((ties * (ties - 1) * (2 * ties + 5)).sum())
    variance = (n * (n - 1) * (2 * n + 5) - tied) / 18.0 * _correction(values, slope)
    middle = float(np.median(values))
    relative = slope * (n - 1) / middle if middle else 0.0
    if variance <= 0.0 or score == 0.0:
        return Trend(relative, 1.0)
    z = (abs(score) - 1.0) / math.sqrt(variance)
    return Trend(relative, math.erfc(z / math.sqrt(2.0)))


def _correction(values: Array, slope: float) -> float:
    """Return Hamed and Rao's n / n*: 1 + 2 / (n (n-1) (n-2)) Σ (n-i)(n-i-1)(n-i-2) ρ(i), ρ of the ranks."""
    n = len(values)
    ranks = np.argsort(np.argsort(values - slope * np.arange(n), kind="stable")).astype(float)
    ranks -= ranks.mean()
    power = float(ranks @ ranks)
    total = 0.0
    for lag in range(1, n - 2):
        rho = float(ranks[:-lag] @ ranks[lag:]) / power
        if abs(rho) > SIGNIFICANT / math.sqrt(n):
            total += (n - lag) * (n - lag - 1) * (n - lag - 2) * rho
    # A negative correlation makes a trend no likelier than independence does.
    return max(1.0, 1.0 + 2.0 * total / (n * (n - 1) * (n - 2)))
