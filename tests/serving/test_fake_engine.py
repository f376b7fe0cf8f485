"""The fake engine keeps its latency law to the letter and gives each request its own tokens."""

from __future__ import annotations

import msgspec
import pytest

from bench.clock import VirtualClock, WallClock
from bench.model.fake import FakeEngine

from .traffic import poisoned, request


def test_time_passes_by_the_law_of_a_padded_static_batch() -> None:
    clock = VirtualClock(10.0)
    engine = FakeEngine(clock, prefill_s_per_token=0.001, decode_s=0.02, decode_s_per_sequence=0.005)
    short, long = engine.generate(
        [request(0, prompt_tokens=30, output_tokens=2), request(1, prompt_tokens=100, output_tokens=4)]
    )
    step_s = 0.02 + 2 * 0.005
    first_s = 10.0 + 0.001 * 2 * 100
    assert long.token_s == pytest.approx([first_s + i * step_s for i in range(4)])
    assert short.token_s == long.token_s[:2]
    assert short.finished_s == long.finished_s == clock.now_s() == pytest.approx(first_s + 3 * step_s)
    assert short.padded_tokens == 70 + 2
    assert long.padded_tokens == 0


def test_tokens_depend_on_the_prompt_alone_and_not_on_the_batch() -> None:
    engine = FakeEngine(VirtualClock(), vocabulary_size=50)
    batch = [request(uid, prompt_tokens=3 + uid, output_tokens=8) for uid in range(4)]
    together = [generation.token_ids for generation in engine.generate(batch)]
    alone = [engine.generate([one])[0].token_ids for one in batch]
    assert together == alone
    assert len(set(together)) == 4
    assert {token for tokens in together for token in tokens} <= set(range(50))


def test_natural_stopping_ends_early_for_some_and_never_late() -> None:
    engine = FakeEngine(VirtualClock())
    wanted = [msgspec.structs.replace(request(uid, output_tokens=20), stop="natural") for uid in range(50)]
    lengths = [len(generation.token_ids) for generation in engine.generate(wanted)]
    assert 1 <= min(lengths) < 10 < max(lengths) <= 20


def test_it_raises_what_it_was_told_to() -> None:
    engine = FakeEngine(VirtualClock(), fail_on=poisoned(2))
    assert len(engine.generate([request(1)])) == 1
    with pytest.raises(ValueError, match=r"poison in \[2\]"):
        engine.generate([request(1), request(2)])


def test_on_a_real_clock_it_takes_real_time() -> None:
    clock = WallClock()
    [generation] = FakeEngine(clock, decode_s=0.02).generate([request(0, output_tokens=3)])
    assert 0.04 <= generation.finished_s <= clock.now_s()
