"""Recorded experiments whose systems kept a known service law: a simulation can be held against them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from bench import store
from bench.clock import VirtualClock
from bench.config import Experiment, choose, decode_experiment
from bench.model.fake import FakeEngine
from bench.records import Completion, Interval, JobKind, Request, RunMeta, ServiceLaw
from bench.run.synthetic import Laws
from bench.run.virtual import ClosedLoop, saturated_until_s
from bench.serving.loop import EngineLoop, simulate
from bench.serving.policies import POLICIES

LAW = ServiceLaw(
    prefill_s=0.01,
    prefill_s_per_token=2e-4,
    decode_s=0.02,
    decode_s_per_sequence=0.002,
    decode_s_per_context_token=1e-6,
)

DYNAMIC = {"kind": "dynamic", "max_size": 4, "max_wait_ms": 20}

CONTINUOUS = {"kind": "continuous", "max_size": 4}

RATE_RPS, WARMUP_S, WINDOW_S = 1.0, 10.0, 60.0

SATURATING, WARM = 160, 16
"""Requests of the saturated run, and those of its warm-up."""


def record(folder: Path, systems: dict[str, Any], **workload: Any) -> Path:
    """Write an experiment's folder as a run would, with the law's times for measured ones."""
    written = {
        "name": "demo",
        "seed": 7,
        "workload": {
            "requests_per_day": 86_400,
            "arrivals": "poisson",
            "input_tokens": {"kind": "lognormal", "mean": 100, "cv": 0.5, "max": 400},
            "output_tokens": {"kind": "lognormal", "mean": 20, "cv": 0.5, "max": 60},
            **workload,
        },
        "model": {"id": "m"},
        "systems": systems,
        "protocol": {"warmup_s": WARMUP_S, "window_s": WINDOW_S, "timeout_s": 30, "repeats": 2},
    }
    experiment = decode_experiment(written, "demo.toml")
    meta = store.ExperimentMeta(
        schema=store.SCHEMA,
        name="demo",
        config_file="demo.toml",
        config=msgspec.to_builtins(experiment),
        written=written,
        argv=["bench", "run", "demo.toml"],
        provenance={},
        rate_rps=RATE_RPS,
    )
    store.write_experiment(folder, meta)
    laws = Laws(experiment=experiment)
    for name in systems:
        write_saturated(folder, meta, name)
        for repeat in (1, 2):
            drawn = laws.open_loop(int(RATE_RPS * (WARMUP_S + 2 * WINDOW_S)), RATE_RPS, (7, repeat))
            # The clock of a run does not start with its traffic.
            requests = [msgspec.structs.replace(request, due_s=request.due_s + 5.0) for request in drawn]
            window = Interval(start_s=5.0 + WARMUP_S, end_s=5.0 + WARMUP_S + WINDOW_S)
            outcomes = serve(requests, meta.config["systems"][name], 30)
            write_job(folder, meta, name, "window", repeat, outcomes, window=window)
    return folder


def write_saturated(
    folder: Path, meta: store.ExperimentMeta, name: str, outstanding: int | None = None
) -> None:
    """Write a system's saturated run."""
    laws = Laws(experiment=msgspec.convert(meta.config, Experiment))
    outcomes = saturate(laws.saturating(SATURATING, (7, 0, 0)), meta.config["systems"][name], outstanding)
    ends_s = sorted(outcome.done_s for outcome in outcomes if outcome.done_s is not None)
    ended_s = saturated_until_s(outcomes)
    facts = {"offline_started_s": ends_s[WARM - 1], "offline_ended_s": ended_s}
    # What still waits when a run is over is sent away.
    kept = [
        outcome
        if outcome.admitted_s is not None and outcome.admitted_s < ended_s
        else sent_away(outcome, ended_s)
        for outcome in outcomes
    ]
    assert kept != outcomes
    write_job(folder, meta, name, "offline", 0, kept, facts=facts)


def sent_away(outcome: Completion, now_s: float) -> Completion:
    return Completion(
        uid=outcome.uid,
        due_s=outcome.due_s,
        sent_s=outcome.sent_s,
        done_s=now_s,
        prompt_tokens=outcome.prompt_tokens,
        status="rejected",
        error="closed before it was served",
    )


def serve(requests: list[Request], system: dict[str, Any], timeout_s: float) -> list[Completion]:
    clock = VirtualClock()
    engine = FakeEngine(clock, LAW, style="static" if system["engine"] == "generate" else "steps")
    policy = choose(POLICIES, system["batching"], "test", "batching")
    return simulate(requests, policy, engine, clock, queue_limit=1024, timeout_s=timeout_s)


def saturate(
    requests: list[Request], system: dict[str, Any], outstanding: int | None = None
) -> list[Completion]:
    """Serve as `bench.run.drive` measures, with as many outstanding as the policy needs by default."""
    clock = VirtualClock()
    engine = FakeEngine(clock, LAW, style="static" if system["engine"] == "generate" else "steps")
    policy = choose(POLICIES, system["batching"], "test", "batching")
    inbox = ClosedLoop(requests, clock, outstanding or policy.max_batch + policy.backlog)
    EngineLoop(inbox, policy, engine, clock, math.inf).run()
    return [ticket.completion() for ticket in inbox.tickets]


def write_job(
    folder: Path,
    experiment: store.ExperimentMeta,
    system: str,
    kind: JobKind,
    repeat: int,
    outcomes: list[Completion],
    *,
    window: Interval | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    meta = RunMeta(
        schema=store.SCHEMA,
        status="complete",
        source="measured",
        kind=kind,
        system=system,
        repeat=repeat,
        config=experiment.config,
        written=experiment.written,
        provenance={},
        device="cpu",
        offered_rps=RATE_RPS if kind == "window" else None,
        window=window,
        facts=facts or {},
    )
    store.write_run(folder / f"{system}.{'offline' if kind == 'offline' else repeat}", meta, outcomes, [])
