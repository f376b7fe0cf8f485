"""The quality pass: how well a loaded model predicts held-out text, and how far it is from a reference.

Teacher-forced and strided: windows of `window` tokens advance by `stride`; each position is scored once,
in the first window that reaches it, so that every one but those of the first window has at least
`window - stride` tokens before it. The first token of the text is never scored. No special tokens are
added. Perplexity is exp(mean nll); it depends on window, stride and tokenizer, which belong beside it.

The reference's logits are written as they come, position by position, in their own dtype: an FP16
model's logits lose nothing in a float16 file, while rounding a *reference* to 16 bit would by itself
cause a divergence of 5e-4 (as llama.cpp's stored logits show). A second model is then held against them:
KL(reference || this) of the next-token distributions, whether both rank the same token first, and how
likely the reference found the token that came. The sums run in float64, so that a divergence of 1e-6 is a
figure and not rounding.

`batch` windows are computed at a time. The figures are made with one; the baseline scored once more with
several, against itself, shows how much of a difference is rounding that follows the shapes.

A quantized KV cache changes what is predicted, but no single forward pass shows it: the tokens of a pass see
one another unquantized. With one, the `window - stride` tokens that a window begins with are its prompt, and
those after it pass through the cache a block at a time.

Memory is bounded by the logits that one batch of windows newly scores and a block of positions, whatever
the length of the text. The first window scores twice as much as the others, and goes alone.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bench.errors import NotAvailable, ResultError, RunFailed
from bench.model.kv_cache import KvCache, Quantized, check_cache
from bench.model.load import LoadedModel
from bench.model.locate import DATA
from bench.protocols import Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

HELD_OUT = DATA / "corpus" / "heldout.txt"
_BLOCK = 32
"""Positions turned into float64 distributions at once: 40 MB each at a vocabulary of 150,000.

Also the tokens that pass through a quantized cache at once: these see one another unquantized.
"""


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out text as tokens; `note` says so where the text is shorter than asked for."""

    ids: tuple[int, ...]
    note: str | None = None


class _Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a logits file was made from; another text or another cut must not be compared with it."""

    ids_sha256: str
    window: int
    stride: int
    positions: int
    vocab_size: int


def held_out_ids(vocabulary: Vocabulary, tokens: int, path: Path = HELD_OUT) -> HeldOut:
    """Return the first `tokens` tokens of the held-out text at `path`, or all of them with a note.

    Raises NotAvailable for a model without a tokenizer, and for a text of fewer than two tokens.
    """
    if vocabulary.tokenizer is None:
        raise NotAvailable("quality: a model with random weights has no tokenizer; quality is not measured")
    ids = tuple(vocabulary.tokenizer.encode(path.read_text(encoding="utf-8")))
    if len(ids) < 2:
        raise NotAvailable(f"{path}: holds {len(ids)} tokens; at least 2 are needed")
    if len(ids) < tokens:
        return HeldOut(ids=ids, note=f"{path.name} has {len(ids)} tokens of the {tokens} asked for")
    return HeldOut(ids=ids[:tokens])


def has_logits(path: Path) -> bool:
    """Say whether `path` holds finished reference logits; an interrupted pass leaves no description."""
    return path.exists() and _description(path).exists()


def score_heldout(
    loaded: LoadedModel,
    text_ids: Sequence[int],
    window: int,
    stride: int,
    reference: Path | None = None,
    save_logits: Path | None = None,
    batch: int = 1,
    cache: KvCache | None = None,
) -> pa.Table:
    """Score `text_ids` and return a row per scored position: `position, nll, kl, agree, ref_nll`.

    `nll` is in nats; `kl` (nats), `agree` and `ref_nll` (the reference's nll of the same token) are null
    without a `reference`, a file that an earlier call wrote to its `save_logits` for the same text, window
    and stride (ResultError otherwise). `kl` is infinite where the model rules out a token that the reference
    does not. The window is cut to the model's context, and `batch` windows are computed at a time, through
    `cache` where that is a quantized one; no other changes what is predicted.
    `save_logits` takes positions x vocabulary x 2 bytes for a model in FP16, and has a description beside it
    (`.json`), written last.
    """
    import pyarrow as pa

    window = min(window, loaded.max_context)
    if not 1 <= stride < window:
        raise ValueError(f"stride {stride} must be at least 1 and below the window of {window}")
    described = _Described(
        ids_sha256=hashlib.sha256(msgspec.msgpack.encode(list(text_ids))).hexdigest(),
        window=window,
        stride=stride,
        positions=len(text_ids) - 1,
        vocab_size=int(loaded.facts["vocab_size"]),
    )
    theirs = None if reference is None else _open_reference(reference, described)
    types = {"position": pa.int32()} | dict.fromkeys(("nll", "kl", "agree", "ref_nll"), pa.float64())
    types["agree"] = pa.bool_()
    columns: dict[str, list[Any]] = {name: [] for name in types}
    sink = None if save_logits is None else _LogitsFile(save_logits, described)
    for first, logits in _scored_logits(loaded, text_ids, window, stride, batch, cache):
        last = first + len(logits)
        if sink is not None:
            sink.write(first, logits)
        other = None if theirs is None else theirs[first - 1 : last - 1]
        columns["position"].extend(range(first, last))
        for key, values in _score_block(logits, text_ids[first:last], other).items():
            columns[key].extend(values)
        del logits  # a block keeps its windows' logits, which would stay while the next are computed
    if sink is not None:
        sink.finish()
    return pa.table({key: pa.array(columns[key], type=types[key]) for key in types})


class _Window(msgspec.Struct, frozen=True):
    """A cut `ids[begin:end]` whose positions from `first` on are scored here."""

    begin: int
    end: int
    first: int

    @property
    def scored(self) -> int:
        return self.end - self.first


def _windows(length: int, window: int, stride: int, batch: int) -> Iterator[list[_Window]]:
    """Yield the cuts of a text in batches of equal length.

    The first cut scores more than the others, and the last may be shorter: both go alone.
    """
    waiting: list[_Window] = []
    begin, scored_to = 0, 1
    while scored_to < length:
        cut = _Window(begin, min(begin + window, length), scored_to)
        if waiting and (waiting[0].begin == 0 or len(waiting) == batch or cut.end - cut.begin < window):
            yield waiting
            waiting = []
        waiting.append(cut)
        scored_to = cut.end
        begin += stride
    if waiting:
        yield waiting


def _scored_logits(
    loaded: LoadedModel,
    ids: Sequence[int],
    window: int,
    stride: int,
    batch: int,
    cache: KvCache | None,
) -> Iterator[tuple[int, Any]]:
    """Yield, block by block, the first newly scored position and the logits that predict from it on."""
    import torch

    for cuts in _windows(len(ids), window, stride, batch):
        tokens = torch.tensor([list(ids[cut.begin : cut.end]) for cut in cuts], device=loaded.device)
        # Logits at place i predict the token at i + 1, so the last place predicts nothing that is known.
        most = max(cut.scored for cut in cuts) + 1
        logits = _last_logits(loaded, tokens, most, window - stride, cache)
        for row, cut in enumerate(cuts):
            places = logits[row, -1 - cut.scored : -1]
            for block in range(0, cut.scored, _BLOCK):
                yield cut.first + block, places[block : block + _BLOCK]
        del logits, places


def _last_logits(loaded: LoadedModel, tokens: Any, most: int, prompt: int, cache: KvCache | None) -> Any:
    """Return the logits at the `most` last places of every row, or at more of them.

    Only those places are mapped to the vocabulary where the model can be told so. With a quantized `cache`
    the first `prompt` tokens are computed at once and the others, a block at a time, see them through it.
    """
    import torch

    length, starts = tokens.shape[1], [0]
    options: dict[str, Any] = {"use_cache": False}
    if isinstance(cache, Quantized):
        from transformers import QuantizedCache

        starts.extend(range(prompt, length, _BLOCK))
        held = QuantizedCache(config=loaded.model.config, **cache.options())
        options = {"use_cache": True, "past_key_values": held}
    told = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters
    parts = []
    for begin, end in itertools.pairwise([*starts, length]):
        if told:
            options["logits_to_keep"] = max(1, end - max(begin, length - most))
        with torch.inference_mode():
            parts.append(loaded.model(input_ids=tokens[:, begin:end], **options).logits)
    if isinstance(cache, Quantized):
        check_cache(cache, options["past_key_values"])
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _score_block(logits: Any, targets: Sequence[int], reference: Any | None) -> dict[str, list[Any]]:
    """Return the columns of a block of positions; all but nll are null without `reference`."""
    import torch

    ours = torch.log_softmax(logits.double(), dim=-1)
    places = torch.tensor(targets, device=logits.device)[:, None]
    picked = ours.gather(1, places)[:, 0]
    if not bool(torch.isfinite(picked).all()):
        raise RunFailed(
            "quality: the model's logits of the text's own tokens are not finite; in fp16 that is an "
            "overflow, which bf16 would not have: its outputs and every figure about them mean nothing"
        )
    nll = (-picked).tolist()
    if reference is None:
        return {"nll": nll} | dict.fromkeys(("kl", "agree", "ref_nll"), [None] * len(nll))
    given = torch.from_numpy(reference.copy()).to(logits.device)
    theirs = torch.log_softmax(given.double(), dim=-1)
    likely = theirs.exp()
    # What the reference rules out adds nothing, whatever we make of it; what only we rule out is infinite.
    kl = (likely * (theirs - ours)).masked_fill_(likely == 0.0, 0.0).sum(dim=-1)
    agree = given.argmax(dim=-1) == logits.argmax(dim=-1)
    ref_nll = -theirs.gather(1, places)[:, 0]
    return {"nll": nll, "kl": kl.tolist(), "agree": agree.tolist(), "ref_nll": ref_nll.tolist()}


class _LogitsFile:
    """A float16 or float32 `.npy` file of positions x vocabulary, filled window by window."""

    def __init__(self, path: Path, described: _Described) -> None:
        self._path = path
        self._described = described
        self._rows: np.memmap[Any, Any] | None = None
        _description(path).unlink(missing_ok=True)

    def write(self, first_position: int, logits: Any) -> None:
        """Write the logits that predict `first_position` and its successors."""
        import numpy as np
        import torch

        # numpy knows no bfloat16; float32 holds it without loss.
        values = (logits if logits.dtype == torch.float16 else logits.float()).cpu().numpy()
        if self._rows is None:
            shape = (self._described.positions, values.shape[1])
            self._rows = np.lib.format.open_memmap(self._path, "w+", dtype=values.dtype, shape=shape)
        self._rows[first_position - 1 : first_position - 1 + len(values)] = values

    def finish(self) -> None:
        """Flush, then describe: a file without description is an unfinished one."""
        if self._rows is not None:
            self._rows.flush()
        _description(self._path).write_bytes(msgspec.json.encode(self._described))


def _open_reference(path: Path, described: _Described) -> Any:
    """Open a logits file for reading; ResultError unless it was made from the same text and cut."""
    import numpy as np

    try:
        found = msgspec.json.decode(_description(path).read_bytes(), type=_Described)
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ResultError(
            f"{path}: no finished reference logits ({error}); run the baseline's quality pass first"
        ) from error
    if found != described:
        different = [f for f in described.__struct_fields__ if getattr(found, f) != getattr(described, f)]
        raise ResultError(
            f"{path}: reference logits differ in {', '.join(different)}; "
            f"score baseline and system on the same text, window and stride"
        )
    return rows


def _description(path: Path) -> Path:
    return path.with_suffix(".json")
