"""One forward pass for requests at different stages: a packed row without padding, and its attention.

All tokens of a pass stand in one row: first the newest token of each decoding request, then whole prompts
or pieces of them. Everything but attention works token by token and sees only a long row, so a joining
prompt rides along with the decode step of the others and costs no pass of its own. Attention is taken
apart again: the decoding requests as one batch over their slots, each prompt piece by itself, causally.
So no mask spans two requests, and nothing is computed for padding.

A stock model calls this through transformers' attention interface, while `attending` is in force; what is
called in the end is the attention that the model was loaded with, `sdpa` or `eager`. As no mask
function is registered under this name, the model makes no masks of its own.

This module needs torch at its top, as it is called within every layer; import it inside functions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from bench.model.slot_cache import SlotCache

NAME = "bench_ragged"
_CALL_BYTES = {"cpu": 1 << 19, "cuda": 1 << 25}
"""What one more call of attention costs, as bytes of cache that could be read meanwhile."""
_LOST_IN_SDPA = ("softcap", "s_aux")
"""What some models hand to their attention and torch's cannot take; their own eager attention does."""


class Piece:
    """A prompt, or a part of one: `tokens` positions from `start` on, of the request in `slot`."""

    def __init__(self, slot: int, start: int, tokens: int) -> None:
        self.slot = slot
        self.start = start
        self.tokens = tokens
        self.masks: dict[int | None, Any] = {}

    @property
    def end(self) -> int:
        """The position after the piece's last."""
        return self.start + self.tokens


class Span:
    """Decoding requests in slots `first` to `last` exclusive, whose attention reads `length` positions."""

    def __init__(self, first: int, last: int, length: int, *, even: bool) -> None:
        """`even`: all of them have exactly `length` positions, so that nothing is to be hidden."""
        self.first = first
        self.last = last
        self.length = length
        self.even = even
        self.masks: dict[int | None, Any] = {}


class Layout:
    """Where the tokens of a pass stand: `rows` decoding requests in slots 0 …, then prompt pieces."""

    def __init__(self, cache: SlotCache, plain_causal: bool) -> None:
        """`plain_causal`: the attention needs no mask for a whole prompt (sdpa), or it does (eager)."""
        self.cache = cache
        self.plain_causal = plain_causal
        self.windows = sorted({form.window for form in cache.formats}, key=lambda w: w or 0)
        self.positions: Any = None
        self.rows = 0
        self.spans: Sequence[Span] = ()
        self.pieces: Sequence[Piece] = ()

    def build(self, lengths: Sequence[int], pieces: Sequence[Piece], device: str) -> None:
        """Lay out decoding requests whose next positions are `lengths`, followed by `pieces`."""
        stride = self.cache.stride
        positions = list(lengths)
        starts = [slot * stride + length for slot, length in enumerate(lengths)]
        for piece in pieces:
            positions.extend(range(piece.start, piece.end))
            starts.extend(range(piece.slot * stride + piece.start, piece.slot * stride + piece.end))
        self.positions = torch.tensor([positions], device=device)
        self.cache.write = self.cache.places(torch.tensor(starts, device=device))
        self.rows = len(lengths)
        self.pieces = pieces
        for piece in pieces:
            self._mask_piece(piece)
        worth = _CALL_BYTES[device] // self.cache.formats[0].bytes_per_token
        self.spans = [
            Span(first, last, max(lengths[first:last]) + 1, even=len(set(lengths[first:last])) == 1)
            for first, last in split(lengths, worth)
        ]
        self._mask_rows()

    def advance(self) -> None:
        """Go on by one token in each decoding request; only for a layout without pieces."""
        self.positions += 1
        self.cache.write += 1
        for span in self.spans:
            span.length += 1
        self._mask_rows()

    def of_rows(self, positions: Any, length: int) -> Layout:
        """Return a layout of decoding requests at `positions`, (1, rows), that reads `length` positions.

        It asks for no value of a tensor, so it can be compiled, and always masks.
        """
        layout = Layout(self.cache, self.plain_causal)
        layout.positions = positions
        layout.rows = positions.shape[1]
        layout.spans = [Span(0, layout.rows, length, even=False)]
        layout._mask_rows()
        return layout

    def _mask_rows(self) -> None:
        for span in self.spans:
            for window in self.windows:
                if span.even and (window is None or span.length <= window):
                    span.masks[window] = None
                    continue
                own = self.positions[0, span.first : span.last]
                span.masks[window] = mask(own, span.length, window, self._dtype)[:, None, None]

    def _mask_piece(self, piece: Piece) -> None:
        own = None
        for window in self.windows:
            fits = piece.start == 0 and (window is None or piece.tokens <= window)
            if (piece.tokens == 1 and fits) or (self.plain_causal and fits):
                piece.masks[window] = None
                continue
            if own is None:
                own = torch.arange(piece.start, piece.end, device=self.positions.device)
            piece.masks[window] = mask(own, piece.end, window, self._dtype)[None, None]

    @property
    def _dtype(self) -> Any:
        return self.cache.formats[0].dtype


def split(lengths: Sequence[int], worth: int, first: int = 0) -> list[tuple[int, int]]:
    """Cut neighbours into spans that are read to their own longest, where that saves `worth` positions."""
    if not lengths:
        return []
    before = list(accumulate(lengths, max))
    after = list(accumulate(reversed(lengths), max))[::-1]
    costs = [cut * before[cut - 1] + (len(lengths) - cut) * after[cut] for cut in range(1, len(lengths))]
    if not costs or len(lengths) * before[-1] - min(costs) <= worth:
        return [(first, first + len(lengths))]
    cut = costs.index(min(costs)) + 1
    return split(lengths[:cut], worth, first) + split(lengths[cut:], worth, first + cut)


def mask(positions: Any, length: int, window: int | None, dtype: Any) -> Any:
    """Return what queries at `positions` may see of `length` keys: 0, or minus infinity."""
    keys = torch.arange(length, device=positions.device)
    hidden = keys > positions[:, None]
    if window is not None:
        hidden |= keys <= positions[:, None] - window
    return torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, -torch.inf)


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    *,
    ragged: Layout | None = None,
    **kwargs: Any,
) -> tuple[Any, None]:
    """Compute attention of a packed row; an attention function as transformers calls it."""
    if ragged is None:
        raise NotImplementedError("its layers hand no arguments on to their attention")
    _check(kwargs, ragged.plain_causal)
    cache, layer = ragged.cache, module.layer_idx
    window = cache.formats[layer].window
    kernel = _sdpa if ragged.plain_causal else _eager
    outs = []
    for span in ragged.spans:
        keys, values = cache.read(layer, span.first, span.last, span.length)
        own = query[:, :, span.first : span.last].transpose(0, 2)
        out = kernel(module, own, keys, values, span.masks[window], scaling, kwargs)
        outs.append(out.reshape(1, span.last - span.first, -1, out.shape[-1]))
    begin = ragged.rows
    for piece in ragged.pieces:
        end = begin + piece.tokens
        if piece.start == 0:
            keys, values = key[:, :, begin:end], value[:, :, begin:end]
        else:
            keys, values = cache.read(layer, piece.slot, piece.slot + 1, piece.end)
        own = query[:, :, begin:end]
        outs.append(kernel(module, own, keys, values, piece.masks[window], scaling, kwargs))
        begin = end
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=1), None


def _check(kwargs: dict[str, Any], sdpa: bool) -> None:
    """Refuse arguments that would be lost, or that were made for other positions."""
    for name in ("position_bias", *(_LOST_IN_SDPA if sdpa else ())):
        if kwargs.get(name) is not None:
            raise NotImplementedError(f"its attention takes {name}")


def _sdpa(module: Any, query: Any, key: Any, value: Any, hidden: Any, scaling: Any, _: Any) -> Any:
    """Return torch's attention, (batch, tokens, heads, dim).

    With several query heads per key head, one query token's heads become the query tokens of their key
    head: nothing is repeated, and the fast kernels still apply.
    """
    batch, heads, tokens, _dim = query.shape
    group = heads // key.shape[1]
    if tokens == 1:
        packed = query.reshape(batch, key.shape[1], group, -1)
        out = scaled_dot_product_attention(packed, key, value, attn_mask=hidden, scale=scaling)
        return out.reshape(batch, 1, heads, -1)
    if group > 1 and hidden is not None:  # a mask and grouped heads together have no fast kernel on CUDA
        key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        group = 1
    out = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=hidden,
        scale=scaling,
        is_causal=hidden is None,
        enable_gqa=group > 1,
    )
    return out.transpose(1, 2)


def _eager(
    module: Any, query: Any, key: Any, value: Any, hidden: Any, scaling: Any, kwargs: dict[str, Any]
) -> Any:
    """Return the model's own eager attention, (batch, tokens, heads, dim)."""
    own = sys.modules[type(module).__module__].eager_attention_forward
    return own(module, query, key, value, hidden, scaling=scaling, **kwargs)[0]


@contextmanager
def attending(config: Any) -> Iterator[None]:
    """Let the model of `config` attend by `attend`; afterwards as it was loaded."""
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


AttentionInterface.register(NAME, attend)
