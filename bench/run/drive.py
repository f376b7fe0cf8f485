"""Traffic through the server: saturated for capacity, open loop for latency.

Saturated: twice the policy's largest batch is kept outstanding, so that a full batch always waits when
the engine is free. Open loop: due times are drawn before the run and nothing waits for answers; traffic
goes on past the window until the last request due inside it has ended, so that its end is as loaded as
its middle.
"""

from __future__ import annotations

import itertools
import math
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import numpy as np

from bench.clock import Clock
from bench.errors import RunFailed
from bench.protocols import Engine, Policy, Vocabulary
from bench.records import Completion, Interval, Request
from bench.run.assemble import Parts
from bench.serving.server import Server
from bench.units import to_ms
from bench.workload.pacing import Pacer
from bench.workload.schedule import Traffic, draw_requests, draw_saturating

_LEAD_S = 0.2
"""From the end of preparation to the first due time."""
_POLL_S = 0.25
_MIN_BATCHES = 2
"""A saturated run is at least this many batches long, however slow they are."""
_OUTSTANDING_BATCHES = 2
_CHUNK = 1024
"""Requests of a saturated run that are drawn before it starts; only a fast system needs more."""


class Emit(Protocol):
    """Reports a phase's progress."""

    def __call__(
        self, phase: str, elapsed_s: float = 0.0, total_s: float | None = None, detail: str = ""
    ) -> None:
        """Report."""
        ...


@dataclass
class Drive:
    """What the traffic has brought so far."""

    completions: list[Completion] = field(default_factory=list)
    window: Interval | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Subject:
    """The system under traffic."""

    parts: Parts
    policy: Policy
    engine: Engine
    vocabulary: Vocabulary
    clock: Clock

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
        )


def drive_offline(drive: Drive, subject: Subject, emit: Emit) -> None:
    """Keep the system saturated for the protocol's `offline_s` after a warm-up; fill `drive`.

    `facts["offline_started_s"]` is the end of the last warm-up batch and `offline_ended_s` the end of
    the last batch: between them lie whole batches only. Raises RunFailed with the requests' own error
    when none of the first ones is served.
    """
    protocol = subject.parts.experiment.protocol
    clock = subject.clock
    outstanding = _OUTSTANDING_BATCHES * subject.policy.max_batch
    # Nobody waits for these requests: the users' timeout and queue limit do not apply to them.
    server = subject.server(queue_limit=outstanding, timeout_s=math.inf)
    requests = _endless(subject)
    answered: queue.SimpleQueue[Completion] = queue.SimpleQueue()

    def submit() -> None:
        server.submit(next(requests)).add_done_callback(lambda future: answered.put(future.result()))

    total_s = protocol.warmup_s + protocol.offline_s
    server.start()
    started_s = clock.now_s()
    warm_s = started_s + protocol.warmup_s
    try:
        for _ in range(outstanding):
            submit()
        while not _enough(batch_ends_s(drive.completions), warm_s, protocol.offline_s):
            _raise_if_dead(server)
            try:
                drive.completions.append(answered.get(timeout=_POLL_S))
            except queue.Empty:
                pass
            else:
                _raise_if_hopeless(drive.completions, outstanding)
                submit()
            elapsed_s = clock.now_s() - started_s
            emit("offline", min(elapsed_s, total_s), total_s, f"{len(drive.completions)} done")
        server.close()
    except BaseException:
        server.abandon()
        raise
    finally:
        while not answered.empty():
            drive.completions.append(answered.get())
    ends_s = [end_s for end_s in batch_ends_s(drive.completions) if end_s >= warm_s]
    drive.facts |= {"offline_started_s": ends_s[0], "offline_ended_s": ends_s[-1]}


def drive_window(drive: Drive, subject: Subject, emit: Emit, *, rate_rps: float, repeat: int) -> None:
    """Send the schedule of `repeat` at `rate_rps`: warm-up, window, and on until the window has ended."""
    protocol = subject.parts.experiment.protocol
    clock = subject.clock
    server = subject.server(queue_limit=protocol.queue_limit, timeout_s=protocol.timeout_s)
    scheduled_s = protocol.warmup_s + protocol.window_s
    tail_s = min(protocol.timeout_s, max(10.0, protocol.window_s))
    drawn = draw_requests(subject.traffic(repeat), rate_rps=rate_rps, duration_s=scheduled_s + tail_s)
    pacer = Pacer(clock, lambda request: server.submit(request).add_done_callback(keep))
    start_s = clock.now_s() + _LEAD_S
    requests = [msgspec.structs.replace(request, due_s=request.due_s + start_s) for request in drawn]
    window = Interval(start_s=start_s + protocol.warmup_s, end_s=start_s + scheduled_s)
    drive.window = window
    scored = {r.uid for r in requests if window.start_s <= r.due_s < window.end_s}
    ended: list[Completion] = []

    def keep(future: Future[Completion]) -> None:
        completion = future.result()
        drive.completions.append(completion)
        if completion.uid in scored:
            ended.append(completion)

    server.start()
    pacer.start(requests)
    give_up_s = window.end_s + protocol.timeout_s + _LEAD_S
    try:
        while clock.now_s() < window.end_s or (len(ended) < len(scored) and clock.now_s() < give_up_s):
            clock.sleep_until(clock.now_s() + _POLL_S)
            _raise_if_dead(server)
            pacer.join(0.0)
            elapsed_s = clock.now_s() - start_s
            phase = "warm-up" if elapsed_s < protocol.warmup_s else "window"
            phase = phase if elapsed_s < scheduled_s else "drain"
            emit(phase, min(elapsed_s, scheduled_s), scheduled_s, _figures(ended, len(scored)))
        pacer.stop()
        server.close()
    except BaseException:
        pacer.stop()
        server.abandon()
        raise


def _endless(subject: Subject) -> Iterator[Request]:
    """Yield requests that are due at once, for ever; the first chunk is drawn before this returns."""
    now_s = subject.clock.now_s
    first = draw_saturating(subject.traffic(0, 0), n=_CHUNK)

    def requests() -> Iterator[Request]:
        chunk = first
        for number in itertools.count(1):
            for request in chunk:
                yield msgspec.structs.replace(request, due_s=now_s())
            chunk = draw_saturating(subject.traffic(0, number), n=_CHUNK, first_uid=number * _CHUNK)

    return requests()


def batch_ends_s(completions: Sequence[Completion]) -> list[float]:
    """Return when each batch gave its last answer, ascending; batches that failed count too."""
    ends_s: dict[int, float] = {}
    for completion in completions:
        if completion.batch_id is not None and completion.done_s is not None:
            ends_s[completion.batch_id] = max(completion.done_s, ends_s.get(completion.batch_id, 0.0))
    return sorted(ends_s.values())


def _enough(ends_s: list[float], warm_s: float, offline_s: float) -> bool:
    """Say whether enough whole batches have ended after the warm-up."""
    counted = [end_s for end_s in ends_s if end_s >= warm_s]
    return len(counted) > _MIN_BATCHES and counted[-1] - counted[0] >= offline_s


def _raise_if_dead(server: Server) -> None:
    if server.error is not None:
        raise RunFailed(
            f"the engine thread ended: {type(server.error).__name__}: {server.error}"
        ) from server.error


def _raise_if_hopeless(completions: list[Completion], enough: int) -> None:
    if len(completions) >= enough and all(c.status != "ok" for c in completions):
        raise RunFailed(f"every request failed, the first with: {completions[0].error}")


def _figures(ended: list[Completion], expected: int) -> str:
    """Return what a person wants to see while the window runs."""
    latencies = [c.done_s - c.due_s for c in list(ended) if c.status == "ok" and c.done_s is not None]
    if not latencies:
        return f"{len(ended)}/{expected} done"
    p50_s, p95_s = np.percentile(latencies, [50, 95])
    failed = len(ended) - len(latencies)
    text = f"{len(ended)}/{expected} done, p50 {to_ms(p50_s):.0f} ms, p95 {to_ms(p95_s):.0f} ms"
    return f"{text}, {failed} failed" if failed else text
