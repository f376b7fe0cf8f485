"""Tone by simple statistics of the text, and whether two systems are equivalent in it.

No judge and no model: how long sentences and words are, how readable that makes a text, and how often it
addresses the reader, hedges and is polite. *No significant difference* would be a weak statement, as few
prompts can always have it; so the test is one of equivalence. Two one-sided tests (Schuirmann 1987) at 5 %
each find two systems equivalent where the 90 % interval of the mean paired difference lies within a limit,
which is stated in standard deviations of the baseline's outputs. Answers that must be JSON or code have no
tone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from bench.analysis.drift import Pair
from bench.analysis.numbers import shown
from bench.analysis.output_quality import Shift
from bench.analysis.stats import Array, t_quantile
from bench.analysis.system import missing
from bench.records import Value

KINDS = ("reply", "prose")
MIN_WORDS = 5
MIN_PAIRS = 10
CONFIDENCE = 0.90
"""Of the interval: two one-sided tests at 5 %."""

SECOND_PERSON = frozenset(("you", "your", "yours", "yourself", "yourselves"))
HEDGES = frozenset(
    (
        "about", "almost", "apparently", "approximately", "could", "generally", "likely", "may", "maybe",
        "might", "mostly", "often", "perhaps", "possibly", "probably", "roughly", "seem", "seems", "should",
        "sometimes", "somewhat", "suggest", "suggests", "typically", "unlikely", "usually",
    )
)  # fmt: skip
POLITE = frozenset(
    (
        "apologies", "apologise", "apologize", "appreciate", "glad", "happy", "kindly", "please", "regards",
        "sincerely", "sorry", "thank", "thanks", "understand", "welcome",
    )
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)|\n+")
_VOWELS = re.compile(r"[aeiouy]+")


class Text(msgspec.Struct, frozen=True):
    """A text as words in lower case, and its number of sentences."""

    words: tuple[str, ...]
    sentences: int


def text_of(text: str) -> Text:
    """Cut a text into words, and count the sentences that hold any."""
    parts = [part for part in _SENTENCE_END.split(text) if _WORD.search(part)]
    return Text(tuple(word.lower() for word in _WORD.findall(text)), max(1, len(parts)))


def sentence_length(text: Text) -> float:
    """Return words per sentence."""
    return len(text.words) / text.sentences


def word_length(text: Text) -> float:
    """Return letters per word."""
    return sum(map(len, text.words)) / len(text.words)


def reading_ease(text: Text) -> float:
    """Return Flesch's reading ease (1948), with groups of vowels for syllables; higher is easier."""
    syllables = sum(max(1, len(_VOWELS.findall(word))) for word in text.words)
    return 206.835 - 1.015 * sentence_length(text) - 84.6 * syllables / len(text.words)


def _per_hundred(known: frozenset[str]) -> Callable[[Text], float]:
    return lambda text: 100.0 * sum(word in known for word in text.words) / len(text.words)


STATISTICS: dict[str, tuple[str, Callable[[Text], float]]] = {
    "sentence_length": ("words per sentence", sentence_length),
    "word_length": ("letters per word", word_length),
    "reading_ease": ("reading ease (Flesch)", reading_ease),
    "second_person": ("second person per 100 words", _per_hundred(SECOND_PERSON)),
    "hedges": ("hedges per 100 words", _per_hundred(HEDGES)),
    "politeness": ("polite words per 100 words", _per_hundred(POLITE)),
}


def shifts(pairs: Sequence[Pair]) -> tuple[Shift, ...]:
    """Return every statistic's paired difference, over the answers in free text that both have words."""
    texts = [(text_of(pair.reference.text), text_of(pair.own.text)) for pair in pairs if pair.kind in KINDS]
    spoken = [both for both in texts if min(len(text.words) for text in both) >= MIN_WORDS]
    return tuple(_shift(name, label, of, spoken) for name, (label, of) in STATISTICS.items())


def tone_shift(found: Sequence[Shift]) -> Value:
    """Return the largest shift of any statistic, in standard deviations, whichever way it goes.

    Its interval is made so that all statistics are equivalent within a limit where its upper end is within
    it, and one surely is not where its lower end is beyond.
    """
    known = [shift for shift in found if shift.shift.value is not None]
    if not known:
        return missing(found[0].shift.note if found else "no prompt was answered in free text")
    ends = [(shift.shift.low or 0.0, shift.shift.high or 0.0) for shift in known]
    most = max(known, key=lambda shift: abs(shift.shift.value or 0.0))
    return Value(
        value=abs(most.shift.value or 0.0),
        source="derived",
        note=f"{most.label}: {most.shift.note}",
        low=max(0.0 if low <= 0.0 <= high else min(abs(low), abs(high)) for low, high in ends),
        high=max(max(abs(low), abs(high)) for low, high in ends),
        n=most.shift.n,
        confidence=CONFIDENCE,
    )


def _shift(name: str, label: str, of: Callable[[Text], float], spoken: Sequence[tuple[Text, Text]]) -> Shift:
    if len(spoken) < MIN_PAIRS:
        why = f"{len(spoken)} answers in free text, fewer than {MIN_PAIRS}"
        return Shift(name=name, label=label, reference=None, own=None, shift=missing(why))
    reference = np.array([of(one) for one, _ in spoken])
    own = np.array([of(two) for _, two in spoken])
    return Shift(
        name=name,
        label=label,
        reference=float(reference.mean()),
        own=float(own.mean()),
        shift=_standardized(reference, own),
    )


def _standardized(reference: Array, own: Array) -> Value:
    """Return the mean paired difference over the reference's deviation (that of both, where it has none)."""
    n = len(reference)
    varying = reference if np.ptp(reference) else np.concatenate((reference, own))
    if not np.ptp(varying):
        return missing("not informative: it is the same in every output")
    deviation = float(varying.std(ddof=1))
    difference = (own - reference) / deviation
    mean = float(difference.mean())
    half = t_quantile(n - 1, CONFIDENCE) * float(difference.std(ddof=1)) / float(np.sqrt(n))
    note = f"{shown(float(own.mean()), 3)} against {shown(float(reference.mean()), 3)}, {n} answers"
    return Value(
        value=mean, source="derived", note=note, low=mean - half, high=mean + half, n=n, confidence=CONFIDENCE
    )
