"""Padding in positions and in time, on batches whose waste is known by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.waste import (
    decode_waste,
    padding_share,
    prefill_waste,
    time_weighted_waste,
)
from bench.records import Completion
from tests.recorded import completion, number, window_run


def row(
    prompt: int,
    output: int,
    *,
    prefill: float = 0.0,
    decode: float = 0.0,
    start_s: float = 11.0,
    prefill_s: float = 0.1,
    decode_s: float = 0.9,
    **changes: object,
) -> Completion:
    """Return a request that entered the engine at `start_s`, with so much padding."""
    first_s = start_s + prefill_s
    return completion(
        10.5,
        first_s + decode_s - 10.5,
        admitted_s=start_s,
        first_token_s=first_s,
        prefill_s=prefill_s,
        decode_s=decode_s,
        prompt_tokens=prompt,
        output_tokens=output,
        padded_tokens=prefill + decode,
        padded_prefill_tokens=prefill,
        **changes,
    )


BATCH = window_run([row(30, 11), row(10, 6, prefill=20, decode=5)])
"""A static batch of two: prompts padded to 30, ten decode steps for both, the second needs five."""


def test_prefill_and_decode_are_told_apart_and_the_whole_lies_between() -> None:
    assert number(prefill_waste(BATCH)) == pytest.approx(20 / 60)
    assert number(decode_waste(BATCH)) == pytest.approx(5 / 20)
    assert number(padding_share(BATCH)) == pytest.approx(25 / 80)


def test_weighted_by_time_the_longer_decode_counts_more() -> None:
    # Half of the batch's time is each row's: 0.05 s of prefill, 0.45 s of decoding.
    wasted_s = 0.05 * 20 / 30 + 0.45 * 5 / 10
    assert number(time_weighted_waste(BATCH)) == pytest.approx(wasted_s / 1.0)


def test_a_moment_of_the_engine_counts_once_however_many_are_in_it() -> None:
    # One second with one row without waste, then one with four rows of which half is waste.
    alone = row(10, 11)
    four = [row(10, 6, decode=5, start_s=14.0, prefill_s=0.0, decode_s=1.0) for _ in range(4)]
    assert number(time_weighted_waste(window_run([alone, *four]))) == pytest.approx(0.5 / 2.0)


def test_requests_that_come_and_go_share_the_engine_while_they_are_together() -> None:
    # 0 to 2 s and 1 to 3 s; all of the first one's decoding is waste: 1 s alone and half of one.
    first = row(1, 1, decode=10, start_s=11.0, prefill_s=0.0, decode_s=2.0)
    second = row(1, 11, start_s=12.0, prefill_s=0.0, decode_s=2.0)
    assert number(time_weighted_waste(window_run([first, second]))) == pytest.approx(1.5 / 3.0)


@given(
    st.lists(st.tuples(st.floats(10.5, 18), st.floats(0.01, 1), st.floats(0.01, 3)), min_size=1, max_size=12)
)
def test_with_nothing_but_waste_all_time_is_wasted_and_with_none_of_it_none(
    spans: list[tuple[float, float, float]],
) -> None:
    def all_of(prompt: int, output: int, padding: float) -> float:
        rows = [
            row(prompt, output, prefill=padding, decode=padding, start_s=s, prefill_s=p, decode_s=d)
            for s, p, d in spans
        ]
        return number(time_weighted_waste(window_run(rows)))

    assert all_of(0, 1, 3.0) == pytest.approx(1.0)
    assert all_of(5, 6, 0.0) == 0.0


def test_a_run_that_did_not_tell_them_apart_has_the_whole_only() -> None:
    old = window_run([completion(11.0, padded_tokens=4.0, padded_prefill_tokens=None)])
    assert number(padding_share(old)) == pytest.approx(4 / 16)
    for measure in (prefill_waste, decode_waste, time_weighted_waste):
        assert measure(old).value is None
        assert measure(old).why == "padding was not recorded apart for prefill and decode"


def test_failed_requests_have_no_padding_and_a_run_of_them_says_that_none_was_recorded() -> None:
    failed = completion(
        11.0, status="error", padded_tokens=None, padded_prefill_tokens=None, first_token_s=None,
        prefill_s=None, decode_s=None, output_tokens=0,
    )  # fmt: skip
    assert padding_share(window_run([failed])).why == "padding was not recorded"
    assert time_weighted_waste(window_run([failed])).value is None
    assert number(padding_share(window_run([failed, row(10, 6, decode=5)]))) == pytest.approx(5 / 20)
