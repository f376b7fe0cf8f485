from __future__ import annotations

import shutil

import msgspec
import pytest

from bench.clock import WallClock
from bench.config import Compile, Model
from bench.errors import NotAvailable
from bench.model.load import LoadedModel, load_model
from bench.model.precision import PRECISIONS
from bench.model.steps import StepEngine
from tests.model.conftest import LoadTiny
from tests.model.drawn import requests
from tests.model.driving import generations, run_alone
from tests.model.small import VOCABULARY, load_small

# torch's own modules, at their first import by the compiler, use what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

MIXED = [(3, 12), (40, 5), (17, 20), (1, 9), (30, 1)]


def compiled(loaded: LoadedModel, backend: str, *, mode: str = "default", context: int = 600) -> StepEngine:
    short = msgspec.structs.replace(loaded, max_context=context)
    compile = msgspec.convert({"backend": backend, "mode": mode}, Compile)
    return StepEngine(short, WallClock(), slots=4, prefill_chunk=None, static=True, compile=compile)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """One layer, since each is traced and compiled for itself."""
    folder = tmp_path_factory.mktemp("small")
    return load_small("llama", folder, num_hidden_layers=1, max_position_embeddings=600)


@pytest.fixture(scope="module")
def engine(small: LoadedModel) -> StepEngine:
    """An engine whose decode step is traced, but not compiled to code."""
    engine = compiled(small, "eager")
    engine.prepare()
    return engine


@pytest.fixture
def plain(small: LoadedModel) -> StepEngine:
    """The same without compilation."""
    return StepEngine(small, WallClock(), slots=4, prefill_chunk=None, static=False, compile=None)


def test_compiled_steps_choose_the_tokens_of_plain_ones(plain: StepEngine, engine: StepEngine) -> None:
    batch = requests(VOCABULARY, MIXED)
    alone = run_alone(plain, batch)
    assert [g.token_ids for g in generations(engine, batch)] == [g.token_ids for g in alone]


def test_all_lengths_are_compiled_before_traffic_and_none_under_it(engine: StepEngine) -> None:
    assert engine.facts["compile"]["cache_lengths"] == [320, 640]
    assert engine.facts["compile"]["graphs"] >= 2
    assert engine.facts["compile"]["graph_breaks"] == 0
    assert engine.facts["compile_s"] > 0
    generations(engine, requests(VOCABULARY, [(310, 20), (2, 3)]))  # passes from one length to the other
    assert engine.facts["recompiles_after_prepare"] == 0


def test_the_empty_slots_share_is_counted_as_padding_of_those_that_ran(engine: StepEngine) -> None:
    alone, *pair = generations(engine, requests(VOCABULARY, [(5, 4)])) + generations(
        engine, requests(VOCABULARY, [(5, 4), (7, 3)])
    )
    assert alone.padded_decode_tokens == 3 * 3  # 3 steps beside 3 empty slots
    # Two share two empty slots for two steps; then the first runs on beside three.
    assert [g.padded_decode_tokens for g in pair] == [2 * 1 + 1 * 3, 2 * 1]
    assert {g.padded_prefill_tokens for g in (alone, *pair)} == {0}


def test_the_cache_is_static_and_holds_the_whole_context_of_all_slots(engine: StepEngine) -> None:
    cache = engine.facts["kv_cache"]
    assert cache["kind"] == "static"
    assert (cache["slots"], cache["capacity"]) == (4, 640)
    assert cache["bytes_held"] == cache["bytes_held_by_formula"] == 4 * 640 * cache["bytes_per_token"]


def test_the_inductor_backend_chooses_the_same_tokens(small: LoadedModel, plain: StepEngine) -> None:
    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    engine = compiled(small, "inductor", context=64)
    batch = requests(VOCABULARY, [(3, 6), (20, 9)])
    expected = [g.token_ids for g in generations(plain, batch)]
    assert [g.token_ids for g in generations(engine, batch)] == expected
    assert engine.facts["recompiles_after_prepare"] == 0
    engine.close()


def test_quantized_layers_are_refused_before_anything_is_compiled(load_tiny: LoadTiny) -> None:
    with pytest.raises(NotAvailable, match=r"bitsandbytes layers .* cannot be compiled"):
        compiled(load_tiny(PRECISIONS["nf4"]()), "eager")


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_on_the_gpu_compiled_steps_choose_the_tokens_of_plain_ones(mode: str) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    loaded = load_model(Model(id="tiny"), PRECISIONS["fp32"](), "sdpa", "cuda")
    plain = StepEngine(loaded, WallClock(), slots=4, prefill_chunk=None, static=False, compile=None)
    engine = compiled(loaded, "inductor", mode=mode, context=300)
    batch = requests(2000, MIXED)
    expected = [g.token_ids for g in run_alone(plain, batch)]
    assert [g.token_ids for g in generations(engine, batch)] == expected
    assert engine.facts["recompiles_after_prepare"] == 0
    engine.close()
