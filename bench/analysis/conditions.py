"""Doubts about the conditions of a run: its warm-up and its batches; those about its meters are `metering`'s.

Each looks at the recorded runs and returns what is doubtful and what would remove it, or None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.analysis.batching import batch_sizes
from bench.analysis.capacity import doubtful_search
from bench.analysis.metering import METERING, Condition
from bench.analysis.recorded import engine_facts, scored
from bench.analysis.steadiness import cold, drifting
from bench.analysis.system import SystemRuns
from bench.analysis.utilisation import beyond_limit
from bench.records import Run

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
        if not isinstance(batching, Mapping) or _most_together(batching) <= 1:
            return None
    sizes = np.concatenate([batch_sizes(run) for run in system.measured] or [np.array([])])
    if len(sizes) == 0 or float(sizes.mean()) >= MIN_BATCH_SIZE:
        return None
    text = f"batches held {float(sizes.mean()):.2f} requests on average: batching was hardly in force"
    return text, "credit it with nothing at this load; measure at a higher one, or with a longer window"


def recompiled(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt latencies with compilations in them."""
    counts = [engine_facts(run).get("recompiles_after_prepare") or 0 for run in system.runs]
    if not any(counts):
        return None
    text = f"the decode step was compiled again {sum(counts)} times under traffic, in {_jobs(counts)}"
    return text, 'look for the reason with TORCH_LOGS="recompiles", or measure without compile'


CONDITIONS: dict[str, Condition] = {
    "short warm-up": short_warm_up,
    "retried batches": retried_batches,
    "batching not in force": batching_not_in_force,
    "recompiled": recompiled,
    "drift": drifting,
    "cold": cold,
    "capacity search": doubtful_search,
    **METERING,
    "beyond limit": beyond_limit,
}


def _retries(run: Run) -> list[str]:
    reasons = scored(run).table.column("admit_reason").to_pylist()
    return [reason for reason in reasons if reason and reason.startswith("retry")]


def _jobs(counts: list[int]) -> str:
    return f"{sum(count > 0 for count in counts)} of {len(counts)} jobs"


def _most_together(batching: Mapping[str, Any]) -> int:
    """Return the largest batch that a policy's table allows; `static` calls it its size."""
    most: int = batching.get("max_size", batching.get("size", 1))
    return most
