"""Free-running outputs: greedy, in order, ended at the model's end token, through the system's own cache."""

from __future__ import annotations

import msgspec
import pytest

from bench.clock import WallClock
from bench.errors import RunFailed
from bench.model.continuations import continue_probes
from bench.model.kv_cache import Auto, Dynamic, Off, Paged, Static
from bench.model.load import LoadedModel
from bench.model.precision import Fp32, Nf4
from bench.model.probes import Probe, probes
from tests.model.conftest import LoadTiny

NEW = 10


@pytest.fixture(scope="module")
def asked(tiny: LoadedModel) -> list[Probe]:
    return probes(tiny.vocabulary, 6)


def test_an_output_is_what_the_model_picks_token_by_token(tiny: LoadedModel, asked: list[Probe]) -> None:
    import torch

    found = continue_probes(tiny, asked, NEW, 3, Dynamic(), WallClock())
    assert len(found) == len(asked)
    for probe, answer in zip(asked[:2], found[:2], strict=True):
        ids = list(probe.ids)
        for _ in range(NEW):
            with torch.inference_mode():
                ids.append(int(tiny.model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert list(answer.ids) == ids[len(probe.ids) :]
        assert tiny.vocabulary.tokenizer is not None
        assert answer.text == tiny.vocabulary.tokenizer.decode(answer.ids)
        assert not answer.ended


@pytest.mark.parametrize("cache", [Auto(), Paged(), Off(), Static()])
def test_in_fp32_neither_batch_nor_cache_changes_an_output(
    tiny: LoadedModel, asked: list[Probe], cache: object
) -> None:
    reference = continue_probes(tiny, asked, NEW, 6, Dynamic(), WallClock())
    assert continue_probes(tiny, asked, NEW, 4, cache, WallClock()) == reference  # type: ignore[arg-type]


def test_an_answer_ends_at_the_end_token_which_is_no_part_of_it(
    tiny: LoadedModel, asked: list[Probe]
) -> None:
    whole = continue_probes(tiny, asked[:1], NEW, 1, Dynamic(), WallClock())[0]
    end = whole.ids[4]
    stopping = msgspec.structs.replace(tiny, eos_ids=(end,))
    short = continue_probes(stopping, asked[:1], NEW, 1, Dynamic(), WallClock())[0]
    assert short.ended
    assert short.ids == whole.ids[: whole.ids.index(end)]


def test_four_bits_write_something_else(load_tiny: LoadTiny, asked: list[Probe]) -> None:
    one, two = (continue_probes(load_tiny(p), asked, NEW, 6, Dynamic(), WallClock()) for p in (Fp32(), Nf4()))
    assert [a.ids for a in one] != [a.ids for a in two]


def test_a_prompt_too_long_for_the_context_fails_with_the_reason(
    tiny: LoadedModel, asked: list[Probe]
) -> None:
    small = msgspec.structs.replace(tiny, max_context=64)
    with pytest.raises(RunFailed, match=r"cannot be continued: .* the context of 64"):
        continue_probes(small, asked[:1], NEW, 1, Dynamic(), WallClock())
