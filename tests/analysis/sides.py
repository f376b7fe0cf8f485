"""Metric sets with given figures, bare or measured."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from bench.analysis.metric_set import metric_set
from bench.analysis.metrics import METRICS
from bench.analysis.system import MetricSet, SystemRuns
from bench.records import Value
from tests.recorded import ASSUMED, OBJECTIVES, quality, system_runs


def point(value: float | None, note: str = "") -> Value:
    return Value(value=value, source="missing" if value is None else "measured", note=note)


def side(name: str, changes: Mapping[str, float | None] | None = None, **meta: Any) -> MetricSet:
    """Return a bare set of metrics."""
    known = dict.fromkeys(list(METRICS)[:6], 1.0) | dict(changes or {})
    values = {k: point(v) for k, v in known.items()}
    return MetricSet(name=name, origin=f"{name}.csv", values=values, bare=True, **meta)


@functools.cache
def recorded(name: str) -> SystemRuns:
    return system_runs(name, table=quality())


def measured(name: str, runs: SystemRuns | None = None) -> MetricSet:
    return metric_set(runs or recorded(name), ASSUMED, OBJECTIVES, origin=f"runs/{name}")


def with_figures(metrics: MetricSet, **figures: Value) -> MetricSet:
    return msgspec.structs.replace(metrics, values=metrics.values | figures)
