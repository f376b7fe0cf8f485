"""Pairs of measured systems whose figures are given one by one, and the verdict on them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.decide import Verdict, decide
from bench.analysis.metric_set import metric_set
from bench.analysis.system import MetricSet, missing
from bench.config import Objectives
from bench.records import Value
from tests.recorded import ASSUMED, LIMITS, OBJECTIVES, quality, system_runs, unpaired

Change = tuple[float, ...] | str


@functools.cache
def recorded(name: str) -> MetricSet:
    runs = system_runs(name, table=quality(kl=1e-6), facts={"memory_total_gb": 141.0})
    return metric_set(runs, ASSUMED, OBJECTIVES, origin=f"runs/{name}")


def metrics(name: str, changes: Mapping[str, Change] | None = None, **fields: Any) -> MetricSet:
    """Return a measured system with five repeats of p95 = 1000 ms and so on; changed figures as given.

    A tuple holds the repeats' values, a string the reason why the figure is missing.
    """
    measured = recorded(name)
    base: dict[str, Change] = {
        "p50_latency_ms": (400.0, 401.0, 399.0, 400.0, 400.0),
        "p95_latency_ms": (1000.0, 1001.0, 999.0, 1000.0, 1000.0),
        "throughput_requests_per_sec": (2.0,),
        "cost_per_1k_requests_usd": (0.5,),
        "average_memory_gb": (20.0, 20.0, 20.0, 20.0, 20.0),
        "estimated_energy_kwh_per_1k_requests": (0.03, 0.03, 0.03, 0.03, 0.03),
        "error_rate": (0.0, 0.0, 0.0, 0.0, 0.0),
    }
    values = measured.values | {key: value_of(item) for key, item in (base | dict(changes or {})).items()}
    return msgspec.structs.replace(measured, values=values, **fields)


def value_of(item: Change) -> Value:
    return missing(item) if isinstance(item, str) else unpaired(*item)


def judge(
    changes: Mapping[str, Change] | None = None,
    objectives: Objectives = OBJECTIVES,
    baseline: MetricSet | None = None,
    **fields: Any,
) -> Verdict:
    return decide(pair(changes, baseline, **fields), objectives, LIMITS)


def pair(
    changes: Mapping[str, Change] | None = None, baseline: MetricSet | None = None, **fields: Any
) -> Comparison:
    return compare(
        baseline or metrics("baseline"), metrics("optimized", changes, **fields), ASSUMED, OBJECTIVES
    )


FASTER: dict[str, Change] = {
    "throughput_requests_per_sec": (3.0,),
    "cost_per_1k_requests_usd": (0.333,),
    "estimated_energy_kwh_per_1k_requests": (0.024, 0.024, 0.024, 0.024, 0.024),
}
