"""Whether the harness's clockwork is right on this machine: two checks whose answers are known beforehand.

Requests sent to an engine that takes no time leave when they are due: any lag is the sender's own. A queue
whose mean wait theory knows shows it when the serving loop runs on virtual time.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bench.analysis.stats import mean_interval
from bench.clock import VirtualClock, WallClock
from bench.model.fake import FakeEngine
from bench.records import Request, ServiceLaw
from bench.serving.loop import simulate
from bench.serving.policies import NoBatching
from bench.serving.server import Server
from bench.units import to_ms
from bench.workload.arrivals import Poisson
from bench.workload.pacing import Pacer

LAG_LIMIT_S = 1e-3
"""What p99 of the sender's lag may be with an engine that takes no time: the limit of a run's client."""
PACING_RPS = 200.0
LOAD = 0.8
CUSTOMERS, REPLICATIONS, SEED = 20_000, 10, 41
"""Of the queue whose mean wait is known."""
ONE_SECOND = ServiceLaw(prefill_s=1.0)


class Pacing(msgspec.Struct, frozen=True, kw_only=True):
    """How late requests left for an engine that takes no time, in ms; `ok` within the limit for p99."""

    requests: int
    rate_rps: float
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float
    scheduling: str
    ok: bool


class Queueing(msgspec.Struct, frozen=True, kw_only=True):
    """The mean wait of an M/D/1 queue on virtual time beside theory, in service times."""

    load: float
    wait: float
    low: float
    high: float
    theory: float
    ok: bool


def pacing(seconds: float, rate_rps: float = PACING_RPS) -> Pacing:
    """Send Poisson arrivals through the server to an engine that takes no time; return how late they left."""
    clock = WallClock()
    n = max(1, round(seconds * rate_rps))
    times_s = Poisson().times_s(n, rate_rps, np.random.default_rng(SEED))
    policy = NoBatching()
    with Server(policy, FakeEngine(clock), clock, queue_limit=n, timeout_s=60.0) as server:
        pacer = Pacer(clock, server.submit)
        start_s = clock.now_s() + 0.05
        pacer.start(
            [
                Request(uid=uid, due_s=start_s + float(t_s), prompt_ids=(uid % 100,), output_tokens=1)
                for uid, t_s in enumerate(times_s)
            ]
        )
        pacer.join()
        lag_ms = [to_ms(ticket.sent_s - ticket.request.due_s) for ticket in pacer.answers]
    p50_ms, p99_ms = np.percentile(lag_ms, [50, 99])
    return Pacing(
        requests=n,
        rate_rps=rate_rps,
        lag_p50_ms=float(p50_ms),
        lag_p99_ms=float(p99_ms),
        lag_max_ms=max(lag_ms),
        scheduling=str(pacer.facts.get("scheduling", "as usual")),
        ok=bool(p99_ms <= to_ms(LAG_LIMIT_S)),
    )


def queueing(customers: int = CUSTOMERS, law: ServiceLaw = ONE_SECOND) -> Queueing:
    """Serve Poisson arrivals one at a time, 1 s each, on virtual time; return the mean wait beside theory.

    Pollaczek and Khinchine's λ E[S²] / 2(1 - ρ) is ρ / 2(1 - ρ) service times where all are alike (Kleinrock,
    Queueing Systems, vol. 1, 5.7). The seed is fixed, so every machine finds the same: what differs is the
    program, not luck.
    """
    waits_s = []
    for number in range(REPLICATIONS):
        due_s = np.cumsum(np.random.default_rng([SEED, number]).standard_exponential(customers) / LOAD)
        clock = VirtualClock()
        records = simulate(
            [
                Request(uid=uid, due_s=due, prompt_ids=(0,), output_tokens=1)
                for uid, due in enumerate(due_s.tolist())
            ],
            NoBatching(),
            FakeEngine(clock, law),
            clock,
            queue_limit=customers,
            timeout_s=math.inf,
        )
        warm = records[customers // 10 :]  # the first found the queue still filling
        waits_s.append(sum(r.queue_s for r in warm if r.queue_s is not None) / len(warm))
    wait, theory = mean_interval(waits_s), LOAD / (2.0 * (1.0 - LOAD))
    assert wait.low is not None
    assert wait.high is not None
    return Queueing(
        load=LOAD,
        wait=wait.mean,
        low=wait.low,
        high=wait.high,
        theory=theory,
        ok=wait.low <= theory <= wait.high,
    )
