"""The regression validation in a second: few histories, and the single shot that it stands beside."""

from __future__ import annotations

import pytest

from tests.validate.regression import ROUGH, USUAL, clean, single_shot, stepped


def test_clean_histories_pass_where_a_single_shot_alarms() -> None:
    alarms = clean(USUAL[:2], 4, 1)
    assert alarms.calls == 4 * 99
    assert (alarms.failed, alarms.histories) == (0, 0)
    assert alarms.naive_failed > 0


def test_a_large_step_is_found_at_its_second_run_and_never_at_its_first() -> None:
    found = stepped(USUAL[2], 0.2, 10, 1)
    assert set(found.delays) == {2}
    assert (found.soon, found.median) == (1.0, 2.0)


def test_a_step_that_noise_hides_is_counted_as_not_found() -> None:
    found = stepped(ROUGH[0], 0.03, 5, 1)
    assert None in found.delays
    assert found.soon < 1.0


def test_the_p99_of_a_hundred_requests_alarms_in_one_of_seventeen_clean_runs() -> None:
    assert single_shot(20_000, 1) == pytest.approx(0.06, abs=0.005)
