"""Baseline against optimized: every metric's change, the day's totals, and what is wrong with either.

`compare` judges nothing but direction; `decide` makes a verdict of the result, `report` shows it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from bench.analysis.attribution import sentences
from bench.analysis.change import bounded, change
from bench.analysis.comparability import check
from bench.analysis.comparison import Comparison, Row, Side
from bench.analysis.day import per_day
from bench.analysis.factorial import factorial_of
from bench.analysis.findings import find, tradeoffs
from bench.analysis.longer import longer_windows
from bench.analysis.metrics import METRICS
from bench.analysis.plausible import broken_identities
from bench.analysis.sensitivity import bands
from bench.analysis.system import Assumed, Doubt, MetricSet, missing
from bench.analysis.unalike import (
    ENERGIES,
    doubts_of_pair,
    on_several_cards,
    setting_differences,
    widened_by_gain,
)
from bench.config import Objectives
from bench.records import Value
from bench.units import PERCENT

COST, THROUGHPUT = "cost_per_1k_requests_usd", "throughput_requests_per_sec"
PERPLEXITY, RATIO = "perplexity", "perplexity_ratio"
ONE_PRICE = 3e-5
"""Costs are of one price where their ratio is throughput's inverse within this share: what the digits of two
CSVs leave open."""


def compare(
    baseline: MetricSet,
    optimized: MetricSet,
    assumed: Assumed,
    objectives: Objectives | None = None,
    *,
    allow_different: Collection[str] = (),
    others: Collection[MetricSet] = (),
) -> Comparison:
    """Compare two systems' metrics at the assumed volume, price and grid.

    `others` are systems measured beside them: where they complete a factorial, it says which change did what.
    Raises ResultError when they are not comparable (see `comparability.check`).
    """
    allowed = check(baseline, optimized, allow_different)
    present = baseline.values.keys() | optimized.values.keys()
    order = [*(name for name in METRICS if name in present), *sorted(present - METRICS.keys())]
    rows = {name: _row(name, baseline.values, optimized.values) for name in order}
    if on_several_cards(baseline, optimized):
        rows |= {name: _between_cards(rows[name]) for name in ENERGIES if name in rows}
    if COST in rows and THROUGHPUT in rows:
        rows[COST] = _mirrored(rows[COST], rows[THROUGHPUT])
    if PERPLEXITY in rows:
        rows |= _by_ratio(rows[PERPLEXITY], rows.get(RATIO) or _row(RATIO, {}, {}))
    window_s = max((side.window_s for side in (baseline, optimized) if side.window_s), default=None)
    differences = setting_differences(baseline, optimized)
    factorial = factorial_of(baseline, optimized, others)
    comparison = Comparison(
        baseline=_side(baseline),
        optimized=_side(optimized),
        rows=rows,
        per_day=per_day(rows, assumed),
        requests_per_day=assumed.requests_per_day,
        differences=differences,
        attribution=() if factorial is None else sentences(factorial),
        allowed=allowed,
        doubts=(
            *broken_identities(baseline, assumed),
            *broken_identities(optimized, assumed),
            *doubts_of_pair(baseline, optimized, others),
            *_shared(*(_lengthened(metrics, window_s) for metrics in (baseline, optimized))),
        ),
        window_s=window_s,
    )
    return msgspec.structs.replace(
        comparison,
        findings=find(comparison, objectives or Objectives()),
        sensitivity=bands(comparison, assumed),
        tradeoffs=tradeoffs(comparison),
    )


def _row(name: str, baseline: Mapping[str, Value], optimized: Mapping[str, Value]) -> Row:
    metric = METRICS.get(name)
    one = baseline.get(name, missing("the baseline does not have this metric"))
    two = optimized.get(name, missing("the optimized system does not have this metric"))
    return Row(
        name=name,
        label=metric.label if metric else name,
        unit=metric.unit if metric else "",
        baseline=one,
        optimized=two,
        change=change(one, two, metric.better if metric else None),
        known=metric is not None,
    )


def _mirrored(cost: Row, throughput: Row) -> Row:
    """Return the row of the cost with the interval that follows from throughput's, where the price is one.

    One price over two throughputs: the ratio of the costs is the inverse of theirs, and so are its ends.
    """
    change, of = cost.change, throughput.change
    if change.pct_change is None or of.pct_change is None or of.low_pct is None or of.high_pct is None:
        return cost
    product = (1.0 + change.pct_change / PERCENT) * (1.0 + of.pct_change / PERCENT)
    base = cost.baseline.value
    if cost.unresolved or not base or abs(product - 1.0) > ONE_PRICE or of.low_pct <= -PERCENT:
        return cost
    low, high = (1.0 / (1.0 + end / PERCENT) - 1.0 for end in (of.high_pct, of.low_pct))
    mirrored = msgspec.structs.replace(
        change,
        low=low * base,
        high=high * base,
        low_pct=low * PERCENT,
        high_pct=high * PERCENT,
        direction=of.direction,
    )
    return msgspec.structs.replace(cost, change=mirrored)


def _by_ratio(row: Row, ratio: Row) -> dict[str, Row]:
    """Return the rows of the perplexity and of its ratio, each with what the other knows.

    The ratio is paired by position, so its interval is that of the change. Where the reference's likelihoods
    were not recorded it is a point value, and better or worse is not said: the last digits always differ.
    """
    one, two = row.baseline.value, row.optimized.value
    if not one or two is None:
        return {}
    of = ratio.optimized
    if of.value is None:
        of = Value(value=two / one, source="derived", note=f"of the two figures; no interval: {of.note}")
        ratio = msgspec.structs.replace(ratio, optimized=of)
    if row.change.direction == "same":
        return {RATIO: ratio}
    if of.low is None or of.high is None:
        change = msgspec.structs.replace(row.change, direction="not judged")
    else:
        ends = ((of.low - 1.0) * one, (of.high - 1.0) * one)
        change = bounded(row.change, one, ends, METRICS[PERPLEXITY].better)
    return {PERPLEXITY: msgspec.structs.replace(row, change=change), RATIO: ratio}


def _between_cards(row: Row) -> Row:
    return msgspec.structs.replace(row, change=widened_by_gain(row.change, row.baseline.value))


def _lengthened(metrics: MetricSet, window_s: float | None) -> MetricSet:
    """Return a system whose doubts ask for the window that both systems need: the experiment has but one."""
    own, both = longer_windows(metrics.window_s), longer_windows(window_s)
    doubts = (
        msgspec.structs.replace(doubt, remedy=both) if doubt.remedy == own else doubt
        for doubt in metrics.doubts
    )
    return msgspec.structs.replace(metrics, doubts=tuple(doubts))


def _shared(baseline: MetricSet, optimized: MetricSet) -> list[Doubt]:
    """Return the doubts of both, a doubt that both share only once."""

    def plain(doubt: Doubt, side: MetricSet) -> tuple[str, str]:
        return doubt.text.removeprefix(f"{side.name}: "), doubt.remedy

    ours = {plain(doubt, baseline): doubt for doubt in baseline.doubts}
    theirs = {plain(doubt, optimized): doubt for doubt in optimized.doubts}
    both = [
        msgspec.structs.replace(doubt, text=f"both: {key[0]}") for key, doubt in ours.items() if key in theirs
    ]
    return [
        *both,
        *(doubt for key, doubt in ours.items() if key not in theirs),
        *(doubt for key, doubt in theirs.items() if key not in ours),
    ]


def _side(metrics: MetricSet) -> Side:
    return Side(
        name=metrics.name,
        origin=metrics.origin,
        context=metrics.context,
        bare=metrics.bare,
        jobs=metrics.jobs,
        saturated=metrics.saturated,
        p95_unbounded=metrics.p95_unbounded,
        client=metrics.client,
        batching=metrics.batching,
        quality=metrics.quality,
    )
