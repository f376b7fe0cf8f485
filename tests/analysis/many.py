"""Many measured systems with given settings and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.analysis.system import Context, MetricSet, missing
from bench.records import Value
from tests.recorded import repeated

Figure = float | Sequence[float] | str | Value

SETTINGS: dict[str, Any] = {
    "precision.kind": "fp16",
    "engine.kind": "generate",
    "batching.kind": "none",
    "kv_cache.kind": "dynamic",
    "attention": "sdpa",
    "compile": None,
}
INT8: dict[str, Any] = {"precision.kind": "int8", "precision.threshold": 6.0}
DYNAMIC: dict[str, Any] = {"batching.kind": "dynamic", "batching.max_size": 8}
STEPS: dict[str, Any] = {"engine.kind": "steps"}
SHORT = {
    "p95": "p95_latency_ms",
    "throughput": "throughput_requests_per_sec",
    "memory": "average_memory_gb",
    "energy": "estimated_energy_kwh_per_1k_requests",
    "cost": "cost_per_1k_requests_usd",
    "kl": "mean_kl",
}


def figure(given: Figure) -> Value:
    """A number is a point value, several are repeats, a text is why it is missing."""
    if isinstance(given, Value):
        return given
    if isinstance(given, str):
        return missing(given)
    if isinstance(given, int | float):
        return Value(value=float(given), source="measured", note="")
    return repeated(*given)


def system(name: str, settings: Mapping[str, Any] | None = None, **figures: Figure) -> MetricSet:
    cards = figures.pop("cards", ())
    context = Context(checked={}, settings=SETTINGS | dict(settings or {}), cards=tuple(cards))  # type: ignore[arg-type]
    return MetricSet(
        name=name,
        origin=f"run/{name}",
        values={SHORT.get(key, key): figure(given) for key, given in figures.items()},
        context=context,
    )


def by_name(*systems: MetricSet) -> dict[str, MetricSet]:
    return {one.name: one for one in systems}
