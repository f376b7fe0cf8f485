"""Open-loop traffic at one rate: due times are drawn before the run, and nothing waits for answers.

First a warm-up, until latencies have converged; then the scored schedule, which is the same for all systems
however long each of them took to warm up. Traffic goes on past the window until the last request due inside
it has ended, so that its end is as loaded as its middle. A queue that grows without end is recognised on the
way, and the window ended: nothing more is to be learnt of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from bench.analysis.steadiness import converged, saturating
from bench.records import Interval, Request
from bench.run.drive import POLL_S, Drive, Emit, Subject, raise_if_dead, serving
from bench.serving.queue import Ticket
from bench.serving.server import Server
from bench.units import to_ms
from bench.workload.arrivals import Gamma, Poisson, Steady
from bench.workload.pacing import Pacer
from bench.workload.schedule import draw_requests, schedule_facts

LEAD_S = 0.2
"""From the end of preparation to the first due time …"""
HANDOVER_S = 0.02
"""… and from the end of the warm-up to the scored schedule."""
MIN_TAIL_S = 10.0
_JOIN_S = 1.0
_WARMUP_STREAM = 1
"""Warm-up requests are drawn apart, so that their number changes nothing in what is scored."""
_TAIL_STREAM = 2
UIDS = 10_000_000
"""Requests of one schedule; the next one's uids begin after them."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a schedule: its window, and why it was ended early, None where it was not.

    `all_ended` says that every request due inside the window has come to its end.
    """

    window: Interval
    stopped: str | None
    all_ended: bool


class WarmUp(msgspec.Struct, frozen=True, kw_only=True):
    """How the warm-up ended: after `took_s`, `converged` or because it may take no longer.

    `scored` is there where the system was overloaded already: more of the same would show nothing else.
    """

    converged: bool
    took_s: float
    n: int
    scored: Scored | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {"converged": self.converged, "took_s": self.took_s, "n": self.n}


def drive_window(drive: Drive, subject: Subject, emit: Emit, *, rate_rps: float, repeat: int) -> None:
    """Send the schedule of `repeat` at `rate_rps`: warm-up, window, and on until the window has ended.

    Fills `drive`; `facts` tell of the warm-up, the sender, and an early stop.
    """
    protocol = subject.parts.experiment.protocol
    drive.timeout_s = protocol.timeout_s
    server = subject.server(queue_limit=protocol.queue_limit, timeout_s=protocol.timeout_s)
    loop = OpenLoop(drive, subject, server, emit)
    schedule = loop.draw(rate_rps, protocol.window_s, repeat)
    subject.on_drawn(f"{repeat}", schedule)
    emit("prepare")
    with serving(drive, subject, server):
        loop.idle("resident", protocol.idle_s)
        warm = loop.warm_up(rate_rps, repeat)
        drive.facts["warmup"] = warm.facts
        scored = warm.scored or loop.score(schedule, protocol.window_s, rate_rps)
        drive.facts["stopped_early"] = scored.stopped
        if scored.all_ended:
            server.dismiss("the window had ended")
            loop.settle()
            loop.idle("resident_after", protocol.idle_s / 3.0)
            server.close()
        else:
            server.abandon()  # what runs may take minutes, and is late whatever comes of it


@dataclass
class OpenLoop:
    """Sends drawn requests through a server that runs, one schedule after another."""

    drive: Drive
    subject: Subject
    server: Server
    emit: Emit
    _schedules: int = 0
    _label: str = ""

    def draw(self, rate_rps: float, window_s: float, repeat: int) -> list[Request]:
        """Return the requests of `repeat` for a window and its tail; their due times count from 0.

        The window's are drawn apart, so that its rate is exactly the one asked for.
        """
        protocol = self.subject.parts.experiment.protocol
        tail_s = min(protocol.timeout_s, max(MIN_TAIL_S, window_s))
        traffic = self.subject.traffic(repeat)
        scored = draw_requests(traffic, rate_rps=rate_rps, duration_s=window_s)
        self.drive.facts["schedule"] = schedule_facts(traffic, scored)
        tail = draw_requests(
            self.subject.traffic(repeat, _TAIL_STREAM),
            rate_rps=rate_rps,
            duration_s=tail_s,
            start_s=window_s,
            first_uid=len(scored),
        )
        return scored + tail

    def warm_up(self, rate_rps: float, repeat: int) -> WarmUp:
        """Send traffic of its own at `rate_rps` until latencies have converged, and stop sending."""
        clock, protocol = self.subject.clock, self.subject.parts.experiment.protocol
        longest_s = protocol.longest_warmup_s
        if longest_s == 0:
            return WarmUp(converged=False, took_s=0.0, n=0)
        drawn = draw_requests(
            self.subject.traffic(repeat, _WARMUP_STREAM), rate_rps=rate_rps, duration_s=longest_s
        )
        flow = self._flow(drawn, clock.now_s() + LEAD_S)
        watch = _QueueWatch(rate_rps, self._dispersion)
        warm, scored = False, None
        try:
            while not warm and scored is None and (now_s := clock.now_s()) < flow.start_s + longest_s:
                self._poll(flow, POLL_S)
                elapsed_s = now_s - flow.start_s
                self._say("warm-up", elapsed_s, longest_s, flow.ended, len(drawn))
                if elapsed_s >= protocol.warmup_s:
                    warm = is_steady(flow.ended)
                    if why := watch.look(elapsed_s, flow):
                        window = self.drive.window = Interval(start_s=flow.start_s, end_s=clock.now_s())
                        scored = Scored(window=window, stopped=why, all_ended=False)
        finally:
            flow.pacer.stop()
        flow.pacer.join(_JOIN_S)
        took_s = clock.now_s() - flow.start_s
        return WarmUp(converged=warm, took_s=took_s, n=len(flow.ended), scored=scored)

    def score(self, schedule: Sequence[Request], window_s: float, rate_rps: float) -> Scored:
        """Send `schedule`, whose first `window_s` are scored, until all that is due in there has ended."""
        clock, protocol = self.subject.clock, self.subject.parts.experiment.protocol
        flow = self._flow(schedule, clock.now_s() + HANDOVER_S)
        window = Interval(start_s=flow.start_s, end_s=flow.start_s + window_s)
        self.drive.window = window
        watch = _QueueWatch(rate_rps, self._dispersion)
        observer = self.subject.observe()
        edges = [window.start_s, window.end_s - observer.lead_s]
        try:
            give_up_s = window.end_s + protocol.timeout_s + LEAD_S
            while (now_s := clock.now_s()) < window.end_s or not flow.has_answered(window):
                if now_s >= give_up_s:
                    break
                if edges and now_s >= edges[0]:
                    observer.edge()
                    edges.pop(0)
                self._poll(flow, min(POLL_S, max(edges[0] - now_s, 0.001)) if edges else POLL_S)
                phase = "window" if now_s < window.end_s else "drain"
                self._say(phase, now_s - window.start_s, window_s, flow.scored(window), flow.due_in(window))
                if now_s < window.end_s and (why := watch.look(now_s - window.start_s, flow)):
                    self.drive.window = window = Interval(start_s=window.start_s, end_s=clock.now_s())
                    return Scored(window=window, stopped=why, all_ended=False)
        finally:
            flow.pacer.stop()
            self.drive.facts["due_in_window"] = flow.due_in(window)
            self.drive.facts["pacer"] = dict(flow.pacer.facts)
        flow.pacer.join(_JOIN_S)
        self.drive.facts["pacer"] = dict(flow.pacer.facts)
        return Scored(window=window, stopped=None, all_ended=flow.has_answered(window))

    def idle(self, name: str, seconds: float) -> None:
        """Let the system be idle for `seconds`, where its power is metered, and note the span by `name`."""
        observer = self.subject.observe()
        if seconds > 0 and observer.meters_power:
            self.emit("idle", 0.0, seconds)
            self.drive.idle[name] = observer.idle(seconds)

    def settle(self) -> bool:
        """Wait until the server has answered all that was sent; return False if that takes too long."""
        clock = self.subject.clock
        give_up_s = clock.now_s() + self.subject.parts.experiment.protocol.timeout_s
        while any(not ticket.done for ticket in self.drive.tickets):
            if clock.now_s() > give_up_s:
                return False
            raise_if_dead(self.server)
            time.sleep(0.01)
        return True

    def label(self, text: str) -> None:
        """Say what the next schedules belong to, for whoever watches."""
        self._label = text

    @property
    def _dispersion(self) -> float | None:
        """How the arrivals' counts scatter, Poisson's being 1; None where they come and go by design."""
        arrivals = self.subject.parts.arrivals
        if isinstance(arrivals, Gamma):
            return 1.0 / arrivals.burstiness
        return 1.0 if isinstance(arrivals, Poisson | Steady) else None

    def _flow(self, drawn: Sequence[Request], start_s: float) -> _Flow:
        first_uid = UIDS * self._schedules
        self._schedules += 1
        requests = [msgspec.structs.replace(r, uid=r.uid + first_uid, due_s=r.due_s + start_s) for r in drawn]
        ended: list[Ticket] = []
        submit, keep = self.server.submit, self.drive.tickets.append
        pacer: Pacer[None] = Pacer(self.subject.clock, lambda request: keep(submit(request, ended.append)))
        self.drive.pacers.append(pacer)
        pacer.start(requests)
        return _Flow(requests, start_s, pacer, ended)

    def _poll(self, flow: _Flow, seconds: float) -> None:
        clock = self.subject.clock
        clock.sleep_until(clock.now_s() + seconds)
        raise_if_dead(self.server)
        self.subject.observe().check()
        flow.pacer.join(0.0)

    def _say(self, phase: str, elapsed_s: float, total_s: float, ended: Sequence[Ticket], n: int) -> None:
        label = f"{self._label} {phase}".strip()
        self.emit(label, min(max(elapsed_s, 0.0), total_s), total_s, figures(ended, n))


@dataclass
class _Flow:
    """One schedule under way."""

    requests: Sequence[Request]
    start_s: float
    pacer: Pacer[None]
    ended: list[Ticket]
    _due: dict[tuple[float, float], int] = field(default_factory=dict)

    def due_in(self, window: Interval) -> int:
        """Count the requests due inside `window`."""
        key = (window.start_s, window.end_s)
        if key not in self._due:
            self._due[key] = sum(window.start_s <= r.due_s < window.end_s for r in self.requests)
        return self._due[key]

    def scored(self, window: Interval) -> list[Ticket]:
        """Return what has been answered of the requests due inside `window`."""
        return [t for t in list(self.ended) if window.start_s <= t.request.due_s < window.end_s]

    def has_answered(self, window: Interval) -> bool:
        """Say whether every request due inside `window` has come to its end."""
        return len(self.ended) >= self.due_in(window) == len(self.scored(window))


@dataclass
class _QueueWatch:
    """Looks at the number of requests in the system now and then, and says when it grows without end.

    Without a `dispersion` nothing can be said: a burst looks like an overload until it is over.
    """

    rate_rps: float
    dispersion: float | None
    t_s: list[float] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)

    def look(self, elapsed_s: float, flow: _Flow) -> str | None:
        """Return why the traffic should end now; None while it should go on."""
        if self.dispersion is None:
            return None
        self.t_s.append(elapsed_s)
        self.in_flight.append(len(flow.pacer.ready_s) - len(flow.ended))
        return saturating(
            np.array(self.t_s),
            np.array(self.in_flight, dtype=float),
            rate_rps=self.rate_rps,
            service_s=_longest_service_s(flow.ended),
            dispersion=self.dispersion,
        )


def _longest_service_s(ended: Sequence[Ticket]) -> float | None:
    """Return the longest time that an answered request spent in the engine; None before there is one."""
    spans_s = [t.done_s - t.batch.admitted_s for t in list(ended) if t.done_s is not None and t.batch]
    return max(spans_s, default=None)


def is_steady(ended: Sequence[Ticket]) -> bool:
    """Say whether the latencies of what has been answered have converged."""
    served = [(t.done_s, t.done_s - t.request.due_s) for t in list(ended) if t.done_s is not None]
    if not served:
        return False
    ended_s, latency_s = np.array(served).T
    return converged(ended_s, latency_s)


def figures(ended: Sequence[Ticket], expected: int) -> str:
    """Return what a person wants to see while the window runs."""
    seen = list(ended)
    latencies = [t.done_s - t.request.due_s for t in seen if t.done_s is not None]
    if not latencies:
        return f"{len(seen)}/{expected} done"
    p50_s, p95_s = np.percentile(latencies, [50, 95])
    failed = len(seen) - len(latencies)
    text = f"{len(seen)}/{expected} done, p50 {to_ms(p50_s):.0f} ms, p95 {to_ms(p95_s):.0f} ms"
    return f"{text}, {failed} failed" if failed else text
