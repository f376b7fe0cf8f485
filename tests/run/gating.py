"""What the gate takes: lines of a history, and run folders with given latencies, made on a given day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.config import decode_experiment
from bench.records import Value
from bench.run.history import Acceptance, Entry, History
from tests.recorded import quality, repeated, system_runs, write_experiment

WRITTEN: dict[str, Any] = {
    "name": "demo",
    "workload": {"requests_per_day": 86_400, "input_tokens": "x", "output_tokens": "y"},
    "model": {"id": "m"},
    "load": {"kind": "rate", "rps": 1.0},
    "capacity": {"search": False},
    "protocol": {"repeats": 3},
    "systems": {"baseline": {"precision": "fp16"}},
}


def figure(*repeats: float) -> Value:
    """Return a figure of these repeats; of one number, three that scatter by a fifth of a percent."""
    if len(repeats) == 1:
        repeats = (repeats[0] * 0.998, repeats[0], repeats[0] * 1.002)
    return repeated(*repeats)


def entry(run: str, p50_ms: float = 500.0, **changes: Any) -> Entry:
    """Return the line of a run; `throughput` and the error rate do not vary."""
    figures = {
        "p50_latency_ms": figure(p50_ms),
        "throughput_requests_per_sec": figure(2.0),
        "error_rate": figure(0.0),
    }
    fields: dict[str, Any] = {
        "run": run,
        "system": "baseline",
        "utc": "2026-01-01T00:00:00+00:00",
        "commit": f"commit{run}",
        "dirty": False,
        "packages": {"torch": "2.13"},
        "machine": {"device": "cuda", "gpu": "NVIDIA H200", "source": "measured"},
        "settings": {"seed": 7, "system": {"attention": "sdpa"}},
        "rate_rps": 1.0,
        "level": "VALID",
    }
    return Entry(**(fields | changes | {"figures": figures | changes.get("figures", {})}))


def acceptance(run: str, why: str = "first") -> Acceptance:
    return Acceptance(run=run, by="me", why=why, utc="2026-01-01T00:00:00+00:00")


QUIET = (entry("1", 500.0), acceptance("1"), entry("2", 504.0), entry("3", 497.0), entry("4", 501.0))
"""An accepted baseline and three clean runs after it."""


def history(*lines: Entry | Acceptance) -> History:
    return History(path=Path("h.jsonl"), lines=lines)


def run_folder(
    results: Path,
    day: int,
    latency_s: float | Sequence[float] = 0.5,
    *,
    rps: float = 2.0,
    written: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    rate_rps: float = 1.0,
    **meta: Any,
) -> Path:
    """Write one run; a single latency becomes three repeats that scatter by a fifth of a percent."""
    if isinstance(latency_s, float):
        latency_s = (latency_s * 0.998, latency_s, latency_s * 1.002)
    folder = results / "runs" / "demo" / f"202601{day:02d}T000000Z-abc{day:04d}"
    experiment = WRITTEN | dict(written or {})
    config = msgspec.to_builtins(decode_experiment(experiment, "demo.toml"))
    where = {"utc": f"2026-01-{day:02d}T00:00:00+00:00", "commit": f"abc{day:04d}", "dirty": False}
    provenance = where | {"packages": {"torch": "2.13"}} | dict(provenance or {})
    systems = [
        system_runs(name, latency_s, rps=rps, table=quality(), **({"config": config} | meta))
        for name in experiment["systems"]
    ]
    write_experiment(folder, experiment, systems, config=config, provenance=provenance, rate_rps=rate_rps)
    return folder
