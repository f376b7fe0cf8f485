"""What only a GPU can show; skipped without one."""

from __future__ import annotations

import pytest

from bench.clock import WallClock
from bench.config import Model
from bench.model.engines import ENGINES
from bench.model.generate import GenerateEngine
from bench.model.kv_cache import KV_CACHES, Quantized
from bench.model.load import load_model
from bench.model.memory import reset_peaks, torch_memory
from bench.model.precision import Fp16, Int8, Nf4, Precision
from bench.model.treatment import check_engine, check_treatment
from bench.records import Request
from tests.model.driving import generations

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _needs_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.mark.parametrize("precision", [Fp16(), Int8(), Int8(threshold=0.0), Nf4()], ids=repr)
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_a_precision_is_in_force_on_the_gpu_and_generates(precision: Precision, weights: str) -> None:
    model = Model(id="tiny", weights="random" if weights == "random" else "pretrained")
    loaded = load_model(model, precision, "sdpa", "cuda")
    assert check_treatment(loaded, precision, "sdpa")["device"] == "cuda"
    batch = [
        Request(uid=uid, due_s=0.0, prompt_ids=tuple(range(5, 5 + prompt)), output_tokens=output)
        for uid, (prompt, output) in enumerate([(30, 8), (4, 3)])
    ]
    ended = generations(GenerateEngine(loaded, WallClock()), batch)
    assert [len(g.token_ids) for g in ended] == [8, 3]
    assert [g.padded_prefill_tokens for g in ended] == [0, 26]
    assert [g.padded_decode_tokens for g in ended] == [0, 5]


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, row in ENGINES.items() for kind in row.kv_caches]
)
def test_every_engine_generates_on_the_gpu_with_each_of_its_caches(name: str, kind: str) -> None:
    loaded = load_model(Model(id="tiny"), Fp16(), "sdpa", "cuda")
    cache = Quantized(backend="fp8") if kind == "quantized" else KV_CACHES[kind]()
    engine = ENGINES[name]().build(
        loaded, WallClock(), slots=2, prefill_chunk=None, cache=cache, compile=None
    )
    engine.prepare()
    try:
        batch = [
            Request(uid=uid, due_s=0.0, prompt_ids=tuple(range(5, 5 + prompt)), output_tokens=output)
            for uid, (prompt, output) in enumerate([(30, 8), (4, 3)])
        ]
        assert [len(g.token_ids) for g in generations(engine, batch)] == [8, 3]
        check_engine(engine.facts, cache, None)
        assert (engine.facts["kv_cache"]["bytes_held"] > 0) is (kind != "off")
    finally:
        engine.close()


def test_building_random_int8_weights_never_holds_the_fp16_model() -> None:
    reset_peaks("cuda")
    loaded = load_model(Model(id="qwen2.5-7b", weights="random"), Int8(), "sdpa", "cuda")
    peak_gb = torch_memory("cuda")["torch_allocated_peak_gb"].value
    assert peak_gb is not None
    assert peak_gb * 1e9 < loaded.facts["predicted_weight_bytes"] + 1.5e9 < 2 * loaded.facts["parameters"]
