"""Small architectures with random weights whose greedy tokens vary; for tests over families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.config import Model
from bench.model.load import LoadedModel, load_model
from bench.model.precision import Fp32

CONTEXT = 96
VOCABULARY = 200
_LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
}
SMALL: dict[str, dict[str, Any]] = {
    "llama": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE | {"head_dim": 16},
    "mistral": _LLAMA_LIKE | {"sliding_window": 16},
    "gpt2": {
        "vocab_size": VOCABULARY,
        "n_positions": CONTEXT,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "initializer_range": 0.3,
    },
}
MAMBA: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
"""A model without attention; its configuration states no context."""


def load_small(family: str, folder: Path, attention: str = "sdpa", **changes: Any) -> LoadedModel:
    """Build `family` in `folder` and load it in FP32 on the CPU; `changes` go into its configuration.

    A family that is not listed above is configured like Llama.
    """
    from transformers import AutoConfig

    settings = (SMALL | {"mamba": MAMBA}).get(family, _LLAMA_LIKE)
    AutoConfig.for_model(family, **(settings | changes)).save_pretrained(folder)
    return load_model(Model(id=str(folder), weights="random"), Fp32(), attention, "cpu")
