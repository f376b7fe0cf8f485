"""What a model moves and computes, against published sizes and against the loaded model's own bytes."""

from __future__ import annotations

from typing import Any

import pytest

from bench.config import Model
from bench.errors import NotAvailable
from bench.model.footprint import footprint, footprint_of
from bench.model.locate import architectures
from bench.model.precision import PRECISIONS, Fp16, Int8, Nf4
from bench.model.treatment import check_treatment
from tests.model.conftest import LoadTiny


def llama(**changes: Any) -> Any:
    from transformers import LlamaConfig

    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "vocab_size": 32000}
    return LlamaConfig(**(shape | {"num_attention_heads": 32, "num_key_value_heads": 32} | changes))


def test_a_step_of_llama_reads_the_gigabytes_that_gpt_fast_publishes() -> None:
    three = footprint_of(Model(id="llama-3.1-8b", weights="random"), Fp16())
    assert three.read_bytes / 1e9 == pytest.approx(15.01, abs=0.005)
    two = footprint(llama(), Fp16(), "cuda")
    assert two.read_bytes / 1e9 == pytest.approx(13.21, abs=0.005)


@pytest.mark.parametrize(
    ("name", "kibibytes"), [("llama-3.1-8b", 128), ("qwen2.5-0.5b", 12), ("mistral-7b", 128)]
)
def test_a_tokens_cache_has_the_published_size(name: str, kibibytes: int) -> None:
    found = footprint_of(Model(id=name, weights="random"), Fp16())
    assert found.kv_bytes_per_token == kibibytes * 1024
    assert found.note == ""


@pytest.mark.parametrize("name", architectures())
def test_every_parameter_is_a_matrix_of_the_decoder_or_the_vocabularys_but_for_a_thousandth(
    name: str,
) -> None:
    found = footprint_of(Model(id=name, weights="random"), Fp16())
    counted = found.linear_parameters + found.head_parameters + found.gathered_bytes // 2
    assert counted == pytest.approx(found.parameters, rel=1e-3)
    assert counted <= found.parameters


def test_a_table_that_is_tied_to_the_head_is_read_and_a_separate_one_is_not() -> None:
    tied = footprint(llama(tie_word_embeddings=True), Fp16(), "cuda")
    free = footprint(llama(tie_word_embeddings=False), Fp16(), "cuda")
    assert tied.gathered_bytes == 0
    assert free.gathered_bytes == 2 * 32000 * 4096
    assert tied.read_bytes == free.read_bytes


def test_quantized_weights_are_fewer_bytes_and_the_same_products() -> None:
    fp16, int8, nf4 = (footprint(llama(), row(), "cuda") for row in (Fp16, Int8, Nf4))
    assert fp16.read_bytes > int8.read_bytes > nf4.read_bytes
    assert fp16.linear_parameters == int8.linear_parameters == nf4.linear_parameters
    assert (fp16.math, int8.math, nf4.math) == ("float16", "int8", "float16")
    assert int8.read_bytes == pytest.approx(6.476e9 + 2 * 131e6, rel=2e-3)


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_the_prediction_is_what_the_treatment_check_counts_once_loaded(
    name: str, load_tiny: LoadTiny
) -> None:
    precision = PRECISIONS[name]()
    loaded = load_tiny(precision)
    found = footprint(loaded.model.config, precision, "cpu")
    counted = check_treatment(loaded, precision, "sdpa")["total_bytes"]
    assert counted - found.gathered_bytes == pytest.approx(found.read_bytes, rel=0.01)


def test_a_window_and_a_compressed_cache_are_left_out_and_said() -> None:
    from transformers import Qwen2Config

    whole = Qwen2Config(num_hidden_layers=4)
    windowed = Qwen2Config(
        num_hidden_layers=4, use_sliding_window=True, sliding_window=64, max_window_layers=1
    )
    one, all_four = footprint(windowed, Fp16(), "cuda"), footprint(whole, Fp16(), "cuda")
    assert one.attention_layers == 1
    assert one.kv_bytes_per_token * 4 == all_four.kv_bytes_per_token
    assert one.note == "3 of 4 layers with a bounded cache are left out"


def test_a_mixture_of_experts_has_no_such_limits() -> None:
    from transformers import MixtralConfig

    config = MixtralConfig(num_hidden_layers=2, hidden_size=64, intermediate_size=128, vocab_size=100)
    with pytest.raises(NotAvailable, match="depends on the tokens"):
        footprint(config, Fp16(), "cuda")


def test_what_is_not_on_this_machine_is_not_fetched_for_its_footprint() -> None:
    with pytest.raises(NotAvailable, match="not on this machine before the model is loaded"):
        footprint_of(Model(id="someone/some-model"), Fp16())
