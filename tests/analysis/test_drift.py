"""What outputs differ by, against what can be counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.analysis.drift import (
    MEASURES,
    distinct_2,
    edit_distance,
    first_divergence,
    identical,
    length_ratio,
    levenshtein,
    longest_repeat,
    longest_repeats,
    truncated,
)
from tests.analysis.answering import answer, pair

SHORT = st.lists(st.integers(0, 3), max_size=24)


def by_table(one: list[int], two: list[int]) -> int:
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        row, before = [i], row
        for j, b in enumerate(two, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b)))
    return row[-1]


@given(SHORT, SHORT)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_bit_parallel_distance_is_that_of_the_table(one: list[int], two: list[int]) -> None:
    assert levenshtein(one, two) == by_table(one, two)


@given(st.lists(SHORT, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_longest_repeat_is_the_one_found_by_looking_at_all(sequences: list[list[int]]) -> None:
    def longest(ids: list[int]) -> int:
        def twice(n: int) -> bool:
            passages = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
            return len(set(passages)) < len(passages)

        return max((n for n in range(1, len(ids)) if twice(n)), default=0)

    assert longest_repeats(sequences).tolist() == [longest(ids) for ids in sequences]


def test_equal_outputs_differ_in_nothing() -> None:
    pairs = [pair(answer(range(i, i + 9)), answer(range(i, i + 9))) for i in range(20)]
    assert identical(pairs).value == 1
    assert first_divergence(pairs).value is None
    assert edit_distance(pairs).value == truncated(pairs).value == 0
    assert length_ratio(pairs).value == 1
    assert distinct_2(pairs).value == longest_repeat(pairs).value == 0


def test_drift_is_where_and_by_how_much() -> None:
    pairs = [
        pair(answer((1, 2, 3, 4)), answer((1, 2, 3, 4))),
        pair(answer((1, 9, 3, 4)), answer((1, 2, 3, 4))),
        pair(answer((1, 2, 3)), answer((1, 2, 3, 4))),
        pair(answer((9, 9, 9, 9)), answer((1, 2, 3, 4))),
    ]
    assert identical(pairs).value == 0.25
    assert first_divergence(pairs).value == 1  # 1, 3 and 0 tokens were alike
    assert edit_distance(pairs).value == pytest.approx((0 + 1 / 4 + 1 / 4 + 1) / 4)
    assert distinct_2(pairs).value == pytest.approx(-(2 / 3) / 4)
    assert longest_repeat(pairs).value == pytest.approx(3 / 4)


def test_lengths_are_compared_only_where_an_answer_ended_by_itself() -> None:
    both_cut = [pair(answer(range(8), ended=False), answer(range(8), ended=False))] * 50
    assert length_ratio(both_cut).value is None
    assert "cut off" in length_ratio(both_cut).note
    shorter = [pair(answer(range(6)), answer(range(8), ended=False))] * 12
    ratio = length_ratio(both_cut + shorter)
    assert ratio.value == pytest.approx(6 / 8)
    assert ratio.n == 12


def test_an_answer_that_is_cut_off_more_often_shows() -> None:
    pairs = [pair(answer(range(8), ended=i % 2 == 0), answer(range(8))) for i in range(40)]
    found = truncated(pairs)
    assert found.value == 0.5
    assert found.low is not None
    assert found.low > 0.3


def test_every_measure_has_an_interval_or_says_why_not() -> None:
    pairs = [pair(answer((i, 2, 3)), answer((i % 3, 2, 3))) for i in range(12)]
    for name, measure in MEASURES.items():
        value = measure(pairs)
        assert value.note, name
        assert (value.low is not None) or name == "first_divergence"
