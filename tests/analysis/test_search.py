"""The falling curve, its root and how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.search import Point, crossing, curve_through, falling, rising_by


def point(rate_rps: float, room: float, draw: int = 1, error: float | None = None) -> Point:
    return Point(rate_rps=rate_rps, room=room, draw=draw, error=error)


def test_a_point_that_rises_is_pooled_with_its_neighbour_and_points_of_one_rate_are_their_mean() -> None:
    rates, rooms = falling([point(1, 2.0), point(2, 1.0), point(3, 1.4), point(4, 0.5), point(4, 0.7)])
    assert rates.tolist() == [1, 2, 3, 4]
    assert rooms == pytest.approx([2.0, 1.2, 1.2, 0.6])


def test_how_far_points_rise_is_zero_where_they_fall() -> None:
    assert rising_by([point(1, 2.0), point(2, 1.0)]) == pytest.approx(0.0)
    assert rising_by([point(1, 1.0), point(2, 2.0)]) == pytest.approx(0.5)


def test_a_straight_line_has_its_root_and_its_fall() -> None:
    curve = curve_through([point(rate, 2.0 - rate / 10.0) for rate in (2.0, 6.0, 12.0, 16.0)])
    assert curve is not None
    assert curve.root_rps == pytest.approx(10.0)
    assert curve.fall == pytest.approx(0.1)


def test_a_curve_on_one_side_has_no_root() -> None:
    assert curve_through([point(1, 2.0), point(2, 1.5)]) is None
    assert curve_through([point(1, 0.9), point(2, 0.5)]) is None


def test_without_enough_draws_there_is_no_interval_and_probes_of_one_draw_are_one() -> None:
    line = [point(9.0, 1.1), point(10.0, 1.0), point(11.0, 0.9)]
    curve = curve_through(line)
    assert curve is not None
    found = crossing(line, curve)
    assert found.rate_rps == pytest.approx(10.0)
    assert found.draws == 1
    assert found.low_rps is None
    assert found.half_width == float("inf")


def test_the_interval_covers_the_root_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        # A room of 1 at 10/s that falls by 0.2 per 1/s; each draw is off by 5 %, and its blocks say so.
        rates = rng.uniform(9.5, 10.5, 5)
        rooms = 1.0 - 0.2 * (rates - 10.0) + 0.05 * rng.standard_normal(5)
        points = [point(x, y, i, 0.05) for i, (x, y) in enumerate(zip(rates, rooms, strict=True), 1)]
        curve = curve_through([*points, point(15.0, 0.0), point(5.0, 2.0)])
        assert curve is not None
        found = crossing(points, curve)
        assert found.low_rps is not None
        assert found.high_rps is not None
        covered += found.low_rps <= 10.0 <= found.high_rps
    assert 0.93 * 200 <= covered < 200
