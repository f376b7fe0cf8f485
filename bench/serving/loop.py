"""The engine loop: look at what waits, ask the policy, let the engine compute, answer; then look again.

There is one loop for every policy, engine and clock, so a difference between two policies is due to
the policies, and a simulation on virtual time is the program that serves on real time. Each request
that it takes ends in exactly one outcome on every path, including the loop's own death.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

from bench.clock import Clock, VirtualClock
from bench.errors import EngineLost
from bench.protocols import Admission, Engine, Policy, Running
from bench.records import Completion, Failure, Generation, Request
from bench.serving.outcomes import Batch, Refusal, describe
from bench.serving.queue import Inbox, ScheduledQueue, Ticket

_NEVER = -math.inf


class EngineLoop:
    """Serves one inbox with one engine; used once, by one thread.

    `timeout_s` counts from the due time: a request that still waits then is never started, one that
    is done later has status `timeout` and keeps its times. `math.inf` switches it off.
    """

    def __init__(self, queue: Inbox, policy: Policy, engine: Engine, clock: Clock, timeout_s: float) -> None:
        """Connect the parts; ValueError when the policy lets requests join and the engine cannot."""
        if policy.joins and not engine.joins:
            name = type(policy).__name__
            raise ValueError(f"{name} lets requests join a running batch; this engine cannot")
        self._queue = queue
        self._policy = policy
        self._joins = policy.joins
        self._engine = engine
        self._clock = clock
        self._timeout_s = timeout_s
        self._batch_ids = itertools.count()
        self._running: dict[int, Ticket] = {}
        self._tokens = 0  # of what runs; kept for policies that let requests join
        self._stopped = False
        self._suspects: list[tuple[list[Ticket], str]] = []  # parts of failed batches, the next one last
        self._next_expiry_s = math.inf  # of what waits; never later than the true one
        self._wake_s: float | None = None
        self._held_s, self._held_reason = _NEVER, ""
        self._ended_s, self._ended = _NEVER, 0
        self._busy_s = _NEVER

    @property
    def n_running(self) -> int:
        """How many requests the engine holds; for any thread."""
        return len(self._running)

    def run(self) -> None:
        """Serve until the inbox is closed and empty.

        Whatever the engine raises as an Exception is the outcome of its requests. Anything else, and
        any defect of the policy or the loop, ends the loop: all that runs and waits is answered with
        the error, the inbox is closed, and the exception goes on to the caller.
        """
        try:
            while not self._stopped and self._turn():
                pass
        except BaseException as error:
            self._abandon(f"engine stopped: {describe(error)}")
            raise
        self._abandon("unfinished when the server was abandoned")

    def stop(self) -> None:
        """End after the engine's step at hand, whatever still runs; from any thread."""
        self._stopped = True

    def _turn(self) -> bool:
        """Do the next thing; return False when there will be nothing more to do."""
        queue = self._queue
        arrived = queue.look()
        now_s = self._clock.now_s()
        if arrived:
            self._receive(arrived, now_s)
        if now_s >= self._next_expiry_s:
            self._expire(now_s)
        if self._suspects:
            if not self._running:
                self._retry(*self._suspects.pop())
        elif queue.waiting and (not self._running or self._joins):
            self._ask(now_s)
        if self._running:
            self._advance()
        elif not queue.waiting and not self._suspects:
            if queue.draining:
                return False
            queue.wait(None)
        return True

    def _receive(self, arrived: Sequence[Ticket], now_s: float) -> None:
        """Note when the new ones expire, and answer those that no engine could serve."""
        limit = self._engine.max_context
        requests = [ticket.request for ticket in arrived]
        first_due_s = min([request.due_s for request in requests])
        if first_due_s + self._timeout_s < self._next_expiry_s:
            self._next_expiry_s = first_due_s + self._timeout_s
        if max([len(request.prompt_ids) + request.output_tokens for request in requests]) > limit:
            self._drop([i for i, t in enumerate(self._queue.waiting) if _context(t) > limit], now_s)

    def _expire(self, now_s: float) -> None:
        """Answer those that have waited until nobody wants their answer any more."""
        waiting = self._queue.waiting
        late = [i for i, ticket in enumerate(waiting) if self._expiry_s(ticket) <= now_s]
        if late:
            self._drop(late, now_s)
        self._next_expiry_s = min(map(self._expiry_s, self._queue.waiting), default=math.inf)

    def _drop(self, indices: Sequence[int], now_s: float) -> None:
        """Answer waiting requests that must not be served: too late, else too long."""
        for ticket in self._queue.claim(indices):
            if self._expiry_s(ticket) <= now_s:
                ticket.answer(self._expired(now_s))
            else:
                why = f"too long: {_context(ticket)} tokens with its output, the context is "
                ticket.answer(Refusal("error", f"{why}{self._engine.max_context}", now_s))

    def _expired(self, now_s: float) -> Refusal:
        return Refusal("timeout", f"not started {self._timeout_s:g} s after it was due", now_s)

    def _expiry_s(self, ticket: Ticket) -> float:
        return ticket.request.due_s + self._timeout_s

    def _ask(self, now_s: float) -> None:
        """Let the policy decide; when nothing goes and nothing runs, wait as long as it says."""
        queue = self._queue
        waiting, draining = queue.waiting, queue.draining
        running = Running(len(self._running), self._tokens, self._ended_s, self._ended)
        admission = self._policy.admit(waiting, running, now_s, draining=draining)
        if admission.take:
            tickets = queue.claim(admission.take)
            if tickets:  # none when the queue was discarded meanwhile
                self._admit(tickets, admission.reason)
            if queue.waiting:  # said of those left behind, so after the others have gone
                self._held_s, self._held_reason = now_s, "busy"
            self._wake_s = None
            if self._joins and queue.waiting and self._running:
                self._ask(now_s)  # why the others stay, which only the policy knows
            return
        self._held_s, self._held_reason = now_s, admission.reason
        self._wake_s = admission.wake_s
        if not self._running:
            self._check_hold(admission, now_s, draining=draining)
            moments = [m for m in (admission.wake_s, self._next_expiry_s) if m is not None and m < math.inf]
            queue.wait(min(moments, default=None))

    def _check_hold(self, admission: Admission, now_s: float, *, draining: bool) -> None:
        """Refuse a policy's answer that would make the loop hang or spin: a defect of the policy."""
        wake_s = admission.wake_s
        if (wake_s is None and draining) or (wake_s is not None and wake_s <= now_s):
            name = type(self._policy).__name__
            raise RuntimeError(f"{name} takes nothing at {now_s} s and asks to be woken at {wake_s}")

    def _admit(self, tickets: Sequence[Ticket], reason: str) -> None:
        """Hand requests to the engine."""
        running = self._running
        admitted_s = self._clock.now_s()
        joining = {ticket.request.uid: ticket for ticket in tickets}
        if len(joining) < len(tickets) or (running and not running.keys().isdisjoint(joining)):
            tickets = self._without_twins(tickets, admitted_s)
            if not tickets:
                return
            joining = {ticket.request.uid: ticket for ticket in tickets}
        batch = Batch(
            next(self._batch_ids),
            len(running) + len(tickets),
            admitted_s,
            reason,
            self._held_s,
            self._held_reason,
            self._busy_s,
            self._timeout_s,
        )
        for ticket in tickets:
            ticket.batch = batch
        running.update(joining)
        if self._joins:
            self._tokens += sum(map(_context, tickets))
        try:
            self._engine.admit([ticket.request for ticket in tickets])
        except EngineLost:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever an engine raises is its requests' outcome
            self._suspect(describe(raised))

    def _without_twins(self, tickets: Sequence[Ticket], now_s: float) -> list[Ticket]:
        """Answer those whose uid runs already: the engine could not tell the two apart."""
        own: list[Ticket] = []
        uids = set(self._running)
        for ticket in tickets:
            if ticket.request.uid not in uids:
                uids.add(ticket.request.uid)
                own.append(ticket)
            else:
                why = f"another request with uid {ticket.request.uid} is running"
                ticket.answer(Refusal("error", why, now_s))
        return own

    def _advance(self) -> None:
        """Let the engine compute once, and answer what has ended."""
        try:
            ended = self._engine.step(self._quiet_until_s())
            tickets = self._called_for(ended) if ended else ()
        except EngineLost:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever an engine raises is its requests' outcome
            # Keep the text only: the traceback holds the engine's frames, thus the device memory
            # that a retry after an out-of-memory needs.
            self._suspect(describe(raised))
            return
        self._busy_s = self._clock.now_s()
        if ended:
            self._ended_s, self._ended = self._busy_s, len(ended)
            self._deliver(tickets, ended)

    def _called_for(self, ended: Sequence[Generation | Failure]) -> list[Ticket]:
        """Take those out of what runs whose answers these are; RuntimeError if the engine mixed them up."""
        pop = self._running.pop
        tickets = [pop(outcome.uid, None) for outcome in ended]
        if None in tickets:
            stranger = ended[tickets.index(None)].uid
            own = {ticket.request.uid: ticket for ticket in tickets if ticket is not None}
            self._running.update(own)
            what = "twice" if stranger in own else "and it does not run"
            raise RuntimeError(f"the engine answered request {stranger} {what}")
        return cast(list[Ticket], tickets)

    def _quiet_until_s(self) -> float:
        """Return until when the loop has nothing to do beside the engine."""
        if self._suspects or not self._joins:
            return self._next_expiry_s
        wake_s = math.inf if self._wake_s is None else self._wake_s
        return min(self._queue.next_arrival_s, wake_s, self._next_expiry_s)

    def _deliver(self, tickets: Sequence[Ticket], ended: Sequence[Generation | Failure]) -> None:
        """Pass the engine's answers on."""
        for ticket, outcome in zip(tickets, ended, strict=True):
            if self._joins:
                self._tokens -= _context(ticket)
            if isinstance(outcome, Failure):
                ticket.answer(Refusal("error", outcome.error, self._busy_s, ticket.batch))
            else:
                ticket.answer(outcome)

    def _suspect(self, error: str) -> None:
        """After a failure of all that runs: if it is one request, that fails; else try its halves again."""
        self._engine.clear()  # first: should it raise, what runs is still there to be answered
        suspects = list(self._running.values())
        self._running.clear()
        self._tokens = 0
        self._busy_s = self._ended_s = self._clock.now_s()
        self._ended = len(suspects)
        if len(suspects) == 1:
            suspects[0].answer(Refusal("error", error, self._busy_s, suspects[0].batch))
            return
        middle = len(suspects) // 2
        self._suspects += [(suspects[middle:], error), (suspects[:middle], error)]

    def _retry(self, tickets: Sequence[Ticket], error: str) -> None:
        """Run a part of a batch that failed with `error`; some may have expired meanwhile."""
        now_s = self._clock.now_s()
        alive: list[Ticket] = []
        for ticket in tickets:
            if now_s < self._expiry_s(ticket):
                alive.append(ticket)
            else:
                why = f"failed with {error}; {self._timeout_s:g} s after it was due no retry was left"
                ticket.answer(Refusal("timeout", why, now_s))  # of no batch: it has waited all the time
        if alive:
            self._admit(alive, f"retry after {error}")

    def _abandon(self, why: str) -> None:
        """Answer everything that is left: nobody else will."""
        self._queue.close()
        self._queue.look()
        waiting = self._queue.claim(range(len(self._queue.waiting))) if self._queue.waiting else []
        suspects = [ticket for part, _ in self._suspects for ticket in part]
        now_s = self._clock.now_s()
        for ticket in [*self._running.values(), *suspects, *waiting]:
            if not ticket.done:
                late = self._stopped and self._expiry_s(ticket) <= now_s
                refusal = self._expired(now_s) if late else Refusal("error", why, now_s, ticket.batch)
                ticket.answer(refusal)


def _context(ticket: Ticket) -> int:
    """Return the most tokens that a request may come to hold."""
    return len(ticket.request.prompt_ids) + ticket.request.output_tokens


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
    tickets = simulate_tickets(requests, policy, engine, clock, queue_limit=queue_limit, timeout_s=timeout_s)
    return [ticket.completion() for ticket in tickets]


def simulate_tickets(
    requests: Sequence[Request],
    policy: Policy,
    engine: Engine,
    clock: VirtualClock,
    *,
    queue_limit: int,
    timeout_s: float,
) -> list[Ticket]:
    """Like `simulate`, without making the records: `Ticket.completion` makes one when it is wanted."""
    queue = ScheduledQueue(requests, clock, queue_limit)
    engine.prepare()
    EngineLoop(queue, policy, engine, clock, timeout_s).run()
    return queue.tickets
