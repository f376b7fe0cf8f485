"""Runs on virtual time: recorded or drawn requests through the serving loop over a fitted law.

What comes out has the shape of a recorded run, so that every figure of it is computed by the functions that
compute it for a measured one; its source is `simulated`.

Traffic comes as it does when measured: at its due times, or, for the saturated run, one request for each
that ends, so that the policy always chooses among as many as it did then.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from bench import store
from bench.analysis.fit import Fit
from bench.analysis.recorded import window_of
from bench.clock import VirtualClock
from bench.model.fake import FakeEngine
from bench.protocols import Policy
from bench.records import Completion, Interval, Request, Run, RunMeta
from bench.run.fitted import Recorded
from bench.run.synthetic import recorded_outstanding, recorded_requests, recorded_saturating
from bench.serving.loop import EngineLoop, simulate
from bench.serving.queue import Ticket

_AROUND = 0.1
"""Traffic before the scored requests, and after them, as a share of their number."""
_SATURATED_BATCHES = 40


def replayed(run: Run, policy: Policy, recorded: Recorded) -> Run:
    """Serve a window's recorded requests again."""
    protocol = recorded.experiment.protocol
    requests = recorded_requests(run, recorded.laws)
    completions = _serve(requests, policy, recorded.fit, protocol.queue_limit, protocol.timeout_s)
    return _as_run(run, completions, window=window_of(run), rate_rps=run.meta.offered_rps)


def drawn(
    like: Run, policy: Policy, recorded: Recorded, *, n: int, rate_rps: float, seed: Sequence[int]
) -> Run:
    """Serve requests drawn from the workload's laws; `n` are scored, with traffic before and after."""
    protocol = recorded.experiment.protocol
    around = math.ceil(_AROUND * n)
    requests = recorded.laws.open_loop(n + 2 * around, rate_rps, seed)
    completions = _serve(requests, policy, recorded.fit, protocol.queue_limit, protocol.timeout_s)
    window = Interval(start_s=around / rate_rps, end_s=(around + n) / rate_rps)
    return _as_run(like, completions, window=window, rate_rps=rate_rps)


def saturated(policy: Policy, recorded: Recorded, *, alike: bool) -> Run | None:
    """Serve a saturated run: the recorded requests where the policy is the same, else drawn ones.

    As many are kept outstanding as were when measured, for another policy as many as `bench.run.drive`
    would. Scored is what ends between the end of the warm-up, as when measured, and the end of what ran when
    the last request was sent. None where no saturated run was recorded.
    """
    measured = recorded.runs.offline
    if measured is None or measured.meta.status != "complete":
        return None
    outstanding = recorded_outstanding(measured) if alike else 0
    requests = recorded_saturating(measured, recorded.laws) if alike else []
    again = 0 < outstanding < len(requests)
    if not again:
        outstanding = policy.max_batch + policy.backlog
        n, seed = outstanding + _SATURATED_BATCHES * policy.max_batch, (recorded.experiment.seed, 0, 0)
        requests = recorded.laws.saturating(n, seed)
    completions = serve_saturated(requests, policy, recorded.fit, outstanding)
    ends_s = sorted(c.done_s for c in completions if c.done_s is not None)
    warm_s = measured.meta.facts.get("offline_started_s", 0.0)
    done_s = measured.requests.column("done_s").to_pylist()
    warm = sum(1 for end_s in done_s if end_s is not None and end_s <= warm_s) if again else 1
    facts = {
        "offline_started_s": ends_s[max(1, min(warm, len(ends_s))) - 1],
        "offline_ended_s": saturated_until_s(completions),
    }
    return _as_run(measured, completions, facts=facts)


def saturated_until_s(completions: Sequence[Completion]) -> float:
    """Return until when a saturated run was full: what had been admitted before the last request was sent.

    At the latest when nobody waits any more, as from then on those that run are not replaced.
    """
    last_s = max(c.due_s for c in completions)
    admitted = [(c.admitted_s, c.done_s) for c in completions if c.admitted_s is not None]
    ends_s = [done_s for admitted_s, done_s in admitted if admitted_s < last_s and done_s is not None]
    return min(max(ends_s, default=last_s), max(admitted_s for admitted_s, _ in admitted))


class ClosedLoop:
    """An inbox that keeps `outstanding` requests under way on virtual time: one comes when one ends.

    Implements `serving.queue.Inbox`. It comes when the loop has already decided who goes next, as it does
    from a client on another thread; where the decision is to wait, it comes at once. A request is due when
    it is sent; `tickets` are those sent so far.
    """

    def __init__(self, requests: Sequence[Request], clock: VirtualClock, outstanding: int) -> None:
        """Send the first `outstanding` of `requests` at once."""
        self.tickets: list[Ticket] = []
        self.waiting: list[Ticket] = []
        self.draining = False
        self._clock = clock
        self._coming = iter(requests)
        self._ended = False
        self._sent: list[Ticket] = []
        self._let_in_s = clock.now_s()  # what was sent until then is let in
        for _ in range(outstanding):
            self._send()

    @property
    def next_arrival_s(self) -> float:
        """When the next one is let in: after the engine's next step, or its next end while others wait."""
        return -math.inf if self._sent and not self.waiting else math.inf

    def look(self) -> Sequence[Ticket]:
        """Let in what was sent before the last decision, and return it."""
        n = sum(1 for ticket in self._sent if ticket.sent_s <= self._let_in_s)
        arrived, self._sent = self._sent[:n], self._sent[n:]
        self.waiting += arrived
        self.draining = self._ended and not self._sent
        self._let_in_s = self._clock.now_s()
        return arrived

    def claim(self, indices: Collection[int]) -> list[Ticket]:
        """Take out those of `waiting`, oldest first: the caller must answer them."""
        chosen = set(indices)
        mine = [self.waiting[index] for index in sorted(chosen)]
        self.waiting = [ticket for index, ticket in enumerate(self.waiting) if index not in chosen]
        return mine

    def wait(self, until_s: float | None) -> None:
        """Return if anything was sent, else at `until_s`; RuntimeError without one, as nothing would come."""
        if self._sent or (self._ended and not self.draining):
            return
        if until_s is None:
            raise RuntimeError("the policy waits for requests that come only when one of those waiting ends")
        self._clock.sleep_until(until_s)

    def close(self) -> None:
        """Send nothing more; what was sent stays."""
        self._coming = iter(())
        self._ended = True
        self._let_in_s = math.inf

    def _send(self, _: Ticket | None = None) -> None:
        """Send the next request, if there is one."""
        request = next(self._coming, None)
        if request is None:
            self._ended = True
            return
        now_s = self._clock.now_s()
        ticket = Ticket(msgspec.structs.replace(request, due_s=now_s), now_s, self._send)
        self.tickets.append(ticket)
        self._sent.append(ticket)


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Switch the garbage collector off for a while: a simulation keeps all that it makes, without cycles.

    The collector would walk through all of it again and again, for a quarter of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def n_scored(run: Run) -> int:
    """Return how many requests are due inside a run's window."""
    window = window_of(run)
    due_s = run.requests.column("due_s").to_numpy()
    return int(((due_s >= window.start_s) & (due_s < window.end_s)).sum())


def serve_saturated(
    requests: Sequence[Request], policy: Policy, fit: Fit, outstanding: int
) -> list[Completion]:
    """Serve `requests` in their order with `outstanding` of them under way; return them in that order."""
    clock = VirtualClock()
    inbox = ClosedLoop(requests, clock, outstanding)
    engine = _engine(requests, policy, fit, clock)
    engine.prepare()
    with collector_at_rest():
        EngineLoop(inbox, policy, engine, clock, math.inf).run()
        return [ticket.completion() for ticket in inbox.tickets]


def _serve(
    requests: Sequence[Request], policy: Policy, fit: Fit, queue_limit: int, timeout_s: float
) -> list[Completion]:
    clock = VirtualClock()
    engine = _engine(requests, policy, fit, clock)
    with collector_at_rest():
        return simulate(requests, policy, engine, clock, queue_limit=queue_limit, timeout_s=timeout_s)


def _engine(requests: Sequence[Request], policy: Policy, fit: Fit, clock: VirtualClock) -> FakeEngine:
    longest = max(len(request.prompt_ids) + request.output_tokens for request in requests)
    return FakeEngine(
        clock, fit.law, style=fit.style, prefill_chunk=policy.prefill_chunk, max_context=longest
    )


def _as_run(
    like: Run,
    completions: Sequence[Completion],
    *,
    window: Interval | None = None,
    rate_rps: float | None = None,
    facts: dict[str, Any] | None = None,
) -> Run:
    """Return simulated outcomes as a run."""
    meta: RunMeta = msgspec.structs.replace(
        like.meta,
        source="simulated",
        window=window,
        offered_rps=rate_rps,
        facts={"virtual_time": True} | (facts or {}),
        missing={},
        doubts=[],
    )
    table = store.requests_table(completions)
    return Run(folder="", meta=meta, requests=table, telemetry=like.telemetry.slice(0, 0))
