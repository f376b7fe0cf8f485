"""What a model must move and compute, from its configuration alone: no weights are loaded or downloaded.

Decoding is bound by the bytes that a step reads: every weight but the embedding tables (a token takes one row
of those; a table that is tied to the head is read as the head), and the cache of the tokens before. A prefill
is bound by its products. What cannot be told from the shape makes a limit lower, never higher.
"""

from __future__ import annotations

from typing import Any

from bench.config import Model
from bench.errors import NotAvailable
from bench.model.kv_cache import kv_elements
from bench.model.locate import check_model
from bench.model.precision import Int8, Precision
from bench.model.skeleton import (
    count_parameters,
    decoder_linears,
    predict_bytes,
    rows_and_columns,
    skeleton,
)
from bench.records import Footprint

MAX_OUTSIDE_SHARE = 0.05
"""Largest share of the matrix weights outside linear layers: more are experts, of which a token takes few."""


def footprint_of(model: Model, precision: Precision, device: str = "cuda") -> Footprint:
    """Return the footprint of an experiment's model where its configuration lies on this machine.

    Raises NotAvailable, with the reason, for a hub id or a package (nothing is downloaded for this), and for
    what `footprint` refuses.
    """
    source = check_model(model)
    if source.path is None:
        raise NotAvailable(f"{model.id}: its configuration is not on this machine before the model is loaded")
    from transformers import AutoConfig

    return footprint(AutoConfig.from_pretrained(source.path, trust_remote_code=False), precision, device)


def footprint(config: Any, precision: Precision, device: str) -> Footprint:
    """Return the footprint of a transformers `config` in `precision` on `device`.

    Raises NotAvailable for a mixture of experts: which of its weights a step reads depends on the tokens.
    """
    import torch

    model = skeleton(config, "float16")
    linear_bytes, other_bytes = predict_bytes(model, precision, device)
    width = getattr(torch, precision.compute_dtype(device)).itemsize
    linears = sum(
        rows * columns for _, m in decoder_linears(model) for rows, columns in [rows_and_columns(m)]
    )
    head = model.get_output_embeddings()
    tables = {
        id(module.weight): module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding) and (head is None or module.weight is not head.weight)
    }
    head_parameters = 0 if head is None else head.weight.numel()
    _refuse_experts(model, linears, head_parameters + sum(tables.values()))
    layers, kv_bytes, note = _attention(model, config, width)
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", 0) or 0
    head_size = getattr(text, "head_dim", None) or (text.hidden_size // heads if heads else 0)
    return Footprint(
        parameters=count_parameters(model),
        weight_bytes=linear_bytes + other_bytes,
        gathered_bytes=sum(tables.values()) * width,
        linear_parameters=linears,
        head_parameters=head_parameters,
        attention_layers=layers,
        attention_width=heads * head_size,
        kv_bytes_per_token=kv_bytes,
        math="int8" if isinstance(precision, Int8) else precision.compute_dtype(device),
        note=note,
    )


def _refuse_experts(model: Any, linears: int, ends: int) -> None:
    """Raise NotAvailable where much of the model is in neither linear layers nor the vocabulary's tables."""
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    outside = max(0, matrices - linears - ends)
    names = vars(model.config.get_text_config(decoder=True))
    experts = any(names.get(name) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    if experts or outside > MAX_OUTSIDE_SHARE * matrices:
        raise NotAvailable(
            "its physical limits are unknown: it is no dense model, so which weights a step reads depends on "
            "the tokens"
        )


def _attention(model: Any, config: Any, width: int) -> tuple[int, int, str]:
    """Return how many layers attend to all tokens, the bytes that these keep of a token, and a note."""
    text = config.get_text_config(decoder=True)
    layers = int(text.num_hidden_layers)
    if getattr(text, "kv_lora_rank", None):
        return layers, 0, "the compressed KV cache is left out"
    elements = kv_elements(model)
    if elements is None:
        return 0, 0, "it has no attention heads"
    kinds = getattr(text, "layer_types", None)
    windowed = getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True)
    full = layers if not windowed else 0
    if kinds:
        full = sum(kind == "full_attention" for kind in kinds)
    note = "" if full == layers else f"{layers - full} of {layers} layers with a bounded cache are left out"
    return full, 2 * full * elements * width, note
