"""Open-loop traffic at one rate: due times are drawn before the run, and nothing waits for answers.

First a warm-up, until latencies have converged; then the scored schedule, which is the same for all systems
however long each of them took to warm up. Traffic goes on past the window until the last request due inside
it has ended, so that its end is as loaded as its middle. A queue that grows without end is recognised on the
way, and the window ended: nothing more is to be learnt of it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bench.records import Figures, Interval, Request
from bench.run.drive import POLL_S, Drive, Emit, Subject, raise_if_dead, serving
from bench.run.ends import Ends, QueueWatch
from bench.serving.server import Server
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
_WARMUP_SHARE = 0.3
"""Of a schedule's time, for whoever watches."""
UIDS = 10_000_000
"""Requests of one schedule; the next one's uids begin after them."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a schedule: its window, and why it was ended early, None where it was not.

    `all_ended` says that every request due inside the window has come to its end; `due` is how many these
    are, `pacer` how they were sent.
    """

    window: Interval
    stopped: str | None
    all_ended: bool
    due: int
    pacer: dict[str, Any]


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
    subject.on_drawn(f"{repeat}", schedule.drawn)
    emit("prepare")
    with serving(drive, subject, server):
        drive.measure_idle(subject.observe(), "resident", protocol.idle_s, emit)
        warm = loop.warm_up(rate_rps, repeat)
        drive.facts["warmup"] = warm.facts
        scored = warm.scored or loop.score(schedule, protocol.window_s, rate_rps)
        drive.facts |= {"stopped_early": scored.stopped, "due_in_window": scored.due, "pacer": scored.pacer}
        if scored.all_ended:
            server.dismiss("the window had ended")
            loop.settle()
            drive.measure_idle(subject.observe(), "resident_after", protocol.idle_s / 3.0, emit)
            server.close()
        else:
            server.abandon()  # what runs may take minutes, and is late whatever comes of it


class Flow:
    """One schedule through a server: made before it is due, as making it would stall what runs."""

    def __init__(self, drive: Drive, server: Server, drawn: Sequence[Request], first_uid: int) -> None:
        """Take `drawn`, whose due times count from 0, under uids from `first_uid` on."""
        self.drawn = [msgspec.structs.replace(r, uid=r.uid + first_uid) for r in drawn]
        self.ends = Ends()
        submit, keep, end = server.submit, drive.tickets.append, self.ends.tickets.append
        # Collects garbage, which takes tenths of a second with a model loaded.
        self.pacer: Pacer[None] = Pacer(drive.clock, lambda request: keep(submit(request, end)))
        drive.pacers.append(self.pacer)
        self.window = Interval(start_s=0.0, end_s=0.0)

    def begin(self, start_s: float, window_s: float) -> None:
        """Send the first request `drawn` from `start_s` on; `window_s` of them count."""
        self.window = Interval(start_s=start_s, end_s=start_s + window_s)
        self.ends.due_before_s = self.window.end_s
        self.pacer.start([msgspec.structs.replace(r, due_s=r.due_s + start_s) for r in self.drawn])

    def due(self, seconds: float) -> int:
        """Count the requests that are due in the first `seconds`."""
        return bisect_left(self.drawn, seconds, key=lambda request: request.due_s)


@dataclass
class OpenLoop:
    """Sends drawn requests through a server that runs, one schedule after another.

    `begun` is the share of the whole work that is done, `share` that of the next warm-up and window.
    """

    drive: Drive
    subject: Subject
    server: Server
    emit: Emit
    label: str = ""
    begun: float = 0.0
    share: float = 1.0
    _flows: list[Flow] = field(default_factory=list)

    def draw(self, rate_rps: float, window_s: float, repeat: int) -> Flow:
        """Return the schedule of `repeat` for a window and its tail.

        The window's requests are drawn apart, so that its rate is exactly the one asked for.
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
        return self._flow(scored + tail)

    def warm_up(self, rate_rps: float, repeat: int) -> WarmUp:
        """Send traffic of its own at `rate_rps` until latencies have converged, and stop sending."""
        clock, protocol = self.subject.clock, self.subject.parts.experiment.protocol
        longest_s = protocol.longest_warmup_s
        if longest_s == 0:
            return WarmUp(converged=False, took_s=0.0, n=0)
        traffic = self.subject.traffic(repeat, _WARMUP_STREAM)
        flow = self._flow(draw_requests(traffic, rate_rps=rate_rps, duration_s=longest_s))
        start_s = clock.now_s() + LEAD_S
        flow.begin(start_s, longest_s)
        watch = QueueWatch(rate_rps, self._dispersion)
        warm, scored = False, None
        n = len(flow.drawn)
        try:
            while not warm and scored is None and (now_s := clock.now_s()) < start_s + longest_s:
                self._poll(flow, POLL_S)
                elapsed_s = now_s - start_s
                self._say("warm-up", elapsed_s, longest_s, flow, (n, rate_rps), (0.0, _WARMUP_SHARE))
                if elapsed_s >= protocol.warmup_s:
                    warm = flow.ends.is_steady()
                    if why := watch.look(elapsed_s, self._in_system, flow.ends.longest_service_s):
                        scored = self._stopped(flow, why)
        finally:
            flow.pacer.stop()
        flow.pacer.join(_JOIN_S)
        took_s = clock.now_s() - start_s
        return WarmUp(converged=warm, took_s=took_s, n=len(flow.ends.tickets), scored=scored)

    def score(self, flow: Flow, window_s: float, rate_rps: float) -> Scored:
        """Send a schedule, whose first `window_s` are scored, until all that is due in there has ended."""
        clock, protocol = self.subject.clock, self.subject.parts.experiment.protocol
        flow.begin(clock.now_s() + HANDOVER_S, window_s)
        window = self.drive.window = flow.window
        due = flow.due(window_s)
        watch = QueueWatch(rate_rps, self._dispersion)
        observer = self.subject.observe()
        edges = [window.start_s, window.end_s - observer.lead_s]
        try:
            while (now_s := clock.now_s()) < window.end_s or flow.ends.n_scored < due:
                if now_s >= window.end_s + protocol.timeout_s + LEAD_S:
                    break
                if edges and now_s >= edges[0]:
                    observer.edge()
                    edges.pop(0)
                self._poll(flow, min(POLL_S, max(edges[0] - now_s, 0.001)) if edges else POLL_S)
                elapsed_s = now_s - window.start_s
                self._say("window", elapsed_s, window_s, flow, (due, rate_rps), (_WARMUP_SHARE, 1.0))
                if now_s < window.end_s and (
                    why := watch.look(elapsed_s, self._in_system, flow.ends.longest_service_s)
                ):
                    return self._stopped(flow, why)
        finally:
            flow.pacer.stop()
        flow.pacer.join(_JOIN_S)
        return Scored(
            window=window,
            stopped=None,
            all_ended=flow.ends.n_scored >= due,
            due=due,
            pacer=dict(flow.pacer.facts),
        )

    def settle(self) -> bool:
        """Wait until the server has answered all that was sent; return False if that takes too long."""
        clock = self.subject.clock
        give_up_s = clock.now_s() + self.subject.parts.experiment.protocol.timeout_s
        while self._in_system:
            if clock.now_s() > give_up_s:
                return False
            raise_if_dead(self.server)
            time.sleep(0.01)
        return True

    def _stopped(self, flow: Flow, why: str) -> Scored:
        """End a schedule now: its window is what has passed of it."""
        flow.pacer.stop()
        flow.pacer.join(_JOIN_S)
        window = Interval(start_s=flow.window.start_s, end_s=self.subject.clock.now_s())
        self.drive.window = window
        due = flow.due(window.end_s - window.start_s)
        return Scored(window=window, stopped=why, all_ended=False, due=due, pacer=dict(flow.pacer.facts))

    @property
    def _in_system(self) -> int:
        """How many requests were sent and have not been answered."""
        answered = sum(len(flow.ends.tickets) for flow in self._flows)
        return len(self.drive.tickets) - answered

    @property
    def _dispersion(self) -> float | None:
        """How the arrivals' counts scatter, Poisson's being 1; None where they come and go by design."""
        arrivals = self.subject.parts.arrivals
        if isinstance(arrivals, Gamma):
            return 1.0 / arrivals.burstiness
        return 1.0 if isinstance(arrivals, Poisson | Steady) else None

    def _flow(self, drawn: Sequence[Request]) -> Flow:
        flow = Flow(self.drive, self.server, drawn, UIDS * len(self._flows))
        self._flows.append(flow)
        return flow

    def _poll(self, flow: Flow, seconds: float) -> None:
        clock = self.subject.clock
        clock.sleep_until(clock.now_s() + seconds)
        raise_if_dead(self.server)
        self.subject.observe().check()
        flow.pacer.join(0.0)
        flow.ends.look()

    def _say(
        self,
        phase: str,
        elapsed_s: float,
        total_s: float,
        flow: Flow,
        asked: tuple[int, float],
        part: tuple[float, float],
    ) -> None:
        """Tell how far a schedule is, of so many requests at a rate, which is this `part` of the work.

        Past its time it drains, and nobody knows for how long.
        """
        elapsed_s = max(elapsed_s, 0.0)
        done = self.begun + self.share * (part[0] + (part[1] - part[0]) * min(elapsed_s / total_s, 1.0))

        def figures() -> Figures:
            server, (due, rate_rps) = self.server, asked
            return flow.ends.so_far(
                self.subject.clock.now_s(),
                rate_rps=rate_rps,
                due=due,
                queued=server.n_waiting,
                running=server.n_running,
            )

        if elapsed_s >= total_s:
            self.emit(f"{self.label} drain".strip(), elapsed_s - total_s, done=done, figures=figures)
        else:
            self.emit(f"{self.label} {phase}".strip(), elapsed_s, total_s, done=done, figures=figures)
