from __future__ import annotations

import pytest

from bench.errors import NotAvailable
from bench.model.budget import predict_weight_bytes, require_memory
from bench.model.locate import architectures
from bench.model.precision import PRECISIONS, Fp16, Int8

PUBLISHED_MILLIONS = {
    "qwen2.5-0.5b": 494.0,
    "qwen2.5-1.5b": 1543.7,
    "qwen2.5-7b": 7615.6,
    "mistral-7b": 7248.0,
    "llama-3.1-8b": 8030.3,
    "smollm2-135m": 134.5,
}


def config_of(name: str) -> object:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(architectures()[name])


def test_a_published_count_is_known_for_every_shipped_architecture() -> None:
    assert set(PUBLISHED_MILLIONS) == set(architectures())


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_an_architecture_has_the_published_number_of_parameters(name: str) -> None:
    counted = predict_weight_bytes(config_of(name), Fp16())
    assert round(counted.parameters / 1e6, 1) == PUBLISHED_MILLIONS[name]
    assert counted.total == 2 * counted.parameters


def test_int8_leaves_embeddings_and_head_in_16_bit() -> None:
    need = predict_weight_bytes(config_of("llama-3.1-8b"), Int8())
    ends = 2 * 128_256 * 4096
    assert need.linear == pytest.approx(8.03e9 - ends, rel=1e-3)
    assert need.other == pytest.approx(2 * ends, rel=1e-3)


def test_a_model_that_does_not_fit_names_both_sizes_and_what_would_fit() -> None:
    config = config_of("mistral-7b")
    with pytest.raises(NotAvailable) as caught:
        require_memory("mistral-7b", config, Fp16(), free_bytes=11_000_000_000)
    message = str(caught.value)
    assert "needs 16.0 GB" in message
    assert "14.5 GB of weights" in message
    assert "11.0 GB are free" in message
    assert "would fit: int8 (9.0 GB), nf4 (6.0 GB)" in message


def test_a_model_that_fits_is_let_through_and_one_that_never_does_says_so() -> None:
    config = config_of("smollm2-135m")
    for row in PRECISIONS.values():
        need = require_memory("smollm2", config, row(), free_bytes=3_000_000_000)
        assert need.with_margin == need.total + 1_500_000_000
    with pytest.raises(NotAvailable, match="no precision of it would fit"):
        require_memory("smollm2", config, Fp16(), free_bytes=1_000_000)
