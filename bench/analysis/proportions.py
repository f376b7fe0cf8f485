"""Passes and failures: a rate's interval, and the difference of two rates on the same prompts.

Two systems that answered the same prompts are compared by the prompts on which they disagree: how many only
the first passed, and how many only the second. What both passed or both failed tells of no difference.
"""

from __future__ import annotations

import math

from bench.analysis.stats import CONFIDENCE, Estimate


def wilson(passed: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """Return the share `passed / n` with Wilson's score interval (JASA 22, 1927).

    Unlike the usual one it does not shrink to nothing at 0 or 1. Raises ValueError for n = 0.
    """
    if n == 0:
        raise ValueError("a rate of no trials does not exist")
    z2 = _z(confidence) ** 2
    share = passed / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), n)


def trials_to_settle(share: float, limit: float, confidence: float = CONFIDENCE) -> int | None:
    """Return how many trials bring Wilson's interval of `share` to one side of `limit`; None on the limit.

    >>> trials_to_settle(0.0, 0.01)
    381
    """
    if share == limit:
        return None
    return math.ceil(_z(confidence) ** 2 * limit * (1.0 - limit) / (share - limit) ** 2)


def mcnemar(lost: int, won: int) -> float:
    """Return the exact two-sided p-value of `lost` against `won` discordant pairs (McNemar 1947).

    Under no difference each falls either way with probability one half: a binomial, so that small counts
    need no approximation. Without a discordant pair it is 1.
    """
    n, least = lost + won, min(lost, won)
    tail = sum(math.comb(n, k) for k in range(least + 1))
    return min(1.0, float(2 * tail / 2**n)) if n else 1.0


def paired_drop(lost: int, won: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """Return the drop of a rate, `(lost - won) / n`, with Tango's score interval (Stat. Med. 17, 1998).

    `lost` prompts only the first system passed, `won` only the second, of `n` in all. It holds its confidence
    at small counts, and without any discordant pair it still says how much may have been missed. Raises
    ValueError for n = 0.
    """
    from scipy.optimize import brentq

    if n == 0:
        raise ValueError("a difference on no prompts does not exist")
    drop, z = (lost - won) / n, _z(confidence)

    def beyond(delta: float) -> float:
        return _tango(lost, won, n, delta) - z

    def short(delta: float) -> float:
        return _tango(lost, won, n, delta) + z

    # The statistic falls from +∞ to -∞ over (-1, 1) and is 0 at the drop itself.
    edge = 1.0 - 1e-12
    low = -1.0 if drop <= -edge else float(brentq(beyond, -edge, drop))
    high = 1.0 if drop >= edge else float(brentq(short, drop, edge))
    return Estimate(drop, low, high, n)


def _tango(lost: int, won: int, n: int, delta: float) -> float:
    """Return the score statistic of a true drop `delta`; q is the restricted estimate of `won`'s share."""
    a, c = 2.0 * n, -won * delta * (1.0 - delta)
    b = -lost - won + (2.0 * n - lost + won) * delta
    q = (math.sqrt(max(0.0, b * b - 4.0 * a * c)) - b) / (2.0 * a)
    variance = n * (2.0 * q + delta * (1.0 - delta))
    off = lost - won - n * delta
    return (
        0.0 if off == 0.0 else math.copysign(math.inf, off) if variance <= 0.0 else off / math.sqrt(variance)
    )


def _z(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + confidence / 2.0))
