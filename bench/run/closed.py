"""Closed-loop traffic: so many clients, each of which sends again when it has its answer.

Such clients slow down with the system that they wait for, so the load is whatever the system bears, and a
stall hides the requests that others would have sent meanwhile (coordinated omission). A request counts as due
when its client was ready to send it.
"""

from __future__ import annotations

import heapq
import math
import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from bench.records import Figures, Interval, Request
from bench.run.drive import POLL_S, Drive, Emit, Subject, endless, raise_if_dead, serving
from bench.run.ends import Ends
from bench.run.window import WarmUp
from bench.serving.queue import Ticket
from bench.serving.server import Server

_LEAST_WAIT_S = 0.0005


def drive_closed(
    drive: Drive, subject: Subject, emit: Emit, *, clients: int, think_s: float, repeat: int
) -> None:
    """Let `clients` send in turn, each `think_s` after its last answer: warm-up, then the window.

    Fills `drive`. The clients go on until every request that was due inside the window has ended.
    """
    protocol, clock = subject.parts.experiment.protocol, subject.clock
    drive.timeout_s = protocol.timeout_s
    server = subject.server(queue_limit=max(protocol.queue_limit, clients), timeout_s=protocol.timeout_s)
    crowd = _Crowd(drive, subject, server, endless(subject, repeat), think_s)
    emit("prepare")
    with serving(drive, subject, server):
        drive.measure_idle(subject.observe(), "resident", protocol.idle_s, emit)
        start_s = clock.now_s()
        crowd.arrive(clients, start_s)
        longest_s = protocol.longest_warmup_s
        warm = longest_s == 0
        while not warm and clock.now_s() < start_s + longest_s:
            crowd.go_on(clock.now_s() + POLL_S)
            elapsed_s = clock.now_s() - start_s
            emit("warm-up", min(elapsed_s, longest_s), longest_s, done=0.0, figures=crowd.so_far)
            warm = elapsed_s >= protocol.warmup_s and crowd.ends.is_steady()
        took_s, n = clock.now_s() - start_s, len(crowd.ends.tickets)
        took = WarmUp(converged=warm and longest_s > 0, took_s=took_s, n=n)
        drive.facts["warmup"] = took.facts
        _score(drive, subject, emit, crowd)
        if drive.facts["due_in_window"] and crowd.have_ended(drive.window):
            server.dismiss("the window had ended")
            crowd.settle()
            drive.measure_idle(subject.observe(), "resident_after", protocol.idle_s / 3.0, emit)
            server.close()
        else:
            server.abandon()  # it hangs, or is so slow that nobody came twice


def _score(drive: Drive, subject: Subject, emit: Emit, crowd: _Crowd) -> None:
    """Set the window, and let the clients go on until all that was due inside it has ended."""
    protocol, clock, observer = subject.parts.experiment.protocol, subject.clock, subject.observe()
    start_s = clock.now_s()
    window = drive.window = Interval(start_s=start_s, end_s=start_s + protocol.window_s)
    edges = [window.start_s, window.end_s - observer.lead_s]
    crowd.ends = Ends(due_before_s=window.end_s)
    while (now_s := clock.now_s()) < window.end_s or not crowd.have_ended(window):
        if now_s >= window.end_s + protocol.timeout_s:
            break
        if edges and now_s >= edges[0]:
            observer.edge()
            edges.pop(0)
        crowd.go_on(min(now_s + POLL_S, *edges) if edges else now_s + POLL_S)
        if now_s < window.end_s:
            emit("window", now_s - start_s, protocol.window_s, figures=crowd.so_far)
        else:
            emit("drain", now_s - window.end_s, done=1.0, figures=crowd.so_far)
    drive.facts["due_in_window"] = sum(_is_in(ticket, window) for ticket in drive.tickets)


@dataclass
class _Crowd:
    """The clients: who is ready from when on, and what has been answered."""

    drive: Drive
    subject: Subject
    server: Server
    requests: Iterator[Request]
    think_s: float
    ends: Ends = field(default_factory=Ends)
    _ready_s: list[float] = field(default_factory=list)
    _answered: queue.SimpleQueue[Ticket] = field(default_factory=queue.SimpleQueue)

    def arrive(self, clients: int, now_s: float) -> None:
        """Let `clients` be ready now."""
        self._ready_s = [now_s] * clients

    def go_on(self, until_s: float) -> None:
        """Send for whoever is ready, and take in answers, until `until_s`."""
        clock = self.subject.clock
        while (now_s := clock.now_s()) < until_s:
            while self._ready_s and self._ready_s[0] <= now_s:
                request = msgspec.structs.replace(next(self.requests), due_s=heapq.heappop(self._ready_s))
                self.drive.tickets.append(self.server.submit(request, self._answered.put))
            next_s = self._ready_s[0] if self._ready_s else math.inf
            try:
                ticket = self._answered.get(timeout=max(min(until_s, next_s) - now_s, _LEAST_WAIT_S))
            except queue.Empty:
                continue
            self.ends.tickets.append(ticket)
            # A refusal has no time of its own; the client learns of it now.
            at_s = clock.now_s() if ticket.done_s is None else ticket.done_s
            heapq.heappush(self._ready_s, at_s + self.think_s)
        self.ends.look()
        raise_if_dead(self.server)
        self.subject.observe().check()

    def so_far(self) -> Figures:
        """Return what a person wants to see; the clients have no rate of their own."""
        server = self.server
        return self.ends.so_far(self.subject.clock.now_s(), queued=server.n_waiting, running=server.n_running)

    def settle(self) -> None:
        """Wait until what runs has ended; nobody sends again."""
        clock = self.subject.clock
        give_up_s = clock.now_s() + self.subject.parts.experiment.protocol.timeout_s
        while clock.now_s() < give_up_s and not all(ticket.done for ticket in self.drive.tickets):
            raise_if_dead(self.server)
            time.sleep(0.01)

    def have_ended(self, window: Interval | None) -> bool:
        """Say whether every request that was due inside `window` has come to its end."""
        return window is not None and all(t.done for t in self.drive.tickets if _is_in(t, window))


def _is_in(ticket: Ticket, window: Interval) -> bool:
    return window.start_s <= ticket.request.due_s < window.end_s
