"""Pairs of CSVs whose evaluation must read differently: improved, worse, mixed, incomplete."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "results" / "evaluation.ipynb"
PUBLISHED = ROOT / "tests" / "data" / "published_pair"
NAMES = ("baseline_inference_metrics.csv", "optimized_inference_metrics.csv")

Figure = float | str
"""A string is the reason of an empty cell."""
BASELINE: dict[str, Figure] = {
    "p50_latency_ms": 400,
    "p95_latency_ms": 900,
    "throughput_requests_per_sec": 10,
    "average_memory_gb": 20,
    "cost_per_1k_requests_usd": 0.08,
    "estimated_energy_kwh_per_1k_requests": 0.015,
}
IMPROVED: dict[str, Figure] = {
    "p50_latency_ms": 300,
    "p95_latency_ms": 600,
    "throughput_requests_per_sec": 15,
    "average_memory_gb": 12,
    "cost_per_1k_requests_usd": 0.05,
    "estimated_energy_kwh_per_1k_requests": 0.009,
}
WORSE: dict[str, Figure] = {
    "p50_latency_ms": 700,
    "p95_latency_ms": 1500,
    "throughput_requests_per_sec": 6,
    "average_memory_gb": 25,
    "cost_per_1k_requests_usd": 0.12,
    "estimated_energy_kwh_per_1k_requests": 0.03,
}
MIXED: dict[str, Figure] = IMPROVED | {"p50_latency_ms": 460, "average_memory_gb": 26}
INCOMPLETE: dict[str, Figure] = IMPROVED | {
    "cost_per_1k_requests_usd": "no price is known for this GPU",
    "estimated_energy_kwh_per_1k_requests": "the energy counter could not be read",
}


def write_pair(
    folder: Path, optimized: Mapping[str, Figure], baseline: Mapping[str, Figure] = BASELINE
) -> Path:
    """Write both CSVs into `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, role, figures in zip(NAMES, ("baseline", "optimized"), (baseline, optimized), strict=True):
        lines = [f"metric,{role}_value,notes"]
        for metric, figure in figures.items():
            lines.append(f"{metric},,{figure}" if isinstance(figure, str) else f"{metric},{figure},")
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
