"""Keys and values of many requests in one preallocated block per layer: a slot per request.

Slot `s` holds the keys of one request at positions 0, 1, 2, …; a request that leaves gives its slot to
the next one, and nothing is concatenated or padded. The cache is a transformers `Cache`, so a stock model
fills it by its ordinary `update`: where the new states go stands in `write`, which whoever drives the
model sets before each forward pass. What attention may read of a slot is decided there, too (see
`bench.model.ragged`), so `update` returns only the new states.

This module needs torch and transformers at its top, for the class it derives from; import it inside
functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

from bench.model.slot_support import Format

_ROUND = 64
"""Capacities are multiples of this many positions."""


class _Layer:
    """One layer's block. The tensors are flat, (slots × heads × capacity, dim): a compiler that sees a
    write into a *view* of its input copies the whole input, so the writes go to the tensors themselves."""

    is_sliding = False
    is_compileable = True

    def __init__(self) -> None:
        self.keys: Any = None
        self.values: Any = None


class SlotCache(Cache):
    """A transformers `Cache` of `slots` requests by `capacity` positions, empty until `reserve`."""

    def __init__(self, formats: Sequence[Format], device: str) -> None:
        """Lay out layers of the given formats on `device`; all have the same number of heads."""
        super().__init__(layers=[_Layer() for _ in formats])
        self.formats = tuple(formats)
        self.heads = formats[0].heads
        self.slots = self.capacity = 0
        self.peak_slots = self.peak_capacity = self.peak_bytes = 0
        """What it held when it was largest."""
        self._whole = False
        self.write: Any = None
        """Flat places of the new states of a forward pass, a head's after the other's: see `places`."""
        self._device = device

    @property
    def stride(self) -> int:
        """Flat places of a slot."""
        return self.heads * self.capacity

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one position over all layers."""
        return sum(form.bytes_per_token for form in self.formats)

    @property
    def bytes_held(self) -> int:
        """Bytes of the tensors as they are now."""
        tensors = [t for layer in self.layers for t in (layer.keys, layer.values) if t is not None]
        return sum(t.numel() * t.element_size() for t in tensors)

    @property
    def kind(self) -> str:
        """`static` if what it held when traffic began is all that it ever held, else `dynamic`."""
        return "static" if self._whole else "dynamic"

    def begin(self) -> None:
        """Note that traffic begins now, with what is held."""
        self._whole = self.slots > 0

    def reserve(self, slots: int, length: int) -> None:
        """Make room for `slots` requests of `length` positions; what is held stays.

        New room is zero: attention multiplies what it may not see by zero, and zero times the NaN of
        memory that was never written would be NaN.
        """
        slots = max(slots, self.slots)
        capacity = max(-(-length // _ROUND) * _ROUND, self.capacity)
        if (slots, capacity) == (self.slots, self.capacity):
            return
        self._whole = False
        for layer, form in zip(self.layers, self.formats, strict=True):
            layer.keys = self._grown(layer.keys, slots, capacity, form.key_dim, form.dtype)
            layer.values = self._grown(layer.values, slots, capacity, form.value_dim, form.dtype)
        self.slots, self.capacity = slots, capacity
        if self.bytes_held > self.peak_bytes:
            self.peak_slots, self.peak_capacity, self.peak_bytes = slots, capacity, self.bytes_held

    def _grown(self, old: Any, slots: int, capacity: int, dim: int, dtype: Any) -> Any:
        new = torch.zeros(slots, self.heads, capacity, dim, dtype=dtype, device=self._device)
        if old is not None:
            new[: self.slots, :, : self.capacity] = old.view(self.slots, self.heads, self.capacity, dim)
        return new.view(-1, dim)

    def release(self) -> None:
        """Give the memory back."""
        for layer in self.layers:
            layer.keys = layer.values = None
        self.slots = self.capacity = 0
        self.write = None

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of slot `source` into slot `target`."""
        for layer in self.layers:
            for flat in (layer.keys, layer.values):
                block = self._block(flat)
                block[target, :, :length] = block[source, :, :length]

    def wipe(self, first: int, last: int, start: int = 0) -> None:
        """Zero positions from `start` on in slots `first` to `last` exclusive.

        For slots that may hold NaN or infinity: the next request's attention multiplies what it may not see
        by zero, which makes NaN of either.
        """
        if not self.slots:
            return
        for layer in self.layers:
            for flat in (layer.keys, layer.values):
                self._block(flat)[first:last, :, start:] = 0

    def places(self, starts: Any) -> Any:
        """Return the flat places, all heads', of positions given as `slot × stride + position` each."""
        heads = torch.arange(self.heads, device=self._device) * self.capacity
        return (starts[:, None] + heads).view(-1)

    def read(self, layer_idx: int, first: int, last: int, length: int) -> tuple[Any, Any]:
        """Return keys and values, (slots, heads, length, dim), of slots `first` to `last` exclusive."""
        layer = self.layers[layer_idx]
        return (
            self._block(layer.keys)[first:last, :, :length],
            self._block(layer.values)[first:last, :, :length],
        )

    def _block(self, flat: Any) -> Any:
        return flat.view(self.slots, self.heads, self.capacity, -1)

    def update(
        self, key_states: Any, value_states: Any, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Any, Any]:
        """Store the states of a packed row, (1, heads, tokens, dim), at `write`; return them."""
        layer = self.layers[layer_idx]
        for flat, new in ((layer.keys, key_states), (layer.values, value_states)):
            flat.index_copy_(0, self.write, new[0].transpose(0, 1).reshape(-1, new.shape[-1]))
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0: each request has its own length, and positions are always passed to the model."""
        return 0
