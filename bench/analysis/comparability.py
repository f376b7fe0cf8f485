"""Whether two results may be compared at all, and in which settings the two systems differ.

A difference in GPU, driver, traffic or seed would be taken for the optimization's effect. So it is
refused, unless it is named in `allow_different`, and is then printed with the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from bench.analysis.system import Context, Doubt, MetricSet, SystemRuns
from bench.errors import ResultError

CHECKED = ("source", "device", "gpu", "driver", "model", "seed", "workload", "load")
"""What must be the same in both, and the names that an allowance may use."""
SAME_LOAD = 0.01
"""Offered rates within this share of one another are the same load."""


def context_of(system: SystemRuns) -> Context | None:
    """Return the circumstances of a system's runs; None when no run was completed."""
    if not system.runs:
        return None
    meta = (system.measured or system.runs)[0].meta
    config, facts = meta.config, meta.facts
    workload = {key: value for key, value in config.get("workload", {}).items() if key != "requests_per_day"}
    return Context(
        checked={
            "source": meta.source,
            "device": meta.device,
            "gpu": facts.get("gpu_name"),
            "driver": facts.get("driver"),
            "model": config.get("model"),
            "seed": config.get("seed"),
            "workload": workload,
            "load": meta.offered_rps,
        },
        settings=flat(config.get("systems", {}).get(system.name, {})),
        memory_total_gb=facts.get("memory_total_gb"),
    )


def check(
    baseline: MetricSet, optimized: MetricSet, allow_different: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the allowed differences as sentences.

    Raises ResultError when the two differ in anything checked that is not allowed, or when
    `allow_different` names something unknown. Bare CSVs are checked for simulated against measured only.
    """
    if unknown := sorted(set(allow_different) - set(CHECKED)):
        raise ResultError(f"{unknown[0]!r} cannot be allowed to differ; valid here: {', '.join(CHECKED)}")
    found = _differences(baseline, optimized)
    refused = [text for key, text in found.items() if key not in allow_different]
    if refused:
        keys = ", ".join(key for key in found if key not in allow_different)
        raise ResultError(
            f"{baseline.origin} and {optimized.origin} are not comparable: {'; '.join(refused)}. Measure "
            f"both alike, or allow it by name ({keys})"
        )
    return tuple(found.values())


def setting_differences(baseline: MetricSet, optimized: MetricSet) -> dict[str, tuple[Any, Any]]:
    """Return the dotted settings in which the two systems differ, with both values."""
    if baseline.context is None or optimized.context is None:
        return {}
    one, two = baseline.context.settings, optimized.context.settings
    keys = [*one, *(key for key in two if key not in one)]
    return {key: (one.get(key), two.get(key)) for key in keys if one.get(key) != two.get(key)}


def confounded(differences: Mapping[str, Any]) -> Doubt | None:
    """Return the doubt that several changes at once raise: none of them can be credited."""
    changed = list(dict.fromkeys(key.partition(".")[0] for key in differences))
    if len(changed) < 2:
        return None
    return Doubt(
        key="confounded",
        text=f"the systems differ in {' and '.join(changed)} at once; the effect belongs to neither alone",
        remedy="add a system for each change alone",
    )


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one table with dotted keys."""
    result: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            result |= flat(value, f"{name}.")
        else:
            result[name] = value
    return result


def _differences(baseline: MetricSet, optimized: MetricSet) -> dict[str, str]:
    """Return every checked key that differs, with a sentence."""
    one, two = _checked(baseline), _checked(optimized)
    return {
        key: f"{key} differs ({_contrast(one[key], two[key])})"
        for key in CHECKED
        if key in one and key in two and not _same(one[key], two[key])
    }


def _checked(metrics: MetricSet) -> dict[str, Any]:
    if metrics.context is not None:
        return metrics.context.checked
    sources = {value.source for value in metrics.values.values()}
    for source in ("simulated", "replayed", "measured"):
        if source in sources:
            return {"source": source}
    return {}


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=SAME_LOAD)
    return bool(one == two)


def _contrast(one: Any, two: Any) -> str:
    """Return both values; of two tables, only the keys that differ."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        left, right = flat(one), flat(two)
        keys = [key for key in left | right if left.get(key) != right.get(key)]
        return "; ".join(f"{key}: {left.get(key)} against {right.get(key)}" for key in keys)
    return f"{one} against {two}"
