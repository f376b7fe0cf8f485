"""What every kind of traffic through the server has in common, and the saturated kind.

Saturated: beside the policy's largest batch so many requests are kept waiting that it chooses as from a
queue without end. The other kinds are in `window` (open loop), `closed` and `capacity`.
"""

from __future__ import annotations

import itertools
import math
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from bench.clock import Clock
from bench.errors import RunFailed
from bench.protocols import Engine, Policy, Vocabulary
from bench.records import Completion, Figures, Generation, Interval, Probe, Request
from bench.run.assemble import Parts
from bench.run.observe import Observer
from bench.run.sofar import Recent
from bench.serving.outcomes import given_up
from bench.serving.queue import Ticket
from bench.serving.server import Server
from bench.workload.pacing import Pacer, split_lag
from bench.workload.schedule import Traffic, draw_saturating

POLL_S = 0.25
"""How often the driving thread looks around; it sends nothing itself."""
_MIN_BATCHES = 2
"""A saturated run is at least this many batches long, however slow they are."""
_CHUNK = 1024
"""Requests of a saturated run that are drawn before it starts; only a fast system needs more."""


class Emit(Protocol):
    """Reports a phase's progress."""

    def __call__(
        self,
        phase: str,
        elapsed_s: float = 0.0,
        total_s: float | None = None,
        detail: str = "",
        done: float | None = None,
        figures: Callable[[], Figures] | None = None,
    ) -> None:
        """Report; `done` is the share of the whole job, where the phase is only a part of it.

        `figures` is called only when somebody is told: a few times a second at most, however often this is.
        """
        ...


@dataclass
class Drive:
    """What the traffic has brought so far: every request that was sent, answered or not."""

    clock: Clock
    timeout_s: float = math.inf
    tickets: list[Ticket] = field(default_factory=list)
    window: Interval | None = None
    probes: list[Probe] = field(default_factory=list)
    idle: dict[str, Interval] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    pacers: list[Pacer[None]] = field(default_factory=list)

    def measure_idle(self, observer: Observer, name: str, seconds: float, emit: Emit) -> None:
        """Wait until the device is level, and note the span of `seconds` after that by `name`.

        Nothing is done where nobody meters power.
        """
        if seconds == 0 or not observer.meters_power:
            return
        emit("settle")
        if not observer.settle(seconds):
            self.doubts.append(f"the device had not become level before its idle power ({name}) was measured")
        emit("idle", 0.0, seconds)
        self.idle[name] = observer.idle(seconds)

    def completions(self, first: int = 0) -> list[Completion]:
        """Return a record for every request sent, from the `first`-th on.

        One that has no outcome is late by now, or unfinished.
        """
        now_s = self.clock.now_s()
        ready_s = {uid: s for pacer in self.pacers for uid, s in pacer.ready_s.items()}
        records = []
        for ticket in self.tickets[first:]:
            request, sent_s = ticket.request, ticket.sent_s
            late = given_up(request, sent_s, now_s, self.timeout_s)
            record = ticket.completion() if ticket.done else late
            if request.uid in ready_s:
                pacer_s, interpreter_s = split_lag(request.due_s, ready_s[request.uid], sent_s)
                record = msgspec.structs.replace(record, pacer_lag_s=pacer_s, interpreter_lag_s=interpreter_s)
            records.append(record)
        return records


@dataclass
class Subject:
    """The system under traffic."""

    parts: Parts
    policy: Policy
    engine: Engine
    vocabulary: Vocabulary
    clock: Clock
    on_prepared: Callable[[Mapping[str, Any]], None] = lambda facts: None
    """Is given the engine's facts when it is prepared; what it raises ends the run before any traffic."""
    on_drawn: Callable[[str, Sequence[Request]], None] = lambda name, requests: None
    """Is given a name and the requests that will be scored, likewise; their due times count from 0."""
    observer: Observer | None = None

    def observe(self) -> Observer:
        """Return whoever meters this run; by default nobody does."""
        return self.observer or Observer(self.clock)

    def server(self, *, queue_limit: int, timeout_s: float) -> Server:
        """Return a new server for this system."""
        return Server(self.policy, self.engine, self.clock, queue_limit=queue_limit, timeout_s=timeout_s)

    def traffic(self, *stream: int) -> Traffic:
        """Return the workload's laws; each `stream` draws other requests from the experiment's seed."""
        experiment = self.parts.experiment
        return Traffic(
            arrivals=self.parts.arrivals,
            input_tokens=self.parts.input_tokens,
            output_tokens=self.parts.output_tokens,
            prompts=self.parts.prompts,
            vocabulary=self.vocabulary,
            max_context=self.engine.max_context,
            stop=experiment.workload.stop,
            seed=(experiment.seed, *stream),
            seeds=experiment.workload.seeds,
        )


def drive_offline(drive: Drive, subject: Subject, emit: Emit) -> None:
    """Keep the system saturated for the protocol's `offline_s` after a warm-up; fill `drive`.

    `facts["offline_started_s"]` is the end of the last warm-up batch and `offline_ended_s` the end of
    the last batch: between them lie whole batches only. Raises RunFailed with the requests' own error
    when as many in a row fail as are kept outstanding.
    """
    protocol = subject.parts.experiment.protocol
    clock = subject.clock
    outstanding = subject.policy.max_batch + subject.policy.backlog
    # Nobody waits for these requests: the users' timeout and queue limit do not apply to them.
    server = subject.server(queue_limit=outstanding, timeout_s=math.inf)
    requests = endless(subject)
    answered: queue.SimpleQueue[Ticket] = queue.SimpleQueue()
    total_s = protocol.warmup_s + protocol.offline_s
    observer = subject.observe()
    emit("prepare")
    with serving(drive, subject, server):
        started_s = clock.now_s()
        ends = _Ends(started_s + protocol.warmup_s)
        for _ in range(outstanding):
            drive.tickets.append(server.submit(next(requests), answered.put))
        while not ends.enough(protocol.offline_s):
            raise_if_dead(server)
            observer.check()
            try:
                ended = answered.get(timeout=POLL_S)
            except queue.Empty:
                pass
            else:
                ends.note(ended)
                if ends.failed_in_a_row >= outstanding:
                    raise RunFailed(f"request after request failed, at last with: {ended.completion().error}")
                drive.tickets.append(server.submit(next(requests), answered.put))
            elapsed_s = clock.now_s() - started_s
            emit("offline", elapsed_s, total_s, figures=lambda: ends.so_far(clock, server))
        server.close()
    started_s, ended_s = ends.whole_s[0], ends.whole_s[-1]
    drive.facts |= {"offline_started_s": started_s, "offline_ended_s": ended_s}


@contextmanager
def serving(drive: Drive, subject: Subject, server: Server) -> Iterator[None]:
    """Start `server`, abandon it when anything goes wrong, and keep what its engine has to say."""
    try:
        server.start()
        subject.on_prepared(server.engine_facts)
        yield
    except BaseException:
        server.abandon()
        raise
    finally:
        drive.facts["engine"] = dict(server.engine_facts)


@dataclass
class _Ends:
    """When the engine gave answers after the warm-up: what it gives together counts as one moment."""

    warm_s: float
    n: int = 0
    n_failed: int = 0
    failed_in_a_row: int = 0
    tokens: int = 0
    _moments_s: list[float] = field(default_factory=list)
    _batch: int | None = None
    _recent_tokens: Recent = field(default_factory=Recent)

    def note(self, ticket: Ticket) -> None:
        """Take in an answered request."""
        self.n += 1
        done_s = ticket.done_s
        self.failed_in_a_row = self.failed_in_a_row + 1 if done_s is None else 0
        self.n_failed += done_s is None
        if isinstance(ticket.end, Generation):
            self.tokens += len(ticket.end.token_ids)
        if done_s is None or done_s < self.warm_s or ticket.batch is None:
            return
        if self._moments_s and ticket.batch.id == self._batch:
            self._moments_s[-1] = max(done_s, self._moments_s[-1])
        else:
            self._moments_s.append(done_s)
        self._batch = ticket.batch.id

    def so_far(self, clock: Clock, server: Server) -> Figures:
        """Return what a person wants to see; nobody waits for these requests, so they have no latency."""
        return Figures(
            completed=self.n,
            failed=self.n_failed,
            queued=server.n_waiting,
            running=server.n_running,
            tokens_per_s=self._recent_tokens.per_s(clock.now_s(), self.tokens),
        )

    @property
    def whole_s(self) -> list[float]:
        """The moments of whole batches: no further answer comes once the next one has answered."""
        return self._moments_s[:-1]

    def enough(self, offline_s: float) -> bool:
        """Say whether enough whole batches have ended after the warm-up."""
        whole_s = self.whole_s
        return len(whole_s) > _MIN_BATCHES and whole_s[-1] - whole_s[0] >= offline_s


def endless(subject: Subject, repeat: int = 0) -> Iterator[Request]:
    """Yield requests that are due at once, for ever; the first chunk is drawn before this returns."""
    now_s = subject.clock.now_s
    first = draw_saturating(subject.traffic(repeat, 0), n=_CHUNK)
    if repeat:  # these are scored: every system gets the same
        subject.on_drawn(f"{repeat}", first)

    def requests() -> Iterator[Request]:
        chunk = first
        for number in itertools.count(1):
            for request in chunk:
                yield msgspec.structs.replace(request, due_s=now_s())
            chunk = draw_saturating(subject.traffic(repeat, number), n=_CHUNK, first_uid=number * _CHUNK)

    return requests()


def raise_if_dead(server: Server) -> None:
    """Raise RunFailed when the engine thread has ended before its time."""
    if server.error is not None:
        raise RunFailed(
            f"the engine thread ended: {type(server.error).__name__}: {server.error}"
        ) from server.error
