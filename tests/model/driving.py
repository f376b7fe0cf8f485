"""Drives an engine without a server: what goes in together comes out, by uid."""

from __future__ import annotations

from collections.abc import Sequence

from bench.protocols import Engine
from bench.records import Failure, Generation, Request


def run_batch(engine: Engine, batch: Sequence[Request]) -> dict[int, Generation | Failure]:
    """Admit `batch` at once and step until each of its requests has ended, exactly once."""
    engine.admit(batch)
    ended: dict[int, Generation | Failure] = {}
    while len(ended) < len(batch):
        for outcome in engine.step(0.0):
            assert outcome.uid not in ended
            ended[outcome.uid] = outcome
    return ended


def generations(engine: Engine, batch: Sequence[Request]) -> list[Generation]:
    """Return the batch's generations in its order; a failure fails the test."""
    ended = run_batch(engine, batch)
    found = []
    for request in batch:
        outcome = ended[request.uid]
        assert isinstance(outcome, Generation), outcome
        found.append(outcome)
    return found


def run_alone(engine: Engine, requests: Sequence[Request]) -> list[Generation]:
    """Return each request's generation when it runs by itself."""
    return [generations(engine, [request])[0] for request in requests]
