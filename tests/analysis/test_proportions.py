"""Rates and their differences, against published and exact values."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.proportions import mcnemar, paired_drop, wilson


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe, Stat. Med. 17 (1998), table I: 81 of 263, and 0 of 20.
    estimate = wilson(81, 263)
    assert estimate.low == pytest.approx(0.2553, abs=1e-4)
    assert estimate.high == pytest.approx(0.3662, abs=1e-4)
    assert wilson(0, 20).low == 0
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)


def test_mcnemar_is_the_exact_binomial() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 0) == 1
    assert mcnemar(0, 6) == pytest.approx(2 / 64)
    assert mcnemar(9, 1) == mcnemar(1, 9) == pytest.approx(2 * 11 / 1024)
    assert mcnemar(10, 10) == 1


def test_no_disagreement_still_says_how_much_may_have_been_missed() -> None:
    estimate = paired_drop(0, 0, 125)
    assert estimate.mean == 0
    assert estimate.high == pytest.approx(3.8415 / (125 + 3.8415), abs=1e-4)
    assert estimate.low == pytest.approx(-0.02982, abs=1e-4)
    assert paired_drop(0, 0, 124).high is not None
    assert (paired_drop(0, 0, 120).high or 0) > 0.03 > (paired_drop(0, 0, 125).high or 1)


def test_the_drop_mirrors_when_the_systems_change_places() -> None:
    one, two = paired_drop(9, 2, 60), paired_drop(2, 9, 60)
    assert one.low is not None
    assert one.high is not None
    assert two.low == pytest.approx(-one.high)
    assert two.high == pytest.approx(-one.low)


def test_a_complete_loss_is_bounded_from_below_alone() -> None:
    estimate = paired_drop(40, 0, 40)
    assert estimate.high == 1
    assert 0.8 < (estimate.low or 0) < 0.95


@pytest.mark.parametrize(("lost", "won", "n"), [(0.02, 0.02, 128), (0.1, 0.05, 40), (0.3, 0.1, 128)])
def test_the_drops_interval_covers_as_often_as_it_says(lost: float, won: float, n: int) -> None:
    drawn = np.random.default_rng(5).multinomial(n, [lost, won, 1 - lost - won], 600)
    known = {}
    for b, c, _ in drawn.tolist():
        if (b, c) not in known:
            estimate = paired_drop(b, c, n)
            assert estimate.low is not None
            assert estimate.high is not None
            known[b, c] = estimate.low <= lost - won <= estimate.high
    covered = np.mean([known[b, c] for b, c, _ in drawn.tolist()])
    assert 0.92 <= covered <= 0.985


def test_no_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="no trials"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="no prompts"):
        paired_drop(0, 0, 0)
