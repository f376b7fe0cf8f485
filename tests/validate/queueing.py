"""Queueing theory and the simulator: where the answer is known, the serving loop on virtual time gives it.

`python -m tests.validate.queueing`. Four claims, each recorded with its bound:

- M/D/1 and M/M/1: the mean wait lies within the simulation's 95 % interval (Student t over independent
  replications) of Pollaczek and Khinchine's λ E[S²] / 2(1 - ρ) (Kleinrock, Queueing Systems, vol. 1, 5.7).
- Little's law L = λW on every run: the time integral of the number in the system is the sum of sojourns.
- Batches: every answer comes at the time at which plain loops over the arrivals, written without
  any part of bench, say it must: greedy, with a window, and joining at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from bench.analysis.stats import Estimate, mean_interval
from bench.clock import VirtualClock
from bench.model.fake import FakeEngine, Style
from bench.protocols import Policy
from bench.records import Request, ServiceLaw
from bench.serving.loop import simulate_tickets
from bench.serving.policies import ContinuousBatching, DynamicBatching, NoBatching
from bench.serving.queue import Ticket
from tests.validate.recording import Check, record

LOADS = {0.3: 20_000, 0.6: 30_000, 0.8: 60_000, 0.9: 120_000}
"""Load to customers per replication: the nearer to 1, the longer neighbours are correlated."""
REPLICATIONS = 20
WARM_SHARE = 0.1
"""Of a replication's customers, those that found the queue still filling."""
SEED = 20_260
LITTLE, SAME = 1e-9, 1e-9
"""Relative differences that only rounding makes."""
GRAIN_S = 1e-6
"""A service time is a whole number of these: prompt positions at one grain each."""

Draw = Callable[[np.random.Generator, int], np.ndarray]


def deterministic(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return `n` service times of 1 s."""
    return np.full(n, 1.0)


def exponential(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return `n` exponential service times of mean 1 s."""
    return rng.standard_exponential(n)


QUEUES: dict[str, tuple[Draw, float]] = {"M/D/1": (deterministic, 1.0), "M/M/1": (exponential, 2.0)}
"""The service law of each queue with its second moment E[S²] at mean 1."""


class Replications(msgspec.Struct, frozen=True):
    """The mean wait over replications, and the largest violation of Little's law in any of them."""

    wait_s: Estimate
    little: float


def expected_wait_s(load: float, second_moment: float) -> float:
    """Return Pollaczek and Khinchine's mean wait for a mean service time of 1 s."""
    return load * second_moment / (2 * (1 - load))


def replicate(draw: Draw, load: float, n: int, replications: int, seed: int) -> Replications:
    """Simulate `n` Poisson arrivals through the loop, one at a time, `replications` times."""
    waits_s, little = [], 0.0
    for number in range(replications):
        rng = np.random.default_rng([seed, number])
        due_s = np.cumsum(rng.standard_exponential(n) / load)
        grains = np.maximum(1, np.rint(draw(rng, n) / GRAIN_S)).astype(int)
        requests = [
            Request(uid=i, due_s=due, prompt_ids=range(length), output_tokens=1)
            for i, (due, length) in enumerate(zip(due_s.tolist(), grains.tolist(), strict=True))
        ]
        tickets = serve(requests, NoBatching(), ServiceLaw(prefill_s_per_token=GRAIN_S), "static")
        wait_s = np.array([_admitted_s(ticket) for ticket in tickets]) - due_s
        waits_s.append(float(wait_s[int(WARM_SHARE * n) :].mean()))
        little = max(little, little_violation(tickets))
    return Replications(mean_interval(waits_s), little)


def serve(requests: Sequence[Request], policy: Policy, law: ServiceLaw, style: Style) -> list[Ticket]:
    """Serve `requests` on virtual time, without limits."""
    clock = VirtualClock()
    engine = FakeEngine(clock, law, style=style, max_context=1 << 40)
    return simulate_tickets(requests, policy, engine, clock, queue_limit=len(requests), timeout_s=math.inf)


def little_violation(tickets: Sequence[Ticket]) -> float:
    """Return by how much L and λW differ, relatively, from an empty system to an empty system.

    L is integrated over the events in their order: every arrival adds one, every answer takes one away.
    """
    due_s = np.array([ticket.request.due_s for ticket in tickets])
    done_s = np.array([ticket.done_s for ticket in tickets], dtype=float)
    times_s = np.concatenate((due_s, done_s))
    steps = np.concatenate((np.ones(len(due_s)), -np.ones(len(done_s))))
    order = np.lexsort((-steps, times_s))
    inside = np.cumsum(steps[order])
    span_s = float(times_s[order][-1] - times_s[order][0])
    if inside.min() < 0 or inside[-1] != 0:
        return math.inf
    mean_inside = math.fsum(inside[:-1] * np.diff(times_s[order])) / span_s
    rate, sojourn_s = len(tickets) / span_s, math.fsum(done_s - due_s) / len(tickets)
    return abs(mean_inside / (rate * sojourn_s) - 1)


LAW = ServiceLaw(
    prefill_s=0.01,
    prefill_s_per_token=1e-4,
    decode_s=0.02,
    decode_s_per_sequence=0.001,
    decode_s_per_context_token=1e-6,
)


def batch_s(batch: Sequence[tuple[int, int]]) -> float:
    """Return how long LAW takes for a padded batch of (prompt, output) lengths, step by step."""
    rows, width = len(batch), max(prompt for prompt, _ in batch)
    total_s = LAW.prefill_s + LAW.prefill_s_per_token * rows * width
    for done in range(1, max(output for _, output in batch)):
        total_s += LAW.decode_s + LAW.decode_s_per_sequence * rows
        total_s += LAW.decode_s_per_context_token * rows * (width + done)
    return total_s


def bulk_reference(
    due_s: Sequence[float], lengths: Sequence[tuple[int, int]], size: int, wait_s: float
) -> list[float]:
    """Return when each customer of a bulk-service queue is done: up to `size`, the oldest waits `wait_s`."""
    n, first, free_s = len(due_s), 0, 0.0
    done_s: list[float] = []
    while first < n:
        full_s = due_s[first + size - 1] if first + size <= n else math.inf
        start_s = max(free_s, min(full_s, due_s[first] + wait_s, max(due_s[-1], due_s[first])))
        end = first
        while end < n and end - first < size and due_s[end] <= start_s:
            end += 1
        free_s = start_s + batch_s(lengths[first:end])
        done_s += [free_s] * (end - first)
        first = end
    return done_s


def joining_reference(due_s: Sequence[float], lengths: Sequence[tuple[int, int]], size: int) -> list[float]:
    """Return when each customer is done if it joins at the next step with a free slot out of `size`."""
    n, coming, now_s = len(due_s), 0, 0.0
    done_s = [0.0] * n
    rows: dict[int, int] = {}  # who runs, and how many tokens it has
    while coming < n or rows:
        if not rows:
            now_s = max(now_s, due_s[coming])
        joining: list[int] = []
        while coming < n and due_s[coming] <= now_s and len(rows) + len(joining) < size:
            joining.append(coming)
            coming += 1
        now_s += LAW.prefill_s if joining else LAW.decode_s
        now_s += LAW.prefill_s_per_token * sum(lengths[who][0] for who in joining)
        now_s += LAW.decode_s_per_sequence * len(rows)
        now_s += LAW.decode_s_per_context_token * sum(lengths[who][0] + rows[who] for who in rows)
        rows = {who: tokens + 1 for who, tokens in rows.items()} | dict.fromkeys(joining, 1)
        for who in [who for who, tokens in rows.items() if tokens == lengths[who][1]]:
            done_s[who] = now_s
            del rows[who]
    return done_s


def batch_differences(n: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return for each way of batching the largest relative difference from its reference, and Little's."""
    rng = np.random.default_rng(seed)
    lengths = list(zip(rng.integers(1, 300, n).tolist(), rng.integers(1, 60, n).tolist(), strict=True))
    due_s = np.cumsum(rng.standard_exponential(n) / 4.0).tolist()
    requests = [
        Request(uid=i, due_s=due, prompt_ids=range(prompt), output_tokens=output)
        for i, (due, (prompt, output)) in enumerate(zip(due_s, lengths, strict=True))
    ]
    size = 6
    ways: dict[str, tuple[Policy, Style, list[float]]] = {
        "greedy": (
            DynamicBatching(max_size=size, max_wait_ms=0),
            "static",
            bulk_reference(due_s, lengths, size, 0.0),
        ),
        "window": (
            DynamicBatching(max_size=size, max_wait_ms=300),
            "static",
            bulk_reference(due_s, lengths, size, 0.3),
        ),
        "joining": (ContinuousBatching(max_size=size), "steps", joining_reference(due_s, lengths, size)),
    }
    found = {}
    for name, (policy, style, reference_s) in ways.items():
        tickets = serve(requests, policy, LAW, style)
        pairs = zip(tickets, reference_s, strict=True)
        worst = max(abs((ticket.done_s or math.inf) / done_s - 1) for ticket, done_s in pairs)
        found[name] = (worst, little_violation(tickets))
    return found


def main() -> None:
    """Check everything, print a line each, and record it."""
    checks: dict[str, Check] = {}
    little = 0.0
    for queue, (draw, second_moment) in QUEUES.items():
        for load, n in LOADS.items():
            found = replicate(draw, load, n, REPLICATIONS, SEED)
            little = max(little, found.little)
            expected_s, half_s = expected_wait_s(load, second_moment), _half(found.wait_s)
            name = f"{queue} mean wait at load {load:g}: distance over the 95 % interval's half width"
            distance = abs(found.wait_s.mean - expected_s) / half_s
            checks[name] = Check(
                value=distance, bound=1.0, direction="at most", n=REPLICATIONS * n, seed=SEED
            )
            print(
                f"{queue} at load {load:g}: mean wait {found.wait_s.mean:.4f} s, theory {expected_s:.4f} s "
                f"({found.wait_s.mean / expected_s - 1:+.2%}), interval ±{half_s / expected_s:.2%}"
            )
    n = 20_000
    for way, (worst, violation) in batch_differences(n, SEED).items():
        little = max(little, violation)
        name = f"batches, {way}: largest relative difference of an answer's time from a plain loop"
        checks[name] = Check(value=worst, bound=SAME, direction="at most", n=n, seed=SEED)
    runs = len(QUEUES) * len(LOADS) * REPLICATIONS + 3
    checks["Little's law: largest relative difference of L and λW over all runs"] = Check(
        value=little, bound=LITTLE, direction="at most", n=runs, seed=SEED
    )
    for name, check in checks.items():
        print(f"{name}: {check}")
    record(checks)


def _admitted_s(ticket: Ticket) -> float:
    assert ticket.batch is not None
    return ticket.batch.admitted_s


def _half(estimate: Estimate) -> float:
    assert estimate.high is not None
    return estimate.high - estimate.mean


if __name__ == "__main__":
    main()
