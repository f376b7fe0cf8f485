"""Looking at a comparison after every repeat, and still being wrong no more often than stated.

Whoever stops as soon as an interval is clear of its threshold has looked several times, and had a chance to
be wrong at each. So every look gets a higher confidence than 95 %, the same at each (Pocock, Biometrika 64,
1977), such that Student's intervals of *all* planned looks hold the truth together in 95 of 100 runs. The
data of repeats enter as t statistics, whose joint distribution over the looks depends on nothing unknown, so
the level is found by drawing them (the significance-level approach of Jennison and Turnbull, Group Sequential
Methods, 4.4, without its approximation). When to stop may then depend on anything, also on other metrics.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bench.analysis.stats import CONFIDENCE

_PATHS = 100_000
_SEED = 1977


@lru_cache(maxsize=64)
def look_confidence(first: int, last: int) -> float:
    """Return the confidence of each look for 95 % over the looks at `first`, `first + 1`, … `last` repeats.

    Raises ValueError unless 2 <= first <= last. For a single look it is 0.95.
    """
    from scipy.special import stdtr

    if not 2 <= first <= last:
        raise ValueError(f"looks from {first} to {last} repeats; the first needs 2 at least")
    if first == last:
        return CONFIDENCE
    rng = np.random.default_rng(_SEED)
    totals, squares = np.zeros(_PATHS), np.zeros(_PATHS)
    least_p = np.ones(_PATHS)
    for n in range(1, last + 1):
        drawn = rng.standard_normal(_PATHS)
        totals += drawn
        squares += drawn**2
        if n >= first:
            variance = (squares - totals**2 / n) / (n - 1)
            t = np.abs(totals) / np.sqrt(n * variance)
            least_p = np.minimum(least_p, 2.0 * stdtr(n - 1, -t))
    return 1.0 - float(np.quantile(least_p, 1.0 - CONFIDENCE))
