from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.figures.sentences import by_system, whose
from bench.analysis.figures.thinning import kept_extremes, kept_ranks, points_each, seen


@pytest.mark.parametrize("n", [1, 5, 399, 400, 401, 100_000])
def test_a_thinned_curve_keeps_its_ends_and_the_named_shares(n: int) -> None:
    ranks = kept_ranks(n, 400, (0.5, 0.95)).tolist()
    assert {0, n - 1, int(np.ceil(0.5 * n)) - 1, int(np.ceil(0.95 * n)) - 1} <= set(ranks)
    assert len(ranks) <= 402
    assert ranks == sorted(set(ranks))


def test_thinned_values_keep_the_fastest_and_the_slowest_of_every_stretch() -> None:
    values = np.arange(3000.0) % 100
    values[1234], values[777] = -5.0, 1e6
    kept = kept_extremes(values, 300)
    assert len(kept) <= 300
    assert {1234, 777} <= set(kept.tolist())
    assert np.array_equal(kept_extremes(values[:300], 300), np.arange(300))


def test_many_curves_share_the_points_of_a_page() -> None:
    assert points_each(2, 2000, least=24, most=400) == 400
    assert points_each(50, 2000, least=24, most=400) == 40
    assert points_each(500, 2000, least=24, most=400) == 24


def test_a_row_has_five_digits_and_nothing_for_what_is_not_a_number() -> None:
    assert [seen(value) for value in (1234.5678, 1.0, None, float("inf"), float("nan"))] == [
        1234.6,
        1,
        None,
        None,
        None,
    ]


def test_many_systems_are_told_by_the_lowest_and_the_highest() -> None:
    figures = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert by_system(figures, lambda name: f"{figures[name]:g}") == "3 with a, 1 with b and 2 with c"
    figures["d"] = 9.0
    assert by_system(figures, lambda name: f"{figures[name]:g}") == "1 with b to 9 with d"
    assert whose(["a"]) == "a"
