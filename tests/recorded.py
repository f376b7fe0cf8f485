"""Recorded runs from a few words: what every test needs that reads measurements without making any.

`system_runs("baseline", (0.5, 0.6))` is a system with two repeats whose requests took 0.5 and 0.6 s;
`window_run` and `offline_run` are one job, `completion` and `sample` one row, `quality` a quality pass.
`repeated(1.0, 1.1, 0.9)` is a metric's value from the figures of its repeats, with its interval. `write` puts
a job into a folder. Whole experiments on disk are told as stories in `tests.run.recording`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import store
from bench.analysis.stats import level_interval
from bench.analysis.system import Assumed, Reading, SystemRuns
from bench.config import Objectives, Quality, decode_experiment
from bench.records import Completion, Interval, Run, RunMeta, Sample, Source, Value

START_S, END_S = 10.0, 20.0
WINDOW = Interval(start_s=START_S, end_s=END_S)
WINDOW_S = END_S - START_S
GPU = "GPU-1"
PRICE = Value(value=3.6, source="assumed", note="3.6 USD/h as configured")
ASSUMED = Assumed(usd_per_gpu_hour=PRICE, requests_per_day=86_400, kg_co2e_per_kwh=0.5, pue=1.2)
OBJECTIVES = Objectives(p95_latency_ms=1200)
LIMITS = Quality()
CONFIG: dict[str, Any] = {
    "seed": 7,
    "model": {"id": "m", "weights": "pretrained"},
    "workload": {"requests_per_day": 86_400, "arrivals": {"kind": "steady"}},
    "systems": {
        "baseline": {"precision": {"kind": "fp16"}, "batching": {"kind": "none"}},
        "optimized": {"precision": {"kind": "int8"}, "batching": {"kind": "none"}},
    },
}


def completion(due_s: float, latency_s: float = 0.5, **changes: Any) -> Completion:
    """Return a request that waits 0.1 s, prefills 0.1 s and decodes the rest; 5 tokens."""
    done_s = due_s + latency_s
    fields: dict[str, Any] = {
        "uid": int(due_s * 1000),
        "due_s": due_s,
        "sent_s": due_s + 0.0002,
        "pacer_lag_s": 0.00005,
        "interpreter_lag_s": 0.00015,
        "admitted_s": due_s + 0.1,
        "first_token_s": due_s + 0.2,
        "done_s": done_s,
        "prompt_tokens": 8,
        "output_tokens": 5,
        "padded_tokens": 2.0,
        "padded_prefill_tokens": 1.0,
        "batch_id": int(due_s * 1000),
        "batch_size": 1,
        "queue_s": 0.1,
        "prefill_s": 0.1,
        "decode_s": latency_s - 0.2,
        "itl_ms": (10.0, 20.0, 30.0, 40.0),
    }
    return Completion(**(fields | changes))


def steady(latency_s: float = 0.5, n: int = 10) -> list[Completion]:
    """Return `n` requests evenly due inside the window, all of one latency."""
    gap_s = (END_S - START_S) / n
    return [completion(START_S + i * gap_s, latency_s) for i in range(n)]


def constant_power(watts: float = 100.0, *, counter: bool = True, hz: float = 10.0) -> list[Sample]:
    """Return samples from 5 s to 25 s of a GPU at constant power, 4 GB in use, with a true counter."""
    samples = []
    for i in range(int(20 * hz) + 1):
        t_s = 5.0 + i / hz
        samples.append(sample(t_s, "power_w", watts))
        samples.append(sample(t_s, "memory_used_gb", 4.0))
        # At the window's edges the counter is read densely: a tick is known to a millisecond.
        dense = (t_s - 0.0005, t_s + 0.0005) if t_s in (START_S, END_S) else (t_s,)
        if counter:
            samples += [sample(s, "energy_j", 1000.0 + watts * (s - 5.0)) for s in dense]
    return samples


def sample(t_s: float, field: str, value: float, uuid: str | None = GPU) -> Sample:
    return Sample(t_s=t_s, read_s=1e-4, field=field, value=value, gpu_uuid=uuid)


def table(rows: Sequence[Any], of: type) -> pa.Table:
    """Return Structs as the Arrow table that a run folder gives back."""
    numbers = {"uid": pa.int64(), "batch_id": pa.int32(), "batch_size": pa.int32()}
    texts = {"status", "error", "admit_reason", "wait_reason", "field", "gpu_uuid"}
    whole = {"prompt_tokens", "output_tokens"}

    def kind(name: str) -> pa.DataType:
        if name in whole:
            return pa.int32()
        if name == "itl_ms":
            return pa.list_(pa.float32())
        return pa.string() if name in texts else numbers.get(name, pa.float64())

    schema = pa.schema([(name, kind(name)) for name in of.__struct_fields__])  # type: ignore[attr-defined]
    return pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)


def quality(nll: float = 2.0, kl: float | None = None, agree: float = 1.0, n: int = 100) -> pa.Table:
    """Return a quality table; `agree` is the share of agreeing positions, spread evenly."""
    agrees = [int((i + 1) * agree) - int(i * agree) for i in range(n)]
    none = [None] * n
    return pa.table(
        {
            "position": pa.array(range(n), pa.int32()),
            "nll": pa.array([nll] * n, pa.float64()),
            "kl": pa.array(none if kl is None else [kl] * n, pa.float64()),
            "agree": pa.array(none if kl is None else agrees, pa.float64()),
        }
    )


def window_run(
    requests: Sequence[Completion] | None = None,
    telemetry: Sequence[Sample] | None = None,
    *,
    system: str = "baseline",
    repeat: int = 1,
    device: Literal["cuda", "cpu"] = "cuda",
    source: Source = "measured",
    facts: Mapping[str, Any] | None = None,
    missing: Mapping[str, str] | None = None,
    **meta: Any,
) -> Run:
    """Return one repeat at the common rate of 1 request/s."""
    known = {"gpu_name": "NVIDIA H200", "driver": "595", "weights_bytes": 2_000_000_000, "load_s": 3.0}
    fields: dict[str, Any] = {
        "schema": store.SCHEMA,
        "status": "complete",
        "kind": "window",
        "config": CONFIG,
        "written": {},
        "provenance": {"dirty": False},
        "offered_rps": 1.0,
        "window": WINDOW,
    }
    return Run(
        folder=f"{system}.{repeat}",
        requests=table(steady() if requests is None else requests, Completion),
        telemetry=table(constant_power() if telemetry is None else telemetry, Sample),
        meta=RunMeta(
            **(fields | meta),
            source=source,
            system=system,
            repeat=repeat,
            device=device,
            facts=known | dict(facts or {}),
            missing=dict(missing or {}),
        ),
    )


def offline_run(
    rps: float = 2.0, *, system: str = "baseline", table: pa.Table | None = None, **meta: Any
) -> Run:
    """Return a saturated run of 10 s that answers `rps` requests/s."""
    n = round(rps * 10)
    requests = [completion(0.0, (i + 1) / rps, uid=i, batch_id=i) for i in range(n)]
    facts = {"offline_started_s": 0.0, "offline_ended_s": 10.0} | meta.pop("facts", {})
    meta |= {"kind": "offline", "window": None, "offered_rps": None}
    run = window_run(requests, [], system=system, repeat=0, facts=facts, **meta)
    return Run(
        folder=run.folder, meta=run.meta, requests=run.requests, telemetry=run.telemetry, quality=table
    )


def system_runs(
    name: str = "baseline",
    latencies_s: Sequence[float] = (0.5, 0.5, 0.5),
    *,
    rps: float = 2.0,
    watts: float = 100.0,
    n: int = 10,
    table: pa.Table | None = None,
    **meta: Any,
) -> SystemRuns:
    """Return a system with one repeat of `n` requests per latency."""
    meta = {"offered_rps": n / WINDOW_S} | meta
    windows = [
        window_run(steady(latency_s, n), constant_power(watts), system=name, repeat=i + 1, **meta)
        for i, latency_s in enumerate(latencies_s)
    ]
    return SystemRuns(name=name, offline=offline_run(rps, system=name, table=table, **meta), windows=windows)


def number(reading: Reading | Value) -> float:
    """Return the figure; fail with the reason when there is none."""
    if reading.value is None:
        pytest.fail(f"missing: {reading}")
    return reading.value


def repeated(*figures: float, confidence: float = 0.95, **fields: Any) -> Value:
    """Return a metric's value from the figures of its repeats, as an analysis puts them together."""
    found = level_interval(figures, confidence)
    usual: dict[str, Any] = {
        "value": found.mean,
        "source": "measured",
        "note": "",
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "repeats": dict(enumerate(figures, 1)),
        "confidence": confidence,
    }
    return Value(**(usual | fields))


def unpaired(*figures: float) -> Value:
    """Return the value of which nobody knows which repeat had which figure: nothing can be paired then."""
    return repeated(*figures, repeats=None)


def write_experiment(
    folder: Path, written: dict[str, Any], systems: Sequence[SystemRuns], **changes: Any
) -> None:
    """Write an experiment's folder: the file as `written`, and the systems' recorded jobs."""
    name = f"{written['name']}.toml"
    usual: dict[str, Any] = {
        "schema": store.SCHEMA,
        "name": written["name"],
        "config_file": name,
        "config": msgspec.to_builtins(decode_experiment(written, name)),
        "written": written,
        "argv": ["bench", "run", name],
        "provenance": {"commit": "abc"},
        "price": msgspec.to_builtins(PRICE),
        "rate_rps": 1.0,
    }
    store.write_experiment(folder, store.ExperimentMeta(**(usual | changes)))
    for system in systems:
        for run in (system.offline, *system.windows):
            assert run is not None
            write(folder, run)


def write(folder: Path, run: Run) -> None:
    """Write a recorded job into its experiment's folder."""
    name = "offline" if run.meta.kind == "offline" else str(run.meta.repeat)
    target = folder / f"{run.meta.system}.{name}"
    store.write_run(target, run.meta, [], [])
    pq.write_table(run.requests, target / "requests.parquet")
    pq.write_table(run.telemetry, target / "telemetry.parquet")
    if run.quality is not None:
        pq.write_table(run.quality, target / "quality.parquet")
