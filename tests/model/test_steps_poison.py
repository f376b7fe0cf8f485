"""A request whose logits are not finite fails, and what it left in its slot harms nobody after it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.clock import WallClock
from bench.model.generate import GenerateEngine
from bench.model.load import LoadedModel
from bench.model.steps import StepEngine
from bench.records import Failure, Request
from tests.model.drawn import requests
from tests.model.driving import generations, run_alone, run_batch
from tests.model.poison import NEVER_DRAWN, overflowing, with_token
from tests.model.small import VOCABULARY, load_small

HEALTHY = [(3, 12), (40, 5), (17, 9), (8, 3)]


@pytest.fixture
def small(tmp_path: Path) -> LoadedModel:
    return load_small("llama", tmp_path)


def stock(loaded: LoadedModel, batch: list[Request]) -> tuple[list[list[int]], int]:
    """Return each request's tokens alone, and an id that is in no prompt and no output."""
    alone = [list(g.token_ids) for g in run_alone(GenerateEngine(loaded, WallClock()), batch)]
    used = {token for ids in alone for token in ids}
    return alone, next(token for token in NEVER_DRAWN if token not in used)


def engine_of(loaded: LoadedModel, *, chunk: int | None = None, static: bool = False) -> StepEngine:
    engine = StepEngine(loaded, WallClock(), slots=3, prefill_chunk=chunk, static=static, compile=None)
    engine.prepare()
    return engine


def served(engine: StepEngine, batch: list[Request]) -> list[list[int]]:
    return [list(g.token_ids) for g in generations(engine, batch)]


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("chunk", [None, 7])
@pytest.mark.parametrize("place", [0, 20, 49], ids=["first", "middle", "last"])
def test_it_fails_alone_and_its_neighbours_and_successors_get_their_tokens(
    small: LoadedModel, static: bool, chunk: int | None, place: int
) -> None:
    batch = requests(VOCABULARY, HEALTHY)
    expected, bad = stock(small, batch)
    engine = engine_of(small, chunk=chunk, static=static)
    poisoned = [with_token(r, bad, place) for r in requests(VOCABULARY, [(50, 4)] * 3, first_uid=10)]
    with overflowing(small, bad):
        ended = run_batch(engine, [poisoned[0], *batch, *poisoned[1:]])
        for request in poisoned:
            failure = ended.pop(request.uid)
            assert isinstance(failure, Failure)
            assert failure.error == f"request {request.uid}: its logits are not finite in float32"
        assert [list(ended[r.uid].token_ids) for r in batch] == expected  # type: ignore[union-attr]
        # By now each slot has had one of them; short and long share a span that is read to the longest.
        assert served(engine, batch) == expected
    assert engine.facts["kv_cache"]["slots"] == 3


def test_one_that_overflows_at_a_later_token_fails_then(small: LoadedModel) -> None:
    batch = requests(VOCABULARY, HEALTHY)
    alone = served(engine_of(small), batch)
    token = alone[0][4]
    clean = [i for i, ids in enumerate(alone) if token not in [*ids[:-1], *batch[i].prompt_ids]]
    assert 0 not in clean
    with overflowing(small, token):
        ended = run_batch(engine_of(small), batch)
    assert isinstance(ended[0], Failure)
    assert {uid for uid, outcome in ended.items() if not isinstance(outcome, Failure)} == set(clean) != set()


def test_what_was_cleared_leaves_nothing_in_a_static_cache(
    small: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.model import packed

    def exhausted(_: object) -> None:
        raise MemoryError("no room to choose")

    batch = requests(VOCABULARY, HEALTHY)
    expected, bad = stock(small, batch)
    engine = engine_of(small, static=True)
    with overflowing(small, bad), monkeypatch.context() as patch:
        patch.setattr(packed, "greedy", exhausted)
        engine.admit([with_token(r, bad, 20) for r in requests(VOCABULARY, [(50, 4)] * 3)])
        with pytest.raises(MemoryError, match="no room to choose"):
            engine.step(0.0)
    engine.clear()
    assert served(engine, batch) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_row_without_a_finite_largest_logit_has_no_token(dtype: str) -> None:
    import torch

    from bench.model.packed import NOT_FINITE, greedy

    inf, nan = float("inf"), float("nan")
    rows = [[1, 3, 2], [1, nan, 9], [1, inf, 2], [-inf, 2, -inf], [-inf] * 3, [nan] * 3]
    logits = torch.tensor(rows, dtype=getattr(torch, dtype))
    assert greedy(logits).tolist() == [1, NOT_FINITE, NOT_FINITE, 1, NOT_FINITE, NOT_FINITE]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_failure_names_the_precision_and_for_fp16_what_reaches_further(
    small: LoadedModel, dtype: str
) -> None:
    import torch

    small.model.to(getattr(torch, dtype))
    (request,) = requests(VOCABULARY, [(9, 4)])
    with overflowing(small, 1):
        ended = run_batch(engine_of(small), [with_token(request, 1, 4)])
    failure = ended[0]
    assert isinstance(failure, Failure)
    assert re.search(f"not finite in {dtype}(; bf16 or fp32 reaches further)?$", failure.error)
    assert ("bf16" in failure.error) is (dtype == "float16")
