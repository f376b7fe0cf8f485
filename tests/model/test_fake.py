"""The fake engine keeps its law to the letter, in both styles, however often it is interrupted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.clock import VirtualClock, WallClock
from bench.model.fake import FakeEngine, Style
from bench.records import Failure, Generation, Request, ServiceLaw, Stop

from .driving import generations, run_alone, run_batch

LAW = ServiceLaw(
    prefill_s=0.01,
    prefill_s_per_token=0.001,
    decode_s=0.02,
    decode_s_per_sequence=0.005,
    decode_s_per_context_token=1e-5,
)
STYLES: tuple[Style, ...] = ("static", "steps", "alternating")


def request(uid: int, prompt_tokens: int = 4, output_tokens: int = 3, stop: Stop = "exact") -> Request:
    return Request(
        uid=uid,
        due_s=0.0,
        prompt_ids=range(uid, uid + prompt_tokens),
        output_tokens=output_tokens,
        stop=stop,
    )


def test_a_static_batch_is_padded_and_ends_with_its_longest_output() -> None:
    clock = VirtualClock(10.0)
    short, long = generations(FakeEngine(clock, LAW), [request(0, 30, 2), request(1, 100, 4)])
    first_s = 10.0 + 0.01 + 0.001 * 2 * 100
    steps_s = [0.02 + 2 * 0.005 + 1e-5 * 2 * (100 + done) for done in (1, 2, 3)]
    assert long.token_s == pytest.approx([first_s + sum(steps_s[:k]) for k in range(4)])
    assert list(short.token_s) == list(long.token_s[:2])
    assert short.finished_s == long.finished_s == clock.now_s() == pytest.approx(first_s + sum(steps_s))
    assert (short.padded_prefill_tokens, short.padded_decode_tokens) == (70, 2)
    assert (long.padded_prefill_tokens, long.padded_decode_tokens) == (0, 0)


def test_a_static_batch_is_answered_in_one_step_and_cannot_be_joined() -> None:
    engine = FakeEngine(VirtualClock(), LAW)
    assert not engine.joins
    engine.admit([request(0), request(1)])
    with pytest.raises(RuntimeError, match="cannot be joined"):
        engine.admit([request(2)])
    assert len(engine.step(0.0)) == 2


def test_in_steps_a_row_leaves_at_its_end_and_nothing_is_padded() -> None:
    clock = VirtualClock(10.0)
    short, long = generations(FakeEngine(clock, LAW, style="steps"), [request(0, 30, 2), request(1, 100, 4)])
    first_s = 10.0 + 0.01 + 0.001 * 130
    both_s = 0.02 + 2 * 0.005 + 1e-5 * (31 + 101)
    alone_s = [0.02 + 0.005 + 1e-5 * held for held in (102, 103)]
    second_s = first_s + both_s
    expected = [first_s, second_s, second_s + alone_s[0], second_s + sum(alone_s)]
    assert list(long.token_s) == pytest.approx(expected)
    assert list(short.token_s) == list(long.token_s[:2])
    assert short.finished_s == short.token_s[-1] < long.finished_s == clock.now_s()
    padding = [g.padded_prefill_tokens + g.padded_decode_tokens for g in (short, long)]
    assert padding == [0, 0]


def stamps_of_both(engine: FakeEngine, *, apart_s: float, later: Request) -> list[list[float]]:
    """Run a request of 10 + 5 tokens, admit `later` once `apart_s` has passed, and return both's stamps."""
    engine.admit([request(0, prompt_tokens=10, output_tokens=5)])
    assert engine.step(until_s=apart_s) == []
    engine.admit([later])
    ended: dict[int, list[float]] = {}
    while len(ended) < 2:
        for outcome in engine.step(0.0):
            assert isinstance(outcome, Generation)
            ended[outcome.uid] = list(outcome.token_s)
    return [ended[0], ended[1]]


PLAIN = ServiceLaw(prefill_s=0.5, prefill_s_per_token=0.1, decode_s=1.0, decode_s_per_sequence=0.125)


def test_in_steps_a_prompt_rides_along_with_a_decode_step_of_the_others() -> None:
    first, second = stamps_of_both(
        FakeEngine(VirtualClock(), PLAIN, style="steps"),
        apart_s=3.0,
        later=request(1, prompt_tokens=5, output_tokens=3),
    )
    # Prefill 1.5 s; two steps of 1.125 s, the second begun before 3 s; a pass of both; a step of both.
    ridden_s = 3.75 + 0.5 + 0.5 + 0.125
    assert first == pytest.approx([1.5, 2.625, 3.75, ridden_s, ridden_s + 1.25])
    assert second == pytest.approx([ridden_s, ridden_s + 1.25, ridden_s + 1.25 + 1.125])


def test_when_alternating_a_prompt_has_a_pass_of_its_own_and_a_step_of_all_follows() -> None:
    first, second = stamps_of_both(
        FakeEngine(VirtualClock(), PLAIN, style="alternating"),
        apart_s=3.0,
        later=request(1, prompt_tokens=5, output_tokens=3),
    )
    # The iteration of the prefill holds a step as well.
    assert first == pytest.approx([1.5, 2.625, 3.75, 6.0, 7.25])
    assert second == pytest.approx([4.75, 6.0, 7.25])


def test_a_chunked_prompt_is_computed_beside_several_steps_of_the_others() -> None:
    first, second = stamps_of_both(
        FakeEngine(VirtualClock(), PLAIN, style="steps", prefill_chunk=4),
        apart_s=2.0,
        later=request(1, prompt_tokens=10, output_tokens=1),
    )
    # Ten positions in chunks of 4, 4 and 2: 2.5 s when nothing else runs.
    chunks_s = [0.5 + 0.125 + 0.4, 0.5 + 0.125 + 0.4, 0.5 + 0.125 + 0.2]
    ends = [2.5 + sum(chunks_s[: k + 1]) for k in range(3)]
    assert first == pytest.approx([2.5, *ends, ends[-1] + 1.125])
    assert second == pytest.approx([ends[-1]])


def test_without_a_chunk_a_pass_holds_whole_prompts_within_bounds() -> None:
    law = ServiceLaw(prefill_s=1.0)
    engine = FakeEngine(VirtualClock(), law, style="steps", max_context=20_000)
    first, second, long = generations(
        engine, [request(0, 6000, 1), request(1, 3000, 1), request(2, 10_000, 1)]
    )
    assert [first.finished_s, second.finished_s, long.finished_s] == [1.0, 2.0, 3.0]


shapes = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 90)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    shapes,
    st.sampled_from([None, 7, 64]),
    st.sampled_from([0.03, 0.5]),
    st.sampled_from(["steps", "alternating"]),
)
def test_interrupting_it_at_any_time_changes_no_stamp(
    shapes: list[tuple[int, int]], chunk: int | None, often_s: float, style: Style
) -> None:
    batch = [request(uid, prompt, output) for uid, (prompt, output) in enumerate(shapes)]

    def stamps(often_s: float) -> dict[int, list[float]]:
        clock = VirtualClock()
        engine = FakeEngine(clock, LAW, style=style, prefill_chunk=chunk)
        engine.admit(batch)
        found: dict[int, list[float]] = {}
        while len(found) < len(batch):
            for outcome in engine.step(clock.now_s() + often_s):
                assert isinstance(outcome, Generation)
                found[outcome.uid] = list(outcome.token_s)
                assert outcome.finished_s == outcome.token_s[-1]
        return found

    at_once, often = stamps(math.inf), stamps(often_s)
    for uid, (_, output) in enumerate(shapes):
        assert len(at_once[uid]) == output
        assert often[uid] == pytest.approx(at_once[uid])
        assert all(later > earlier for earlier, later in pairwise(at_once[uid]))


@pytest.mark.parametrize("style", STYLES)
def test_tokens_depend_on_the_prompt_alone_and_not_on_the_batch(style: Style) -> None:
    engine = FakeEngine(VirtualClock(), style=style, vocabulary_size=50)
    batch = [request(uid, 3 + uid, 12) for uid in range(9)]
    together = [list(generation.token_ids) for generation in generations(engine, batch)]
    alone = [list(generation.token_ids) for generation in run_alone(engine, batch)]
    assert together == alone
    assert len({tuple(tokens) for tokens in together}) >= 7
    assert {token for tokens in together for token in tokens} <= set(range(50))


def test_tokens_are_the_same_in_every_process() -> None:
    [generation] = generations(FakeEngine(VirtualClock()), [request(3, 8, 2)])
    assert list(generation.token_ids) == [31882, 31883]


@pytest.mark.parametrize("style", STYLES)
def test_natural_stopping_ends_early_for_some_and_never_late(style: Style) -> None:
    wanted = [request(uid, output_tokens=20, stop="natural") for uid in range(50)]
    ended = generations(FakeEngine(VirtualClock(), style=style), wanted)
    lengths = [len(generation.token_ids) for generation in ended]
    assert lengths == [len(generation.token_s) for generation in ended]
    assert 1 <= min(lengths) < 10 < max(lengths) <= 20


@pytest.mark.parametrize("style", STYLES)
def test_it_raises_what_it_was_told_to_and_starts_afresh_when_cleared(style: Style) -> None:
    def fail_on(batch: Sequence[Request]) -> BaseException | None:
        return ValueError("poison") if any(r.uid == 2 for r in batch) else None

    engine = FakeEngine(VirtualClock(), style=style, fail_on=fail_on)
    engine.admit([request(1), request(2)])
    with pytest.raises(ValueError, match="poison"):
        engine.step(0.0)
    engine.clear()
    assert len(generations(engine, [request(1)])) == 1


@pytest.mark.parametrize("style", STYLES)
def test_a_request_at_fault_fails_alone_and_its_neighbours_are_served(style: Style) -> None:
    engine = FakeEngine(
        VirtualClock(), style=style, max_context=50, fail_alone=lambda r: "bad" if r.uid == 1 else None
    )
    ended = run_batch(engine, [request(0), request(1), request(2, prompt_tokens=50)])
    assert isinstance(ended[0], Generation)
    assert ended[1] == Failure(uid=1, error="bad")
    assert isinstance(ended[2], Failure)
    assert "the context is 50" in ended[2].error


@pytest.mark.parametrize("style", STYLES)
def test_time_outside_the_model_comes_before_the_prefill(style: Style) -> None:
    clock = VirtualClock()
    engine = FakeEngine(clock, ServiceLaw(prefill_s=1.0, request_s=0.25), style=style)
    first, second = generations(engine, [request(0, output_tokens=1), request(1, output_tokens=1)])
    assert second.tokenized_s == 0.5
    assert first.finished_s == second.finished_s == clock.now_s() == 1.5


@pytest.mark.parametrize("style", STYLES)
def test_on_a_real_clock_it_takes_real_time(style: Style) -> None:
    clock = WallClock()
    engine = FakeEngine(clock, ServiceLaw(decode_s=0.02), style=style)
    [generation] = generations(engine, [request(0, output_tokens=3)])
    assert 0.04 <= generation.finished_s <= clock.now_s()


def test_it_states_the_law_that_it_keeps() -> None:
    facts = FakeEngine(VirtualClock(), LAW, style="steps", prefill_chunk=64).facts
    assert facts["engine"] == "fake"
    assert facts["style"] == "steps"
    assert facts["law"]["decode_s"] == 0.02


def test_a_caller_that_may_have_news_at_any_time_is_asked_after_every_step() -> None:
    clock = VirtualClock()
    engine = FakeEngine(clock, ServiceLaw(decode_s=1.0), style="steps")
    engine.admit([request(0, output_tokens=4)])
    ended = [engine.step(until_s=-math.inf) for _ in range(4)]
    assert [len(outcomes) for outcomes in ended] == [0, 0, 0, 1]
    assert clock.now_s() == 3.0


def test_token_times_are_a_sequence_like_any_other() -> None:
    [generation] = generations(
        FakeEngine(VirtualClock(), ServiceLaw(decode_s=1.0), style="steps"), [request(0, output_tokens=4)]
    )
    stamps = generation.token_s
    assert len(stamps) == 4
    assert list(stamps) == [stamps[0], stamps[1], stamps[2], stamps[-1]] == [0.0, 1.0, 2.0, 3.0]
    assert list(stamps[1:3]) == [1.0, 2.0]
    with pytest.raises(IndexError):
        stamps[4]


@pytest.mark.parametrize("style", STYLES)
def test_a_step_in_which_nothing_runs_is_an_error(style: Style) -> None:
    engine = FakeEngine(VirtualClock(), LAW, style=style)
    generations(engine, [request(0)])
    with pytest.raises(RuntimeError, match="nothing runs"):
        engine.step(0.0)
    for forget in (engine.clear, engine.close):
        forget()
        with pytest.raises(RuntimeError, match="nothing runs"):
            engine.step(0.0)
