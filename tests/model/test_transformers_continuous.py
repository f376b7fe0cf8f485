from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.clock import Clock, VirtualClock, WallClock
from bench.config import Model
from bench.errors import NotAvailable, RunFailed
from bench.model.engines import TransformersContinuous
from bench.model.generate import GenerateEngine
from bench.model.kv_cache import Paged
from bench.model.load import LoadedModel, load_model
from bench.model.precision import Fp32, Int8
from bench.model.transformers_continuous import ContinuousEngine
from bench.protocols import Engine
from bench.records import Failure, Generation, Request
from tests.model.conftest import LoadTiny
from tests.model.drawn import cut_at, requests
from tests.model.driving import generations, run_alone, run_batch
from tests.model.small import SMALL, load_small

Open = Callable[..., ContinuousEngine]
MIXED = [(3, 12), (40, 5), (17, 20), (1, 9)]
SLOTS = 4


@pytest.fixture(scope="module")
def short(tiny: LoadedModel) -> LoadedModel:
    """The tiny model with a short context, so that the cache is small."""
    return msgspec.structs.replace(tiny, max_context=128)


@pytest.fixture(scope="module")
def reference() -> LoadedModel:
    """The same model once more: a running engine may have changed the attention of its own."""
    return load_short()


def load_short(attention: str = "sdpa") -> LoadedModel:
    loaded = load_model(Model(id="tiny"), Fp32(), attention, "cpu")
    return msgspec.structs.replace(loaded, max_context=128)


@pytest.fixture(scope="module")
def engine() -> Iterator[ContinuousEngine]:
    """An engine that several tests use one after another."""
    engine = build(load_short())
    engine.prepare()
    yield engine
    engine.close()


def build(
    loaded: LoadedModel, *, prefill_chunk: int | None = None, clock: Clock | None = None, **keys: Any
) -> ContinuousEngine:
    engine = TransformersContinuous(**keys).build(
        loaded,
        clock or WallClock(),
        slots=SLOTS,
        prefill_chunk=prefill_chunk,
        cache=Paged(),
        compile=None,
    )
    assert isinstance(engine, ContinuousEngine)
    return engine


@pytest.fixture
def opened() -> Iterator[Open]:
    """Prepare engines and close them; no thread may be left, and no model changed."""
    threads = set(threading.enumerate())
    engines: list[tuple[ContinuousEngine, LoadedModel, str]] = []

    def open_engine(loaded: LoadedModel, **options: Any) -> ContinuousEngine:
        engine = build(loaded, **options)
        engines.append((engine, loaded, loaded.model.config._attn_implementation))
        engine.prepare()
        return engine

    yield open_engine
    for engine, loaded, attention in engines:
        engine.close()
        assert loaded.model.config._attn_implementation == attention
    assert set(threading.enumerate()) == threads


def tokens(engine: Engine, batch: list[Request]) -> list[list[int]]:
    return [list(g.token_ids) for g in generations(engine, batch)]


def stock(loaded: LoadedModel, batch: list[Request]) -> list[list[int]]:
    return [list(g.token_ids) for g in run_alone(GenerateEngine(loaded, WallClock()), batch)]


def test_each_request_gets_the_tokens_that_stock_generate_gives_it_alone(
    engine: ContinuousEngine, reference: LoadedModel
) -> None:
    batch = requests(2000, MIXED)
    expected = stock(reference, batch)
    assert tokens(engine, batch) == expected
    assert len({tuple(ids[:5]) for ids in expected}) > 1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_chunked_prompts_give_the_same_tokens(attention: str, tmp_path: Path, opened: Open) -> None:
    loaded = load_small("llama", tmp_path, attention)
    batch = requests(190, MIXED)
    expected = stock(loaded, batch)
    engine = opened(loaded, prefill_chunk=8)
    assert tokens(engine, batch) == expected
    assert attention in engine.facts["attention"]


@pytest.mark.parametrize("family", SMALL)
def test_other_families_give_the_same_tokens_too(family: str, tmp_path: Path, opened: Open) -> None:
    loaded = load_small(family, tmp_path)
    batch = requests(190, MIXED)
    expected = stock(loaded, batch)
    assert tokens(opened(loaded), batch) == expected


def test_int8_weights_run_in_it(load_tiny: LoadTiny, opened: Open) -> None:
    loaded = msgspec.structs.replace(load_tiny(Int8()), max_context=128)
    assert [len(ids) for ids in tokens(opened(loaded), requests(2000, MIXED))] == [12, 5, 20, 9]


class Gate:
    """Holds a model's forward pass until it is opened, so that what runs cannot end before."""

    def __init__(self, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0
        self._open = threading.Event()
        stock_forward = loaded.model.forward

        def held(*args: Any, **options: Any) -> Any:
            self._open.wait()
            self.passed += 1
            return stock_forward(*args, **options)

        self._open.set()
        monkeypatch.setattr(loaded.model, "forward", held)

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()


def test_a_request_joins_while_another_runs_and_leaves_before_it(
    short: LoadedModel, reference: LoadedModel, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, brief = requests(2000, [(20, 60), (5, 3)])
    expected = stock(reference, [long, brief])
    gate = Gate(short, monkeypatch)
    engine = opened(short)
    gate.hold()
    engine.admit([long])
    assert engine.step(0.0) == []
    engine.admit([brief])
    gate.release()
    ended: list[Generation | Failure] = []
    while len(ended) < 2:
        ended += engine.step(0.0)
    assert [outcome.uid for outcome in ended] == [1, 0]
    assert [ended[1].token_ids, ended[0].token_ids] == expected  # type: ignore[union-attr]


def test_tokens_are_stamped_on_the_engines_clock_between_admission_and_now(
    short: LoadedModel, opened: Open
) -> None:
    clock = WallClock()
    engine = opened(short, clock=clock)
    for request in requests(2000, [(9, 6), (30, 2)]):
        admitted_s = clock.now_s()
        (generation,) = generations(engine, [request])
        assert len(generation.token_s) == len(generation.token_ids)
        assert generation.detokenized_s is not None
        moments = [
            admitted_s,
            *generation.token_s,
            generation.finished_s,
            generation.detokenized_s,
            clock.now_s(),
        ]
        assert all(a < b for a, b in pairwise(moments))
        assert (generation.padded_prefill_tokens, generation.padded_decode_tokens) == (0, 0)


def test_a_clock_that_is_not_real_time_is_found_out(short: LoadedModel, opened: Open) -> None:
    with pytest.raises(RunFailed, match="do not lie on the run's clock"):
        opened(short, clock=VirtualClock(start_s=5.0))


def test_exact_ignores_the_end_token_and_natural_ends_at_it(
    short: LoadedModel, reference: LoadedModel, opened: Open
) -> None:
    batch = requests(2000, [(9, 12), (5, 12)])
    plain = stock(reference, batch)
    ends = plain[0][4]
    engine = opened(msgspec.structs.replace(short, eos_ids=(ends,)))
    natural = msgspec.structs.replace(batch[0], uid=7, stop="natural")
    assert tokens(engine, [*batch, natural]) == [*plain, cut_at(plain[0], ends)]


def test_a_bad_request_fails_alone_and_never_reaches_the_manager(
    engine: ContinuousEngine, reference: LoadedModel
) -> None:
    good, too_long, empty, outside = requests(2000, [(9, 6), (120, 9), (0, 4), (2, 4)])
    expected = stock(reference, [good])
    outside = msgspec.structs.replace(outside, prompt_ids=(5, 999_999))
    ended = run_batch(engine, [too_long, good, empty, outside])
    failures = {uid: end.error for uid, end in ended.items() if isinstance(end, Failure)}
    assert set(failures) == {1, 2, 3}
    assert "outside the vocabulary" in failures[3]
    assert [ended[0].token_ids] == expected  # type: ignore[union-attr]
    assert engine.facts["restarts"] == 0


def test_a_request_beyond_the_whole_cache_fails_alone(short: LoadedModel, opened: Open) -> None:
    engine = opened(short, block_size=4, num_blocks=8)
    assert engine.max_context == 32
    ended = run_batch(engine, requests(2000, [(20, 13), (20, 12)]))
    assert isinstance(ended[0], Failure)
    assert "longer than the whole KV cache of 32 tokens" in ended[0].error
    assert isinstance(ended[1], Generation)


def test_a_cache_too_small_for_all_at_once_still_answers_each_request(
    short: LoadedModel, reference: LoadedModel, opened: Open
) -> None:
    batch = requests(2000, [(10, 20), (12, 18), (9, 20)])
    expected = dict(enumerate(stock(reference, batch)))
    ended = run_batch(opened(short, block_size=4, num_blocks=8), batch)
    for uid, outcome in ended.items():
        if isinstance(outcome, Failure):
            assert "raise the engine's num_blocks" in outcome.error
        else:
            assert outcome.token_ids == expected[uid]
    assert any(isinstance(outcome, Generation) for outcome in ended.values())


def test_what_was_cleared_is_never_returned_and_the_same_uids_run_again(
    short: LoadedModel, reference: LoadedModel, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = requests(2000, MIXED)
    expected = stock(reference, batch)
    gate = Gate(short, monkeypatch)
    engine = opened(short)
    for steps in (0, 1):
        gate.hold()
        engine.admit(requests(2000, [(30, 1)] * SLOTS))
        for _ in range(steps):
            assert engine.step(0.0) == []
        engine.clear()
        gate.release()  # the iteration that was under way ends all four, whose results nobody wants now
        assert tokens(engine, batch) == expected
    with pytest.raises(RuntimeError, match="nothing runs"):
        engine.step(0.0)


def test_what_was_cleared_is_not_computed_on(
    short: LoadedModel, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(short, monkeypatch)
    engine = opened(short)
    gate.hold()
    engine.admit(requests(2000, [(30, 90)] * SLOTS))
    engine.clear()
    before = gate.passed
    gate.release()
    generations(engine, requests(2000, [(5, 4)]))
    assert gate.passed - before <= 4 + 2  # the new request's, and what was under way


def step_until_it_raises(engine: Engine) -> None:
    for _ in range(1000):
        assert engine.step(0.0) == []


def exhausted(*_: object, **__: object) -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_in_the_managers_thread_reaches_the_caller_and_a_new_thread_serves_on(
    short: LoadedModel, reference: LoadedModel, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    batch = requests(2000, MIXED)
    expected = stock(reference, batch)
    engine = opened(short)
    with monkeypatch.context() as patch:
        patch.setattr(short.model, "forward", exhausted)
        engine.admit(batch)
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            step_until_it_raises(engine)
        with pytest.raises(torch.OutOfMemoryError):  # it takes nothing more
            engine.admit(requests(2000, [(4, 4)], first_uid=9))
    engine.clear()
    assert tokens(engine, batch) == expected
    assert engine.facts["restarts"] == 1


def test_closing_ends_what_runs_and_may_be_done_twice(short: LoadedModel, opened: Open) -> None:
    engine = opened(short)
    engine.admit(requests(2000, [(30, 90)] * SLOTS))
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="nothing runs"):
        engine.step(0.0)


def test_what_transformers_would_choose_by_itself_is_pinned_and_recorded(
    short: LoadedModel, opened: Open
) -> None:
    facts = opened(short, prefill_chunk=48).facts
    assert facts["prefix_sharing"] is False
    assert (facts["cuda_graphs"], facts["async_batching"], "compile" in facts) == (False, False, False)
    assert facts["attention"] in {"sdpa", "paged|sdpa"}
    assert (facts["num_blocks"], facts["block_size"]) == (SLOTS * 128 // 32, 32)
    assert (facts["max_batch_tokens"], facts["max_requests"]) == (48, SLOTS)
    cache = facts["kv_cache"]
    assert (cache["kind"], cache["class"]) == ("paged", "PagedAttentionCache")
    assert cache["bytes_held_by_formula"] == SLOTS * 128 * 2048
    spare = 2 * 32 * 2048  # two blocks that are never given out
    assert cache["bytes_held"] == cache["bytes_held_by_formula"] + spare


def test_identical_prompts_get_the_same_tokens(engine: ContinuousEngine, reference: LoadedModel) -> None:
    (request,) = requests(2000, [(100, 4)])
    twin = msgspec.structs.replace(request, uid=1)
    expected = stock(reference, [request])
    assert tokens(engine, [request]) == tokens(engine, [twin]) == expected


def test_a_model_that_the_manager_does_not_run_is_one_clear_line(tmp_path: Path, opened: Open) -> None:
    loaded = load_small("mamba", tmp_path, "eager", max_position_embeddings=96)
    with pytest.raises(NotAvailable, match="continuous batching does not run mamba models") as caught:
        opened(loaded)
    assert 'use engine = "steps" or "generate"' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cache_that_does_not_fit_says_what_to_lower(short: LoadedModel, opened: Open) -> None:
    import torch

    def too_much(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(short.model), "init_continuous_batching", too_much)
        with pytest.raises(NotAvailable, match="a KV cache of 512 tokens does not fit in memory"):
            opened(short)


def test_eager_attention_is_given_back_after_a_failed_start(opened: Open) -> None:
    loaded = load_short("eager")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded.model, "forward", exhausted)
        with pytest.raises(NotAvailable, match="does not fit in memory"):
            opened(loaded)
    assert loaded.model.config._attn_implementation == "eager"
