"""The steps engine on the shipped model."""

from __future__ import annotations

from bench.clock import WallClock
from bench.model.generate import GenerateEngine
from bench.model.load import LoadedModel
from bench.model.steps import StepEngine
from bench.records import Generation, Request
from tests.model.driving import run_alone

MIXED = [(3, 12), (40, 5), (17, 20), (1, 9), (30, 1), (22, 14), (8, 3)]


def engine_of(
    loaded: LoadedModel, *, slots: int = 4, chunk: int | None = None, static: bool = False
) -> StepEngine:
    engine = StepEngine(loaded, WallClock(), slots=slots, prefill_chunk=chunk, static=static, compile=None)
    engine.prepare()
    return engine


def stock(loaded: LoadedModel, batch: list[Request]) -> list[list[int]]:
    """Return what stock `generate` gives each request alone."""
    return [list(g.token_ids) for g in run_alone(GenerateEngine(loaded, WallClock()), batch)]


def tokens(found: list[Generation]) -> list[list[int]]:
    return [list(g.token_ids) for g in found]
