"""Whether a sample is large enough for a percentile, and what it bounds: MLPerf's early stopping.

Of n independent requests, t were slower than a limit. That at most a share 1 - p of *all* requests is slower
is shown, with 99 % confidence, if so few slow ones would hardly have been seen otherwise: if
P(Bin(h + t, 1 - p) <= t) < 1 %, with h = n - t (MLPerf inference rules, appendix Early Stopping; LoadGen,
early_stopping.cc, with tolerance 0). It is I_p(h, t + 1), the regularised incomplete beta function.

Requests that wait in one queue are not independent, so n is to be their effective number (`correlation`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bench.analysis.stats import Array

CONFIDENCE = 0.99


@lru_cache(maxsize=4096)
def least_fast(slow: int, share: float) -> int:
    """Return how many requests must be within a limit, beside `slow` beyond it, for the percentile to be."""
    from scipy.special import betainc

    def shown(fast: int) -> bool:
        return bool(betainc(fast, slow + 1, share) < 1.0 - CONFIDENCE)

    high = 1
    while not shown(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def least_requests(share: float) -> int:
    """Return the fewest independent requests that bound the percentile at `share` with one beyond it.

    >>> [least_requests(share) for share in (0.5, 0.9, 0.95, 0.99)]
    [11, 64, 130, 662]
    """
    return least_fast(1, share) + 1


def discarded(n: int, share: float) -> int | None:
    """Return how many of the slowest of `n` the bound leaves aside, the bound included; None of too few."""
    if n < least_requests(share):
        return None
    low, high = 1, n
    while high - low > 1:
        middle = (low + high) // 2
        enough = least_fast(middle, share) + middle <= n
        low, high = (middle, high) if enough else (low, middle)
    return low


def upper_bound(values: Array, share: float, effective: float) -> float | None:
    """Return what the percentile at `share` is at most, with 99 % confidence; None of too small a sample.

    With as many independent values as there are, the order statistic that LoadGen reports; with fewer, the
    one at the same place in the sample.
    """
    independent = min(len(values), int(effective))
    left_aside = discarded(independent, share)
    if left_aside is None:
        return None
    place = len(values) - len(values) * left_aside // independent
    return float(np.sort(values)[place])
