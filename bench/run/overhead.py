"""What the harness costs the system that it measures: the same work with it, with parts of it, and bare.

Up to four ways serve the same requests in the same batches: stock generation, where the engine stands for
that; the engine in a plain loop; the harness, with queue, policy, loop, tickets and the sender of the open
loop; and that with the sampler reading every meter and progress being told. They take turns, and a pair are
two ways of one round, so that a drift of the machine favours none.

The sender sends faster than the system serves, after a first burst: every batch is then as full as in a
saturated run, while the sender sleeps, spins and competes for the interpreter as it does in a scored window.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np

from bench.clock import Clock
from bench.errors import RunFailed
from bench.meters.sample_log import SampleLog
from bench.meters.sampling import Sampler
from bench.protocols import Engine, Meter, Policy
from bench.records import Failure, Generation, Request
from bench.run.drive import Emit
from bench.run.ends import Ends
from bench.run.telling import told_to_nobody
from bench.serving.loop import EngineLoop
from bench.serving.queue import RequestQueue, Ticket
from bench.workload.pacing import Pacer

AHEAD = 1.25
"""How much faster than the system serves requests are sent."""
_FIRST_BATCHES = 2
"""Batches of the trial that warms up and tells how fast the system is."""


class Together(msgspec.Struct, frozen=True):
    """Requests that were admitted at one moment, when `after` of the trial's had ended."""

    requests: tuple[Request, ...]
    after: int


Plan = tuple[Together, ...]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One way's turn: how long it took, what this process computed, and its batches.

    `service_p95_s` is the 95th percentile of the time from admission to the answer.
    """

    took_s: float
    processor_s: float
    service_p95_s: float
    batches: tuple[tuple[int, ...], ...]


@dataclass
class Subject:
    """The system under test, with an engine that is prepared, on the thread that prepared it.

    `generate`, where there is one, computes a batch by the stock way that the engine stands for. `meters` are
    read every `period_s`.
    """

    engine: Engine
    policy: Policy
    clock: Clock
    meters: Mapping[str, Meter]
    period_s: float
    generate: Callable[[Sequence[Request]], None] | None = None
    log: SampleLog | None = field(default=None, init=False)
    """Of the last trial that was sampled."""

    @property
    def outstanding(self) -> int:
        """How many must wait and run for the policy to choose as from a queue without end."""
        return self.policy.max_batch + self.policy.backlog

    def ways(
        self, plan: Plan, requests: Sequence[Request], rate_rps: float
    ) -> dict[str, Callable[[], Trial]]:
        """Return the ways of serving `requests`, barest first."""
        generate = self.generate
        stock = {} if generate is None else {"stock": lambda: self.stock(plan, generate)}
        return stock | {
            "engine": lambda: self.through_engine(plan),
            "served": lambda: self.served(requests, rate_rps)[0],
            "sampled": lambda: self.sampled(requests, rate_rps)[0],
        }

    def served(
        self,
        requests: Sequence[Request],
        rate_rps: float,
        on_done: Callable[[Ticket], None] | None = None,
    ) -> tuple[Trial, Plan]:
        """Serve `requests` through the harness: a first burst, the others at `rate_rps`."""
        gc.collect()
        queue = RequestQueue(self.clock, len(requests))
        loop = EngineLoop(queue, self.policy, self.engine, self.clock, math.inf)
        tickets: list[Ticket] = []
        left = len(requests)

        def send(request: Request) -> None:
            nonlocal left
            tickets.append(queue.submit(request, on_done))
            left -= 1
            if not left:
                queue.close()

        pacer = Pacer(self.clock, send)
        n_first = min(self.outstanding, len(requests))
        watch = _Watch(self.clock)
        started_s = watch.started_s
        for request in requests[:n_first]:
            send(msgspec.structs.replace(request, due_s=started_s))
        pacer.start(
            [
                msgspec.structs.replace(request, due_s=started_s + number / rate_rps)
                for number, request in enumerate(requests[n_first:], start=1)
            ]
        )
        try:
            loop.run()
        finally:
            pacer.stop()
        took = watch.took()
        pacer.join()
        return _trial(tickets, took), _plan(tickets, joins=self.policy.joins)

    def sampled(self, requests: Sequence[Request], rate_rps: float) -> tuple[Trial, Plan]:
        """Like `served`, with every meter read and progress told beside it; starting these is not timed."""
        sampler = Sampler(self.meters, self.clock, self.period_s)
        sampler.start()
        ends = Ends()
        try:
            with told_to_nobody(ends, sampler, self.clock):
                return self.served(requests, rate_rps, ends.tickets.append)
        finally:
            self.log = sampler.stop()

    def stock(self, plan: Plan, generate: Callable[[Sequence[Request]], None]) -> Trial:
        """Compute the batches of `plan` by stock generation."""
        gc.collect()
        now_s = self.clock.now_s
        service_s: list[float] = []
        watch = _Watch(self.clock)
        for together in plan:
            admitted_s = now_s()
            generate(together.requests)
            service_s += [now_s() - admitted_s] * len(together.requests)
        return _bare_trial(plan, watch.took(), service_s)

    def through_engine(self, plan: Plan) -> Trial:
        """Compute the batches of `plan` by the engine, in a plain loop."""
        gc.collect()
        now_s, engine = self.clock.now_s, self.engine
        admitted_s: dict[int, float] = {}
        service_s: list[float] = []

        def step_until(ended: int) -> None:
            while len(service_s) < ended:
                outcomes = engine.step(math.inf)
                done_s = now_s()
                service_s.extend(done_s - admitted_s[_served(outcome).uid] for outcome in outcomes)

        watch = _Watch(self.clock)
        for together in plan:
            step_until(together.after)
            admitted_s |= dict.fromkeys((request.uid for request in together.requests), now_s())
            engine.admit(together.requests)
        step_until(len(admitted_s))
        return _bare_trial(plan, watch.took(), service_s)


class Rounds(msgspec.Struct, frozen=True, kw_only=True):
    """What each way did, by round; `requests` are those of a trial, `joins` whether they join others."""

    trials: dict[str, tuple[Trial, ...]]
    requests: int
    joins: bool

    @property
    def bare(self) -> str:
        """The barest way that there is."""
        return "stock" if "stock" in self.trials else "engine"

    def ratios(self, way: str, other: str, figure: Callable[[Trial], float]) -> list[float]:
        """Return `figure` of `way` over that of `other`, of each round in which both made the same batches.

        Where requests join others, no two rounds join them at the very same steps; there the order of
        admission must be the same.
        """
        pairs = zip(self.trials[way], self.trials[other], strict=True)
        return [figure(one) / figure(two) for one, two in pairs if _alike(one, two, joins=self.joins)]


def measure(
    subject: Subject, draw: Callable[[int], list[Request]], *, pairs: int, seconds: float, emit: Emit
) -> Rounds:
    """Measure `pairs` rounds of about `seconds` a way; `draw` returns so many requests.

    Raises RunFailed with the request's own error where one is not served.
    """
    emit("prepare")
    subject.engine.prepare()
    batch = subject.policy.max_batch
    first = draw(_FIRST_BATCHES * subject.outstanding)
    subject.served(first, math.inf)  # what a first call allocates and compiles
    trial, _ = subject.served(first, math.inf)
    rate_rps = len(first) / trial.took_s
    requests = draw(batch * max(_FIRST_BATCHES, round(rate_rps * seconds / batch)))
    trial, plan = subject.served(requests, AHEAD * rate_rps)
    rate_rps = AHEAD * len(requests) / trial.took_s
    ways = subject.ways(plan, requests, rate_rps)
    next(iter(ways.values()))()  # its own first call
    found: dict[str, list[Trial]] = {name: [] for name in ways}
    total_s, started_s = pairs * len(ways) * trial.took_s, subject.clock.now_s()
    for number in range(pairs):
        elapsed_s = subject.clock.now_s() - started_s
        emit("pairs", min(elapsed_s, total_s), total_s, f"{number} of {pairs} rounds")
        for name in _turn(list(ways), number):
            found[name].append(ways[name]())
    trials = {name: tuple(of_way) for name, of_way in found.items()}
    return Rounds(trials=trials, requests=len(requests), joins=subject.policy.joins)


def _turn(names: list[str], number: int) -> list[str]:
    """Return the order of a round: each way has each place equally often, and each pair both orders."""
    start = number % len(names)
    order = names[start:] + names[:start]
    return order[::-1] if (number // len(names)) % 2 else order


def _alike(one: Trial, two: Trial, *, joins: bool) -> bool:
    if joins:
        return [uid for batch in one.batches for uid in batch] == [
            uid for batch in two.batches for uid in batch
        ]
    return one.batches == two.batches


def _served(outcome: Generation | Failure) -> Generation:
    if isinstance(outcome, Failure):
        raise RunFailed(f"the self-test's request failed: {outcome.error}")
    return outcome


class _Took(NamedTuple):
    """Seconds that passed, and seconds that this process computed meanwhile, all threads together."""

    took_s: float
    processor_s: float


class _Watch:
    """Takes both times at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._processor_s = time.process_time()
        self.started_s = clock.now_s()

    def took(self) -> _Took:
        """Return the times since the start."""
        return _Took(self._clock.now_s() - self.started_s, time.process_time() - self._processor_s)


def _trial(tickets: Sequence[Ticket], took: _Took) -> Trial:
    """Return the trial of tickets that have all been answered; RunFailed where one was not served."""
    records = [ticket.completion() for ticket in tickets]
    for record in records:
        if record.status != "ok":
            raise RunFailed(f"the self-test's request {record.uid} was not served: {record.error}")
    service_s = [
        r.done_s - r.admitted_s for r in records if r.done_s is not None and r.admitted_s is not None
    ]
    return Trial(
        **took._asdict(),
        service_p95_s=float(np.percentile(service_s, 95)),
        batches=tuple(tuple(t.request.uid for t in batch) for batch in _batches(tickets)),
    )


def _bare_trial(plan: Plan, took: _Took, service_s: Sequence[float]) -> Trial:
    return Trial(
        **took._asdict(),
        service_p95_s=float(np.percentile(service_s, 95)),
        batches=tuple(tuple(request.uid for request in together.requests) for together in plan),
    )


def _plan(tickets: Sequence[Ticket], *, joins: bool) -> Plan:
    """Return how the loop admitted the requests, for others to do the same.

    Where none join others, a batch goes when all before it have ended.
    """
    ends_s = sorted(ticket.done_s for ticket in tickets if ticket.done_s is not None)
    plan: list[Together] = []
    before = 0
    for batch in _batches(tickets):
        after = int(np.searchsorted(ends_s, _admitted_s(batch[0]), side="right")) if joins else before
        plan.append(Together(tuple(ticket.request for ticket in batch), after))
        before += len(batch)
    return tuple(plan)


def _batches(tickets: Sequence[Ticket]) -> list[list[Ticket]]:
    def number(ticket: Ticket) -> int:
        return -1 if ticket.batch is None else ticket.batch.id

    return [list(batch) for _, batch in groupby(sorted(tickets, key=number), key=number)]


def _admitted_s(ticket: Ticket) -> float:
    return math.inf if ticket.batch is None else ticket.batch.admitted_s
