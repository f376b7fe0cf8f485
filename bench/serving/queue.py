"""Where requests wait: one seam, kept on real time by threads and on virtual time by a schedule.

The queue is the sole keeper of what waits, so that its limit counts all of it, and requests go on
arriving while the engine is busy. Who takes a ticket out (`claim`) owes it its one answer; that rule
is all that "nothing lost, nothing answered twice" rests on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Protocol

import msgspec

from bench.clock import Clock, VirtualClock
from bench.records import Completion, Request
from bench.serving.outcomes import rejected


def _uncancellable() -> Future[Completion]:
    """Return a future whose `cancel` does nothing: the outcome of a sent request is always recorded."""
    future: Future[Completion] = Future()
    future.set_running_or_notify_cancel()
    return future


class Ticket(msgspec.Struct, frozen=True, eq=False):
    """A request that was sent, and the promise of exactly one answer."""

    request: Request
    sent_s: float
    future: Future[Completion] = msgspec.field(default_factory=_uncancellable)

    def answer(self, outcome: Completion) -> None:
        """Keep the promise; a second answer raises `concurrent.futures.InvalidStateError`."""
        self.future.set_result(outcome)


class View(msgspec.Struct, frozen=True):
    """What waits, oldest first; what came since the last look; whether nothing more will come."""

    waiting: tuple[Ticket, ...]
    arrived: tuple[Ticket, ...]
    draining: bool


class Inbox(Protocol):
    """What the engine loop needs of a queue; only the loop calls it."""

    def look(self) -> View:
        """Return what waits now."""
        ...

    def claim(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        """Take out those of `tickets` that still wait, and return them: the caller must answer them."""
        ...

    def wait(self, until_s: float | None) -> None:
        """Return when something has happened since the last `look`, or at `until_s` on the clock."""
        ...

    def close(self) -> None:
        """Let nothing more in; what waits stays."""
        ...


class RequestQueue:
    """A bounded inbox between the threads that send and the one engine thread."""

    def __init__(self, clock: Clock, limit: int) -> None:
        """Let at most `limit` requests wait at a time."""
        self._clock = clock
        self._limit = limit
        self._waiting: dict[Ticket, None] = {}  # a dict: ordered, and any ticket leaves at once
        self._arrived: list[Ticket] = []
        self._closed = False
        self._news = False
        self._changed = threading.Condition()

    def submit(self, request: Request) -> Future[Completion]:
        """Send a request, from any thread; never blocks and never raises.

        When the queue is full or closed the future is answered at once, with status `rejected`.
        """
        with self._changed:
            ticket = Ticket(request, self._clock.now_s())
            refusal = self._refusal()
            if refusal is None:
                self._waiting[ticket] = None
                self._arrived.append(ticket)
                self._report()
        if refusal is not None:
            ticket.answer(rejected(request, ticket.sent_s, ticket.sent_s, refusal))
        return ticket.future

    def look(self) -> View:
        """Return what waits now."""
        with self._changed:
            arrived, self._arrived = tuple(self._arrived), []
            self._news = False
            return View(tuple(self._waiting), arrived, self._closed)

    def claim(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        """Take out those of `tickets` that still wait, and return them: the caller must answer them."""
        with self._changed:
            mine = [ticket for ticket in tickets if ticket in self._waiting]
            for ticket in mine:
                del self._waiting[ticket]
            return mine

    def wait(self, until_s: float | None) -> None:
        """Block without using the processor until there is news, or until `until_s` on the clock."""
        with self._changed:
            while not self._news:
                left_s = None if until_s is None else until_s - self._clock.now_s()
                if left_s is not None and left_s <= 0:
                    return
                self._changed.wait(None if left_s is None else min(left_s, threading.TIMEOUT_MAX))

    def close(self) -> None:
        """Let nothing more in; what waits stays and is to be served."""
        with self._changed:
            self._closed = True
            self._report()

    def discard(self) -> None:
        """Close, and answer all that waits with status `rejected`."""
        self.close()
        with self._changed:
            everything = tuple(self._waiting)
        for ticket in self.claim(everything):
            why = "closed before it was served"
            ticket.answer(rejected(ticket.request, ticket.sent_s, self._clock.now_s(), why))

    def _refusal(self) -> str | None:
        if self._closed:
            return "the queue is closed"
        if len(self._waiting) >= self._limit:
            return f"the queue is full ({self._limit} waiting)"
        return None

    def _report(self) -> None:
        self._news = True
        self._changed.notify_all()


class ScheduledQueue:
    """Drawn requests that arrive exactly when due, on virtual time: the same seam without threads.

    Waiting moves the clock, so the one engine loop is also a simulator. Nothing more comes once the
    last request has arrived.
    """

    def __init__(self, requests: Sequence[Request], clock: VirtualClock, limit: int) -> None:
        """Deliver `requests` by due time, to at most `limit` waiting."""
        tickets = [Ticket(request, request.due_s) for request in requests]
        self.futures: tuple[Future[Completion], ...] = tuple(ticket.future for ticket in tickets)
        """The answers, in the order of `requests`."""
        self._clock = clock
        self._limit = limit
        self._coming = deque(sorted(tickets, key=lambda ticket: ticket.sent_s))
        self._waiting: dict[Ticket, None] = {}
        self._arrived: list[Ticket] = []

    def look(self) -> View:
        """Return what waits now."""
        self._deliver()
        arrived, self._arrived = tuple(self._arrived), []
        return View(tuple(self._waiting), arrived, draining=not self._coming)

    def claim(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        """Take out those of `tickets` that still wait, and return them: the caller must answer them."""
        mine = [ticket for ticket in tickets if ticket in self._waiting]
        for ticket in mine:
            del self._waiting[ticket]
        return mine

    def wait(self, until_s: float | None) -> None:
        """Move the clock to the next arrival, or to `until_s` if that is sooner."""
        moments = [] if until_s is None else [until_s]
        if self._coming:
            moments.append(self._coming[0].sent_s)
        if moments:
            self._clock.sleep_until(min(moments))

    def close(self) -> None:
        """Reject what has not arrived yet; what waits stays."""
        self._deliver()
        while self._coming:
            ticket = self._coming.popleft()
            why = "closed before it was sent"
            ticket.answer(rejected(ticket.request, None, self._clock.now_s(), why))

    def _deliver(self) -> None:
        while self._coming and self._coming[0].sent_s <= self._clock.now_s():
            self._arrive(self._coming.popleft())

    def _arrive(self, ticket: Ticket) -> None:
        if len(self._waiting) < self._limit:
            self._waiting[ticket] = None
            self._arrived.append(ticket)
            return
        why = f"the queue is full ({self._limit} waiting)"
        ticket.answer(rejected(ticket.request, ticket.sent_s, ticket.sent_s, why))
