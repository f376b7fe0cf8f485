"""Metrics that were written down once, under terms that a person states anew.

A price, a volume and a grid scale what was measured, so what follows from them is computed again. What was
counted against another objective cannot be: it is then missing, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from bench.analysis import carbon, cost
from bench.analysis.system import Assumed, MetricSet, missing
from bench.records import Value

PRICE, VOLUME, GRID, OBJECTIVE = "usd_per_gpu_hour", "requests_per_day", "kg_co2e_per_kwh", "p95_latency_ms"
"""The terms that can be stated."""
PROVISIONED = "cost_provisioned_per_1k_requests_usd"

Follows = Callable[[Value, Value, Assumed], Value]
FOLLOWS: dict[str, tuple[tuple[str, ...], Follows]] = {
    "cost_per_1k_requests_usd": ((PRICE,), lambda rps, kwh, assumed: cost.sustained(rps, assumed)),
    PROVISIONED: ((PRICE, VOLUME), lambda rps, kwh, assumed: cost.provisioned(rps, assumed)),
    "replicas": ((PRICE, VOLUME), lambda rps, kwh, assumed: cost.replicas(rps, assumed)),
    "fleet_utilisation": ((PRICE, VOLUME), lambda rps, kwh, assumed: cost.fleet_utilisation(rps, assumed)),
    "co2e_kg_per_1k_requests": ((GRID,), lambda rps, kwh, assumed: carbon.operational(kwh, assumed)),
    "sci_kg_per_1k_requests": ((GRID, VOLUME), lambda rps, kwh, assumed: carbon.sci(kwh, rps, assumed)),
}
"""What follows from throughput and energy: the terms at which it is computed again, and how.

A price is charged for replicas: they are those of the same volume, and not of one that a file does not state.
"""
OF_A_PRICE = ("old price", "undated price")
"""The doubts that a stated price removes."""
SEARCHED = "capacity"
"""How a context says that its throughput is the highest rate that holds the objectives."""


def restated(metrics: MetricSet, assumed: Assumed, stated: Collection[str]) -> MetricSet:
    """Return `metrics` under `assumed`, where the terms named in `stated` are others than before.

    A price gives a cost also to files without one. Intervals of what does not depend on the terms stay.
    """
    values = dict(metrics.values)
    if OBJECTIVE in stated:
        for name in _counted_against_the_objective(metrics):
            values[name] = missing("counted against another latency objective; only the run itself can say")
    none = missing("neither the file nor its run has this metric")
    rps = values.get("throughput_requests_per_sec", none)
    kwh = values.get("estimated_energy_kwh_per_1k_requests", none)
    lost = rps != metrics.values.get("throughput_requests_per_sec", none)
    for name, (terms, follow) in FOLLOWS.items():
        wanted = name in values or (name == PROVISIONED and PRICE in stated)
        if wanted and (lost or set(terms) & set(stated)):
            values[name] = _warned(values.get(name, none), follow(rps, kwh, assumed))
    doubts = tuple(doubt for doubt in metrics.doubts if PRICE not in stated or doubt.key not in OF_A_PRICE)
    return msgspec.structs.replace(metrics, values=values, doubts=doubts)


def _counted_against_the_objective(metrics: MetricSet) -> list[str]:
    searched = metrics.context is not None and metrics.context.checked.get("throughput") == SEARCHED
    names = ["goodput_requests_per_sec", *(["throughput_requests_per_sec"] if searched else [])]
    return [name for name in names if name in metrics.values]


def _warned(before: Value, after: Value) -> Value:
    """Return `after` with the warning of an INVALID run that `before` carries in its note."""
    _, mark, warning = before.note.partition("; INVALID")
    return msgspec.structs.replace(after, note=after.note + mark + warning) if mark else after
