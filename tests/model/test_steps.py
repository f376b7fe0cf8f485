from __future__ import annotations

import random
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.clock import WallClock
from bench.errors import EngineLost, NotAvailable, TreatmentError
from bench.model.generate import GenerateEngine
from bench.model.kv_cache import Static
from bench.model.load import LoadedModel
from bench.model.steps import StepEngine
from bench.model.treatment import check_engine
from bench.records import Failure, Generation, Request
from tests.model.drawn import cut_at, requests
from tests.model.driving import generations, run_alone, run_batch
from tests.model.small import SMALL, VOCABULARY, load_small

MIXED = [(3, 12), (40, 5), (17, 20), (1, 9), (30, 1), (22, 14), (8, 3)]


class TickingClock:
    """A clock that moves by one second at every look, so that each stamp is distinct and known."""

    def __init__(self) -> None:
        self._ticks = count()

    def now_s(self) -> float:
        return float(next(self._ticks))

    def sleep_until(self, t_s: float) -> None:
        raise AssertionError("an engine does not sleep")


def engine_of(
    loaded: LoadedModel, *, slots: int = 4, chunk: int | None = None, static: bool = False
) -> StepEngine:
    engine = StepEngine(loaded, WallClock(), slots=slots, prefill_chunk=chunk, static=static, compile=None)
    engine.prepare()
    return engine


def stock(loaded: LoadedModel, batch: list[Request]) -> list[list[int]]:
    """Return what stock `generate` gives each request alone."""
    return [list(g.token_ids) for g in run_alone(GenerateEngine(loaded, WallClock()), batch)]


def tokens(found: list[Generation]) -> list[list[int]]:
    return [list(g.token_ids) for g in found]


def staggered(engine: StepEngine, batch: list[Request], seed: int) -> dict[int, Generation]:
    """Admit a few requests now and then while others run; return all that ended."""
    rng = random.Random(seed)
    waiting = list(batch)
    ended: dict[int, Generation] = {}
    while len(ended) < len(batch):
        if waiting and (rng.random() < 0.4 or len(ended) + len(waiting) == len(batch)):
            some = rng.randint(1, 3)
            engine.admit(waiting[:some])
            del waiting[:some]
        for outcome in engine.step(0.0):
            assert isinstance(outcome, Generation)
            ended[outcome.uid] = outcome
    return ended


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", SMALL)
def test_each_request_gets_the_tokens_of_stock_generate_alone(
    family: str, attention: str, tmp_path: Path
) -> None:
    loaded = load_small(family, tmp_path, attention)
    batch = requests(VOCABULARY, MIXED)
    expected = stock(loaded, batch)
    assert len({token for ids in expected for token in ids}) > 10
    for chunk in (None, 5):
        engine = engine_of(loaded, chunk=chunk)
        assert tokens(generations(engine, batch)) == expected
        ended = staggered(engine, batch, seed=1)
        assert [list(ended[r.uid].token_ids) for r in batch] == expected


def test_what_a_model_hands_to_its_own_eager_attention_arrives(tmp_path: Path) -> None:
    loaded = load_small("gemma2", tmp_path, "eager", sliding_window=16, attn_logit_softcapping=0.5)
    batch = requests(VOCABULARY, MIXED)
    assert tokens(generations(engine_of(loaded, chunk=9), batch)) == stock(loaded, batch)


@pytest.mark.parametrize("seed", range(4))
def test_joining_and_leaving_in_any_order_changes_no_tokens(tiny: LoadedModel, seed: int) -> None:
    rng = random.Random(seed)
    lengths = [(rng.randint(1, 60), rng.randint(1, 25)) for _ in range(12)]
    batch = requests(2000, lengths)
    engine = engine_of(tiny, slots=3, chunk=rng.choice([None, 1, 7, 64]), static=seed == 3)
    ended = staggered(engine, batch, seed)
    assert [list(ended[r.uid].token_ids) for r in batch] == stock(tiny, batch)
    assert engine.facts["kv_cache"]["slots"] == 3


def test_those_beyond_the_slots_wait_for_one_in_order(tiny: LoadedModel) -> None:
    engine = engine_of(tiny, slots=2)
    batch = requests(2000, [(5, 4)] * 5)
    ended = run_batch(engine, batch)
    assert list(ended) == [0, 1, 2, 3, 4]
    firsts = [g.token_s[0] for g in ended.values() if isinstance(g, Generation)]
    assert firsts[0] == firsts[1] < firsts[2] == firsts[3] < firsts[4]


def test_a_request_that_joins_shares_the_pass_of_those_that_run(tiny: LoadedModel) -> None:
    engine = engine_of(tiny)
    first, second = requests(2000, [(9, 5), (30, 3)])
    engine.admit([first])
    engine.step(0.0)
    engine.admit([second])
    ended = [g for _ in range(4) for g in engine.step(0.0) if isinstance(g, Generation)]
    by_uid = {g.uid: g for g in ended}
    assert by_uid[1].token_s == by_uid[0].token_s[1:4]


def test_a_long_prompt_in_chunks_lets_the_running_go_on_at_every_step(tiny: LoadedModel) -> None:
    engine = engine_of(tiny, chunk=8)
    running, long = requests(2000, [(4, 12), (37, 2)])
    engine.admit([running])
    engine.step(0.0)
    engine.admit([long])
    before = engine.facts["prefill_positions"]
    for step in range(1, 6):
        engine.step(0.0)
        assert engine.facts["decode_positions"] == step
        assert engine.facts["prefill_positions"] - before == min(8 * step, 37)
    ended = {g.uid: g for _ in range(6) for g in engine.step(0.0) if isinstance(g, Generation)}
    # Its first token came with the fifth of these steps, the other's sixth token.
    assert ended[1].token_s[0] == ended[0].token_s[5]
    assert [list(ended[r.uid].token_ids) for r in (running, long)] == stock(tiny, [running, long])


def test_nothing_is_computed_that_was_not_asked_for(tiny: LoadedModel) -> None:
    engine = engine_of(tiny)
    found = generations(engine, requests(2000, MIXED))
    assert engine.facts["prefill_positions"] == sum(prompt for prompt, _ in MIXED)
    assert engine.facts["decode_positions"] == sum(output - 1 for _, output in MIXED)
    assert engine.facts["padded_positions"] == 0
    assert {(g.padded_prefill_tokens, g.padded_decode_tokens) for g in found} == {(0.0, 0.0)}


def test_exact_ignores_the_end_token_and_natural_ends_at_it(tiny: LoadedModel) -> None:
    batch = requests(2000, [(9, 12), (5, 12)])
    exact = stock(tiny, batch)
    end = exact[0][4]
    engine = engine_of(msgspec.structs.replace(tiny, eos_ids=(end,)))
    assert tokens(generations(engine, batch)) == exact
    natural = generations(engine, requests(2000, [(9, 12), (5, 12)], stop="natural"))
    assert tokens(natural) == [cut_at(ids, end) for ids in exact]
    assert [len(g.token_s) for g in natural] == [len(g.token_ids) for g in natural]
    mixed = [batch[0], msgspec.structs.replace(batch[1], stop="natural")]
    assert tokens(generations(engine, mixed)) == [exact[0], cut_at(exact[1], end)]


def test_each_token_has_the_time_of_its_step(tiny: LoadedModel) -> None:
    engine = StepEngine(tiny, TickingClock(), slots=2, prefill_chunk=None, static=False, compile=None)
    engine.prepare()
    short, long = generations(engine, requests(2000, [(4, 3), (10, 5)]))
    assert short.token_s == (0.0, 1.0, 2.0)
    assert short.finished_s == 2.0
    assert short.detokenized_s == 3.0
    assert long.token_s == (0.0, 1.0, 2.0, 4.0, 5.0)  # 3 was the look after detokenizing the other
    assert (long.finished_s, long.detokenized_s) == (5.0, 6.0)
    assert short.tokenized_s is None


def test_times_on_a_wall_clock_ascend(tiny: LoadedModel) -> None:
    (found,) = generations(engine_of(tiny), requests(2000, [(4, 6)]))
    assert all(a < b for a, b in pairwise([*found.token_s, found.detokenized_s or 0.0]))


def test_a_prompts_text_is_tokenized_in_the_engine_and_timed(tiny: LoadedModel) -> None:
    assert tiny.vocabulary.tokenizer is not None
    text = "In the beginning God created the heaven and the earth."
    ids = tuple(tiny.vocabulary.tokenizer.encode(text))
    request = Request(uid=0, due_s=0.0, prompt_ids=ids, output_tokens=4, text=text)
    (found,) = generations(engine_of(tiny), [request])
    assert found.tokenized_s is not None
    assert found.tokenized_s < found.token_s[0]
    assert tokens([found]) == stock(tiny, [request])


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_ids": (5, 2**40)},
        {"prompt_ids": ()},
        {"output_tokens": 0},
        {"output_tokens": 10**6},
        {"text": "another number of tokens than stated"},
    ],
)
def test_a_request_at_fault_fails_alone(tiny: LoadedModel, change: dict[str, Any]) -> None:
    good, other, last = requests(2000, [(9, 6), (4, 3), (12, 4)])
    bad = msgspec.structs.replace(other, **change)
    ended = run_batch(engine_of(tiny), [good, bad, last])
    failure = ended.pop(1)
    assert isinstance(failure, Failure)
    assert failure.error.startswith("request 1: ")
    found = [g for g in (ended[0], ended[2]) if isinstance(g, Generation)]
    assert tokens(found) == stock(tiny, [good, last])


def test_a_step_whose_requests_are_all_at_fault_computes_nothing(tiny: LoadedModel) -> None:
    engine = engine_of(tiny)
    engine.admit([msgspec.structs.replace(requests(2000, [(4, 3)])[0], output_tokens=0)])
    assert [type(outcome) for outcome in engine.step(0.0)] == [Failure]
    assert engine.facts["prefill_positions"] == 0


def broken(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(loaded.model, "forward", fail)


def test_out_of_memory_goes_up_as_it_came_and_after_clear_the_engine_serves_on(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    engine = engine_of(tiny)
    batch = requests(2000, MIXED)
    engine.admit(batch)
    engine.step(0.0)
    with monkeypatch.context() as patch:
        broken(patch, tiny, torch.OutOfMemoryError("CUDA out of memory"))
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            engine.step(0.0)
    engine.clear()
    with pytest.raises(RuntimeError, match="nothing runs"):
        engine.step(0.0)
    assert tokens(generations(engine, batch)) == stock(tiny, batch)


def test_a_device_that_fails_for_good_is_lost(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    engine = engine_of(tiny)
    engine.admit(requests(2000, [(4, 3)]))
    broken(monkeypatch, tiny, torch.AcceleratorError("CUDA error: an illegal access\nmore"))
    with pytest.raises(EngineLost, match=r"CUDA error: an illegal access$"):
        engine.step(0.0)


def test_the_model_attends_as_it_was_loaded_between_steps(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(tiny)
    engine.admit(requests(2000, [(4, 3)]))
    assert tiny.model.config._attn_implementation == "sdpa"
    engine.step(0.0)
    assert tiny.model.config._attn_implementation == "sdpa"
    broken(monkeypatch, tiny, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        engine.step(0.0)
    assert tiny.model.config._attn_implementation == "sdpa"


def test_the_caches_bytes_are_those_of_the_formula_for_what_it_holds(tiny: LoadedModel) -> None:
    engine = engine_of(tiny, slots=4)
    generations(engine, requests(2000, [(60, 5), (10, 20)]))
    cache = engine.facts["kv_cache"]
    assert (cache["kind"], cache["slots"], cache["capacity"]) == ("dynamic", 2, 128)
    assert cache["bytes_per_token"] == cache["bytes_per_token_by_formula"] > 0
    assert cache["bytes_held"] == cache["bytes_held_by_formula"] == 2 * 128 * cache["bytes_per_token"]
    # After both first tokens 70 positions are held, two more with each step until the first ends.
    assert cache["peak_tokens_in_use"] == 70 + 2 * 4
    assert cache["peak_bytes_in_use"] == 78 * cache["bytes_per_token"]


def test_a_static_cache_is_held_from_the_start_at_the_whole_context(tiny: LoadedModel) -> None:
    engine = engine_of(msgspec.structs.replace(tiny, max_context=100), slots=3, static=True)
    cache = engine.facts["kv_cache"]
    assert (cache["kind"], cache["slots"], cache["capacity"]) == ("static", 3, 128)
    generations(engine, requests(2000, [(60, 40), (10, 20)]))
    engine.clear()
    assert engine.facts["kv_cache"]["bytes_held"] == cache["bytes_held"]


def test_facts_outlive_the_engine(tiny: LoadedModel) -> None:
    engine = engine_of(tiny)
    generations(engine, requests(2000, [(4, 3)]))
    facts = engine.facts
    engine.close()
    assert engine.facts == facts


def test_closing_never_raises_may_be_done_twice_and_nothing_runs_after_it(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.model.slot_cache import SlotCache

    def gone(_: object) -> None:
        raise RuntimeError("CUDA error: the device is gone")

    engine = engine_of(tiny)
    engine.admit(requests(2000, [(4, 3)]))
    engine.step(0.0)
    with monkeypatch.context() as patch:
        patch.setattr(SlotCache, "release", gone)
        engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="nothing runs"):
        engine.step(0.0)


def test_a_cache_that_was_not_allocated_before_the_traffic_does_not_pass_for_static(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.model.packed import Packed

    monkeypatch.setattr(Packed, "allocate", lambda *_: None)
    engine = engine_of(tiny, static=True)
    generations(engine, requests(2000, [(4, 3)]))
    with pytest.raises(TreatmentError, match="kv_cache is not in force: expected static, found dynamic"):
        check_engine(engine.facts, Static(), None)


def test_a_trial_that_gives_other_logits_refuses_the_model(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from bench.model import ragged

    def everything(positions: Any, length: int, *_: object) -> Any:
        return torch.zeros(len(positions), length)

    monkeypatch.setattr(ragged, "mask", everything)
    with pytest.raises(NotAvailable, match=r"cannot run llama models: in a trial its logits were off"):
        engine_of(tiny)


def test_layers_that_do_not_hand_on_the_layout_are_refused_in_one_line(tmp_path: Path) -> None:
    loaded = load_small("stablelm", tmp_path)
    with pytest.raises(NotAvailable, match=r"^the steps engine cannot run stablelm .* hand no arguments on"):
        engine_of(loaded)


def test_a_trial_that_raises_refuses_the_model(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = StepEngine(tiny, WallClock(), slots=2, prefill_chunk=None, static=False, compile=None)
    broken(monkeypatch, tiny, TypeError("unexpected argument 'ragged'"))
    with pytest.raises(NotAvailable, match=r"a trial failed: TypeError: .*'ragged'; use engine = .generate"):
        engine.prepare()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gptj": ({"n_embd": 32, "n_layer": 1, "n_head": 4, "rotary_dim": 4}, "attention interface"),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 1}, "no past_key_values"),
    "llama": (
        {
            "hidden_size": 32,
            "num_attention_heads": 4,
            "num_hidden_layers": 1,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
        },
        "dynamic rotary embedding",
    ),
    "llama4_text": (
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "intermediate_size": 32,
            "intermediate_size_mlp": 32,
            "num_local_experts": 2,
        },
        "attends in chunks",
    ),
    "lfm2": (
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 32,
            "layer_types": ["conv", "full_attention"],
        },
        "layer 0 keeps no ordinary keys and values",
    ),
    "deepseek_v3": ({"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}, "compressed keys"),
    "t5": ({"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}, "encoder-decoder"),
}


@pytest.mark.parametrize("family", REFUSED)
def test_a_model_that_cannot_run_in_slots_is_refused_in_one_line(family: str, tiny: LoadedModel) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    settings, why = REFUSED[family]
    config = AutoConfig.for_model(family, vocab_size=50, pad_token_id=0, **settings)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    loaded = msgspec.structs.replace(tiny, model=model, facts=tiny.facts | {"model_type": family})
    with pytest.raises(NotAvailable, match=why) as refused:
        engine_of(loaded)
    assert str(refused.value).startswith(f"the steps engine cannot run {family} models: ")
    assert "\n" not in str(refused.value)
