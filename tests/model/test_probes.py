"""Prompts of the quality pass: the same for every system, in both forms, each with its own number."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.errors import NotAvailable
from bench.model.load import LoadedModel
from bench.model.probes import probes
from bench.model.vocabulary import ModelVocabulary, TextTokenizer


class Letters:
    """A tokenizer with a token per character, and a chat template."""

    chat_template = "{...}"

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text]}

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(chr, ids))

    def apply_chat_template(self, said: list[dict[str, str]], **options: Any) -> str:
        assert options["add_generation_prompt"]
        assert not options["tokenize"]
        return f"<user>{said[0]['content']}<assistant>"


@pytest.fixture
def chatting() -> ModelVocabulary:
    return ModelVocabulary(ordinary_ids=(1,), tokenizer=TextTokenizer(Letters()))


def test_four_of_five_prompts_ask_for_a_format_and_every_fifth_is_prose(tiny: LoadedModel) -> None:
    found = probes(tiny.vocabulary, 160)
    assert [probe.kind == "prose" for probe in found] == [i % 5 == 4 for i in range(160)]
    assert Counter(probe.kind for probe in found) == {"json": 48, "fence": 32, "reply": 48, "prose": 32}


def test_the_prompts_of_fewer_are_the_first_of_more_but_for_the_prose(tiny: LoadedModel) -> None:
    few, many = probes(tiny.vocabulary, 10), probes(tiny.vocabulary, 40)
    assert [p for p in few if p.kind != "prose"] == [p for p in many[:10] if p.kind != "prose"]


def test_no_two_prompts_are_alike_and_each_number_occurs_once(tiny: LoadedModel) -> None:
    found = probes(tiny.vocabulary, 160)
    assert len({probe.ids for probe in found}) == 160
    orders = [probe.digits[0] for probe in found if probe.digits]
    assert len(set(orders)) == len(orders) == 128
    for probe in found:
        assert all(number in probe.text for number in probe.digits)
        assert "{name}" not in probe.text


def test_a_base_model_gets_a_pattern_and_what_it_begins_belongs_to_the_answer(tiny: LoadedModel) -> None:
    assert tiny.vocabulary.tokenizer is not None
    probe = probes(tiny.vocabulary, 1)[0]
    assert probe.kind == "json"
    pattern = tiny.vocabulary.tokenizer.decode(probe.ids)
    assert probe.opening == "{"
    assert pattern.endswith(probe.opening)
    assert pattern.count('"customer"') == 2  # two examples; the third is to be written
    assert probe.keys == ("customer", "order", "issue")


def test_a_chat_model_is_asked_through_its_own_template(chatting: ModelVocabulary) -> None:
    assert chatting.tokenizer is not None
    for probe in probes(chatting, 10):
        assert chatting.tokenizer.decode(probe.ids) == f"<user>{probe.text}<assistant>"
        assert probe.opening == ""


def test_both_forms_ask_the_same(chatting: ModelVocabulary, tiny: LoadedModel) -> None:
    for one, two in zip(probes(chatting, 20), probes(tiny.vocabulary, 20), strict=True):
        assert (one.kind, one.text, one.keys, one.digits) == (two.kind, two.text, two.keys, two.digits)


def test_a_model_without_a_tokenizer_is_asked_nothing() -> None:
    with pytest.raises(NotAvailable, match="no tokenizer"):
        probes(ModelVocabulary(ordinary_ids=(1, 2), tokenizer=None), 5)


def test_a_corpus_with_too_few_passages_says_so(tiny: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "prose.txt").write_text("a line\n" * 60)
    with pytest.raises(NotAvailable, match="has 3 passages, asked for are 20"):
        probes(tiny.vocabulary, 100, prose=tmp_path / "prose.txt")
