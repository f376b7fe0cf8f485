"""Recorded experiments whose verdict is known: folders as a run leaves them, written by the recorder.

A `Story` says what one system did; `record` turns two of them into an experiment's folder, job by job,
through `store.write_run`. Requests, telemetry and held-out text are synthetic; the path after them is real.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from bench import store
from bench.analysis.cost import resolve_price
from bench.records import Completion, Interval, JobKind, RunMeta, RunStatus, Sample
from bench.run.assemble import Parts, assemble_written
from tests.recorded import completion, quality, sample

RATE_RPS = 4.0
START_S, END_S = 10.0, 70.0
OFFLINE_S = 20.0
GPU_FACTS: dict[str, Any] = {
    "gpu_name": "NVIDIA H200",
    "driver": "595",
    "memory_total_gb": 141.0,
    "weights_bytes": 2_000_000_000,
}
WRITTEN: dict[str, Any] = {
    "name": "verdicts",
    "workload": {
        "requests_per_day": 250_000,
        "input_tokens": {"kind": "constant", "tokens": 8},
        "output_tokens": {"kind": "constant", "tokens": 5},
    },
    "load": {"kind": "rate", "rps": RATE_RPS},
    "model": {"id": "tiny"},
    "objectives": {"p95_latency_ms": 1200},
    "quality": {"prompts": 0},
    "assumptions": {"usd_per_gpu_hour": 2.5},
    "capacity": {"search": False},
    "protocol": {"repeats": 2},
    "systems": {
        "baseline": {"precision": "fp16"},
        "optimized": {"precision": "int8"},
    },
}


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What one system did.

    The requests of a repeat take `latency_s`, a little more or less, and one in seven `tail` times as long,
    all times the repeat's entry of `slower`; `hungrier` and `larger` likewise multiply its power `watts` and
    its memory `memory_gb`, which are None without a meter. In the first repeats of `growing` the queue grows;
    of `failing` requests in a hundred each ends in an error; `dead` repeats, and `saturated_error`, end as
    `ending` says. `late_s` is how late the harness itself sends; requests are `scattered` over the window, or
    evenly due.
    """

    repeats: int = 2
    latency_s: float = 0.4
    tail: float = 1.5
    slower: tuple[float, ...] = (1.0, 1.004)
    rps: float = 6.0
    watts: float | None = 300.0
    hungrier: tuple[float, ...] = (1.0, 1.003)
    memory_gb: float | None = 20.0
    larger: tuple[float, ...] = ()
    kl: float | Sequence[float] | None = 1e-6
    nll: float = 2.0
    agree: float = 1.0
    quality_missing: str = ""
    failing: tuple[float, ...] = ()
    growing: int = 0
    dead: tuple[int, ...] = ()
    saturated_error: str | None = None
    ending: Literal["failed", "cancelled"] = "failed"
    late_s: float = 0.0002
    scattered: bool = False
    facts: dict[str, Any] = {}


def record(folder: Path, baseline: Story, optimized: Story, changes: Mapping[str, Any] | None = None) -> Path:
    """Write the folder of an experiment in which the two systems did as told; return it.

    `changes` take the place of tables of the experiment file.
    """
    written = WRITTEN | dict(changes or {})
    parts = assemble_written(written, "verdicts.toml")
    price = resolve_price(None, parts.experiment.assumptions.usd_per_gpu_hour)
    store.write_experiment(
        folder,
        store.ExperimentMeta(
            schema=store.SCHEMA,
            name="verdicts",
            config_file="verdicts.toml",
            config=parts.resolved(),
            written=written,
            argv=["bench", "run", "verdicts.toml"],
            provenance={"commit": "abc"},
            price=msgspec.to_builtins(price),
            rate_rps=RATE_RPS,
        ),
    )
    for name, story in (("baseline", baseline), ("optimized", optimized)):
        _record_system(folder, parts, name, story)
    return folder


def _record_system(folder: Path, parts: Parts, name: str, story: Story) -> None:
    if story.saturated_error is not None:
        meta = _meta(parts, story, name, "offline", status=story.ending, error=story.saturated_error)
        store.write_run(folder / f"{name}.offline", meta, [], [])
        return
    facts = {"offline_started_s": 0.0, "offline_ended_s": OFFLINE_S}
    n = round(story.rps * OFFLINE_S)
    missing = {"quality": story.quality_missing} if story.quality_missing else {}
    store.write_run(
        folder / f"{name}.offline",
        _meta(parts, story, name, "offline", facts=facts, missing=missing),
        [completion(0.0, (i + 1) / story.rps, uid=i, batch_id=i) for i in range(n)],
        [],
        None if story.quality_missing else _text(name, story),
    )
    for repeat in range(1, story.repeats + 1):
        _record_repeat(folder, parts, name, story, repeat)


def _record_repeat(folder: Path, parts: Parts, name: str, story: Story, repeat: int) -> None:
    target = folder / f"{name}.{repeat}"
    if repeat in story.dead:
        why = "out of memory" if story.ending == "failed" else "interrupted"
        meta = _meta(parts, story, name, "window", repeat, status=story.ending, error=why)
        store.write_run(target, meta, [], [])
        return
    window = Interval(start_s=START_S, end_s=END_S)
    meta = _meta(parts, story, name, "window", repeat, window=window)
    store.write_run(target, meta, _requests(story, repeat), _telemetry(story, repeat))


def _requests(story: Story, repeat: int) -> list[Completion]:
    """Return steady traffic; the requests of a repeat are the same in every system."""
    n = round(RATE_RPS * (END_S - START_S))
    rng = np.random.default_rng(repeat)
    shape = np.exp(0.05 * rng.standard_normal(n)) * np.where(rng.random(n) < 1 / 7, story.tail, 1.0)
    latency_s = story.latency_s * _of(story.slower, repeat, 1.0) * shape
    if repeat <= story.growing:
        latency_s = latency_s + np.linspace(0.0, 40.0, n)
    failed = rng.random(n) < _of(story.failing, repeat, 0.0) / 100.0
    after_s = np.arange(n) / RATE_RPS
    if story.scattered:
        after_s = np.sort(rng.uniform(0.0, END_S - START_S, n))
    found = []
    for i in range(n):
        due_s = START_S + float(after_s[i])
        ends: dict[str, Any] = {"status": "error", "error": "boom"} if failed[i] else {}
        sent_s = due_s + story.late_s
        found.append(
            completion(
                due_s,
                float(latency_s[i]),
                uid=i,
                batch_id=i,
                sent_s=sent_s,
                interpreter_lag_s=sent_s - due_s - 0.00005,
                **ends,
            )
        )
    return found


def _telemetry(story: Story, repeat: int) -> list[Sample]:
    """Return ten samples a second of a GPU under constant power, with a true counter."""
    rows = []
    for t_s in np.linspace(5.0, 75.0, 701).tolist():
        if story.watts is not None:
            watts = story.watts * _of(story.hungrier, repeat, 1.0)
            rows.append(sample(t_s, "power_w", watts))
            rows.append(sample(t_s, "energy_j", 1000.0 + watts * (t_s - 5.0)))
        if story.memory_gb is not None:
            rows.append(sample(t_s, "memory_used_gb", story.memory_gb * _of(story.larger, repeat, 1.0)))
    return rows


def _of(factors: Sequence[float], repeat: int, usual: float) -> float:
    """Return a repeat's entry; the usual one where the story says nothing of it."""
    return factors[repeat - 1] if repeat <= len(factors) else usual


def _text(name: str, story: Story) -> Any:
    """Return the scored text; the baseline has no distance from itself."""
    if name == "baseline" or story.kl is None:
        return quality(story.nll, n=1000)
    if isinstance(story.kl, float):
        return quality(story.nll, story.kl, story.agree, n=1000)
    import pyarrow as pa

    parts = [quality(story.nll, kl, story.agree, n=1000 // len(story.kl)) for kl in story.kl]
    return pa.concat_tables(parts)


def _meta(
    parts: Parts,
    story: Story,
    name: str,
    kind: JobKind,
    repeat: int = 0,
    *,
    status: RunStatus = "complete",
    facts: Mapping[str, Any] | None = None,
    missing: Mapping[str, str] | None = None,
    **more: Any,
) -> RunMeta:
    return RunMeta(
        schema=store.SCHEMA,
        status=status,
        source="measured",
        kind=kind,
        system=name,
        repeat=repeat,
        config=parts.resolved(),
        written={},
        provenance={"dirty": False},
        device="cuda",
        offered_rps=RATE_RPS if kind == "window" else None,
        facts=GPU_FACTS | story.facts | dict(facts or {}),
        missing=dict(missing or {}),
        **more,
    )
