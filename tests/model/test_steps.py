"""The steps engine gives the tokens of stock generation, whoever joins and leaves, and times them."""

from __future__ import annotations

import random
from itertools import count, pairwise
from pathlib import Path

import msgspec
import pytest

from bench.model.load import LoadedModel
from bench.model.steps import StepEngine
from bench.records import Generation, Request
from tests.model.drawn import cut_at, requests
from tests.model.driving import generations, run_batch
from tests.model.small import SMALL, VOCABULARY, load_small
from tests.model.stepping import MIXED, engine_of, stock, tokens


class TickingClock:
    """A clock that moves by one second at every look, so that each stamp is distinct and known."""

    def __init__(self) -> None:
        self._ticks = count()

    def now_s(self) -> float:
        return float(next(self._ticks))

    def sleep_until(self, t_s: float) -> None:
        raise AssertionError("an engine does not sleep")


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
