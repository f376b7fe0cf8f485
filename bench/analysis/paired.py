"""Two ways of doing the same work, measured in turn: their ratio with an interval, and what it proves.

The two of a pair are neighbours in time and share the machine's drift, so each pair gives one ratio. The
median over the pairs is not moved by the few that something else disturbed, and its interval, by order
statistics, assumes nothing of how the ratios are distributed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

from bench.analysis.stats import CONFIDENCE

Resolution = Literal["passed", "exceeded", "not resolved"]


class Median(msgspec.Struct, frozen=True, kw_only=True):
    """A median of `n` values; `low` and `high` bound its 95 % interval, None where `n` is too small."""

    median: float
    low: float | None
    high: float | None
    n: int


def median_interval(values: Sequence[float]) -> Median:
    """Return the median of independent values with its interval; ValueError without values.

    The narrowest symmetric pair of order statistics that holds the median at least 95 times of 100, by the
    binomial distribution of how many values lie below it (David and Nagaraja, Order Statistics, 7.1). Fewer
    than six values have none: even their extremes hold it less often.
    """
    n = len(values)
    if n == 0:
        raise ValueError("a median of no values does not exist")
    ordered, tail = sorted(values), (1.0 - CONFIDENCE) / 2.0
    below, cut = 0.5**n, 0  # the probability that at most `cut` values lie below the median
    if below > tail:
        return Median(median=statistics.median(ordered), low=None, high=None, n=n)
    while (following := below + math.comb(n, cut + 1) * 0.5**n) <= tail:
        below, cut = following, cut + 1
    return Median(median=statistics.median(ordered), low=ordered[cut], high=ordered[n - 1 - cut], n=n)


def resolve(ratio: Median | None, least: float) -> Resolution:
    """Say whether a ratio is at least `least`: only an interval that lies on one side of it decides."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return "not resolved"
    if ratio.low >= least:
        return "passed"
    return "exceeded" if ratio.high < least else "not resolved"
