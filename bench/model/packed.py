"""A stock model run over packed rows: tokens of many requests in, the logits after each of them out.

`Packed` puts together what `bench.model.ragged` and `bench.model.slot_cache` offer: it builds the inputs
of a forward pass, and for steps whose requests are those of the step before, it moves them on in place,
with the chosen tokens never leaving the device. Before anything else it tries the model out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from bench.errors import NotAvailable
from bench.model.kv_cache import bytes_per_token
from bench.model.load import LoadedModel
from bench.model.slot_support import difference, refuse, stock_logits
from bench.units import to_gb

if TYPE_CHECKING:
    from bench.model.ragged import Layout

_TOLERANCE = {"float32": 0.01}
"""Distance of the trial's logits that is rounding; other types, and quantized layers, get `_COARSE`."""
_COARSE = 0.2
NOT_FINITE = -1
"""Stands for the token of a row whose largest logit is NaN or infinite."""


class Chunk(msgspec.Struct, frozen=True):
    """A prompt or a part of it: `ids` at positions `start` and after, of the request in `slot`."""

    slot: int
    start: int
    ids: Sequence[int]


def greedy(logits: Any) -> Any:
    """Return each row's most likely token, NOT_FINITE where its largest logit is NaN or infinite.

    An argmax takes NaN for the largest, so one look at what it has chosen sees any in the row.
    """
    import torch

    if logits.dtype == torch.float32 and logits.device.type == "cpu" and not torch.compiler.is_compiling():
        # torch's own argmax over rows is not vectorized there: 0.25 ms for 16 × 8,000 against 0.01.
        import numpy as np

        rows = logits.numpy()
        chosen = rows.argmax(axis=-1)
        chosen[~np.isfinite(np.take_along_axis(rows, chosen[:, None], axis=-1)[:, 0])] = NOT_FINITE
        return torch.from_numpy(chosen)
    best = logits.argmax(dim=-1)
    largest = logits.gather(-1, best[:, None])[:, 0]
    return torch.where(largest.abs() < math.inf, best, NOT_FINITE)


class Packed:
    """A model, its slots, and the layout of the pass at hand."""

    def __init__(self, loaded: LoadedModel, *, compiled: bool) -> None:
        """Try `loaded` out; NotAvailable where it cannot run so. The cache is empty afterwards.

        `compiled`: tensors stay ordinary ones, since compiled graphs write to them.
        """
        import torch

        self.loaded = loaded
        self._grad = torch.no_grad if compiled else torch.inference_mode
        self._newest: Any = None
        with self._grad(), self._refusing():
            self.trial_difference = self._trial()
        self.cache.release()

    def _trial(self) -> float:
        """Return how far the logits of two short requests are from the stock model's, relative."""
        from bench.model.ragged import Layout
        from bench.model.slot_cache import SlotCache

        ordinary = self.loaded.vocabulary.ordinary_ids
        ids = [ordinary[len(ordinary) * i // 16] for i in range(16)]
        stock, formats = stock_logits(self.loaded, ids[:9])
        other, _ = stock_logits(self.loaded, ids[4:11])
        self.cache = SlotCache(formats, self.loaded.device)
        self.cache.reserve(2, len(ids))
        self.layout = Layout(self.cache, self.loaded.model.config._attn_implementation == "sdpa")
        with self.computing():
            self._logits([], [], [Chunk(0, 0, ids[:5])])
            # The first goes on, joined by the second, whose last token decodes beside the first's.
            self._logits([], [], [Chunk(0, 5, ids[5:7]), Chunk(1, 0, ids[4:9])])
            self._logits([ids[7]], [7], [Chunk(1, 5, ids[9:10])])
            ours = self._logits([ids[8], ids[10]], [8, 6], [])
        off = max(difference(ours[0], stock), difference(ours[1], other))
        allowed = _TOLERANCE.get(str(stock.dtype).removeprefix("torch."), _COARSE)
        if not off <= allowed:  # also where it is not a number
            raise refuse(self.loaded, f"in a trial its logits were off by {off:.0%} of their spread")
        return off

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn what a model raises that cannot be driven so into one line."""
        import torch

        try:
            yield
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # the machine's fault, not the model's
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), "")
            raise refuse(self.loaded, f"a trial failed: {type(error).__name__}: {reason}") from error

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute without gradients, and with attention as slots need it."""
        from bench.model.ragged import attending

        with self._grad(), attending(self.loaded.model.config):
            yield

    def allocate(self, slots: int) -> None:
        """Hold the cache for `slots` requests of the whole context; NotAvailable where it does not fit."""
        import torch

        context = self.loaded.max_context
        try:
            self.cache.reserve(slots, context)
        except torch.OutOfMemoryError as error:
            size_gb = to_gb(slots * context * self.cache.bytes_per_token)
            raise NotAvailable(
                f"a static KV cache for {slots} requests of {context} tokens takes {size_gb:.1f} GB, more "
                "than the GPU has left; let fewer requests run together, or leave the cache dynamic"
            ) from error

    def run(self, newest: Sequence[int], lengths: Sequence[int], chunks: Sequence[Chunk]) -> list[int]:
        """Compute a pass anew; return the greedy token after each running request and after each chunk.

        Request `s` runs in slot `s`: `newest[s]` is its token at position `lengths[s]`. A token is NOT_FINITE
        where there is none.
        """
        with self.computing():
            return self._choose(self._logits(newest, lengths, chunks))

    def run_on(self) -> list[int]:
        """Compute the next step of the requests of the last pass, which had no chunks."""
        with self.computing():
            self.layout.advance()
            return self._choose(self.forward(self._newest, self.layout, 0))

    def _choose(self, logits: Any) -> list[int]:
        """Return the greedy token of each row of `logits`, as `greedy` does, once the device knows them."""
        best = greedy(logits)
        self._newest = best[None]
        chosen: list[int] = best.tolist()
        return chosen

    def _logits(self, newest: Sequence[int], lengths: Sequence[int], chunks: Sequence[Chunk]) -> Any:
        import torch

        from bench.model.ragged import Piece

        device = self.loaded.device
        self.layout.build(lengths, [Piece(c.slot, c.start, len(c.ids)) for c in chunks], device)
        ids = list(newest)
        keep = list(range(len(ids)))
        for chunk in chunks:
            ids.extend(chunk.ids)
            keep.append(len(ids) - 1)
        last = torch.tensor(keep, device=device) if chunks else 0
        return self.forward(torch.tensor([ids], device=device), self.layout, last)

    def forward(self, ids: Any, layout: Layout, keep: Any) -> Any:
        """Run the model over a packed row, with `attending` in force; return the logits to `keep`."""
        out = self.loaded.model(
            ids,
            position_ids=layout.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=keep,
            ragged=layout,
        )
        return out.logits[0]

    def facts(self, peak_tokens: int) -> dict[str, Any]:
        """Return the trial's result, and the cache's bytes: the most that it held, beside the formula's.

        `peak_tokens` is the most positions that were in use at once.
        """
        cache, per_token = self.cache, bytes_per_token(self.loaded.model)
        return {
            "trial_difference": self.trial_difference,
            "kv_cache": {
                "kind": cache.kind,
                "class": type(cache).__name__,
                "dtype": str(cache.formats[0].dtype).removeprefix("torch."),
                "slots": cache.peak_slots,
                "capacity": cache.peak_capacity,
                "bytes_held": cache.peak_bytes,
                "bytes_held_by_formula": per_token and per_token * cache.peak_slots * cache.peak_capacity,
                "bytes_per_token": cache.bytes_per_token,
                "bytes_per_token_by_formula": per_token,
                "peak_tokens_in_use": peak_tokens,
                "peak_bytes_in_use": peak_tokens * cache.bytes_per_token,
            },
        }
