"""Statistics of tone on texts whose figures are counted by hand, and the test of equivalence."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.tone import (
    STATISTICS,
    reading_ease,
    sentence_length,
    shifts,
    text_of,
    tone_shift,
    word_length,
)
from tests.analysis.answering import said

WORDS = ("the", "parcel", "order", "arrives", "tomorrow", "maybe", "please", "you", "send", "it", "back")


def letter(rng: np.random.Generator, polite: float = 0.1) -> str:
    sentences = []
    for _ in range(4):
        chosen = [str(rng.choice(WORDS)) for _ in range(int(rng.integers(5, 12)))]
        sentences.append(" ".join("please" if rng.random() < polite else word for word in chosen))
    return ". ".join(sentences) + "."


def test_the_statistics_are_those_counted_by_hand() -> None:
    text = text_of("You may keep it. Please send us the old lamp!\nThank you")
    assert text.sentences == 3
    assert len(text.words) == 12
    assert sentence_length(text) == 4
    assert word_length(text) == pytest.approx(42 / 12)
    by_name = {name: of(text) for name, (_, of) in STATISTICS.items()}
    assert by_name["second_person"] == pytest.approx(100 * 2 / 12)
    assert by_name["hedges"] == pytest.approx(100 * 1 / 12)
    assert by_name["politeness"] == pytest.approx(100 * 2 / 12)


def test_short_words_in_short_sentences_read_easily() -> None:
    easy = text_of("The cat sat. It was fat. We ran to it.")
    hard = text_of("Organizational considerations necessitate comprehensive documentation of irregularities.")
    assert reading_ease(easy) > 90
    assert reading_ease(hard) < 0


def test_two_systems_of_one_tone_are_equivalent() -> None:
    rng = np.random.default_rng(3)
    pairs = [said(letter(rng), letter(rng), "reply") for _ in range(150)]
    shift = tone_shift(shifts(pairs))
    assert shift.high is not None
    assert shift.high < 0.5
    assert shift.confidence == 0.9


def test_a_ruder_system_is_found_and_named() -> None:
    rng = np.random.default_rng(3)
    pairs = [said(letter(rng, 0.0), letter(rng, 0.3), "reply") for _ in range(80)]
    shift = tone_shift(shifts(pairs))
    assert shift.low is not None
    assert shift.low > 0.5
    assert shift.note.startswith("polite words")


def test_few_prompts_cannot_show_that_a_tone_is_the_same() -> None:
    rng = np.random.default_rng(3)
    pairs = [said(letter(rng), letter(rng), "reply") for _ in range(12)]
    assert (tone_shift(shifts(pairs)).high or 0) > 0.5
    assert tone_shift(shifts(pairs[:5])).value is None


def test_json_has_no_tone_and_silence_is_said() -> None:
    assert "fewer than" in tone_shift(shifts([said("{}", "{}", "json")] * 30)).note
    same = shifts([said("the the the the the the", "the the the the the the", "prose")] * 30)
    assert all("not informative" in shift.shift.note for shift in same)
    assert tone_shift(same).value is None
    assert tone_shift(()).value is None
