from __future__ import annotations

from typing import Any

import pytest

from bench.config import Compile, Model
from bench.errors import TreatmentError
from bench.model.kv_cache import Dynamic, KvCache, Paged, Static
from bench.model.load import load_model
from bench.model.precision import Bf16, Fp16, Fp32, Int8, Nf4, Precision
from bench.model.treatment import check_engine, check_treatment
from tests.model.conftest import LoadTiny

ALL: list[Precision] = [Fp32(), Bf16(), Fp16(), Int8(), Int8(threshold=0.0), Nf4(), Nf4(double_quant=True)]


@pytest.mark.parametrize("precision", ALL, ids=repr)
def test_the_tiny_model_is_what_its_precision_says(load_tiny: LoadTiny, precision: Precision) -> None:
    found = check_treatment(load_tiny(precision), precision, "sdpa")
    assert set(found["linear_layers"]) == {precision.linear_class}
    assert set(found["linear_dtypes"]) == {precision.storage_dtype}
    assert found["linear_bytes"] <= found["linear_bytes_expected"]


@pytest.mark.parametrize("precision", [Fp16(), Int8(), Nf4()], ids=repr)
def test_random_weights_are_really_quantized_and_take_the_predicted_bytes(precision: Precision) -> None:
    loaded = load_model(Model(id="tiny", weights="random"), precision, "eager", "cpu")
    found = check_treatment(loaded, precision, "eager")
    assert found["linear_bytes"] == found["linear_bytes_expected"]
    buffers = found["total_bytes"] - loaded.facts["predicted_weight_bytes"]
    assert 0 < buffers < 2_000  # the rotary frequencies
    assert loaded.vocabulary.tokenizer is None


def test_int8_and_nf4_take_fewer_bytes_than_fp16(load_tiny: LoadTiny) -> None:
    taken = [check_treatment(load_tiny(p), p, "sdpa")["linear_bytes"] for p in (Fp16(), Int8(), Nf4())]
    assert taken[0] > 1.8 * taken[1]
    assert taken[1] > 1.6 * taken[2]


@pytest.mark.parametrize(
    ("loaded_as", "named"),
    [
        (Fp16(), Int8()),
        (Int8(), Fp16()),
        (Fp16(), Fp32()),
        (Bf16(), Fp16()),
        (Int8(), Nf4()),
        (Int8(threshold=0.0), Int8(threshold=6.0)),
    ],
    ids=repr,
)
def test_a_model_under_another_precisions_name_fails(
    load_tiny: LoadTiny, loaded_as: Precision, named: Precision
) -> None:
    with pytest.raises(TreatmentError, match="is not in force"):
        check_treatment(load_tiny(loaded_as), named, "sdpa")


def test_another_attention_than_asked_for_fails(load_tiny: LoadTiny) -> None:
    with pytest.raises(TreatmentError, match="expected eager attention, found sdpa"):
        check_treatment(load_tiny(Fp16()), Fp16(), "eager")


def test_a_single_layer_that_was_left_unquantized_fails() -> None:
    import torch

    loaded = load_model(Model(id="tiny"), Int8(), "sdpa", "cpu")
    attention = loaded.model.model.layers[0].self_attn
    rows, columns = attention.q_proj.weight.shape
    attention.q_proj = torch.nn.Linear(columns, rows, bias=False, dtype=torch.float16)
    with pytest.raises(TreatmentError, match=r"expected layers of \['Linear8bitLt'\]"):
        check_treatment(loaded, Int8(), "sdpa")


def test_a_16_bit_copy_kept_beside_the_8_bit_weights_fails() -> None:
    loaded = load_model(Model(id="tiny"), Int8(), "sdpa", "cpu")
    for layer in loaded.model.model.layers:
        layer.mlp.up_proj.weight.CB = layer.mlp.up_proj.weight.data.half()
        layer.mlp.down_proj.weight.CB = layer.mlp.down_proj.weight.data.half()
    with pytest.raises(TreatmentError, match="bytes of linear weights"):
        check_treatment(loaded, Int8(), "sdpa")


def test_expert_weights_outside_linear_layers_do_not_pass_for_quantized() -> None:
    import torch

    loaded = load_model(Model(id="tiny"), Int8(), "sdpa", "cpu")
    loaded.model.model.layers[0].experts = torch.nn.Parameter(torch.zeros(8, 256, 256, dtype=torch.float16))
    with pytest.raises(TreatmentError, match="outside quantized layers"):
        check_treatment(loaded, Int8(), "sdpa")


def test_the_head_stays_in_16_bit(load_tiny: LoadTiny) -> None:
    found = check_treatment(load_tiny(Int8()), Int8(), "sdpa")
    assert found["head"] == {"class": "Linear", "dtype": "float16"}
    assert found["thresholds"] == [6.0]


COMPILED: dict[str, Any] = {
    "kv_cache": {"kind": "static"},
    "compile": {
        "device": "cuda",
        "cache_lengths": [320, 640],
        "graphs": 2,
        "cuda_graphs": False,
        "cuda_graph_skips": 1,
    },
}
GRAPHS = Compile(mode="reduce-overhead")


def compiled_as(**changes: object) -> dict[str, Any]:
    return COMPILED | {"compile": COMPILED["compile"] | changes}


def test_an_engine_that_has_the_cache_and_compilation_asked_for_passes() -> None:
    assert check_engine({"kv_cache": {"kind": "paged"}}, Paged(), None) == {
        "kv_cache": "paged",
        "compile": None,
    }
    assert check_engine(COMPILED, Static(), Compile())["compile"] == COMPILED["compile"]
    check_engine(compiled_as(cuda_graphs=True), Static(), GRAPHS)
    check_engine(compiled_as(device="cpu"), Static(), GRAPHS)  # a CPU has none; the facts say so


@pytest.mark.parametrize(
    ("cache", "compile", "expected"),
    [
        (Dynamic(), Compile(), "kv_cache is not in force: expected dynamic, found static"),
        (Static(), None, "compile is not in force: expected no compilation, found a compiled step"),
        (Static(), GRAPHS, "compile mode reduce-overhead is not in force: expected CUDA graphs, found none"),
    ],
    ids=repr,
)
def test_an_engine_with_another_cache_or_compilation_fails(
    cache: KvCache, compile: Compile | None, expected: str
) -> None:
    with pytest.raises(TreatmentError, match=expected):
        check_engine(COMPILED, cache, compile)


def test_an_engine_that_compiled_nothing_does_not_pass_for_compiled() -> None:
    with pytest.raises(TreatmentError, match="expected a compiled step, found no compilation"):
        check_engine({"kv_cache": {"kind": "static"}}, Static(), Compile())
    with pytest.raises(
        TreatmentError, match="expected a compiled graph for each of 2 cache lengths, found 1"
    ):
        check_engine(compiled_as(graphs=1), Static(), Compile())
