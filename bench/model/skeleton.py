"""A model's shape without its weights: modules on torch's meta device, which costs no memory.

From it come the number of parameters and bytes before anything is loaded, and the frame that random
weights are put into.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.model.precision import Precision

TRANSPOSED_LINEAR = "Conv1D"
"""GPT-2's linear layer in transformers, whose weight is stored as inputs x outputs."""


def skeleton(config: Any, dtype: str, attention: str | None = None) -> Any:
    """Return the causal LM of a transformers `config` with its parameters on the meta device.

    Buffers (rotary frequencies) are real, on the CPU. The config is copied, not changed.
    """
    import copy

    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    options = {} if attention is None else {"attn_implementation": attention}
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            copy.deepcopy(config), dtype=getattr(torch, dtype), trust_remote_code=False, **options
        )
    model.tie_weights()
    return model


def decoder_linears(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and module of every linear layer but the head that maps to the vocabulary."""
    import torch

    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        linear = isinstance(module, torch.nn.Linear) or type(module).__name__ == TRANSPOSED_LINEAR
        if linear and module is not head:
            yield name, module


def rows_and_columns(module: Any) -> tuple[int, int]:
    """Return a linear layer's number of outputs and inputs, however its weight is stored."""
    if type(module).__name__ == TRANSPOSED_LINEAR:
        columns, rows = module.weight.shape
        return int(rows), int(columns)
    return int(module.out_features), int(module.in_features)


def count_parameters(model: Any) -> int:
    """Return the number of parameters, shared ones once, as published counts have it."""
    return sum(parameter.numel() for parameter in model.parameters())


def predict_bytes(model: Any, precision: Precision, device: str) -> tuple[int, int]:
    """Return the bytes of the decoder's linear weights and of all else, once loaded in `precision`."""
    import torch

    linear, in_linears = 0, 0
    for _, module in decoder_linears(model):
        rows, columns = rows_and_columns(module)
        linear += precision.linear_bytes(rows, columns)
        in_linears += rows * columns
    width = getattr(torch, precision.compute_dtype(device)).itemsize
    return linear, (count_parameters(model) - in_linears) * width
