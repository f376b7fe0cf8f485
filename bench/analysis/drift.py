"""Free-running drift: how what a system writes after the same prompts departs from what the baseline writes.

Under greedy decoding one token that comes out otherwise changes all that follow, so a share of outputs
that differ says little about how wrong they are: rounding alone makes two batches of one model differ. Hence
the noise floor beside every figure, and besides *whether* also *where* (first divergence), *how much* (edit
distance), and whether the model falls into what is visibly worse: other lengths, answers cut off, repetition.
Prompts were drawn apart from one another, so intervals come from prompts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from bench.analysis.proportions import paired_drop, wilson
from bench.analysis.stats import CONFIDENCE, Array, Estimate, t_quantile
from bench.analysis.system import missing
from bench.records import Run, Value

Against = Literal["baseline", "itself"]
MIN_ENDED = 10
"""Fewer pairs in which an answer ended by itself say nothing about lengths."""
_PAD = -1


class Answer(msgspec.Struct, frozen=True):
    """What was written after a prompt, without its end token."""

    ids: tuple[int, ...]
    text: str
    ended: bool


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two answers to one prompt; `opening` is what the prompt itself has begun of either."""

    kind: str
    opening: str
    keys: tuple[str, ...]
    digits: tuple[str, ...]
    own: Answer
    reference: Answer


def pairs_of(run: Run, against: Against) -> list[Pair]:
    """Return the pairs that a run recorded: with the baseline, or of itself at another batch size."""
    if run.outputs is None:
        return []
    own, reference = ("", "ref_") if against == "baseline" else ("again_", "")
    rows = run.outputs.to_pylist()
    return [
        Pair(
            kind=row["kind"],
            opening=row["opening"],
            keys=tuple(row["keys"]),
            digits=tuple(row["digits"]),
            own=_answer(row, own),
            reference=_answer(row, reference),
        )
        for row in rows
        if row[f"{own}ids"] is not None and row[f"{reference}ids"] is not None
    ]


def _answer(row: Mapping[str, object], prefix: str) -> Answer:
    ids, text = row[f"{prefix}ids"], row[f"{prefix}text"]
    assert isinstance(ids, list)
    assert isinstance(text, str)
    return Answer(tuple(ids), text, bool(row[f"{prefix}ended"]))


def identical(pairs: Sequence[Pair]) -> Value:
    """Return the share of prompts whose two answers are the same to the last token."""
    same = sum(pair.own.ids == pair.reference.ids for pair in pairs)
    return _figure(wilson(same, len(pairs)), f"{same} of {len(pairs)} outputs")


def first_divergence(pairs: Sequence[Pair]) -> Value:
    """Return the median number of tokens before the first that differs, over the outputs that differ."""
    differing = [pair for pair in pairs if pair.own.ids != pair.reference.ids]
    if not differing:
        return missing(f"none of {len(pairs)} outputs differs")
    common = [_common(pair.own.ids, pair.reference.ids) for pair in differing]
    note = f"median over the {len(differing)} of {len(pairs)} outputs that differ"
    return Value(value=float(np.median(common)), source="derived", note=note, n=len(differing))


def edit_distance(pairs: Sequence[Pair]) -> Value:
    """Return the mean Levenshtein distance of the token sequences, over the longer one's length."""
    shares = [
        levenshtein(pair.own.ids, pair.reference.ids) / max(len(pair.own.ids), len(pair.reference.ids), 1)
        for pair in pairs
    ]
    return _figure(_mean(shares), f"{len(pairs)} outputs")


def length_ratio(pairs: Sequence[Pair]) -> Value:
    """Return the tokens written over the reference's, over the pairs in which either ended by itself.

    Where both were cut off, that they are equally long says nothing. The interval is a ratio estimator's
    (Cochran, Sampling Techniques, ch. 6).
    """
    free = [pair for pair in pairs if pair.own.ended or pair.reference.ended]
    if len(free) < MIN_ENDED:
        return missing(
            f"{len(free)} of {len(pairs)} outputs ended by themselves in either; the others were cut off, "
            "and their lengths say nothing"
        )
    own = np.array([len(pair.own.ids) for pair in free], float)
    reference = np.array([len(pair.reference.ids) for pair in free], float)
    if reference.sum() == 0:
        return missing("the reference wrote nothing")
    ratio = float(own.sum() / reference.sum())
    off = _mean(list((own - ratio * reference) / reference.mean()))
    return _figure(
        _moved(off, ratio), f"{len(free)} of {len(pairs)} outputs, the others were cut off in both"
    )


def truncated(pairs: Sequence[Pair]) -> Value:
    """Return by how much more often the answer was cut off."""
    own = sum(not pair.own.ended for pair in pairs)
    reference = sum(not pair.reference.ended for pair in pairs)
    only_own = sum(not pair.own.ended and pair.reference.ended for pair in pairs)
    only_reference = sum(pair.own.ended and not pair.reference.ended for pair in pairs)
    note = f"cut off: {own} of {len(pairs)} against {reference}"
    return _figure(paired_drop(only_own, only_reference, len(pairs)), note)


def distinct_2(pairs: Sequence[Pair]) -> Value:
    """Return how much the share of distinct pairs of neighbouring tokens changed (Li et al. 2016)."""
    return _difference(pairs, lambda answers: [_distinct_pairs(answer.ids) for answer in answers])


def longest_repeat(pairs: Sequence[Pair]) -> Value:
    """Return by how many tokens the longest passage that an output repeats grew."""
    return _difference(pairs, lambda answers: list(longest_repeats([answer.ids for answer in answers])))


MEASURES: dict[str, Callable[[Sequence[Pair]], Value]] = {
    "identical_outputs": identical,
    "first_divergence": first_divergence,
    "output_edit_distance": edit_distance,
    "output_length_ratio": length_ratio,
    "output_truncated": truncated,
    "output_distinct_2": distinct_2,
    "output_longest_repeat": longest_repeat,
}


def levenshtein(one: Sequence[int], two: Sequence[int]) -> int:
    """Return how many insertions, deletions and substitutions turn one sequence into the other.

    Bit-parallel, a column of the table at a time (Myers, JACM 46, 1999; in Hyyrö's form of 2003).
    """
    if not one or not two:
        return max(len(one), len(two))
    places: dict[int, int] = {}
    for place, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << place
    every, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    plus, minus, distance = every, 0, len(one)
    for token in two:
        match = places.get(token, 0)
        diagonal = (((match & plus) + plus) ^ plus) | match | minus
        up, down = minus | ~(diagonal | plus) & every, plus & diagonal
        distance += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & every, down << 1 & every
        plus, minus = down | ~(diagonal | up) & every, up & diagonal
    return distance


def longest_repeats(sequences: Sequence[Sequence[int]]) -> Array:
    """Return, per sequence, the length of the longest passage that stands in it at least twice."""
    width = max((len(ids) for ids in sequences), default=0)
    tokens = np.full((len(sequences), width), _PAD)
    for row, ids in enumerate(sequences):
        tokens[row, : len(ids)] = ids
    longest = np.zeros(len(sequences), int)
    # ending[r, j]: how long the passages that end at i and at j > i are the same.
    ending = np.zeros((len(sequences), width), int)
    for i in range(width):
        before = np.pad(ending[:, :-1], ((0, 0), (1, 0)))
        same = (tokens == tokens[:, i : i + 1]) & (tokens != _PAD)
        same[:, : i + 1] = False
        ending = np.where(same, before + 1, 0)
        longest = np.maximum(longest, ending.max(axis=1, initial=0))
    return longest


def _distinct_pairs(ids: Sequence[int]) -> float:
    neighbours = list(itertools.pairwise(ids))
    return len(set(neighbours)) / len(neighbours) if neighbours else 1.0


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    shorter = min(len(one), len(two))
    return next((i for i in range(shorter) if one[i] != two[i]), shorter)


def _difference(pairs: Sequence[Pair], measured: Callable[[list[Answer]], Sequence[float]]) -> Value:
    own = np.array(measured([pair.own for pair in pairs]), float)
    reference = np.array(measured([pair.reference for pair in pairs]), float)
    note = f"mean {own.mean():.3g} against {reference.mean():.3g}"
    return _figure(_mean(list(own - reference)), note)


def _mean(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean over prompts with Student's t."""
    sample, n = np.array(values, float), len(values)
    mean = float(sample.mean())
    if n < 2:
        return Estimate(mean, None, None, n)
    half = t_quantile(n - 1, confidence) * float(sample.std(ddof=1)) / float(np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def _moved(estimate: Estimate, by: float) -> Estimate:
    low, high = (None if end is None else end + by for end in (estimate.low, estimate.high))
    return Estimate(estimate.mean + by, low, high, estimate.n)


def _figure(estimate: Estimate, note: str) -> Value:
    return Value(
        value=estimate.mean, source="derived", note=note, low=estimate.low, high=estimate.high, n=estimate.n
    )
