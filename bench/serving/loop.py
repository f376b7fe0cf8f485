"""The engine loop: look at what waits, ask the policy, run the batch, answer; then look again.

There is one loop for every policy, engine and clock, so a difference between two policies is due to
the policies, and a simulation on virtual time is the program that serves on real time. Each request
that it takes ends in exactly one outcome on every path, including the loop's own death.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from heapq import heappop, heappush

from bench.clock import Clock, VirtualClock
from bench.errors import EngineLost
from bench.protocols import Admission, Engine, Policy
from bench.records import Completion, Generation, Request
from bench.serving.outcomes import Batch, describe, expired, failed, fault, served
from bench.serving.queue import Inbox, ScheduledQueue, Ticket


class EngineLoop:
    """Serves one inbox with one engine; used once, by one thread.

    `timeout_s` counts from the due time: a request that still waits then is never started, one that
    is done later has status `timeout` and keeps its times. `math.inf` switches it off.
    """

    def __init__(self, queue: Inbox, policy: Policy, engine: Engine, clock: Clock, timeout_s: float) -> None:
        """Connect the parts; `run` starts."""
        self._queue = queue
        self._policy = policy
        self._engine = engine
        self._clock = clock
        self._timeout_s = timeout_s
        self._batch_ids = itertools.count()
        self._running: list[Ticket] = []
        self._expiries: list[tuple[float, int, Ticket]] = []  # a heap; tickets leave it when they surface
        self._order = itertools.count()

    def run(self) -> None:
        """Serve until the inbox is closed and empty.

        Whatever the engine raises as an Exception is the outcome of its requests. Anything else, and
        any defect of the policy or the loop, ends the loop: all that runs and waits is answered with
        the error, the inbox is closed, and the exception goes on to the caller.
        """
        try:
            while self._step():
                pass
        except BaseException as error:
            self._abandon(describe(error))
            raise

    def _step(self) -> bool:
        """Do the next thing; return False when there will be nothing more to do."""
        view = self._queue.look()
        now_s = self._clock.now_s()
        if self._screen(view.arrived, now_s):
            return True  # what waits has changed
        if not view.waiting:
            if not view.draining:
                self._queue.wait(None)
            return not view.draining
        admission = self._policy.admit(view.waiting, 0, now_s, draining=view.draining)
        if admission.take:
            self._running = self._queue.claim(view.waiting[index] for index in admission.take)
            if self._running:  # empty when the queue was discarded meanwhile
                self._serve(self._running, admission.reason)
            self._running = []
        else:
            self._check_hold(admission, now_s, draining=view.draining)
            self._queue.wait(self._wake_s(admission))
        return True

    def _screen(self, arrived: Sequence[Ticket], now_s: float) -> bool:
        """Answer those that must not be served, too long or too late; say whether there were any."""
        dropped = False
        for ticket in arrived:
            tokens = len(ticket.request.prompt_ids) + ticket.request.output_tokens
            if tokens > self._engine.max_context:
                why = f"too long: {tokens} tokens with its output, the context is {self._engine.max_context}"
                dropped |= self._drop(ticket, failed(ticket.request, ticket.sent_s, now_s, why))
            else:
                heappush(self._expiries, (self._expiry_s(ticket), next(self._order), ticket))
        while self._expiries and self._expiries[0][0] <= now_s:
            ticket = heappop(self._expiries)[-1]
            dropped |= self._drop(ticket, expired(ticket.request, ticket.sent_s, now_s, self._timeout_s))
        return dropped

    def _drop(self, ticket: Ticket, outcome: Completion) -> bool:
        """Answer `ticket` unless it has left the queue already; say whether it was still there."""
        claimed = self._queue.claim([ticket])
        for mine in claimed:
            mine.answer(outcome)
        return bool(claimed)

    def _expiry_s(self, ticket: Ticket) -> float:
        return ticket.request.due_s + self._timeout_s

    def _wake_s(self, admission: Admission) -> float | None:
        """Return when the policy wants to be asked again or the next waiting request expires."""
        while self._expiries and self._expiries[0][-1].future.done():
            heappop(self._expiries)
        moments = [self._expiries[0][0]] if self._expiries else []
        if admission.wake_s is not None:
            moments.append(admission.wake_s)
        wake_s = min(moments, default=math.inf)
        return wake_s if math.isfinite(wake_s) else None

    def _check_hold(self, admission: Admission, now_s: float, *, draining: bool) -> None:
        """Refuse a policy's answer that would make the loop hang or spin: a defect of the policy."""
        wake_s = admission.wake_s
        if (wake_s is None and draining) or (wake_s is not None and wake_s <= now_s):
            name = type(self._policy).__name__
            raise RuntimeError(f"{name} takes nothing at {now_s} s and asks to be woken at {wake_s}")

    def _serve(self, tickets: Sequence[Ticket], reason: str) -> None:
        """Run a batch; if it raises, its halves, so that only a request that fails alone has failed."""
        batch = Batch(next(self._batch_ids), len(tickets), self._clock.now_s(), reason)
        error: str | None = None
        generations: list[Generation] = []
        try:
            generations = list(self._engine.generate([ticket.request for ticket in tickets]))
        except EngineLost:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever an engine raises is its requests' outcome
            # Keep the text only: the traceback holds the engine's frames, thus the device memory
            # that a retry after an out-of-memory needs.
            error = describe(raised)
        if error is None:
            self._deliver(tickets, generations, batch)
        elif len(tickets) == 1:
            self._fail(tickets[0], error, batch)
        else:
            middle = len(tickets) // 2
            for half in (tickets[:middle], tickets[middle:]):
                self._retry(half, error)

    def _retry(self, tickets: Sequence[Ticket], error: str) -> None:
        """Run what is left of a batch that failed with `error`; some may have expired meanwhile."""
        now_s = self._clock.now_s()
        alive: list[Ticket] = []
        for ticket in tickets:
            if now_s < self._expiry_s(ticket):
                alive.append(ticket)
            else:
                ticket.answer(expired(ticket.request, ticket.sent_s, now_s, self._timeout_s))
        if alive:
            self._serve(alive, f"retry after {error}")

    def _deliver(self, tickets: Sequence[Ticket], generations: Sequence[Generation], batch: Batch) -> None:
        """Check the engine's answers one by one and pass them on."""
        if len(generations) != len(tickets):
            for ticket in tickets:
                why = f"the engine returned {len(generations)} answers to {len(tickets)} requests"
                self._fail(ticket, why, batch)
            return
        for ticket, generation in zip(tickets, generations, strict=True):
            if why_not := fault(ticket.request, generation, batch.admitted_s):
                self._fail(ticket, why_not, batch)
            else:
                ticket.answer(served(ticket.request, ticket.sent_s, generation, batch, self._timeout_s))

    def _fail(self, ticket: Ticket, why: str, batch: Batch) -> None:
        ticket.answer(failed(ticket.request, ticket.sent_s, self._clock.now_s(), why, batch))

    def _abandon(self, why: str) -> None:
        """Answer everything that is left: nobody else will."""
        self._queue.close()
        unanswered = [ticket for ticket in self._running if not ticket.future.done()]
        for ticket in [*unanswered, *self._queue.claim(self._queue.look().waiting)]:
            outcome = failed(ticket.request, ticket.sent_s, self._clock.now_s(), f"engine stopped: {why}")
            ticket.answer(outcome)


def simulate(
    requests: Sequence[Request],
    policy: Policy,
    engine: Engine,
    clock: VirtualClock,
    *,
    queue_limit: int,
    timeout_s: float,
) -> list[Completion]:
    """Serve drawn requests on virtual time and return their outcomes, in the order of `requests`.

    `engine` must take its time from the same `clock`.
    """
    queue = ScheduledQueue(requests, clock, queue_limit)
    EngineLoop(queue, policy, engine, clock, timeout_s).run()
    return [future.result(timeout=0) for future in queue.futures]
