from __future__ import annotations

import json
import random
import shutil
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.clock import WallClock
from bench.config import Model
from bench.errors import RunFailed
from bench.model.engine import GenerateEngine
from bench.model.load import LoadedModel, load_model
from bench.model.locate import DATA
from bench.model.precision import Fp32
from bench.records import Generation, Request, Stop

SMALL: dict[str, dict[str, Any]] = {
    "gpt2": {
        "vocab_size": 200,
        "n_positions": 96,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "initializer_range": 0.3,
    },
    "qwen2": {
        "vocab_size": 200,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 96,
        "initializer_range": 0.3,
    },
}


def requests(vocab: int, lengths: list[tuple[int, int]], stop: Stop = "exact") -> list[Request]:
    rng = random.Random(3)
    return [
        Request(
            uid=uid,
            due_s=0.0,
            prompt_ids=tuple(rng.randrange(5, vocab) for _ in range(prompt)),
            output_tokens=output,
            stop=stop,
        )
        for uid, (prompt, output) in enumerate(lengths)
    ]


def alone(engine: GenerateEngine, batch: list[Request]) -> list[tuple[int, ...]]:
    return [engine.generate([request])[0].token_ids for request in batch]


class TickingClock:
    """A clock that moves by one second at every look, so that each stamp is distinct and known."""

    def __init__(self) -> None:
        self._ticks = count()

    def now_s(self) -> float:
        return float(next(self._ticks))

    def sleep_until(self, t_s: float) -> None:
        raise AssertionError("an engine does not sleep")


def test_in_fp32_each_request_gets_the_tokens_that_it_gets_alone(tiny: LoadedModel) -> None:
    engine = GenerateEngine(tiny, WallClock())
    batch = requests(2000, [(3, 12), (40, 5), (17, 20), (1, 9)])
    together = engine.generate(batch)
    assert [g.token_ids for g in together] == alone(engine, batch)
    assert len({g.token_ids[:5] for g in together}) > 1


@pytest.mark.parametrize("family", SMALL)
def test_left_padding_is_right_for_other_families_too(family: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    AutoConfig.for_model(family, **SMALL[family]).save_pretrained(tmp_path)
    loaded = load_model(Model(id=str(tmp_path), weights="random"), Fp32(), "sdpa", "cpu")
    engine = GenerateEngine(loaded, WallClock())
    batch = requests(190, [(2, 6), (23, 8), (11, 3)])
    together = [g.token_ids for g in engine.generate(batch)]
    assert together == alone(engine, batch)
    assert len({token for ids in together for token in ids}) > 3


def test_every_request_gets_exactly_its_length_and_the_rest_is_counted_as_padding(tiny: LoadedModel) -> None:
    generations = GenerateEngine(tiny, WallClock()).generate(requests(2000, [(4, 3), (10, 7), (6, 1)]))
    assert [len(g.token_ids) for g in generations] == [3, 7, 1]
    # Row by row: prompt positions up to the longest of 10, decode steps up to the longest of 7.
    assert [g.padded_tokens for g in generations] == [6 + 4, 0, 4 + 6]


def test_each_token_has_its_own_time_between_the_stages_before_and_after(tiny: LoadedModel) -> None:
    batch = [msgspec.structs.replace(r, text=None) for r in requests(2000, [(4, 3), (10, 5)])]
    short, long = GenerateEngine(tiny, TickingClock()).generate(batch)
    assert long.token_s == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert short.token_s == long.token_s[:3]
    assert short.finished_s == long.finished_s == 5.0
    assert (short.detokenized_s, long.detokenized_s) == (6.0, 7.0)
    assert short.tokenized_s is None


def test_times_on_a_wall_clock_ascend(tiny: LoadedModel) -> None:
    (generation,) = GenerateEngine(tiny, WallClock()).generate(requests(2000, [(4, 6)]))
    stamps = [*generation.token_s, generation.finished_s, generation.detokenized_s or 0.0]
    assert all(a < b for a, b in pairwise(stamps))


def test_exact_ignores_the_end_token_and_natural_ends_at_it(tiny: LoadedModel) -> None:
    batch = requests(2000, [(9, 12), (5, 12)])
    exact = GenerateEngine(tiny, WallClock()).generate(batch)
    # Declare a token that the model does produce to be its end token.
    ends = exact[0].token_ids[4]
    loaded = msgspec.structs.replace(tiny, eos_ids=(ends,))
    engine = GenerateEngine(loaded, WallClock())
    assert [g.token_ids for g in engine.generate(batch)] == [g.token_ids for g in exact]

    natural = engine.generate(requests(2000, [(9, 12), (5, 12)], stop="natural"))
    for got, full in zip(natural, exact, strict=True):
        expected = cut_at(full, ends)
        assert got.token_ids == expected
        assert len(got.token_s) == len(expected)
    assert natural[0].token_ids[-1] == ends
    # The batch ended with its last row, so no row was computed further than that.
    longest = max(len(g.token_ids) for g in natural)
    assert [g.padded_tokens for g in natural] == [
        longest - len(natural[0].token_ids),
        4 + longest - len(natural[1].token_ids),
    ]


def cut_at(generation: Generation, end: int) -> tuple[int, ...]:
    ids = generation.token_ids
    return ids[: ids.index(end) + 1] if end in ids else ids


def test_a_natural_and_an_exact_request_share_a_batch(tiny: LoadedModel) -> None:
    plain = GenerateEngine(tiny, WallClock()).generate(requests(2000, [(9, 12)]))[0]
    loaded = msgspec.structs.replace(tiny, eos_ids=(plain.token_ids[2],))
    exact = requests(2000, [(9, 12)])[0]
    natural = msgspec.structs.replace(exact, uid=1, stop="natural")
    generations = GenerateEngine(loaded, WallClock()).generate([exact, natural])
    assert generations[0].token_ids == plain.token_ids
    assert generations[1].token_ids == cut_at(plain, plain.token_ids[2])


def test_a_prompts_text_is_tokenized_in_the_engine_and_timed(tiny: LoadedModel) -> None:
    assert tiny.vocabulary.tokenizer is not None
    text = "In the beginning God created the heaven and the earth."
    ids = tuple(tiny.vocabulary.tokenizer.encode(text))
    request = Request(uid=0, due_s=0.0, prompt_ids=ids, output_tokens=4, text=text)
    engine = GenerateEngine(tiny, TickingClock())
    (generation,) = engine.generate([request])
    assert generation.tokenized_s == 0.0
    assert generation.token_s[0] == 1.0
    assert generation.token_ids == alone(engine, [msgspec.structs.replace(request, text=None)])[0]


def test_a_text_of_another_length_than_stated_is_an_error(tiny: LoadedModel) -> None:
    request = Request(uid=7, due_s=0.0, prompt_ids=(5,), output_tokens=4, text="more than a single token")
    with pytest.raises(RunFailed, match="request 7: its text is"):
        GenerateEngine(tiny, WallClock()).generate([request])


@pytest.mark.parametrize("lengths", [(2040, 9), (0, 4), (4, 0)])
def test_a_request_that_cannot_fit_is_refused(tiny: LoadedModel, lengths: tuple[int, int]) -> None:
    engine = GenerateEngine(tiny, WallClock())
    assert engine.max_context == 2048
    with pytest.raises(ValueError, match="request 0"):
        engine.generate(requests(2000, [lengths]))


def test_out_of_memory_reaches_the_caller_as_it_is(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny.model, "generate", exhausted)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        GenerateEngine(tiny, WallClock()).generate(requests(2000, [(4, 3)]))


def test_generation_defaults_that_a_model_ships_with_do_not_act_on_a_run(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    batch = requests(2000, [(9, 12)])
    plain = GenerateEngine(tiny, WallClock()).generate(batch)[0]
    folder = Path(shutil.copytree(DATA / "tiny", tmp_path / "model"))
    end = plain.token_ids[3]
    defaults = {"eos_token_id": [end], "repetition_penalty": 9.0, "do_sample": True, "temperature": 0.1}
    (folder / "generation_config.json").write_text(json.dumps(defaults))
    loaded = load_model(Model(id=str(folder)), Fp32(), "sdpa", "cpu")
    assert end in loaded.eos_ids
    assert GenerateEngine(loaded, WallClock()).generate(batch)[0].token_ids == plain.token_ids
