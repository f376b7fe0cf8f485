"""The capacity search on servers whose capacity is known: how near its answer comes, and at which cost.

`python -m tests.validate.capacity`. The servers are the serving loop on virtual time. The rate at which p95
of M/D/1 meets a limit follows from the distribution of its waits (C. D. Crommelin, Delay probability formulae
when the holding times are constant, 1932); without a limit it is the service rate. That of a server that
batches comes from a recursion of its own over hours of traffic. Beside the search stands plain bisection as
LoadGen's FindPeakPerformance does it: double until a probe fails, then halve the interval until it is as
narrow; one probe a rate, as long, all of one draw. Both end the probe of an overloaded server early.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from bench import store
from bench.analysis.capacity import START, Conclusion, Settings, conclude, next_probe
from bench.analysis.steadiness import saturating
from bench.analysis.trials import Trial, trial
from bench.clock import VirtualClock
from bench.config import Objectives
from bench.model.fake import FakeEngine
from bench.protocols import Policy
from bench.records import Completion, Interval, Probe, Request, Run, RunMeta, ServiceLaw
from bench.serving.loop import simulate
from bench.serving.policies import DynamicBatching, NoBatching
from bench.workload.arrivals import Poisson
from tests.validate.recording import Check, record

SEEDS = 20
SEED = 4_000
TOLERANCE = 0.05
WARM_S, PROBE_S = 5.0, 50.0
POLL_S = 0.25
"""How often the queue is looked at, to end the probe of an overloaded server early."""
LONG_S = 12_000.0
"""How much traffic at each rate tells the truth about a server that batches: to 0.1 % of the rate."""
MOST_SECONDS = {"batches of 8, p95": 1.25}
"""Seconds of the search for each of bisection, at most, where that is not 1.

On the server that batches it takes as long (1.005): what it gains there is accuracy and an interval.
"""

Ask = Callable[[float, int], Trial]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server with what is asked of it; `truth` tells its capacity and `most_rps` is its service rate."""

    policy: Policy
    law: ServiceLaw
    limit_ms: float | None
    most_rps: float
    truth: Callable[[Server], float]


class Searched(msgspec.Struct, frozen=True):
    """What the searches of one server returned, over seeds."""

    answers_rps: list[float]
    seconds: float
    probes: int
    covered: int = 0


def md1_rate(server: Server) -> float:
    """Return the rate at which p95 of M/D/1 with a service time of 1 / `most_rps` is the limit."""
    from scipy.optimize import brentq

    assert server.limit_ms is not None
    longest_wait = server.limit_ms / 1000.0 * server.most_rps - 1.0
    return server.most_rps * float(brentq(lambda load: wait_below(longest_wait, load) - 0.95, 0.05, 0.98))


def wait_below(t: float, load: float) -> float:
    """Return the probability that one waits at most `t` service times in M/D/1."""
    terms = (
        (-load * (t - k)) ** k / math.factorial(k) * math.exp(load * (t - k))
        for k in range(math.floor(t) + 1)
    )
    return (1.0 - load) * math.fsum(terms)


def service_rate(server: Server) -> float:
    """Return what an M/D/1 server without a limit sustains."""
    return server.most_rps


def long_run_rate(server: Server) -> float:
    """Return the rate at which p95 of a server that batches meets the limit, by a long simulation."""
    from scipy.optimize import brentq

    assert server.limit_ms is not None
    limit_s = server.limit_ms / 1000.0

    def excess(rate_rps: float) -> float:
        rng = np.random.default_rng([SEED, 0])
        due_s = Poisson().times_s(round(rate_rps * LONG_S), rate_rps, rng)
        return float(np.percentile(batched(server, due_s) - due_s, 95)) / limit_s - 1.0

    return float(brentq(excess, 0.7 * server.most_rps, 0.95 * server.most_rps, rtol=0.0005))


def batched(server: Server, due_s: np.ndarray) -> np.ndarray:
    """Return when each request is answered by a server that batches what waits, once enough or long enough.

    Nothing of the serving loop is used: what that says is held against this.
    """
    assert isinstance(server.policy, DynamicBatching)
    size, longest_s = server.policy.max_size, server.policy.max_wait_ms / 1000.0
    due, done_s = due_s.tolist(), np.empty(len(due_s))
    first, free_s = 0, 0.0
    while first < len(due):
        full_s = due[first + size - 1] if first + size <= len(due) else math.inf
        begin_s = max(free_s, due[first], min(full_s, due[first] + longest_s))
        last = first + 1
        while last < min(first + size, len(due)) and due[last] <= begin_s:
            last += 1
        free_s = begin_s + server.law.prefill_s + server.law.prefill_s_per_token * (last - first)
        done_s[first:last] = free_s
        first = last
    return done_s


SERVERS: dict[str, Server] = {
    "M/D/1, p95": Server(
        policy=NoBatching(), law=ServiceLaw(prefill_s=0.01), limit_ms=80.0, most_rps=100.0, truth=md1_rate
    ),
    "M/D/1, no objective": Server(
        policy=NoBatching(), law=ServiceLaw(prefill_s=0.01), limit_ms=None, most_rps=100.0, truth=service_rate
    ),
    "batches of 8, p95": Server(
        policy=DynamicBatching(max_size=8, max_wait_ms=20),
        law=ServiceLaw(prefill_s=0.04, prefill_s_per_token=0.005),
        limit_ms=250.0,
        most_rps=100.0,
        truth=long_run_rate,
    ),
}
"""A batch of 8 takes 0.04 + 8 · 0.005 s."""


def serve(server: Server, rate_rps: float, draw: int, seed: int, seconds: float = PROBE_S) -> Trial:
    """Serve one probe, its warm-up first, and judge it."""
    rng = np.random.default_rng([seed, draw])
    due_s = Poisson().times_s(round(rate_rps * (WARM_S + seconds)), rate_rps, rng)
    requests = [
        Request(uid=i, due_s=due, prompt_ids=range(1), output_tokens=1)
        for i, due in enumerate(due_s.tolist())
    ]
    clock = VirtualClock()
    engine = FakeEngine(clock, server.law)
    done = simulate(requests, server.policy, engine, clock, queue_limit=len(requests), timeout_s=math.inf)
    window = Interval(start_s=WARM_S, end_s=WARM_S + seconds)
    why, end_s = stopped(done, window, rate_rps)
    if why is not None:
        window = Interval(start_s=WARM_S, end_s=end_s)
        done = [dismissed(one, end_s) for one in done if one.due_s < end_s]
    probe = Probe(rate_rps=rate_rps, window=window, repeat=draw, stopped=why, warmup_s=WARM_S)
    meta = RunMeta(
        schema=store.SCHEMA, status="complete", source="simulated", kind="capacity", system="one", repeat=0,
        config={}, written={}, provenance={}, device=None, probes=[probe],
    )  # fmt: skip
    run = Run(folder="", meta=meta, requests=store.requests_table(done), telemetry=store.telemetry_table(()))
    return trial(run, probe, Objectives(p95_latency_ms=server.limit_ms))


def stopped(done: Sequence[Completion], window: Interval, rate_rps: float) -> tuple[str | None, float]:
    """Return why and when a look at the queue ends the window; None, and its own end, where none does."""
    due_s = np.array([one.due_s for one in done])
    ended_s = np.sort([one.done_s for one in done if one.done_s is not None])
    looks_s = np.arange(window.start_s, window.end_s, POLL_S)
    in_flight = np.searchsorted(due_s, looks_s) - np.searchsorted(ended_s, looks_s)
    service_s = max(one.done_s - one.admitted_s for one in done if one.done_s and one.admitted_s is not None)
    for n in range(1, len(looks_s) + 1):
        seen = in_flight[:n].astype(float)
        if why := saturating(looks_s[:n], seen, rate_rps=rate_rps, service_s=service_s):
            return why, float(looks_s[n - 1])
    return None, window.end_s


def dismissed(one: Completion, end_s: float) -> Completion:
    """Return the outcome of a request that is turned away at `end_s` unless it has been answered."""
    if one.done_s is not None and one.done_s <= end_s:
        return one
    return Completion(
        uid=one.uid, due_s=one.due_s, sent_s=one.sent_s, status="rejected", error="the probe had ended"
    )


def search(server: Server, seed: int) -> tuple[Conclusion, list[Trial]]:
    """Search as `bench capacity` does, from a saturated throughput that is 2 % off."""
    settings = Settings(guess_rps=0.98 * server.most_rps, tolerance=TOLERANCE)
    trials: list[Trial] = []
    while (ask := next_probe(trials, settings)) is not None:
        trials.append(serve(server, ask.rate_rps, ask.repeat, seed))
    return conclude(trials, settings, source="simulated"), trials


def bisect(passes: Callable[[float], bool], start_rps: float, tolerance: float) -> float:
    """Return the highest rate that passed: double until one fails, then halve what lies between."""
    low_rps = start_rps
    while not passes(low_rps):
        low_rps /= 2.0
    high_rps = 2.0 * low_rps
    while passes(high_rps):
        low_rps, high_rps = high_rps, 2.0 * high_rps
    while high_rps - low_rps > tolerance * low_rps:
        middle_rps = (low_rps + high_rps) / 2.0
        if passes(middle_rps):
            low_rps = middle_rps
        else:
            high_rps = middle_rps
    return low_rps


def by_search(server: Server, truth_rps: float, seeds: int = SEEDS) -> Searched:
    """Search with every seed."""
    answers_rps, seconds, probes, covered = [], 0.0, 0, 0
    for seed in range(SEED + 1, SEED + 1 + seeds):
        found, trials = search(server, seed)
        value = found.capacity
        answers_rps.append(value.value or 0.0)
        seconds += found.seconds + WARM_S * len(trials)
        probes += len(trials)
        if value.low is not None and value.high is not None:
            covered += value.low <= truth_rps <= value.high
    return Searched(answers_rps, seconds, probes, covered)


def by_bisection(server: Server, seeds: int = SEEDS) -> Searched:
    """Bisect with every seed; a probe fails where its p95 is above the limit, or its queue grows."""
    answers_rps, probes, seconds = [], 0, 0.0

    def passes(rate_rps: float, seed: int) -> bool:
        nonlocal probes, seconds
        found = serve(server, rate_rps, 1, seed)
        probes, seconds = probes + 1, seconds + found.seconds + WARM_S
        return found.passed

    for seed in range(SEED + 1, SEED + 1 + seeds):
        answers_rps.append(
            bisect(lambda rate_rps, seed=seed: passes(rate_rps, seed), START * server.most_rps, TOLERANCE)  # type: ignore[misc]
        )
    return Searched(answers_rps, seconds, probes)


def main() -> None:
    """Search every server with every seed, print a line each, and record it."""
    checks: dict[str, Check] = {}
    for name, server in SERVERS.items():
        truth_rps = server.truth(server)
        searched, bisected = by_search(server, truth_rps), by_bisection(server)
        print(f"{name}: capacity {truth_rps:.2f}/s")
        for way, found in (("search", searched), ("bisection", bisected)):
            ends = f"{min(found.answers_rps):.1f} to {max(found.answers_rps):.1f}"
            cost = f"{found.probes} probes, {found.seconds:.0f} s"
            print(f"  {way}: {ends}/s, {within(found, truth_rps)} of {SEEDS} within 5 %; {cost}")
        checks |= {
            f"capacity, {name}: seeds whose answer is within 5 % of the truth": Check(
                value=within(searched, truth_rps), bound=0.9 * SEEDS, direction="at least", n=SEEDS, seed=SEED
            ),
            f"capacity, {name}: seconds of probes over those of bisection": Check(
                value=searched.seconds / bisected.seconds,
                bound=MOST_SECONDS.get(name, 1.0),
                direction="at most",
                n=SEEDS,
                seed=SEED,
            ),
            f"capacity, {name}: root mean square error of the answer, as a share of the truth": Check(
                value=error(searched, truth_rps), bound=0.025, direction="at most", n=SEEDS, seed=SEED
            ),
            f"capacity, {name}: root mean square error by bisection, for comparison": Check(
                value=error(bisected, truth_rps), bound=1.0, direction="at most", n=SEEDS, seed=SEED
            ),
            f"capacity, {name}: seeds whose answer by bisection is within 5 %, for comparison": Check(
                value=within(bisected, truth_rps), bound=0.0, direction="at least", n=SEEDS, seed=SEED
            ),
        }
        if server.limit_ms is not None:
            checks[f"capacity, {name}: seeds whose interval holds the truth"] = Check(
                value=searched.covered, bound=0.9 * SEEDS, direction="at least", n=SEEDS, seed=SEED
            )
    for name, check in checks.items():
        print(f"{name}: {check}")
    record(checks)


def error(found: Searched, truth_rps: float) -> float:
    """Return how far the answers are off the truth, as a share of it: the root of the mean square."""
    return float(np.sqrt(np.mean((np.array(found.answers_rps) / truth_rps - 1.0) ** 2)))


def within(found: Searched, truth_rps: float) -> int:
    """Return how many answers are within 5 % of the truth."""
    return sum(abs(answer / truth_rps - 1.0) <= TOLERANCE for answer in found.answers_rps)


if __name__ == "__main__":
    main()
