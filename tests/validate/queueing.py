"""Queueing theory and the simulator: where the answer is known, the serving loop on virtual time gives it.

`python -m tests.validate.queueing`. Four claims, each recorded with its bound:

- M/D/1 and M/M/1: the mean wait lies within the simulation's 95 % interval (Student t over independent
  replications) of Pollaczek and Khinchine's λ E[S²] / 2(1 - ρ) (Kleinrock, Queueing Systems, vol. 1, 5.7).
- Little's law L = λW on every run, waiting and running apart: L is counted inside the loop while it runs,
  from what enters and leaves its queue and its engine by the clock, W is taken from the records.
  A recorded time that is not that of the event, or time that nobody accounts for, would show.
- Batches: every answer comes at the time at which plain loops over the arrivals, written without
  any part of bench, say it must: greedy, with a window, and joining at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import msgspec
import numpy as np

from bench.analysis.stats import Estimate, mean_interval
from bench.clock import VirtualClock
from bench.model.fake import FakeEngine, Style
from bench.protocols import Policy
from bench.records import Failure, Generation, Request, ServiceLaw
from bench.serving.loop import EngineLoop
from bench.serving.policies import ContinuousBatching, DynamicBatching, NoBatching
from bench.serving.queue import ScheduledQueue, Ticket
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
        served = serve(requests, NoBatching(), ServiceLaw(prefill_s_per_token=GRAIN_S), "static")
        tickets = served.tickets
        wait_s = np.array([_admitted_s(ticket) for ticket in tickets]) - due_s
        waits_s.append(float(wait_s[int(WARM_SHARE * n) :].mean()))
        little = max(little, little_violation(served))
    return Replications(mean_interval(waits_s), little)


class Occupancy:
    """How many wait and how many run, integrated over virtual time while the loop works."""

    def __init__(self, clock: VirtualClock) -> None:
        """Start with nobody."""
        self.waiting = self.running = 0
        self.waiting_s = self.running_s = 0.0
        """Request-seconds so far."""
        self._clock = clock
        self._last_s = clock.now_s()

    def pass_time(self) -> float:
        """Count the time since the last call, and return what time it is."""
        now_s = self._clock.now_s()
        self.waiting_s += self.waiting * (now_s - self._last_s)
        self.running_s += self.running * (now_s - self._last_s)
        self._last_s = now_s
        return now_s


class WatchedQueue(ScheduledQueue):
    """The simulator's queue, with the number of those that wait in it counted."""

    def __init__(self, requests: Sequence[Request], clock: VirtualClock, occupancy: Occupancy) -> None:
        """Deliver `requests` by due time."""
        super().__init__(requests, clock, len(requests))
        self._occupancy = occupancy

    def look(self) -> Sequence[Ticket]:
        """Let in what has arrived, and count it since it came."""
        now_s = self._occupancy.pass_time()
        arrived = super().look()
        self._occupancy.waiting_s += math.fsum(now_s - ticket.sent_s for ticket in arrived)
        self._occupancy.waiting = len(self.waiting)
        return arrived

    def claim(self, indices: Collection[int]) -> list[Ticket]:
        """Take out those of `waiting`."""
        self._occupancy.pass_time()
        mine = super().claim(indices)
        self._occupancy.waiting = len(self.waiting)
        return mine


class WatchedEngine(FakeEngine):
    """The simulator's engine, with the number of those that run in it counted."""

    def __init__(self, clock: VirtualClock, law: ServiceLaw, style: Style, occupancy: Occupancy) -> None:
        """Take `law`'s times on `clock`."""
        super().__init__(clock, law, style=style, max_context=1 << 40)
        self._occupancy = occupancy

    def admit(self, batch: Sequence[Request]) -> None:
        """Take `batch` in."""
        self._occupancy.pass_time()
        super().admit(batch)
        self._occupancy.running += len(batch)

    def step(self, until_s: float) -> Sequence[Generation | Failure]:
        """Let time pass until something ends."""
        self._occupancy.pass_time()
        ended = super().step(until_s)
        self._occupancy.pass_time()
        self._occupancy.running -= len(ended)
        return ended


class Served(msgspec.Struct, frozen=True):
    """Requests with their outcomes, and the occupancy that was counted meanwhile."""

    tickets: list[Ticket]
    occupancy: Occupancy


def serve(
    requests: Sequence[Request],
    policy: Policy,
    law: ServiceLaw,
    style: Style,
    engine_class: type[WatchedEngine] = WatchedEngine,
) -> Served:
    """Serve `requests` on virtual time, without limits."""
    clock = VirtualClock()
    occupancy = Occupancy(clock)
    queue = WatchedQueue(requests, clock, occupancy)
    engine = engine_class(clock, law, style, occupancy)
    EngineLoop(queue, policy, engine, clock, math.inf).run()
    return Served(queue.tickets, occupancy)


def little_violation(served: Served) -> float:
    """Return by how much L and λW differ, as a share of the whole λW; the worse of waiting and running.

    Both are over the run's length, which cancels: L is the counted request-seconds, λW the sum of what the
    records say that each request waited and ran. Infinite where somebody was still inside at the end, or
    was not served.
    """
    occupancy = served.occupancy
    if occupancy.waiting or occupancy.running:
        return math.inf
    waited_s = ran_s = 0.0
    for ticket in served.tickets:
        record = ticket.completion()
        if record.status != "ok" or record.admitted_s is None or record.done_s is None:
            return math.inf
        waited_s += record.admitted_s - record.due_s
        ran_s += record.done_s - record.admitted_s
    worst_s = max(abs(occupancy.waiting_s - waited_s), abs(occupancy.running_s - ran_s))
    return worst_s / (waited_s + ran_s)


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
        served = serve(requests, policy, LAW, style)
        pairs = zip(served.tickets, reference_s, strict=True)
        worst = max(abs((ticket.done_s or math.inf) / done_s - 1) for ticket, done_s in pairs)
        found[name] = (worst, little_violation(served))
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
    name = (
        "Little's law: L counted in the loop and λW of the records, largest relative difference of all runs"
    )
    checks[name] = Check(value=little, bound=LITTLE, direction="at most", n=runs, seed=SEED)
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
