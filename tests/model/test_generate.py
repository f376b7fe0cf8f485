from __future__ import annotations

import json
import shutil
from itertools import count, pairwise
from pathlib import Path

import msgspec
import pytest

from bench.clock import WallClock
from bench.config import Model
from bench.errors import NotAvailable, TreatmentError
from bench.model.generate import GenerateEngine
from bench.model.kv_cache import KvCache, Off, Quantized, Static
from bench.model.load import LoadedModel, load_model
from bench.model.locate import DATA
from bench.model.precision import Fp32
from bench.records import Failure, Request
from tests.model.drawn import cut_at, requests
from tests.model.driving import generations, run_alone, run_batch
from tests.model.poison import NEVER_DRAWN, overflowing, with_token
from tests.model.small import SMALL, load_small

MIXED = [(3, 12), (40, 5), (17, 20), (1, 9)]


class TickingClock:
    """A clock that moves by one second at every look, so that each stamp is distinct and known."""

    def __init__(self) -> None:
        self._ticks = count()

    def now_s(self) -> float:
        return float(next(self._ticks))

    def sleep_until(self, t_s: float) -> None:
        raise AssertionError("an engine does not sleep")


@pytest.fixture(scope="module")
def short(tiny: LoadedModel) -> LoadedModel:
    """The tiny model with a short context, so that a static cache is small."""
    return msgspec.structs.replace(tiny, max_context=128)


def tokens(engine: GenerateEngine, batch: list[Request]) -> list[list[int]]:
    return [list(g.token_ids) for g in generations(engine, batch)]


def alone(engine: GenerateEngine, batch: list[Request]) -> list[list[int]]:
    return [list(g.token_ids) for g in run_alone(engine, batch)]


def test_in_fp32_each_request_gets_the_tokens_that_it_gets_alone(tiny: LoadedModel) -> None:
    engine = GenerateEngine(tiny, WallClock())
    batch = requests(2000, MIXED)
    together = tokens(engine, batch)
    assert together == alone(engine, batch)
    assert len({tuple(ids[:5]) for ids in together}) > 1


@pytest.mark.parametrize("family", SMALL)
def test_left_padding_is_right_for_other_families_too(family: str, tmp_path: Path) -> None:
    engine = GenerateEngine(load_small(family, tmp_path), WallClock())
    engine.prepare()
    batch = requests(190, [(2, 6), (23, 8), (11, 3)])
    together = tokens(engine, batch)
    assert together == alone(engine, batch)
    assert len({token for ids in together for token in ids}) > 3


@pytest.mark.parametrize("cache", [Off(), Static()], ids=repr)
def test_another_exact_cache_gives_the_same_tokens(short: LoadedModel, cache: KvCache) -> None:
    batch = requests(2000, MIXED)
    engine = GenerateEngine(short, WallClock(), cache=cache)
    engine.prepare()
    assert tokens(engine, batch) == tokens(GenerateEngine(short, WallClock()), batch)
    engine.close()


def kv(engine: GenerateEngine) -> dict[str, object]:
    found = engine.facts["kv_cache"]
    assert isinstance(found, dict)
    return found


def test_the_caches_bytes_are_those_of_the_formula(short: LoadedModel) -> None:
    dynamic = GenerateEngine(short, WallClock())
    generations(dynamic, requests(2000, [(40, 20), (3, 12)]))
    generations(dynamic, requests(2000, [(3, 2)]))
    # 2 (keys, values) · 4 layers · 2 kv heads · head size 32 · 4 bytes; the last token is never cached.
    assert kv(dynamic)["bytes_per_token_by_formula"] == 2 * 4 * 2 * 32 * 4
    assert kv(dynamic)["bytes_held"] == kv(dynamic)["bytes_held_by_formula"] == 2 * 59 * 2048

    static = GenerateEngine(short, WallClock(), cache=Static())
    generations(static, requests(2000, [(4, 3), (3, 2)]))
    positions = 4 * 8  # each layer's fill level, a whole number
    assert kv(static)["bytes_held_by_formula"] == 2 * 128 * 2048
    assert kv(static)["bytes_held"] == 2 * 128 * 2048 + positions
    static.close()

    off = GenerateEngine(short, WallClock(), cache=Off())
    generations(off, requests(2000, [(4, 3)]))
    assert (kv(off)["class"], kv(off)["bytes_held"]) == (None, 0)


def test_an_fp8_cache_is_quantized_and_takes_a_quarter_of_fp32(short: LoadedModel) -> None:
    engine = GenerateEngine(short, WallClock(), cache=Quantized(backend="fp8"))
    try:
        engine.prepare()
    except NotAvailable as error:  # transformers has it from 5.23 on
        pytest.skip(str(error))
    batch = requests(2000, [(60, 40), (60, 40), (50, 40)])
    quantized = tokens(engine, batch)
    assert [len(ids) for ids in quantized] == [40, 40, 40]
    assert quantized != tokens(GenerateEngine(short, WallClock()), batch)
    held, formula = kv(engine)["bytes_held"], kv(engine)["bytes_held_by_formula"]
    assert isinstance(held, int)
    assert isinstance(formula, int)
    assert formula / 4 <= held <= formula / 4 + 100


def test_a_cache_whose_package_is_missing_says_what_to_install(
    short: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    engine = GenerateEngine(short, WallClock(), cache=Quantized(backend="hqq"))
    with pytest.raises(NotAvailable, match="needs hqq; run: pip install hqq"):
        engine.prepare()


def test_a_quantized_cache_that_a_models_shape_does_not_allow_is_refused_before_traffic(
    short: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    engine = GenerateEngine(short, WallClock(), cache=Quantized(backend="hqq"))
    with pytest.raises(
        NotAvailable, match="64 elements per token and layer are no multiple of group_size 64"
    ):
        engine.prepare()


def test_a_model_without_attention_runs_and_no_formula_is_made_up_for_it(tmp_path: Path) -> None:
    loaded = load_small("mamba", tmp_path, "eager", max_position_embeddings=96)
    engine = GenerateEngine(loaded, WallClock())
    engine.prepare()
    batch = requests(190, [(2, 6), (23, 8), (11, 3)])
    assert tokens(engine, batch) == alone(engine, batch)
    held = kv(engine)["bytes_held"]
    assert isinstance(held, int)
    assert held > 0
    assert kv(engine)["bytes_held_by_formula"] is None


def test_a_model_without_a_standard_cache_says_so(
    short: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(short.model), "_supports_default_dynamic_cache", classmethod(lambda _: False))
    with pytest.raises(NotAvailable, match="llama models have no standard KV cache"):
        GenerateEngine(short, WallClock()).prepare()


def test_a_cache_other_than_asked_for_is_a_failed_treatment(
    short: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = short.model.generate

    def careless(*args: object, generation_config: object, **options: object) -> object:
        from transformers import GenerationConfig

        assert isinstance(generation_config, GenerationConfig)
        generation_config.cache_implementation = None
        return stock(*args, generation_config=generation_config, **options)

    monkeypatch.setattr(short.model, "generate", careless)
    with pytest.raises(TreatmentError, match="expected a StaticCache, found DynamicCache"):
        GenerateEngine(short, WallClock(), cache=Static()).prepare()


def test_every_request_gets_exactly_its_length_and_the_rest_is_counted_as_padding(tiny: LoadedModel) -> None:
    ended = generations(GenerateEngine(tiny, WallClock()), requests(2000, [(4, 3), (10, 7), (6, 1)]))
    assert [len(g.token_ids) for g in ended] == [3, 7, 1]
    assert [g.padded_prefill_tokens for g in ended] == [6, 0, 4]  # up to the longest prompt of 10
    assert [g.padded_decode_tokens for g in ended] == [4, 0, 6]  # up to the longest output of 7


def test_each_token_has_its_own_time_between_the_stages_before_and_after(tiny: LoadedModel) -> None:
    batch = [msgspec.structs.replace(r, text=None) for r in requests(2000, [(4, 3), (10, 5)])]
    short, long = generations(GenerateEngine(tiny, TickingClock()), batch)
    assert long.token_s == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert short.token_s == long.token_s[:3]
    assert short.finished_s == long.finished_s == 5.0
    assert (short.detokenized_s, long.detokenized_s) == (6.0, 7.0)
    assert short.tokenized_s is None


def test_times_on_a_wall_clock_ascend(tiny: LoadedModel) -> None:
    (generation,) = generations(GenerateEngine(tiny, WallClock()), requests(2000, [(4, 6)]))
    stamps = [*generation.token_s, generation.finished_s, generation.detokenized_s or 0.0]
    assert all(a < b for a, b in pairwise(stamps))


def test_exact_ignores_the_end_token_and_natural_ends_at_it(tiny: LoadedModel) -> None:
    batch = requests(2000, [(9, 12), (5, 12)])
    exact = tokens(GenerateEngine(tiny, WallClock()), batch)
    # Declare a token that the model does produce to be its end token.
    ends = exact[0][4]
    engine = GenerateEngine(msgspec.structs.replace(tiny, eos_ids=(ends,)), WallClock())
    assert tokens(engine, batch) == exact

    natural = generations(engine, requests(2000, [(9, 12), (5, 12)], stop="natural"))
    for got, full in zip(natural, exact, strict=True):
        assert got.token_ids == cut_at(full, ends)
        assert len(got.token_s) == len(got.token_ids)
    assert natural[0].token_ids[-1] == ends
    # The batch ended with its last row, so no row was computed further than that.
    longest = max(len(g.token_ids) for g in natural)
    assert [g.padded_decode_tokens for g in natural] == [longest - len(g.token_ids) for g in natural]
    assert [g.padded_prefill_tokens for g in natural] == [0, 4]


def test_a_natural_and_an_exact_request_share_a_batch(tiny: LoadedModel) -> None:
    (plain,) = tokens(GenerateEngine(tiny, WallClock()), requests(2000, [(9, 12)]))
    loaded = msgspec.structs.replace(tiny, eos_ids=(plain[2],))
    exact = requests(2000, [(9, 12)])[0]
    natural = msgspec.structs.replace(exact, uid=1, stop="natural")
    assert tokens(GenerateEngine(loaded, WallClock()), [exact, natural]) == [plain, cut_at(plain, plain[2])]


def test_a_prompts_text_is_tokenized_in_the_engine_and_timed(tiny: LoadedModel) -> None:
    assert tiny.vocabulary.tokenizer is not None
    text = "In the beginning God created the heaven and the earth."
    ids = tuple(tiny.vocabulary.tokenizer.encode(text))
    request = Request(uid=0, due_s=0.0, prompt_ids=ids, output_tokens=4, text=text)
    engine = GenerateEngine(tiny, TickingClock())
    (generation,) = generations(engine, [request])
    assert generation.tokenized_s == 0.0
    assert generation.token_s[0] == 1.0
    assert [generation.token_ids] == alone(engine, [msgspec.structs.replace(request, text=None)])


def test_a_bad_request_fails_alone_and_its_neighbours_are_served(tiny: LoadedModel) -> None:
    engine = GenerateEngine(tiny, WallClock())
    assert engine.max_context == 2048
    good, too_long, empty, outside, text = requests(2000, [(9, 6), (2040, 9), (0, 4), (4, 4), (4, 4)])
    outside = msgspec.structs.replace(outside, prompt_ids=(5, 999_999))
    text = msgspec.structs.replace(text, text="more than four tokens stand in this sentence")
    ended = run_batch(engine, [too_long, good, empty, outside, text])
    failures = {uid: end.error for uid, end in ended.items() if isinstance(end, Failure)}
    assert set(failures) == {1, 2, 3, 4}
    assert "at most the context of 2048" in failures[1]
    assert "0 prompt" in failures[2]
    assert "outside the vocabulary" in failures[3]
    assert "its text is" in failures[4]
    assert [ended[0].token_ids] == alone(engine, [good])  # type: ignore[union-attr]


def test_a_batch_of_bad_requests_only_ends_without_a_call_of_the_model(tiny: LoadedModel) -> None:
    ended = run_batch(GenerateEngine(tiny, WallClock()), requests(2000, [(0, 4), (4, 0)]))
    assert [type(end) for end in ended.values()] == [Failure, Failure]


def test_out_of_memory_reaches_the_caller_as_it_is_and_the_next_batch_begins_with_an_empty_cache(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    engine = GenerateEngine(tiny, WallClock())
    engine.admit(requests(2000, [(4, 3), (6, 2)]))
    with monkeypatch.context() as patch:
        patch.setattr(tiny.model, "generate", exhausted)
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            engine.step(0.0)
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    engine.clear()
    assert len(run_batch(engine, requests(2000, [(6, 2)]))) == 1
    assert emptied == [True]


def test_a_cache_that_does_not_fit_is_known_before_traffic(
    short: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(short.model, "generate", exhausted)
    with pytest.raises(NotAvailable, match=r"kv_cache = 'static' \(context 128\)"):
        GenerateEngine(short, WallClock(), cache=Static()).prepare()


def test_generation_defaults_that_a_model_ships_with_do_not_act_on_a_run(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    batch = requests(2000, [(9, 12)])
    (plain,) = tokens(GenerateEngine(tiny, WallClock()), batch)
    folder = Path(shutil.copytree(DATA / "tiny", tmp_path / "model"))
    end = plain[3]
    defaults = {"eos_token_id": [end], "repetition_penalty": 9.0, "do_sample": True, "temperature": 0.1}
    (folder / "generation_config.json").write_text(json.dumps(defaults))
    loaded = load_model(Model(id=str(folder)), Fp32(), "sdpa", "cpu")
    assert end in loaded.eos_ids
    assert tokens(GenerateEngine(loaded, WallClock()), batch) == [plain]


def test_a_request_whose_logits_are_not_finite_fails_alone(tmp_path: Path) -> None:
    engine = GenerateEngine(load_small("llama", tmp_path), WallClock())
    batch = requests(190, [(9, 6), (12, 6), (4, 3)])
    expected = alone(engine, batch)
    bad = next(token for token in NEVER_DRAWN[1:] if all(token not in ids for ids in expected))
    with overflowing(engine._loaded, bad):
        ended = run_batch(engine, [batch[0], with_token(batch[1], bad, 5), batch[2]])
    assert ended[1] == Failure(uid=1, error="request 1: its logits are not finite in float32")
    assert [ended[uid].token_ids for uid in (0, 2)] == [expected[0], expected[2]]  # type: ignore[union-attr]


def test_what_comes_after_a_requests_own_tokens_is_not_its_fault(tmp_path: Path) -> None:
    engine = GenerateEngine(load_small("llama", tmp_path), WallClock())
    short, long = requests(190, [(9, 4), (12, 12)])
    (beyond,) = alone(engine, [msgspec.structs.replace(short, output_tokens=12)])
    (own,) = alone(engine, [long])
    bad = next(t for t in beyond[4:11] if t not in [*beyond[:4], *own, *short.prompt_ids, *long.prompt_ids])
    with overflowing(engine._loaded, bad):
        assert tokens(engine, [short, long]) == [beyond[:4], own]


def test_a_step_without_a_batch_is_an_error_and_closing_may_be_done_twice(short: LoadedModel) -> None:
    engine = GenerateEngine(short, WallClock(), cache=Static())
    generations(engine, requests(2000, [(4, 3)]))
    with pytest.raises(RuntimeError, match="nothing runs"):
        engine.step(0.0)
    for forget in (engine.clear, engine.close, engine.close):
        forget()
        with pytest.raises(RuntimeError, match="nothing runs"):
            engine.step(0.0)
