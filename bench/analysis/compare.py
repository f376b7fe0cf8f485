"""Baseline against optimized: every metric's change, the day's totals, and what is wrong with either.

`compare` judges nothing but direction; `decide` makes a verdict of the result, `report` shows it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from bench.analysis import carbon
from bench.analysis.change import change
from bench.analysis.comparability import check, confounded, setting_differences
from bench.analysis.comparison import Comparison, PerDay, Row, Side
from bench.analysis.findings import find, tradeoffs
from bench.analysis.metrics import METRICS
from bench.analysis.plausible import broken_identities
from bench.analysis.sensitivity import bands
from bench.analysis.system import Assumed, Doubt, MetricSet, missing
from bench.config import Objectives
from bench.records import Value
from bench.units import PER_1K


def compare(
    baseline: MetricSet,
    optimized: MetricSet,
    assumed: Assumed,
    objectives: Objectives | None = None,
    *,
    allow_different: Collection[str] = (),
) -> Comparison:
    """Compare two systems' metrics at the assumed volume, price and grid.

    Raises ResultError when they are not comparable (see `comparability.check`).
    """
    allowed = check(baseline, optimized, allow_different)
    present = baseline.values.keys() | optimized.values.keys()
    order = [*(name for name in METRICS if name in present), *sorted(present - METRICS.keys())]
    rows = {name: _row(name, baseline.values, optimized.values) for name in order}
    differences = setting_differences(baseline, optimized)
    several = confounded(baseline, optimized)
    comparison = Comparison(
        baseline=_side(baseline),
        optimized=_side(optimized),
        rows=rows,
        per_day=_per_day(rows, assumed),
        requests_per_day=assumed.requests_per_day,
        differences=differences,
        allowed=allowed,
        doubts=(
            *broken_identities(baseline, assumed),
            *broken_identities(optimized, assumed),
            *([several] if several else []),
            *_shared(baseline, optimized),
        ),
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
    )


def _per_day(rows: Mapping[str, Row], assumed: Assumed) -> tuple[PerDay, ...]:
    """Return cost, energy and carbon of a day at the workload's volume."""
    thousands = assumed.requests_per_day / PER_1K
    energy = "estimated_energy_kwh_per_1k_requests"
    stated = assumed.kg_co2e_per_kwh
    sci = _day(rows, "sci_kg_per_1k_requests", "SCI", "kg", thousands)
    to_co2e = None if stated is None else thousands * carbon.kg_per_kwh(assumed, stated)
    return (
        _day(rows, "cost_per_1k_requests_usd", "cost, sustained", "USD", thousands),
        _day(rows, "cost_provisioned_per_1k_requests_usd", "cost, provisioned", "USD", thousands),
        _day(rows, energy, "energy", "kWh", thousands),
        _day(rows, energy, "CO2e", "kg", to_co2e),
        *([sci] if sci.baseline is not None or sci.optimized is not None else []),
    )


def _day(rows: Mapping[str, Row], name: str, label: str, unit: str, factor: float | None) -> PerDay:
    row = rows.get(name)
    if factor is None:
        return PerDay(label=label, unit=unit, baseline=None, optimized=None, saved=None)
    one = None if row is None or row.baseline.value is None else row.baseline.value * factor
    two = None if row is None or row.optimized.value is None else row.optimized.value * factor
    saved = None if one is None or two is None else one - two
    return PerDay(label=label, unit=unit, baseline=one, optimized=two, saved=saved)
