"""Doubts about the conditions of a run: its warm-up, its batches, its neighbours, its sensor's scope.

Each looks at the recorded runs and returns what is doubtful and what would remove it, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.analysis.recorded import column, scored
from bench.analysis.system import SystemRuns
from bench.records import Run

Condition = Callable[[SystemRuns], tuple[str, str] | None]

MIN_WARMUP_REQUESTS = 2.0
"""A warm-up shorter than this many median latencies ends before the system is in its stride."""
MIN_BATCH_SIZE = 1.1


def short_warm_up(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt a window that begins before a few requests have gone through."""
    for run in system.measured:
        latency_s = scored(run).latency_s
        warmup_s = run.meta.config.get("protocol", {}).get("warmup_s")
        finite = latency_s[np.isfinite(latency_s)]
        if warmup_s is None or len(finite) == 0:
            continue
        median_s = float(np.median(finite))
        if warmup_s < MIN_WARMUP_REQUESTS * median_s:
            text = f"the warm-up of {warmup_s:g} s is shorter than two requests take (p50 {median_s:.3g} s)"
            return text, f"set protocol.warmup_s to at least {MIN_WARMUP_REQUESTS * median_s:.0f}"
    return None


def retried_batches(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt figures of requests whose batch failed first and was run again in halves."""
    reasons = [reason for run in system.measured for reason in _retries(run)]
    if not reasons:
        return None
    text = f"{len(reasons)} requests were served only after their batch had failed ({reasons[0]})"
    return text, "lower batching.max_size until no batch fails"


def batching_not_in_force(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt that batching did anything where its batches held hardly more than one request."""
    for run in system.measured:
        batching = run.meta.config.get("systems", {}).get(system.name, {}).get("batching", {})
        if not isinstance(batching, Mapping) or batching.get("max_size", 1) <= 1:
            return None
    sizes = np.concatenate([_batch_sizes(run) for run in system.measured] or [np.array([])])
    if len(sizes) == 0 or float(sizes.mean()) >= MIN_BATCH_SIZE:
        return None
    text = f"batches held {float(sizes.mean()):.2f} requests on average: batching was hardly in force"
    return text, "credit it with nothing at this load; measure at a higher one, or with a longer window"


def shared_gpu(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt memory and energy of a GPU that others used, too."""
    others = [process for run in system.runs for process in _gpu_facts(run).get("other_processes") or ()]
    if not others:
        return None
    pids = ", ".join(dict.fromkeys(str(process["pid"]) for process in others))
    text = f"other processes were on the GPU (pids {pids}; in a container one may be this run's own)"
    return text, "free the GPU, then run again"


def module_energy(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt energy that is not the GPU's alone."""
    if not any(_gpu_facts(run).get("energy_scope") == "module" for run in system.runs):
        return None
    text = "the energy counter covers the whole module (CPU and GPU), not the GPU alone"
    return text, "compare it with results of the same kind of module only"


CONDITIONS: dict[str, Condition] = {
    "short warm-up": short_warm_up,
    "retried batches": retried_batches,
    "batching not in force": batching_not_in_force,
    "shared gpu": shared_gpu,
    "module energy": module_energy,
}


def _retries(run: Run) -> list[str]:
    reasons = scored(run).table.column("admit_reason").to_pylist()
    return [reason for reason in reasons if reason and reason.startswith("retry")]


def _batch_sizes(run: Run) -> np.ndarray[Any, Any]:
    """Return the size of each batch among the scored requests, once per batch."""
    table = scored(run).table
    ids, sizes = column(table, "batch_id"), column(table, "batch_size")
    known = np.isfinite(ids)
    _, first = np.unique(ids[known], return_index=True)
    found: np.ndarray[Any, Any] = sizes[known][first]
    return found


def _gpu_facts(run: Run) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = run.meta.facts.get("meters", {}).get("gpu", {})
    return facts
