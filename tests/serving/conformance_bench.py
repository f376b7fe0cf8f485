"""bench's own server as a batcher that the conformance cases can call, and an engine that is watched."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from bench.clock import Clock, WallClock
from bench.protocols import Engine, Policy
from bench.records import Failure, Generation, Request
from bench.serving.policies import (
    POLICIES,
    BucketBatching,
    ContinuousBatching,
    Deadline,
    DynamicBatching,
    NoBatching,
    StaticBatching,
)
from bench.serving.queue import Ticket
from bench.serving.server import Server

from .conformance import Batcher, Death, Limits, Make, Model

SAMPLES: dict[str, Policy] = {
    "none": NoBatching(),
    "static": StaticBatching(size=4),
    "dynamic": DynamicBatching(max_size=4, max_wait_ms=2),
    "dynamic with options": DynamicBatching(
        max_size=6,
        max_wait_ms=2,
        preferred_sizes=(2, 4),
        max_batch_tokens=120,
        look_ahead=3,
        settle_ms=1,
        deadline=Deadline(ms=50, base_ms=1, per_request_ms=1),
    ),
    "bucket": BucketBatching(max_size=4, max_wait_ms=2, edges=(8,)),
    "continuous": ContinuousBatching(max_size=4),
    "continuous with options": ContinuousBatching(max_size=4, max_batch_tokens=60, prefill_chunk=4),
}
"""A policy of every kind, and with its options."""
assert {type(policy) for policy in SAMPLES.values()} == set(POLICIES.values())


class CallEngine:
    """An engine whose one step hands all that runs to a model function, one token each."""

    max_context = 8
    facts: Mapping[str, Any] = {}

    def __init__(self, model: Model, clock: Clock, *, joins: bool) -> None:
        self.joins = joins
        self.answers: dict[int, int] = {}
        self._model = model
        self._clock = clock
        self._running: list[Request] = []

    def prepare(self) -> None:
        pass

    def admit(self, batch: Sequence[Request]) -> None:
        self._running += batch

    def step(self, until_s: float) -> Sequence[Generation | Failure]:
        uids = [request.uid for request in self._running]
        self.answers.update(zip(uids, self._model(uids), strict=True))
        self._running = []
        now_s = self._clock.now_s()
        return [
            Generation(uid=u, token_ids=(self.answers[u],), token_s=(now_s,), finished_s=now_s) for u in uids
        ]

    def clear(self) -> None:
        self._running = []

    def close(self) -> None:
        pass


class BenchBatcher:
    """`Server` behind the interface of the conformance cases."""

    def __init__(self, model: Model, policy: Policy) -> None:
        self._clock = WallClock()
        self._engine = CallEngine(model, self._clock, joins=policy.joins)
        self._server = Server(policy, self._engine, self._clock, queue_limit=1000, timeout_s=math.inf)
        self._server.start()

    def call(self, item: int) -> Future[int]:
        future: Future[int] = Future()

        def answer(ticket: Ticket) -> None:
            outcome = ticket.completion()
            if outcome.status == "ok":
                future.set_result(self._engine.answers[item])
            else:
                future.set_exception(RuntimeError(f"{outcome.status}: {outcome.error}"))

        request = Request(uid=item, due_s=self._clock.now_s(), prompt_ids=(1,), output_tokens=1)
        self._server.submit(request, answer)
        return future

    def end_stream(self) -> None:
        with suppress(Death):  # told to the callers already
            self._server.drain(0.0)

    def stop(self) -> None:
        self._server.close()


def bench_under(policy: Policy) -> Make:
    """Return how to make bench's server with `policy`, which must have the limits of the case."""

    def make(model: Model, limits: Limits) -> Batcher:
        assert policy.max_batch == limits.max_size
        return BenchBatcher(model, policy)

    return make


FailOn = Callable[[Sequence[Request]], BaseException | None]


class Watched:
    """An engine that is watched from outside: who was let in when, how many ran, what came out.

    `fail_on` looks at all that runs before a step and returns what the step is to raise.
    """

    def __init__(self, engine: Engine, fail_on: FailOn | None = None) -> None:
        self._engine = engine
        self._fail_on = fail_on
        self._running: dict[int, Request] = {}
        self.admitted: list[int] = []
        self.most_running = 0
        self.most_tokens = 0
        self.ended: dict[int, Generation | Failure] = {}

    @property
    def max_context(self) -> int:
        return self._engine.max_context

    @property
    def joins(self) -> bool:
        return self._engine.joins

    @property
    def facts(self) -> Mapping[str, Any]:
        return self._engine.facts

    def prepare(self) -> None:
        self._engine.prepare()

    def admit(self, batch: Sequence[Request]) -> None:
        assert batch, "an empty batch was admitted"
        assert self.joins or not self._running, "a request joined where none may"
        self.admitted += [request.uid for request in batch]
        self._running.update({request.uid: request for request in batch})
        self.most_running = max(self.most_running, len(self._running))
        self._engine.admit(batch)

    def step(self, until_s: float) -> Sequence[Generation | Failure]:
        assert self._running, "a step without requests"
        if self._fail_on is not None and (error := self._fail_on(list(self._running.values()))) is not None:
            raise error
        ended = self._engine.step(until_s)
        for outcome in ended:
            del self._running[outcome.uid]
            self.ended[outcome.uid] = outcome
        return ended

    def clear(self) -> None:
        self._running.clear()
        self._engine.clear()

    def close(self) -> None:
        self._engine.close()

    def tokens(self, uid: int) -> list[int]:
        """Return the tokens that `uid` got."""
        outcome = self.ended[uid]
        assert isinstance(outcome, Generation), outcome
        return list(outcome.token_ids)
