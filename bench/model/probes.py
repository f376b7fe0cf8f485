"""The prompts whose continuations show what an optimization does to the output.

Four of five are customer-support requests from `bench/data/quality/prompts.toml`, which ask for a format
that can be checked; every fifth is a piece of prose to be continued. The text of a request depends on its
number alone, so it is the same for every system, experiment and tokenizer. A chat model is asked through its
tokenizer's chat template. A base model, which continues text, gets the same as a pattern of examples.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bench.errors import NotAvailable
from bench.model.locate import DATA
from bench.model.vocabulary import ModelVocabulary

TEMPLATES = DATA / "quality" / "prompts.toml"
PROSE = DATA / "corpus" / "prompts.txt"
_PROSE_CHARACTERS = 400
_PROSE_EVERY = 5
"""Every so many-th prompt is prose."""

Kind = Literal["json", "fence", "reply", "prose"]


class Template(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"pattern": "continue"}
):
    """A request in both forms; `opening` is what the pattern has already begun of the answer."""

    kind: Literal["json", "fence", "reply"]
    ask: str
    pattern: str
    opening: str = ""
    keys: tuple[str, ...] = ()


class Templates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The templates and what fills their slots."""

    names: Annotated[tuple[str, ...], Meta(min_length=1)]
    products: Annotated[tuple[str, ...], Meta(min_length=1)]
    troubles: Annotated[tuple[str, ...], Meta(min_length=1)]
    templates: Annotated[tuple[Template, ...], Meta(min_length=1)]


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt, and what its answer must hold: `keys` in a JSON object, and `digits` word for word.

    `ids` is the prompt as the model gets it, `text` what was asked, before any chat template.
    """

    kind: Kind
    text: str
    ids: tuple[int, ...]
    opening: str = ""
    keys: tuple[str, ...] = ()
    digits: tuple[str, ...] = ()


def probes(
    vocabulary: ModelVocabulary, count: int, templates: Path = TEMPLATES, prose: Path = PROSE
) -> list[Probe]:
    """Return the first `count` prompts, tokenized; NotAvailable for a model without a tokenizer."""
    if vocabulary.tokenizer is None:
        raise NotAvailable(
            "quality: a model with random weights has no tokenizer; nothing can be asked of it"
        )
    known = msgspec.convert(tomllib.loads(templates.read_text(encoding="utf-8")), Templates)
    passages = _passages(prose.read_text(encoding="utf-8"), count // _PROSE_EVERY)
    found = []
    for number in range(count):
        rounds, place = divmod(number, _PROSE_EVERY)
        if place == _PROSE_EVERY - 1:
            found.append(_prose(passages[rounds], vocabulary))
        else:
            found.append(_request(known, number - rounds, vocabulary))
    return found


def _request(known: Templates, number: int, vocabulary: ModelVocabulary) -> Probe:
    """Return the `number`-th request; its order number is one of 90,000 and occurs once."""
    template = known.templates[number % len(known.templates)]
    order = str(10_000 + number * 7_919 % 90_000)  # 7,919 is prime: no two numbers share a remainder
    slots = {
        "name": known.names[number % len(known.names)],
        "product": known.products[number % len(known.products)],
        "trouble": known.troubles[number % len(known.troubles)],
        "order": order,
    }
    asked = _filled(template.ask, slots)
    ids, chat = _encoded(asked, _filled(template.pattern, slots), vocabulary)
    return Probe(
        kind=template.kind,
        text=asked,
        ids=ids,
        opening="" if chat else template.opening,
        keys=template.keys,
        digits=(order,),
    )


def _prose(passage: str, vocabulary: ModelVocabulary) -> Probe:
    asked = f"Continue this text in its own manner:\n\n{passage}"
    ids, _ = _encoded(asked, passage, vocabulary)
    return Probe(kind="prose", text=asked, ids=ids)


def _encoded(asked: str, pattern: str, vocabulary: ModelVocabulary) -> tuple[tuple[int, ...], bool]:
    """Return the prompt's ids, and whether they are those of a conversation."""
    tokenizer = vocabulary.tokenizer
    assert tokenizer is not None
    conversation = tokenizer.encode_chat(asked)
    return tuple(
        tokenizer.encode(pattern) if conversation is None else conversation
    ), conversation is not None


def _filled(text: str, slots: dict[str, str]) -> str:
    """Fill the slots in; str.format would trip over the braces of JSON."""
    for name, value in slots.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _passages(text: str, count: int) -> list[str]:
    """Cut `count` passages that begin at lines spread evenly over the text and end with a word."""
    lines = [place for place in range(len(text)) if place == 0 or text[place - 1] == "\n"]
    starts = [start for start in lines if len(text) - start > _PROSE_CHARACTERS]
    if len(starts) < count:
        raise NotAvailable(f"quality: the corpus has {len(starts)} passages, asked for are {count}")
    chosen = [starts[i * len(starts) // count] for i in range(count)]
    return [text[start : start + _PROSE_CHARACTERS].rpartition(" ")[0] for start in chosen]
