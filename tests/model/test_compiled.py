from __future__ import annotations

import shutil

import msgspec
import pytest

from bench.clock import WallClock
from bench.config import Compile, Model
from bench.errors import NotAvailable, TreatmentError
from bench.model.kv_cache import Static
from bench.model.load import LoadedModel, load_model
from bench.model.precision import PRECISIONS
from bench.model.steps import StepEngine
from bench.model.treatment import check_engine
from bench.records import Failure, Request
from tests.model.conftest import LoadTiny
from tests.model.drawn import requests
from tests.model.driving import generations, run_alone, run_batch
from tests.model.poison import NEVER_DRAWN, overflowing, with_token
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


def poisoned(first_uid: int, token: int) -> list[Request]:
    """Requests of which each makes NaN in its slot, at the last position of its prompt."""
    return [with_token(r, token, 29) for r in requests(VOCABULARY, [(30, 4)] * 4, first_uid=first_uid)]


@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_one_that_is_not_finite_fails_and_harms_no_successor_in_its_slot(
    small: LoadedModel, plain: StepEngine, backend: str
) -> None:
    if backend == "inductor" and shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    batch = requests(VOCABULARY, [(3, 6), (20, 9)])
    expected = [g.token_ids for g in generations(plain, batch)]
    bad = next(token for token in NEVER_DRAWN[1:] if all(token not in ids for ids in expected))
    engine = compiled(small, backend, context=64)
    engine.prepare()
    with overflowing(small, bad):
        ended = run_batch(engine, poisoned(10, bad))
        assert {type(outcome) for outcome in ended.values()} == {Failure}
        assert [g.token_ids for g in generations(engine, batch)] == expected
    # Also where it is a token of its own output that overflows, thus within the compiled step.
    with overflowing(small, expected[0][2]):
        assert isinstance(run_batch(engine, batch)[0], Failure)
    assert [g.token_ids for g in generations(engine, batch)] == expected
    engine.close()


def test_what_an_empty_slot_computes_harms_nobody_who_takes_it(small: LoadedModel, plain: StepEngine) -> None:
    found = {r.uid: (r, run_alone(plain, [r])[0].token_ids) for r in requests(VOCABULARY, [(9, 4)] * 9)}
    batch = [request for request, ids in found.values() if 0 not in ids][:4]
    expected = [found[request.uid][1] for request in batch]
    assert len(batch) == 4
    engine = compiled(small, "eager", context=64)
    engine.prepare()
    with overflowing(small, 0):  # what empty slots are fed
        assert [g.token_ids for g in generations(engine, batch[:1])] == expected[:1]
        assert [g.token_ids for g in generations(engine, batch)] == expected


def test_without_a_compiler_at_work_the_run_does_not_pass_for_compiled(
    small: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    engine = compiled(small, "eager", context=64)
    engine.prepare()
    with pytest.raises(TreatmentError, match="a compiled graph for each of 1 cache lengths, found 0"):
        check_engine(engine.facts, Static(), Compile(backend="eager"))


def test_too_many_shapes_are_refused_and_not_run_uncompiled(small: LoadedModel) -> None:
    import torch._dynamo

    engine = compiled(small, "eager")
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=False):
        with pytest.raises(NotAvailable, match=r"compile with backend eager failed: .*recompile"):
            engine.prepare()
        assert not torch._dynamo.config.fail_on_recompile_limit_hit  # others in this process may want to


def test_falling_back_under_traffic_is_an_error(small: LoadedModel) -> None:
    import torch._dynamo
    from torch._dynamo.exc import FailOnRecompileLimitHit

    engine = compiled(small, "eager", context=64)
    engine.prepare()
    engine.admit(requests(VOCABULARY, [(5, 4)]))
    small.model.train()  # no compiled code was made for that
    try:
        with (
            torch._dynamo.config.patch(recompile_limit=1),
            pytest.raises(FailOnRecompileLimitHit, match="fail_on_recompile_limit_hit"),
        ):
            engine.step(0.0)
    finally:
        small.model.eval()
        engine.close()


def test_cuda_graphs_that_were_asked_for_on_a_cpu_are_not_claimed(small: LoadedModel) -> None:
    engine = compiled(small, "cudagraphs", context=64)
    engine.prepare()
    found = engine.facts["compile"]
    assert (found["device"], found["cuda_graphs"]) == ("cpu", False)
    assert found["cuda_graph_skips"] > 0
    check_engine(engine.facts, Static(), Compile(backend="cudagraphs"))
    engine.close()


def test_facts_outlive_what_was_compiled_and_closing_never_raises(
    small: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._dynamo

    def gone() -> None:
        raise AssertionError("this thread has no graphs")

    engine = compiled(small, "eager", context=64)
    engine.prepare()
    facts = engine.facts
    with monkeypatch.context() as patch:
        patch.setattr(torch._dynamo, "reset", gone)
        engine.close()
    engine.close()
    other = compiled(small, "eager", context=64)
    other.prepare()
    assert engine.facts == facts
    other.close()


def test_a_mode_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match='mode = "max-autotune" does nothing with backend = "eager"'):
        Compile(mode="max-autotune", backend="eager")
    assert Compile(mode="default", backend="eager").cuda_graphs is False


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
    assert engine.facts["compile"]["cuda_graphs"] is (mode == "reduce-overhead")
    assert engine.facts["compile"]["cuda_graph_skips"] == 0
    engine.close()
