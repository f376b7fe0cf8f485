from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from bench.analysis.looks import look_confidence
from tests.recorded import CONFIG, system_runs


def test_one_look_is_made_at_95_percent() -> None:
    assert look_confidence(5, 5) == 0.95


@pytest.mark.parametrize(("first", "last"), [(0, 3), (1, 4), (5, 4)])
def test_looks_at_fewer_than_two_repeats_or_in_the_wrong_order_are_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="looks from"):
        look_confidence(first, last)


@pytest.mark.parametrize(("first", "last"), [(3, 5), (3, 12)])
def test_all_looks_together_hold_the_truth_95_of_100_times_and_naive_looks_do_not(
    first: int, last: int
) -> None:
    values = np.random.default_rng(20_261).standard_normal((20_000, last))
    numbers = np.arange(1, last + 1)
    totals, squares = np.cumsum(values, axis=1), np.cumsum(values**2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt((squares - totals**2 / numbers) / (numbers - 1))
        statistic = np.abs(totals / numbers) / (deviation / np.sqrt(numbers))
    looks = slice(first - 1, last)

    def held(confidence: float) -> float:
        limits = t.ppf(0.5 + confidence / 2.0, numbers[looks] - 1)
        return float((statistic[:, looks] <= limits).all(axis=1).mean())

    assert held(look_confidence(first, last)) == pytest.approx(0.95, abs=0.006)
    assert held(0.95) < 0.92


def test_a_run_that_ends_when_decided_gets_wider_intervals_and_says_so() -> None:
    from bench.analysis.latency import latency_ms
    from bench.analysis.summary import over_repeats

    protocol = {"stop": "decided", "min_repeats": 3, "repeats": 8}
    fixed = over_repeats(system_runs(latencies_s=(0.4, 0.5, 0.6)), latency_ms(0.5))
    looked = over_repeats(
        system_runs(latencies_s=(0.4, 0.5, 0.6), config=CONFIG | {"protocol": protocol}), latency_ms(0.5)
    )
    assert looked.confidence == look_confidence(3, 8) > 0.95 == fixed.confidence
    assert fixed.high is not None
    assert looked.high is not None
    assert looked.high > 1.2 * fixed.high
    assert "whichever repeat was the last" in looked.note
