from __future__ import annotations

import math
import types
import weakref
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.errors import NotAvailable, ResultError, RunFailed
from bench.model.kv_cache import Dynamic, KvCache, Quantized
from bench.model.load import LoadedModel
from bench.model.precision import Fp16, Int8, Nf4
from bench.model.scoring import held_out_ids, score_heldout
from bench.model.vocabulary import ModelVocabulary
from tests.model.conftest import LoadTiny

WINDOW, STRIDE, TOKENS = 64, 32, 300


@pytest.fixture(scope="module")
def text_ids(tiny: LoadedModel) -> tuple[int, ...]:
    return held_out_ids(tiny.vocabulary, TOKENS).ids


@pytest.fixture(scope="module")
def reference(load_tiny: LoadTiny, text_ids: tuple[int, ...], tmp_path_factory: Any) -> Path:
    """The logits of the tiny model in FP16, as the baseline's quality pass leaves them."""
    path = Path(tmp_path_factory.mktemp("quality") / "reference.npy")
    score_heldout(load_tiny(Fp16()), text_ids, WINDOW, STRIDE, save_logits=path)
    return path


def test_one_window_gives_the_loss_that_the_model_itself_reports(tiny: LoadedModel) -> None:
    import torch

    ids = held_out_ids(tiny.vocabulary, 200).ids
    table = score_heldout(tiny, ids, window=200, stride=100)
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        loss = float(tiny.model(input_ids=tokens, labels=tokens).loss)
    assert float(np.mean(table["nll"].to_numpy())) == pytest.approx(loss, abs=1e-5)
    assert math.exp(loss) < 200  # a trained model: 2,048 would be a guess


def test_every_position_but_the_first_is_scored_once_and_in_order(
    tiny: LoadedModel, text_ids: tuple[int, ...]
) -> None:
    table = score_heldout(tiny, text_ids, WINDOW, STRIDE)
    assert table["position"].to_pylist() == list(range(1, TOKENS))
    assert table["kl"].null_count == table["agree"].null_count == TOKENS - 1


def test_a_position_is_scored_with_the_context_of_its_window(
    tiny: LoadedModel, text_ids: tuple[int, ...]
) -> None:
    import torch

    nll = score_heldout(tiny, text_ids, WINDOW, STRIDE)["nll"].to_pylist()
    # Position 100 is first reached by the window that begins at 64 = 2 x stride.
    with torch.inference_mode():
        logits = tiny.model(input_ids=torch.tensor([text_ids[64:100]])).logits[0, -1].double()
    expected = -torch.log_softmax(logits, dim=-1)[text_ids[100]]
    assert nll[100 - 1] == pytest.approx(float(expected), abs=1e-4)


def test_more_context_predicts_better(tiny: LoadedModel, text_ids: tuple[int, ...]) -> None:
    near = score_heldout(tiny, text_ids, 8, 4)["nll"].to_numpy().mean()
    far = score_heldout(tiny, text_ids, 128, 64)["nll"].to_numpy().mean()
    assert far < near


def test_a_model_does_not_differ_from_itself(
    load_tiny: LoadTiny, text_ids: tuple[int, ...], reference: Path
) -> None:
    table = score_heldout(load_tiny(Fp16()), text_ids, WINDOW, STRIDE, reference=reference)
    assert np.abs(table["kl"].to_numpy()).max() < 1e-12
    assert all(table["agree"].to_pylist())


def test_fewer_bits_differ_more(load_tiny: LoadTiny, text_ids: tuple[int, ...], reference: Path) -> None:
    tables = [
        score_heldout(load_tiny(p), text_ids, WINDOW, STRIDE, reference=reference) for p in (Int8(), Nf4())
    ]
    kl = [float(table["kl"].to_numpy().mean()) for table in tables]
    agree = [float(np.mean(table["agree"].to_pylist())) for table in tables]
    assert 1e-7 < kl[0] < 2e-3
    assert kl[1] > 5 * kl[0]
    assert 1.0 > agree[0] > agree[1]


def test_the_reference_file_is_lossless_and_holds_a_row_per_position(
    load_tiny: LoadTiny, text_ids: tuple[int, ...], reference: Path
) -> None:
    import torch

    rows = np.load(reference, mmap_mode="r")
    assert rows.shape == (TOKENS - 1, 2048)
    assert rows.dtype == np.float16
    with torch.inference_mode():
        logits = load_tiny(Fp16()).model(input_ids=torch.tensor([text_ids[:WINDOW]])).logits[0]
    assert np.array_equal(rows[: WINDOW - 1], logits[:-1].numpy())


def test_a_reference_of_another_text_or_cut_is_refused(
    load_tiny: LoadTiny, text_ids: tuple[int, ...], reference: Path
) -> None:
    model = load_tiny(Fp16())
    with pytest.raises(ResultError, match="differ in stride"):
        score_heldout(model, text_ids, WINDOW, STRIDE - 1, reference=reference)
    other = (*text_ids[:-1], (text_ids[-1] + 1) % 2048)
    with pytest.raises(ResultError, match="differ in ids_sha256"):
        score_heldout(model, other, WINDOW, STRIDE, reference=reference)


def test_an_unfinished_reference_is_refused(
    load_tiny: LoadTiny, text_ids: tuple[int, ...], tmp_path: Path
) -> None:
    np.save(tmp_path / "half.npy", np.zeros((TOKENS - 1, 2048), np.float16))
    with pytest.raises(ResultError, match="no finished reference"):
        score_heldout(load_tiny(Fp16()), text_ids, WINDOW, STRIDE, reference=tmp_path / "half.npy")


def test_a_model_whose_logits_overflow_fails_the_pass(
    tiny: LoadedModel, text_ids: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    weight = tiny.model.model.norm.weight
    monkeypatch.setattr(weight, "data", torch.full_like(weight.data, float("inf")))
    with pytest.raises(RunFailed, match="not finite"):
        score_heldout(tiny, text_ids, WINDOW, STRIDE)


@pytest.mark.parametrize("stride", [0, WINDOW])
def test_an_impossible_stride_is_refused(tiny: LoadedModel, text_ids: tuple[int, ...], stride: int) -> None:
    with pytest.raises(ValueError, match="stride"):
        score_heldout(tiny, text_ids, WINDOW, stride)


def test_held_out_text_shorter_than_asked_for_is_used_whole_and_says_so(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "short.txt"
    path.write_text("a short text")
    held = held_out_ids(tiny.vocabulary, 1000, path)
    assert held.note == f"short.txt has {len(held.ids)} tokens of the 1000 asked for"
    assert held_out_ids(tiny.vocabulary, 2, path) == msgspec.structs.replace(
        held, ids=held.ids[:2], note=None
    )


def test_held_out_text_needs_a_tokenizer_and_two_tokens(tiny: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="quality is not measured"):
        held_out_ids(ModelVocabulary(ordinary_ids=(1, 2), tokenizer=None), 10)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(NotAvailable, match="holds 0 tokens"):
        held_out_ids(tiny.vocabulary, 10, tmp_path / "empty.txt")


def test_the_references_likelihood_of_each_token_stands_beside_ours(
    load_tiny: LoadTiny, text_ids: tuple[int, ...], reference: Path
) -> None:
    own = score_heldout(load_tiny(Fp16()), text_ids, WINDOW, STRIDE)
    other = score_heldout(load_tiny(Nf4()), text_ids, WINDOW, STRIDE, reference=reference)
    assert np.allclose(other["ref_nll"].to_numpy(), own["nll"].to_numpy(), atol=1e-12)
    assert own["ref_nll"].null_count == TOKENS - 1


@pytest.mark.parametrize("batch", [2, 3, 50])
def test_in_fp32_the_batch_of_windows_changes_nothing_but_rounding(
    tiny: LoadedModel, text_ids: tuple[int, ...], batch: int
) -> None:
    one = score_heldout(tiny, text_ids, WINDOW, STRIDE)
    many = score_heldout(tiny, text_ids, WINDOW, STRIDE, batch=batch)
    assert many["position"].equals(one["position"])
    assert np.allclose(many["nll"].to_numpy(), one["nll"].to_numpy(), atol=1e-4)


def test_a_model_that_maps_every_place_to_the_vocabulary_is_scored_alike(
    tiny: LoadedModel, text_ids: tuple[int, ...]
) -> None:
    class Whole:
        """The model behind a `forward` that knows no `logits_to_keep`."""

        def forward(self, input_ids: Any, use_cache: bool) -> Any:
            return tiny.model(input_ids=input_ids, use_cache=use_cache)

        __call__ = forward

    whole = score_heldout(msgspec.structs.replace(tiny, model=Whole()), text_ids, WINDOW, STRIDE)
    told = score_heldout(tiny, text_ids, WINDOW, STRIDE)
    assert np.allclose(whole["nll"].to_numpy(), told["nll"].to_numpy(), atol=1e-4)


def test_a_quantized_cache_is_part_of_what_is_scored(
    load_tiny: LoadTiny, text_ids: tuple[int, ...], reference: Path
) -> None:
    def kl(cache: KvCache) -> Any:
        table = score_heldout(load_tiny(Fp16()), text_ids, WINDOW, STRIDE, reference=reference, cache=cache)
        assert table["position"].to_pylist() == list(range(1, TOKENS))
        return table["kl"].to_numpy()

    assert kl(Dynamic()).max() < 1e-12
    lossy = kl(Quantized(backend="fp8"))
    assert 1e-6 < lossy.mean() < 1e-2
    assert lossy[: WINDOW - STRIDE].max() < 1e-4  # a prompt's own tokens see one another as they are


def test_tokens_that_pass_through_a_cache_see_all_before_them(
    tiny: LoadedModel, text_ids: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def exact(config: Any, **_: Any) -> Any:
        """Return a cache that loses nothing: then only the way differs."""
        return transformers.DynamicCache(config=config)

    monkeypatch.setattr(transformers, "QuantizedCache", exact)
    monkeypatch.setattr("bench.model.scoring.check_cache", lambda *_: None)
    one = score_heldout(tiny, text_ids, 128, 80)
    through = score_heldout(tiny, text_ids, 128, 80, cache=Quantized(backend="fp8"))
    assert np.allclose(through["nll"].to_numpy(), one["nll"].to_numpy(), atol=1e-4)


def test_what_the_reference_rules_out_adds_nothing_and_what_only_the_system_does_is_infinite(
    tiny: LoadedModel, text_ids: tuple[int, ...], tmp_path: Path
) -> None:
    never = next(token for token in range(2048) if token not in text_ids)

    class Masked:
        """The model with a token that it never writes."""

        def forward(self, input_ids: Any, use_cache: bool) -> Any:
            logits = tiny.model(input_ids=input_ids, use_cache=use_cache).logits
            logits[..., never] = -math.inf
            return types.SimpleNamespace(logits=logits)

        __call__ = forward

    masked = msgspec.structs.replace(tiny, model=Masked())
    score_heldout(masked, text_ids, WINDOW, STRIDE, save_logits=tmp_path / "masked.npy")
    score_heldout(tiny, text_ids, WINDOW, STRIDE, save_logits=tmp_path / "whole.npy")

    def kl(model: LoadedModel, reference: str) -> Any:
        table = score_heldout(model, text_ids, WINDOW, STRIDE, reference=tmp_path / reference)
        return table["kl"].to_numpy()

    assert np.abs(kl(masked, "masked.npy")).max() < 1e-12
    assert np.isfinite(kl(tiny, "masked.npy")).all()
    assert np.isposinf(kl(masked, "whole.npy")).all()


def live_peak_mb(tmp_path: Path, tokens: int, window: int, stride: int, batch: int = 1) -> float:
    """Score `tokens` tokens; return the most that tensors held at any moment at a vocabulary of 150,000.

    All of them have a place for every entry of the vocabulary, so a tenth of it is as good.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    vocabulary, held, peak = 15_000, 0, 0
    known: dict[int, int] = {}

    class Held(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(tensor, torch.Tensor):
                    self.count(tensor)
            return result

        def count(self, tensor: torch.Tensor) -> None:
            nonlocal held, peak
            storage = tensor.untyped_storage()
            place = storage.data_ptr()
            if place in known:
                return
            known[place] = storage.nbytes()
            held += storage.nbytes()
            peak = max(peak, held)
            weakref.finalize(storage, self.forget, place)

        def forget(self, place: int) -> None:
            nonlocal held
            held -= known.pop(place, 0)

    class Huge:
        def forward(self, input_ids: Any, use_cache: bool, logits_to_keep: int) -> Any:
            shape = (len(input_ids), min(logits_to_keep, input_ids.shape[1]), vocabulary)
            return types.SimpleNamespace(logits=torch.zeros(shape, dtype=torch.float16))

        __call__ = forward

    loaded = LoadedModel(
        model=Huge(), vocabulary=ModelVocabulary(ordinary_ids=(1,), tokenizer=None), device="cpu", eos_ids=(),
        max_context=512, load_s=0.0, facts={"vocab_size": vocabulary},
    )  # fmt: skip
    path, ids = tmp_path / f"{tokens}.npy", tuple(range(tokens))
    with Held():
        score_heldout(loaded, ids, window, stride, save_logits=path)
        score_heldout(loaded, ids, window, stride, reference=path, batch=batch)
    path.unlink()
    return peak * 10 / 1e6


def test_memory_is_bounded_by_a_block_at_a_vocabulary_of_150_000(tmp_path: Path) -> None:
    # A window's logits in FP16 are 10 MB here, a block of 32 positions in FP64 38 MB; a handful live at once.
    short, long = live_peak_mb(tmp_path, 48, 32, 16), live_peak_mb(tmp_path, 144, 32, 16)
    assert 50 < short < 400
    assert long < 1.05 * short


def test_memory_is_bounded_by_the_logits_that_a_batch_of_windows_newly_scores(tmp_path: Path) -> None:
    # In FP16: 77 MB a window of 256 new ones, 154 MB the first; and blocks of 38 MB in FP64.
    one, four = (live_peak_mb(tmp_path, 512 + 8 * 256, 512, 256, batch) for batch in (1, 4))
    assert 154 < one < 154 + 210
    assert 308 < four < 308 + 210
