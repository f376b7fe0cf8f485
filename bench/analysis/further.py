"""How much further running would bring a change to one side of a threshold.

A change that the repeats decide is judged in pairs of repeats: so is what more of them would do, with the
pairs' own scatter, degrees of freedom and confidence. Throughput and cost rest on one job per system instead,
the capacity search or the saturated run: what narrows them is named by that job's own setting.
"""

from __future__ import annotations

import math
import statistics

from bench.analysis.comparison import Comparison, Row
from bench.analysis.contrast import by_repeat
from bench.analysis.effects import FROM_SATURATED_RUN, Effect
from bench.analysis.gate import MORE_THAN_ONE, ON_THRESHOLD, repeats_for, repeats_in_words
from bench.analysis.longer import longer_windows
from bench.analysis.metrics import METRICS
from bench.analysis.stats import t_quantile
from bench.records import Value
from bench.units import PERCENT

LONGER_JOB = "lengthen protocol.offline_s (with a capacity search, capacity.probe_s)"
MAX_NARROWING = math.sqrt(20.0)
"""An interval that one job per system would have to narrow by more than this is not worth naming."""


def to_settle(comparison: Comparison, effect: Effect, threshold_pct: float) -> str:
    """Return what would settle an effect against a threshold of improvement; '' where nothing can be said."""
    if effect.unresolved:
        return LONGER_JOB if effect.name in FROM_SATURATED_RUN else longer_windows(comparison.window_s)
    if effect.low_pct is None or effect.high_pct is None:
        return MORE_THAN_ONE if effect.name not in FROM_SATURATED_RUN else ""
    row = comparison.row(effect.name)
    if effect.name in FROM_SATURATED_RUN:
        return _better_single_job(comparison, row, effect, threshold_pct)
    if row.baseline.blocks or row.optimized.blocks:
        return MORE_THAN_ONE
    return _more_repeats(row, effect, threshold_pct)


def _more_repeats(row: Row, effect: Effect, threshold_pct: float) -> str:
    """Return how many repeats the change needs, on the logarithm as it was judged."""
    change = row.change
    assert change.pct_change is not None
    assert change.low_pct is not None
    assert change.high_pct is not None
    sign = -1.0 if METRICS[row.name].better == "lower" else 1.0
    points = (change.pct_change, change.low_pct, change.high_pct, sign * threshold_pct)
    confidence = max(row.baseline.confidence, row.optimized.confidence)
    pairs = by_repeat((row.baseline, row.optimized), (-1.0, 1.0))
    if len(pairs) < 2 or min(points) <= -PERCENT:
        n = min(row.baseline.n or 1, row.optimized.n or 1)
        below = threshold_pct < effect.improvement_pct
        return repeats_in_words(
            n, _arm(effect, below=below), abs(effect.improvement_pct - threshold_pct), confidence
        )
    value, low, high, threshold = (math.log1p(point / PERCENT) for point in points)
    n = len(pairs)
    half = t_quantile(n - 1, confidence) * statistics.stdev(pairs) / math.sqrt(n)
    return repeats_for(n, half, (value, low, high), threshold, confidence)


def _arm(effect: Effect, *, below: bool) -> float:
    """Return how far the interval reaches to one side; where it was cut at -100 %, as far as to the other."""
    assert effect.low_pct is not None
    assert effect.high_pct is not None
    arms = (effect.improvement_pct - effect.low_pct, effect.high_pct - effect.improvement_pct)
    was_cut = PERCENT in (-effect.low_pct, effect.high_pct)
    return max(arms) if was_cut else arms[0 if below else 1]


def _better_single_job(comparison: Comparison, row: Row, effect: Effect, threshold_pct: float) -> str:
    """Return how throughput or cost would be settled, as far as one job per system can.

    The interval of a saturated run comes from a fixed number of blocks, so it shrinks with the square root of
    the time; a search ends as soon as its own is as narrow as it was asked to be. Neither narrows what
    processes differ by, which is in the interval, too.
    """
    arm = _arm(effect, below=threshold_pct < effect.improvement_pct)
    distance = abs(effect.improvement_pct - threshold_pct)
    if distance == 0:
        return ON_THRESHOLD
    processes = min(arm, _between_processes(row))
    if processes >= distance:
        return "processes differ too much for one job per system: quiet the machine, or repeat the experiment"
    # Independent errors add in quadrature.
    narrower = math.sqrt((arm**2 - processes**2) / (distance**2 - processes**2))
    if narrower > MAX_NARROWING:
        return ON_THRESHOLD
    if _searched(comparison):
        widest = max(_half_share(row.baseline), _half_share(row.optimized))
        return (
            f"capacity.tolerance = {widest / narrower:.2g} (the searches came to {widest:.2g}) would settle "
            "it, as far as one search per system can"
        )
    return (
        f"protocol.offline_s about {max(narrower**2, 1.1):.1f} times as long would settle it, as far as one "
        "saturated run per system can"
    )


def _between_processes(row: Row) -> float:
    """Return the part of a change's interval that comes from processes, to either side, in percent."""
    values = (row.baseline, row.optimized)
    shares = [value.between_processes for value in values if value.between_processes is not None]
    fewest = min((value.n for value in values if value.n is not None), default=0)
    if not shares or fewest < 2 or row.change.pct_change is None:
        return 0.0
    confidence = max(value.confidence for value in values)
    # A share of the ratio of the two, which is in percent of the baseline's.
    ratio = 1.0 + row.change.pct_change / PERCENT
    return ratio * t_quantile(fewest - 1, confidence) * math.hypot(*shares) * PERCENT


def _searched(comparison: Comparison) -> bool:
    """Say whether throughput is a capacity that was searched."""
    contexts = [side.context for side in (comparison.baseline, comparison.optimized) if side.context]
    return any(context.checked.get("throughput") == "capacity" for context in contexts)


def _half_share(value: Value) -> float:
    """Return half the interval's width as a share of the figure; 0 where there is none."""
    if not value.value or value.low is None or value.high is None:
        return 0.0
    return (value.high - value.low) / 2.0 / abs(value.value)
