from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.early_stopping import discarded, least_fast, least_requests, upper_bound


@pytest.mark.parametrize(
    ("share", "floor"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.97, 219), (0.99, 662), (0.999, 6_636)]
)
def test_the_fewest_requests_of_each_percentile_are_those_of_mlperf(share: float, floor: int) -> None:
    assert least_requests(share) == floor


@pytest.mark.parametrize(("slow", "n"), [(5, 259), (10, 398), (50, 1_372), (100, 2_504)])
def test_the_requests_that_slow_ones_ask_for_are_mlperfs_table(slow: int, n: int) -> None:
    assert least_fast(slow, 0.95) + slow == n


def test_the_bound_is_the_slowest_at_the_floor_and_comes_nearer_with_more() -> None:
    assert discarded(129, 0.95) is None
    assert discarded(130, 0.95) == 1
    assert discarded(258, 0.95) == 4
    assert discarded(259, 0.95) == 5
    assert upper_bound(np.arange(129.0), 0.95, 129) is None
    assert upper_bound(np.arange(130.0), 0.95, 130) == 129
    assert upper_bound(np.arange(2_504.0), 0.95, 2_504) == 2_404


def test_requests_worth_few_bound_a_percentile_less_closely() -> None:
    values = np.arange(2_504.0)
    worth_few = upper_bound(values, 0.95, 300)
    assert worth_few is not None
    assert worth_few > 2_404
    assert upper_bound(values, 0.95, 120) is None


def test_the_bound_holds_in_at_least_99_of_100_samples() -> None:
    rng = np.random.default_rng(5)
    truth = -np.log(0.05)
    held = sum((upper_bound(rng.standard_exponential(400), 0.95, 400) or 0.0) >= truth for _ in range(1_000))
    assert held >= 985
