"""Where requests wait: one seam, kept on real time by threads and on virtual time by a schedule.

The queue is the sole keeper of what waits, so that its limit counts all of it, and requests go on
arriving while the engine is busy. Who takes a ticket out (`claim`) owes it its one answer; that rule
is all that "nothing lost, nothing answered twice" rests on.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec

from bench.clock import Clock, VirtualClock
from bench.records import Completion, Generation, Request
from bench.serving.outcomes import Batch, Refusal, answered, unserved

_LOG = logging.getLogger(__name__)


class Ticket(msgspec.Struct, eq=False):
    """A request that was sent, and the promise of exactly one answer.

    `on_done` is called with the ticket as soon as it is answered, on the thread that answers: that of the
    engine, so it must be quick; what it raises is logged. `batch` is set when the request is admitted.
    """

    request: Request
    sent_s: float
    on_done: Callable[[Ticket], None] | None = None
    batch: Batch | None = None
    end: Generation | Refusal | None = None
    gate: threading.Lock | None = None

    @property
    def done(self) -> bool:
        """Whether it has been answered."""
        return self.end is not None

    @property
    def done_s(self) -> float | None:
        """When it was answered, None if it has not been or not been served."""
        end = self.end
        if not isinstance(end, Generation):
            return None
        return end.finished_s if end.detokenized_s is None else end.detokenized_s

    def answer(self, end: Generation | Refusal) -> None:
        """Keep the promise; RuntimeError if it was kept before."""
        if self.end is not None:
            raise RuntimeError(f"request {self.request.uid} is answered twice")
        self.end = end
        if self.gate is not None:
            self.gate.release()
        if self.on_done is not None:
            try:
                self.on_done(self)
            except Exception:  # noqa: BLE001 - a client's defect must not take the others' answers with it
                _LOG.exception("the callback of request %d failed", self.request.uid)

    def completion(self) -> Completion:
        """Return the outcome as a record; RuntimeError before there is one."""
        end = self.end
        if end is None:
            raise RuntimeError(f"request {self.request.uid} has no outcome yet")
        if isinstance(end, Refusal):
            return unserved(self.request, self.sent_s, end)
        assert self.batch is not None
        return answered(self.request, self.sent_s, end, self.batch)

    def result(self, timeout_s: float | None = None) -> Completion:
        """Wait for the outcome and return it; TimeoutError when `timeout_s` is over before.

        For one waiting thread at a time.
        """
        if self.end is None:
            gate = threading.Lock()
            gate.acquire()
            # First the gate, then the look: `answer` does it the other way round, so one sees the other.
            self.gate = gate
            if self.end is None and not gate.acquire(timeout=-1 if timeout_s is None else timeout_s):
                raise TimeoutError(f"request {self.request.uid} had no outcome within {timeout_s} s")
        return self.completion()


class Inbox(Protocol):
    """What the engine loop needs of a queue; only the loop calls it."""

    @property
    def waiting(self) -> Sequence[Ticket]:
        """What waited at the last `look`, oldest first, less what was claimed since."""
        ...

    @property
    def draining(self) -> bool:
        """Whether, at the last `look`, nothing more was to come."""
        ...

    @property
    def next_arrival_s(self) -> float:
        """When the next request arrives; minus infinity where that can be at any moment."""
        ...

    def look(self) -> Sequence[Ticket]:
        """Let in what has arrived since the last look, and return it."""
        ...

    def claim(self, indices: Collection[int]) -> list[Ticket]:
        """Take out those of `waiting`, oldest first: the caller must answer them. [] if all was discarded."""
        ...

    def wait(self, until_s: float | None) -> None:
        """Return when something has happened since the last `look`, or at `until_s` on the clock."""
        ...

    def close(self) -> None:
        """Let nothing more in; what waits stays."""
        ...


def _take(waiting: list[Ticket], indices: Collection[int]) -> list[Ticket]:
    """Remove `indices` from `waiting` and return them; quick for the oldest few."""
    n = len(indices)
    if max(indices) == n - 1:
        mine = waiting[:n]
        del waiting[:n]
        return mine
    chosen = set(indices)
    mine = [waiting[index] for index in sorted(chosen)]
    waiting[:] = [ticket for index, ticket in enumerate(waiting) if index not in chosen]
    return mine


class RequestQueue:
    """A bounded inbox between the threads that send and the one engine thread.

    Sending takes no lock: a deque's `append` and `popleft` are atomic, and a lock would cost more than all
    else that sending does. The lock orders the engine thread, closing and waking only.
    """

    next_arrival_s = -math.inf

    def __init__(self, clock: Clock, limit: int) -> None:
        """Let `limit` requests wait at a time; of threads that send at one instant each may exceed it."""
        self._now_s = clock.now_s
        self._limit = limit
        self._inbox: deque[Ticket] = deque()
        self._closed = False
        self._asleep = False
        self._lock = threading.Lock()
        self._bell = threading.Lock()  # held while nobody has rung
        self._bell.acquire()
        self.waiting: list[Ticket] = []
        self.draining = False

    @property
    def n_waiting(self) -> int:
        """How many requests wait, seen by the engine or not yet; for any thread."""
        return len(self._inbox) + len(self.waiting)

    def submit(self, request: Request, on_done: Callable[[Ticket], None] | None = None) -> Ticket:
        """Send a request, from any thread; never blocks and never raises.

        When the queue is full or closed the ticket is answered at once, with status `rejected`.
        """
        ticket = Ticket(request, self._now_s(), on_done)
        inbox = self._inbox
        if self._closed:
            self._reject(ticket, "the queue is closed")
        elif len(inbox) + len(self.waiting) >= self._limit:
            self._reject(ticket, f"the queue is full ({self._limit} waiting)")
        else:
            inbox.append(ticket)
            # First the append, then this look; closing and sleeping do it the other way round, so that one
            # side always sees the other.
            if self._asleep or self._closed:
                self._announce(ticket)
        return ticket

    def look(self) -> Sequence[Ticket]:
        """Let in what has arrived since the last look, and return it."""
        inbox = self._inbox
        if not inbox and self._closed == self.draining:
            return ()
        with self._lock:
            closed = self._closed  # before the inbox: what comes after this look is taken back
            known = len(self.waiting)
            self._let_in(self.waiting)
            self.draining = closed
            return self.waiting[known:]

    def claim(self, indices: Collection[int]) -> list[Ticket]:
        """Take out those of `waiting`, oldest first: the caller must answer them. [] if all was discarded."""
        with self._lock:
            return _take(self.waiting, indices) if self.waiting else []

    def wait(self, until_s: float | None) -> None:
        """Block without using the processor until there is news, or until `until_s` on the clock."""
        self._asleep = True
        if not self._inbox and self._closed == self.draining:
            left_s = -1.0 if until_s is None else max(0.0, until_s - self._now_s())
            if self._bell.acquire(timeout=min(left_s, threading.TIMEOUT_MAX)):
                return
        self._rise()

    def close(self) -> None:
        """Let nothing more in; what waits stays and is to be served."""
        self._closed = True
        if self._asleep:
            self._wake()

    def discard(self) -> None:
        """Close, and answer all that waits with status `rejected`; from any thread."""
        self._closed = True
        self.dismiss("closed before it was served")

    def dismiss(self, why: str) -> None:
        """Answer all that waits with status `rejected`; from any thread. What comes later is let in."""
        with self._lock:
            # A new list: the loop may be looking at the old one.
            everything, self.waiting = list(self.waiting), []
            self._let_in(everything)
        if self._asleep:
            self._wake()
        for ticket in everything:
            self._reject(ticket, why)

    def _let_in(self, waiting: list[Ticket]) -> None:
        """Move what has arrived to `waiting`, one by one: the limit counts both, and never far too few."""
        popleft = self._inbox.popleft
        try:
            while True:
                waiting.append(popleft())
        except IndexError:  # empty; asking first would not help, as a sender may take its own back
            return

    def _reject(self, ticket: Ticket, why: str) -> None:
        ticket.answer(Refusal("rejected", why, self._now_s()))

    def _announce(self, ticket: Ticket) -> None:
        """Wake the engine thread for `ticket`; if the queue was closed just before, take it back.

        It cannot be taken back when somebody has taken it meanwhile, who then owes its answer.
        """
        if self._closed:
            try:
                self._inbox.remove(ticket)
            except ValueError:
                pass
            else:
                self._reject(ticket, "the queue is closed")
        if self._asleep:
            self._wake()

    def _rise(self) -> None:
        """Be awake without having been rung for; if somebody has rung all the same, silence the bell."""
        with self._lock:
            if not self._asleep:
                self._bell.acquire()
            self._asleep = False

    def _wake(self) -> None:
        """Ring for a sleeper, once however many ring."""
        with self._lock:
            if self._asleep:
                self._asleep = False
                self._bell.release()


class ScheduledQueue:
    """Drawn requests that arrive exactly when due, on virtual time: the same seam without threads.

    Waiting moves the clock, so the one engine loop is also a simulator. Nothing more comes once the
    last request has arrived.
    """

    def __init__(self, requests: Sequence[Request], clock: VirtualClock, limit: int) -> None:
        """Deliver `requests` by due time, to at most `limit` waiting."""
        self.tickets = [Ticket(request, request.due_s) for request in requests]
        """The promises, in the order of `requests`."""
        self._clock = clock
        self._limit = limit
        self._coming = sorted(self.tickets, key=lambda ticket: ticket.sent_s)
        self._next = 0
        self.next_arrival_s = self._coming[0].sent_s if self._coming else math.inf
        self.waiting: list[Ticket] = []
        self.draining = not self._coming

    def look(self) -> Sequence[Ticket]:
        """Let in what has arrived since the last look, and return it."""
        now_s = self._clock.now_s()
        if now_s < self.next_arrival_s:
            return ()
        arrived: list[Ticket] = []
        coming, index, end = self._coming, self._next, len(self._coming)
        room = self._limit - len(self.waiting)
        while index < end and coming[index].sent_s <= now_s:
            ticket = coming[index]
            index += 1
            if len(arrived) < room:
                arrived.append(ticket)
            else:
                why = f"the queue is full ({self._limit} waiting)"
                ticket.answer(Refusal("rejected", why, ticket.sent_s))
        self._next = index
        self.waiting += arrived
        self.draining = index == end
        self.next_arrival_s = math.inf if self.draining else coming[index].sent_s
        return arrived

    def claim(self, indices: Collection[int]) -> list[Ticket]:
        """Take out those of `waiting`, oldest first: the caller must answer them."""
        return _take(self.waiting, indices)

    def wait(self, until_s: float | None) -> None:
        """Move the clock to the next arrival, or to `until_s` if that is sooner."""
        moment_s = self.next_arrival_s if until_s is None else min(until_s, self.next_arrival_s)
        if moment_s < math.inf:
            self._clock.sleep_until(moment_s)

    def close(self) -> None:
        """Reject what has not arrived yet; what waits stays."""
        self.look()
        for ticket in self._coming[self._next :]:
            why = "closed before it was sent"
            ticket.answer(Refusal("rejected", why, self._clock.now_s(), unsent=True))
        self._next = len(self._coming)
        self.draining = True
        self.next_arrival_s = math.inf
