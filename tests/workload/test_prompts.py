"""Prompts have the wanted lengths, valid ids and true text, and no two are alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import ConfigError
from bench.protocols import Tokenizer
from bench.workload.prompts import SHIPPED_CORPUS, Corpus, RandomTokens

from .vocabularies import CharacterPairs, FakeVocabulary, Forgetful, PrefixMarking


@given(lengths=st.lists(st.integers(3, 40), max_size=60), seed=st.integers(0, 2**32))
def test_random_prompts_have_their_lengths_and_only_ordinary_ids(lengths: list[int], seed: int) -> None:
    vocabulary = FakeVocabulary([3, 17, 400, 401])
    prompts = RandomTokens().draw(lengths, vocabulary, np.random.default_rng(seed))
    assert [len(prompt.ids) for prompt in prompts] == lengths
    assert {i for prompt in prompts for i in prompt.ids} <= set(vocabulary.ordinary_ids)
    assert len({prompt.ids for prompt in prompts}) == len(prompts)
    assert all(prompt.text is None for prompt in prompts)


def test_random_prompts_use_the_whole_vocabulary_evenly() -> None:
    prompts = RandomTokens().draw([500] * 40, FakeVocabulary(range(10)), np.random.default_rng(1))
    counts = np.bincount([i for prompt in prompts for i in prompt.ids], minlength=10)
    assert np.all(np.abs(counts - 2000) < 250)


def test_every_possible_prompt_can_be_had_and_one_more_is_refused() -> None:
    vocabulary = FakeVocabulary(range(4))
    prompts = RandomTokens().draw([2] * 16, vocabulary, np.random.default_rng(1))
    assert len({prompt.ids for prompt in prompts}) == 16
    with pytest.raises(ConfigError, match="17 different prompts of 2 token"):
        RandomTokens().draw([2] * 17, vocabulary, np.random.default_rng(1))


@pytest.mark.parametrize("tokenizer", [CharacterPairs(), Forgetful(), PrefixMarking()])
def test_corpus_prompts_tokenize_back_to_ids_of_the_wanted_length(tokenizer: Tokenizer) -> None:
    lengths = [5, 700, 1, 64] * 10
    prompts = Corpus().draw(lengths, FakeVocabulary(tokenizer=tokenizer), np.random.default_rng(2))
    assert [len(prompt.ids) for prompt in prompts] == lengths
    assert all(tuple(tokenizer.encode(prompt.text or "")) == prompt.ids for prompt in prompts)
    assert len({prompt.ids for prompt in prompts}) == len(prompts)


def test_corpus_prompts_are_slices_of_the_shipped_text_from_all_over_it() -> None:
    text = SHIPPED_CORPUS.read_text(encoding="utf-8")
    prompts = Corpus().draw([30] * 50, FakeVocabulary(tokenizer=CharacterPairs()), np.random.default_rng(3))
    places = [text.find(prompt.text or "?") for prompt in prompts]
    assert min(places) >= 0
    assert min(places) < len(text) / 4
    assert max(places) > 3 * len(text) / 4


def test_a_corpus_gives_every_slice_once_and_then_says_that_it_is_too_short(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("aabbccddee", encoding="utf-8")
    vocabulary = FakeVocabulary(tokenizer=CharacterPairs())
    prompts = Corpus(path=str(corpus)).draw([3] * 3, vocabulary, np.random.default_rng(4))
    assert {prompt.text for prompt in prompts} == {"aabbcc", "bbccdd", "ccddee"}
    for too_much in ([3] * 4, [6]):
        with pytest.raises(ConfigError, match="corpus of 5 tokens holds no further prompt"):
            Corpus(path=str(corpus)).draw(too_much, vocabulary, np.random.default_rng(4))


def test_a_corpus_that_repeats_itself_gives_no_prompt_twice(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("abcd" * 20, encoding="utf-8")
    with pytest.raises(ConfigError, match="no further prompt of 2 tokens"):
        Corpus(path=str(corpus)).draw(
            [2] * 3, FakeVocabulary(tokenizer=CharacterPairs()), np.random.default_rng(4)
        )


def test_a_corpus_needs_a_tokenizer() -> None:
    with pytest.raises(ConfigError, match='use "random"'):
        Corpus().draw([4], FakeVocabulary(), np.random.default_rng(0))


def test_an_unreadable_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"workload\.prompts\.path = .*nowhere\.txt"):
        Corpus(path=str(tmp_path / "nowhere.txt")).draw(
            [4], FakeVocabulary(tokenizer=CharacterPairs()), np.random.default_rng(0)
        )
