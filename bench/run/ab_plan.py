"""What is stated before an A/B replay, and the experiment that it makes of an experiment file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.analysis.abtest import Plan
from bench.analysis.metrics import METRICS
from bench.config import read_toml
from bench.errors import ConfigError
from bench.model.locate import check_model
from bench.run.assemble import Parts, assemble_written
from bench.units import PERCENT

COMPARED: dict[str, Literal["lower", "higher"]] = {
    "p50_latency_ms": "lower",
    "p95_latency_ms": "lower",
    "completed_requests_per_sec": "higher",
    "goodput_requests_per_sec": "higher",
    "estimated_energy_kwh_per_1k_requests": "lower",
}
"""What is compared, and which way is better; any of them may be the primary metric."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a person states before the test; None takes what the file says."""

    baseline: str | None = None
    candidate: str | None = None
    metric: str = "p95_latency_ms"
    mde_pct: float = 10.0
    power: float = 0.8
    tolerated_pct: float = 20.0
    pairs: int = 8
    most_pairs: int | None = None
    segment_s: float | None = None
    rate_rps: float | None = None
    model_id: str | None = None


def prepare(config: Path, asked: Asked) -> tuple[Parts, Plan]:
    """Return an experiment file's two systems as an experiment of segments, and the plan.

    Raises ConfigError for a system or metric that is not there, and for a plan that cannot be.
    """
    written = read_toml(config)
    for key in ("systems", "workload"):
        if not isinstance(table := written.get(key, {}), Mapping):
            raise ConfigError(f"{config}: {key}: expected a table, got {table!r}")
    names = list(written.get("systems", {}))
    plan = _plan(names, asked, str(config))
    parts = assemble_written(_as_segments(written, plan, asked), str(config), model_id=asked.model_id)
    check_model(parts.experiment.model)
    return parts, plan


def plan_in_words(plan: Plan) -> str:
    """Return what was stated before, as a sentence."""
    label = METRICS[plan.metric].label
    return (
        f"A/B of {plan.baseline} and {plan.candidate}: {plan.asked} pairs of segments (at most "
        f"{plan.most_pairs}); to find: {label} better by {plan.mde_pct:g} % with power "
        f"{plan.power:.0%} at α = 5 % for all looks together; tolerated: {plan.tolerated_pct:g} % worse"
    )


def _plan(names: list[str], asked: Asked, where: str) -> Plan:
    """Return the plan; ConfigError where it cannot be."""
    if len(names) < 2:
        raise ConfigError(f"{where}: an A/B replay needs two [systems.NAME] tables")
    baseline = asked.baseline or names[0]
    others = [name for name in names if name != baseline]
    candidate = asked.candidate or ("optimized" if "optimized" in others else others[-1])
    for name in (baseline, candidate):
        if name not in names:
            raise ConfigError(f"{where}: no system {name!r}; it has {', '.join(names)}")
    if baseline == candidate:
        raise ConfigError(f"{where}: baseline and candidate are both {baseline!r}; name two systems")
    if asked.metric not in COMPARED:
        raise ConfigError(f"the primary metric {asked.metric!r} is none of {', '.join(COMPARED)}")
    if asked.pairs < 2:
        raise ConfigError("--pairs 1: one pair has no scatter; at least two are needed")
    most = 2 * asked.pairs if asked.most_pairs is None else asked.most_pairs
    if most < asked.pairs:
        raise ConfigError(f"--max-pairs {most} is below --pairs {asked.pairs}")
    if COMPARED[asked.metric] == "lower" and asked.mde_pct >= PERCENT:
        raise ConfigError(f"--mde {asked.mde_pct:g}: nothing can fall by 100 % or more")
    return Plan(
        baseline=baseline,
        candidate=candidate,
        metric=asked.metric,
        mde_pct=asked.mde_pct,
        power=asked.power,
        tolerated_pct=asked.tolerated_pct,
        pairs=asked.pairs,
        most_pairs=most,
        asked=asked.pairs,
    )


def _as_segments(written: Mapping[str, Any], plan: Plan, asked: Asked) -> dict[str, Any]:
    """Return a file's tables with the two systems alone, and the repeats as segments of one trace.

    The rounds end by the plan, and `stop = "decided"` makes the intervals hold for every look at them. A
    capacity is searched only where the load is a share of it.
    """
    changed = dict(written)
    changed["systems"] = {name: written["systems"][name] for name in (plan.baseline, plan.candidate)}
    protocol = {
        "repeats": plan.most_pairs,
        "min_repeats": plan.pairs,
        "stop": "decided",
        "order": "interleaved",
    }
    if asked.segment_s is not None:
        protocol["window_s"] = asked.segment_s
    changed["protocol"] = _with(written.get("protocol"), protocol)
    if asked.rate_rps is not None:
        changed["load"] = {"kind": "rate", "rps": asked.rate_rps}
    load = changed.get("load", "fraction_of_baseline_capacity")
    if (load.get("kind") if isinstance(load, Mapping) else load) != "fraction_of_baseline_capacity":
        changed["capacity"] = _with(written.get("capacity"), {"search": False})
    arrivals = written.get("workload", {}).get("arrivals")
    if isinstance(arrivals, Mapping) and arrivals.get("kind") == "trace":
        # Else every segment would begin at the trace's first row, and all would be the same one.
        changed["workload"] = written["workload"] | {"arrivals": {**arrivals, "start": "drawn"}}
    return changed


def _with(table: Any, keys: Mapping[str, Any]) -> Any:
    """Return a table with `keys` set; what is no table is left for decoding to refuse."""
    return {**table, **keys} if isinstance(table, Mapping) else dict(keys) if table is None else table
