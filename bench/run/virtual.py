"""Runs on virtual time: recorded or drawn requests through the serving loop over a fitted law.

What comes out has the shape of a recorded run, so that every figure of it is computed by the functions that
compute it for a measured one; its source is `simulated`.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from bench import store
from bench.analysis.fit import Fit
from bench.analysis.recorded import window_of
from bench.analysis.system import SystemRuns
from bench.clock import VirtualClock
from bench.config import Experiment
from bench.model.fake import FakeEngine
from bench.protocols import Policy
from bench.records import Completion, Interval, Request, Run, RunMeta
from bench.run.synthetic import Laws, recorded_batches, recorded_requests
from bench.serving.loop import simulate

_AROUND = 0.1
"""Traffic before the scored requests, and after them, as a share of their number."""
_SATURATED_BATCHES = 40


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded system and what is needed to simulate it."""

    runs: SystemRuns
    meta: store.ExperimentMeta
    experiment: Experiment
    laws: Laws
    fit: Fit


def replayed(run: Run, policy: Policy, recorded: Recorded) -> Run:
    """Serve a window's recorded requests again."""
    protocol = recorded.experiment.protocol
    requests = recorded_requests(run, recorded.laws)
    completions = _serve(requests, policy, recorded.fit, protocol.queue_limit, protocol.timeout_s)
    return _as_run(run, completions, window=window_of(run), rate_rps=run.meta.offered_rps)


def drawn(
    like: Run, policy: Policy, recorded: Recorded, *, n: int, rate_rps: float, seed: Sequence[int]
) -> Run:
    """Serve requests drawn from the workload's laws; `n` are scored, with traffic before and after."""
    protocol = recorded.experiment.protocol
    around = math.ceil(_AROUND * n)
    requests = recorded.laws.open_loop(n + 2 * around, rate_rps, seed)
    completions = _serve(requests, policy, recorded.fit, protocol.queue_limit, protocol.timeout_s)
    window = Interval(start_s=around / rate_rps, end_s=(around + n) / rate_rps)
    return _as_run(like, completions, window=window, rate_rps=rate_rps)


def saturated(policy: Policy, recorded: Recorded, *, alike: bool) -> Run | None:
    """Serve with all requests due at once: the recorded ones where the policy is the same, else drawn ones.

    Scored is what ends between the end of the warm-up, as when measured, and the moment at which the last
    request went in. None where no saturated run was recorded.
    """
    measured = recorded.runs.offline
    if measured is None or measured.meta.status != "complete":
        return None
    requests = recorded_batches(measured) if alike else []
    if not requests:
        seed = (recorded.experiment.seed, 0, 0)
        requests = recorded.laws.saturating(_SATURATED_BATCHES * policy.max_batch, seed)
    completions = _serve(requests, policy, recorded.fit, len(requests), math.inf)
    ends_s = sorted(c.done_s for c in completions if c.done_s is not None)
    warm_s = measured.meta.facts.get("offline_started_s", 0.0)
    done_s = measured.requests.column("done_s").to_pylist()
    warm = sum(1 for end_s in done_s if end_s is not None and end_s <= warm_s) if alike else 1
    facts = {
        "offline_started_s": ends_s[max(1, min(warm, len(ends_s))) - 1],
        "offline_ended_s": max(c.admitted_s for c in completions if c.admitted_s is not None),
    }
    return _as_run(measured, completions, facts=facts)


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Switch the garbage collector off for a while: a simulation keeps all that it makes, without cycles.

    The collector would walk through all of it again and again, for a quarter of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def n_scored(run: Run) -> int:
    """Return how many requests are due inside a run's window."""
    window = window_of(run)
    due_s = run.requests.column("due_s").to_numpy()
    return int(((due_s >= window.start_s) & (due_s < window.end_s)).sum())


def _serve(
    requests: Sequence[Request], policy: Policy, fit: Fit, queue_limit: int, timeout_s: float
) -> list[Completion]:
    clock = VirtualClock()
    longest = max(len(request.prompt_ids) + request.output_tokens for request in requests)
    engine = FakeEngine(
        clock, fit.law, style=fit.style, prefill_chunk=policy.prefill_chunk, max_context=longest
    )
    with collector_at_rest():
        return simulate(requests, policy, engine, clock, queue_limit=queue_limit, timeout_s=timeout_s)


def _as_run(
    like: Run,
    completions: Sequence[Completion],
    *,
    window: Interval | None = None,
    rate_rps: float | None = None,
    facts: dict[str, Any] | None = None,
) -> Run:
    """Return simulated outcomes as a run."""
    meta: RunMeta = msgspec.structs.replace(
        like.meta,
        source="simulated",
        window=window,
        offered_rps=rate_rps,
        facts={"virtual_time": True} | (facts or {}),
        missing={},
        doubts=[],
    )
    table = store.requests_table(completions)
    return Run(folder="", meta=meta, requests=table, telemetry=like.telemetry.slice(0, 0))
