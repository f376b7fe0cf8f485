"""Statistics that stay honest under failures and queueing.

Percentiles treat a failed request as infinitely slow, so dropping requests cannot improve them.
Intervals come from repeats (independent runs), never from single requests: neighbours in a queue are
correlated, and an interval that ignores it covers the truth far less often than it says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

CONFIDENCE = 0.95
TAIL_COUNT = 10
"""A percentile is trusted when at least this many observations lie beyond it."""

MAX_REPEATS = 200
"""More repeats than this are not worth naming."""
MAX_BLOCKS = 10
DISPERSION_BLOCKS = 30
MIN_PIECES = 5
"""Pieces of work that an interval of a rate needs at least."""

Array = np.ndarray[Any, np.dtype[Any]]


class Estimate(msgspec.Struct, frozen=True):
    """A mean over `n` independent repeats; `low` and `high` bound its 95 % interval where n > 1."""

    mean: float
    low: float | None
    high: float | None
    n: int


def percentile(values: Array, share: float) -> float:
    """Return the percentile at `share` (0 to 1) by linear interpolation between order statistics.

    Infinite values (failed requests) are the slowest; the result is infinite as soon as one of them
    takes part. Raises ValueError without values.
    """
    if len(values) == 0:
        raise ValueError("a percentile of no values does not exist")
    ordered = np.sort(values)
    rank = share * (len(ordered) - 1)
    below = math.floor(rank)
    part = rank - below
    if part == 0:
        return float(ordered[below])
    low, high = float(ordered[below]), float(ordered[below + 1])
    # inf - inf and inf · 0 are not numbers; the interpolation of anything with inf is inf.
    return math.inf if math.isinf(high) else low + part * (high - low)


def minimum_count(share: float) -> int:
    """Return how many requests the percentile at `share` needs: `10 / (1 - share)`.

    >>> minimum_count(0.95)
    200
    """
    return math.ceil(round(TAIL_COUNT / (1.0 - share), 6))


def t_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Return Student's t for a two-sided interval."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + confidence / 2.0))


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean of independent repeats with its Student t interval; none from one repeat.

    Raises ValueError without values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("a mean of no values does not exist")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, None, 1)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (n - 1))
    half = t_quantile(n - 1, confidence) * deviation / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def level_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean of independent repeats of a level with its interval; none from one repeat.

    Where all are positive it is Student's t on the logarithm of the mean (delta method), so that it never
    reaches below zero and leans upwards, as waiting times do; else that of `mean_interval`, from zero on
    where no repeat is negative. Raises ValueError without values.
    """
    plain = mean_interval(values, confidence)
    if plain.low is None or plain.high is None or min(values) < 0:
        return plain
    if min(values) == 0:
        return Estimate(plain.mean, max(0.0, plain.low), plain.high, plain.n)
    factor = math.exp((plain.high - plain.mean) / plain.mean)
    return Estimate(plain.mean, plain.mean / factor, plain.mean * factor, plain.n)


def repeats_needed(
    n: int, half: float, target: float, most: int, confidence: float = CONFIDENCE
) -> int | None:
    """Return how many repeats bring an interval that is `half` to either side at `n` down to `target`.

    The smallest number above `n` with `t(n - 1) / sqrt(n)` small enough: at few repeats Student's t
    itself shrinks, much faster than the square root. None beyond `most`, and from fewer than two repeats.
    """
    if n < 2:
        return None
    deviation = half * math.sqrt(n) / t_quantile(n - 1, confidence)
    candidates = range(n + 1, most + 1)
    return next(
        (m for m in candidates if t_quantile(m - 1, confidence) * deviation <= target * math.sqrt(m)), None
    )


def block_interval(values: Array, blocks: int = 10) -> Estimate:
    """Return the mean of a correlated sequence with an interval from the means of `blocks` blocks.

    Batch means (Law, Simulation Modeling and Analysis, ch. 9): long blocks are nearly independent where
    neighbours are not. Fewer than two values per block give no interval.
    """
    mean = float(np.mean(values))
    if len(values) < 2 * blocks:
        return Estimate(mean, None, None, 1)
    means = [float(np.mean(block)) for block in np.array_split(values, blocks)]
    half = t_quantile(blocks - 1) * float(np.std(means, ddof=1)) / math.sqrt(blocks)
    return Estimate(mean, mean - half, mean + half, blocks)


def rate_interval(ends_s: Array, amounts: Array, start_s: float) -> Estimate:
    """Return the rate of work that ended at `ends_s` (ascending) since `start_s`, per second.

    Work is cut into at most ten blocks of consecutive pieces, each with its own time, so a batch is never
    cut. The interval is that of a ratio estimator (Cochran, Sampling Techniques, ch. 6): with block
    amounts a and times t and the rate r = sum a / sum t, from the residuals a - r t. Fewer than five
    pieces give no interval.
    """
    rate = float(amounts.sum()) / float(ends_s[-1] - start_s)
    if len(ends_s) < MIN_PIECES:
        return Estimate(rate, None, None, 1)
    blocks = min(MAX_BLOCKS, len(ends_s))
    _, took_s, residuals = _rate_blocks(ends_s, amounts, start_s, blocks)
    error = float(np.std(residuals, ddof=1)) / math.sqrt(blocks) / float(took_s.mean())
    half = t_quantile(blocks - 1) * error
    return Estimate(rate, rate - half, rate + half, blocks)


def rate_dispersion(ends_s: Array, amounts: Array, start_s: float) -> float | None:
    """Return the index of dispersion of work that ended at `ends_s`: the variance of counts over the mean.

    Over blocks of consecutive pieces as in `rate_interval`, more of them, as only the variance is wanted. It
    is 1 for Poisson's counts, for single pieces of work the squared coefficient of variation of their times.
    None of fewer than five pieces.
    """
    if len(ends_s) < MIN_PIECES:
        return None
    done, _, residuals = _rate_blocks(ends_s, amounts, start_s, min(DISPERSION_BLOCKS, len(ends_s)))
    return float(np.var(residuals, ddof=1)) / float(done.mean())


def _rate_blocks(ends_s: Array, amounts: Array, start_s: float, blocks: int) -> tuple[Array, Array, Array]:
    """Return the work done in each block, how long it took, and what it is off the mean rate by."""
    spans_s = np.diff(ends_s, prepend=start_s)
    done = np.array([part.sum() for part in np.array_split(amounts, blocks)])
    took_s = np.array([part.sum() for part in np.array_split(spans_s, blocks)])
    return done, took_s, done - float(amounts.sum()) / float(ends_s[-1] - start_s) * took_s


def time_weighted_mean(t_s: Array, values: Array, start_s: float, end_s: float) -> float:
    """Return the mean of a sampled signal over a span: trapezoids, with both ends interpolated."""
    return integral(t_s, values, start_s, end_s) / (end_s - start_s)


def integral(t_s: Array, values: Array, start_s: float, end_s: float) -> float:
    """Integrate a sampled signal over a span by trapezoids, with both ends interpolated.

    No sample is dropped for being equal to its neighbour: a constant signal has an integral too.
    """
    inside = (t_s > start_s) & (t_s < end_s)
    times = np.concatenate(([start_s], t_s[inside], [end_s]))
    ends = np.interp([start_s, end_s], t_s, values)
    return float(np.trapezoid(np.concatenate(([ends[0]], values[inside], [ends[1]])), times))
