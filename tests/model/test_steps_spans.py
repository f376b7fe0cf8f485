"""Attention of running requests of unlike length is cut into spans, each read to its own longest."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.clock import WallClock
from bench.model.generate import GenerateEngine
from bench.model.steps import StepEngine
from tests.model.drawn import requests
from tests.model.driving import generations, run_alone
from tests.model.small import VOCABULARY, load_small


def test_neighbours_are_cut_where_that_saves_more_than_a_call_costs() -> None:
    from bench.model.ragged import split

    assert split([], 0) == []
    assert split([7], 0) == [(0, 1)]
    assert split([10, 10, 10], 0) == [(0, 3)]
    assert split([100, 90, 10, 12, 11], 50) == [(0, 2), (2, 5)]
    assert split([100, 90, 10, 12, 11], 300) == [(0, 5)]
    assert split([10, 100, 20], 0) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_spans_change_no_tokens(
    family: str, attention: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.model import ragged

    monkeypatch.setattr(ragged, "_CALL_BYTES", {"cpu": 0})
    loaded = load_small(family, tmp_path, attention)
    batch = requests(VOCABULARY, [(3, 12), (40, 5), (17, 20), (1, 9), (30, 1), (22, 14), (8, 3)])
    engine = StepEngine(loaded, WallClock(), slots=5, prefill_chunk=None, static=False, compile=None)
    together = [list(g.token_ids) for g in generations(engine, batch)]
    stock = run_alone(GenerateEngine(loaded, WallClock()), batch)
    assert together == [list(g.token_ids) for g in stock]
