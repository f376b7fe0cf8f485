"""The validation of adaptive length and A/B replays in seconds, and that it would notice a wrong level."""

from __future__ import annotations

from tests.validate.adaptive import FAILING, FIRST, FIRST_SEGMENTS, MOST, Rates, Ways, lengths, replays


def test_a_large_change_ends_early_and_rightly() -> None:
    found = lengths(50.0, 12)
    assert found.decided.wrong == 0
    assert found.decided.open == 0
    assert FIRST <= found.decided.rounds < MOST / 2
    assert found.fixed[MOST].rounds == MOST


def test_on_the_threshold_looking_often_errs_more_at_95_percent_than_at_the_level_for_all_looks() -> None:
    found = lengths(5.0, 40)
    assert found.peeking.wrong > found.decided.wrong
    assert found.decided.rounds > found.peeking.rounds


def test_what_is_saved_is_saved_against_the_fixed_length_that_is_as_sure() -> None:
    def at(unsure: float, rounds: float) -> Rates:
        return Rates(wrong=0.0, open=unsure, rounds=rounds)

    ways = Ways(fixed={3: at(0.3, 3), 4: at(0.1, 4), 10: at(0.0, 10)}, decided=at(0.2, 5), peeking=at(0, 3))
    assert ways.as_sure == 4
    assert ways.saved == -0.25


def test_two_equal_queues_with_failures_are_seldom_rolled_out_however_often_they_are_looked_at() -> None:
    found = replays(0.85, 0.0, 60, first=FIRST_SEGMENTS, failing=FAILING)
    assert found["rollout"] + found["reject"] <= 0.1


def test_two_equal_queues_are_seldom_rolled_out_and_a_faster_one_is() -> None:
    same, faster = replays(0.7, 0.0, 60), replays(0.7, 20.0, 60)
    assert same["rollout"] + same["reject"] <= 0.1
    assert faster["rollout"] > 0.8
