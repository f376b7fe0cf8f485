"""Failures of the same requests in two systems: exact counts, and no alarm from one burst."""

from __future__ import annotations

import pytest

from bench.analysis.failures import Segment, failures, segment_of
from bench.records import Completion, Status
from tests.recorded import completion, window_run


def test_the_significance_is_that_of_the_sign_test_of_who_failed_alone() -> None:
    assert failures("errors", [Segment(compared=50, both=9, only_candidate=6)]).p == pytest.approx(2 / 64)
    assert failures("errors", [Segment(compared=50, only_baseline=3, only_candidate=3)]).p == 1.0


def test_requests_are_paired_by_their_number_and_those_of_one_side_do_not_count() -> None:
    def outcome(uid: int, status: Status) -> Completion:
        return completion(10.0 + uid, uid=uid, status=status, done_s=None if status != "ok" else 11.0 + uid)

    one = window_run([outcome(0, "ok"), outcome(1, "error"), outcome(2, "ok"), outcome(3, "timeout")])
    two = window_run(
        [outcome(0, "timeout"), outcome(1, "error"), outcome(2, "rejected"), outcome(9, "error")]
    )
    assert segment_of(one, two) == Segment(compared=3, both=1, only_baseline=0, only_candidate=2)
    assert segment_of(one, two, timeouts_only=True) == Segment(compared=3, only_candidate=1)


def test_a_system_that_fails_more_in_every_segment_surely_fails_more() -> None:
    found = failures("errors", [Segment(compared=100, only_candidate=n) for n in (3, 5, 4, 4)])
    assert found.more
    assert found.p < 0.001
    assert found.candidate_rate == pytest.approx(0.04)
    assert found.baseline_rate == 0.0


def test_one_burst_of_timeouts_in_one_segment_is_one_event_however_many_requests_it_has() -> None:
    found = failures("timeouts", [Segment(compared=100, only_candidate=n) for n in (0, 50, 0, 0)])
    assert found.p < 1e-6
    assert found.suspected
    assert not found.more


def test_fewer_failures_and_none_at_all_are_not_more() -> None:
    fewer = failures("errors", [Segment(compared=100, only_baseline=n) for n in (3, 5, 4, 4)])
    assert not fewer.more
    assert not fewer.suspected
    nothing = failures("errors", [Segment(compared=100)] * 4)
    assert (nothing.p, nothing.low, nothing.high, nothing.more) == (1.0, 0.0, 0.0, False)


def test_one_segment_says_nothing_of_segments() -> None:
    alone = failures("errors", [Segment(compared=100, only_candidate=40)])
    assert alone.low is None
    assert not alone.more


def test_a_higher_confidence_asks_for_more() -> None:
    segments = [Segment(compared=100, only_candidate=n) for n in (2, 1, 3, 2)]
    assert failures("errors", segments).more
    assert not failures("errors", segments, confidence=0.9999).more
