"""Can this model run with a slot per request? Asked of its configuration, then of the model itself.

The step engine relies on three things: every layer keeps ordinary keys and values per position, attention
goes through transformers' attention interface, and a token's state depends on nothing but its own
request. What the configuration cannot tell, a trial can: two short prompts that join one another must get
the logits that the stock model gives each of them alone.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from bench.errors import NotAvailable
from bench.model.load import LoadedModel

_REMEDY = 'use engine = "generate"'
_NEEDED = ("past_key_values", "position_ids", "logits_to_keep")
_ROPES_OF_THE_WHOLE_BATCH = ("dynamic", "longrope")
"""Rotary embeddings whose frequencies depend on the longest position in the batch."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """What one layer stores per position; `window` is its attention's sliding window, None for all."""

    heads: int
    key_dim: int
    value_dim: int
    dtype: Any
    window: int | None = None

    @property
    def bytes_per_token(self) -> int:
        """Bytes that this layer stores for one position."""
        size: int = self.dtype.itemsize
        return self.heads * (self.key_dim + self.value_dim) * size


def refuse(loaded: LoadedModel, why: str) -> NotAvailable:
    """Return the error for a model that cannot run here, in one line with the remedy."""
    return NotAvailable(f"the steps engine cannot run {loaded.facts['model_type']} models: {why}; {_REMEDY}")


def check_supported(loaded: LoadedModel) -> None:
    """Refuse by what the classes and the configuration say; costs nothing. Raises NotAvailable."""
    model = loaded.model
    config = model.config
    if config.is_encoder_decoder:
        raise refuse(loaded, "it is an encoder-decoder")
    missing = [name for name in _NEEDED if name not in inspect.signature(model.forward).parameters]
    if missing:
        raise refuse(loaded, f"its forward pass takes no {missing[0]}")
    if not model._can_set_attn_implementation():
        raise refuse(loaded, "its attention does not go through transformers' attention interface")
    if config._attn_implementation not in ("sdpa", "eager"):
        raise refuse(loaded, f"it attends by {config._attn_implementation}, not by sdpa or eager")
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {part.get("rope_type") for part in (rope, *rope.values()) if isinstance(part, dict)}
    for kind in kinds.intersection(_ROPES_OF_THE_WHOLE_BATCH):
        raise refuse(loaded, f"its {kind} rotary embedding depends on the longest request beside it")
    cache_windows(loaded)


def cache_windows(loaded: LoadedModel) -> list[int | None]:
    """Return each layer's sliding window, None for full attention; NotAvailable for another cache."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    text_config = loaded.model.config.get_text_config(decoder=True)
    if getattr(text_config, "attention_chunk_size", None):
        raise refuse(loaded, "it attends in chunks")
    if getattr(text_config, "kv_lora_rank", None):
        raise refuse(loaded, "it keeps compressed keys and values (multi-head latent attention)")
    windows: list[int | None] = []
    for number, layer in enumerate(DynamicCache(config=loaded.model.config).layers):
        if type(layer) is DynamicSlidingWindowLayer:
            windows.append(int(layer.sliding_window))
        elif type(layer) is DynamicLayer:
            windows.append(None)
        else:
            kind = type(layer).__name__
            raise refuse(loaded, f"layer {number} keeps no ordinary keys and values ({kind})")
    return windows


def stock_logits(loaded: LoadedModel, ids: list[int]) -> tuple[Any, list[Format]]:
    """Run the stock model over `ids`: the logits after the last, and what its cache stored per layer."""
    import torch
    from transformers.cache_utils import DynamicCache

    cache = DynamicCache(config=loaded.model.config)
    row = torch.tensor([ids], device=loaded.device)
    logits = loaded.model(row, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1]
    formats = [
        Format(
            heads=layer.keys.shape[1],
            key_dim=layer.keys.shape[-1],
            value_dim=layer.values.shape[-1],
            dtype=layer.keys.dtype,
            window=window,
        )
        for layer, window in zip(_filled(loaded, cache), cache_windows(loaded), strict=True)
    ]
    if len({(form.heads, form.dtype) for form in formats}) != 1:
        raise refuse(loaded, "its layers differ in their number of key-value heads")
    return logits, formats


def _filled(loaded: LoadedModel, cache: Any) -> list[Any]:
    layers: list[Any] = cache.layers
    for number, layer in enumerate(layers):
        if not layer.is_initialized or layer.keys.ndim != 4:
            raise refuse(loaded, f"layer {number} left the standard cache unused")
    if not layers:
        raise refuse(loaded, "it uses no cache of keys and values")
    return layers


def difference(ours: Any, stock: Any) -> float:
    """Return the distance of two rows of logits, relative to the spread of the stock ones."""
    ours, stock = ours.float(), stock.float()
    return float((ours - stock).norm() / (stock - stock.mean()).norm().clamp_min(1e-9))
