"""Where a noisy curve that can only fall crosses one: the mathematics of the capacity search.

What falls is the *room*, limit over p95: above one the objective holds, below it does not. Where waiting
makes the latency, p95 grows as one over what is left of the capacity, so the room is nearly a straight line
down to zero at the highest rate that can be served at all. That makes it far better to interpolate than p95.

The search needs three things: the crossing of all that was seen (isotonic regression, then a monotone cubic
through it: Barlow et al., Statistical Inference under Order Restrictions; Fritsch and Carlson, SIAM J.
Numer. Anal. 17, 1980), the slope there, and how sure the crossing is. Probes with the same draw of requests
err alike, so each draw is one observation of the crossing. How far an observation may be off is told by how
much the draws differ and by how much the blocks of each differ, together: with few draws the former alone
says little, and where neighbours are correlated over whole blocks the latter alone says too little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from bench.analysis.stats import Array, t_quantile

NEAR = 0.25
"""Points within this share of the crossing's rate say where it is; those further away only bracket it."""
MOST_ROOM = 2.0
"""A room beyond this, or below its inverse, lies on a cliff: it tells the side, not how far away it is."""
CLOSE = 0.3
"""Where enough draws lie within this of one by the curve, they alone count: it is no straight line."""
SPREAD = 0.1
"""The curve's fall is that over this share of the rate to either side, and weighs like two points there."""
DOUBT = 0.75
"""The slope may be off by this share."""
MIN_DRAWS = 4
"""Draws that an interval needs at least."""
BLOCKS = 5
"""Blocks of a probe from whose p95 its error is told: few and long, as neighbours are correlated …"""
TRUST = 0.25
"""… and that much of their degrees of freedom count."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The room that a probe found at a rate, with the draw of its requests.

    `error` is the room's standard error by the blocks of the probe, None where they were too short.
    """

    rate_rps: float
    room: float
    draw: int
    error: float | None = None


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """Where the room is one, from `draws`; `deviation_rps` is that of a single one of them.

    `low_rps` and `high_rps` bound the 95 % interval by Student's t; None without enough draws.
    """

    rate_rps: float
    low_rps: float | None
    high_rps: float | None
    draws: int
    deviation_rps: float | None = None

    @property
    def half_width(self) -> float:
        """Half the interval's width as a share of the rate; infinite without one."""
        if self.low_rps is None or self.high_rps is None:
            return math.inf
        return (self.high_rps - self.low_rps) / 2.0 / self.rate_rps


def falling(points: Sequence[Point]) -> tuple[Array, Array]:
    """Return the rates, ascending, and the rooms of the best curve through `points` that never rises.

    Points of one rate are one: their mean, with their weight.
    """
    from scipy.optimize import isotonic_regression  # 0.2 s to import: only a search needs it

    rates, where, weights = np.unique(
        [point.rate_rps for point in points], return_inverse=True, return_counts=True
    )
    means = np.bincount(where, weights=[point.room for point in points]) / weights
    fitted: Array = isotonic_regression(means, weights=weights.astype(float), increasing=False).x
    return rates, fitted


def rising_by(points: Sequence[Point]) -> float:
    """Return how far the points lie off the best falling curve at most: 0 where they fall by themselves."""
    rates, fitted = falling(points)
    means = [np.mean([p.room for p in points if p.rate_rps == rate]) for rate in rates]
    return float(np.max(np.abs(np.array(means) - fitted)))


class Curve(msgspec.Struct, frozen=True):
    """Where the falling curve through points of both sides is one, and how much it falls there per 1/s."""

    root_rps: float
    fall: float


def curve_through(points: Sequence[Point]) -> Curve | None:
    """Return the falling curve through `points` where it is one; None where all of it is on one side.

    Its fall is taken over `SPREAD` to either side, as that between two neighbours may be all noise.
    """
    from scipy.interpolate import PchipInterpolator
    from scipy.optimize import brentq

    rates, rooms = falling(points)
    above, below = rates[rooms >= 1.0], rates[rooms < 1.0]
    if len(above) == 0 or len(below) == 0:
        return None
    curve = PchipInterpolator(rates, rooms)
    low_rps, high_rps = float(above[-1]), float(below[0])
    root_rps = float(brentq(lambda rate: float(curve(rate)) - 1.0, low_rps, high_rps, xtol=1e-9 * high_rps))
    low_rps = min(low_rps, max((1.0 - SPREAD) * root_rps, float(rates[0])))
    high_rps = max(high_rps, min((1.0 + SPREAD) * root_rps, float(rates[-1])))
    return Curve(root_rps, float(curve(low_rps) - curve(high_rps)) / (high_rps - low_rps))


def crossing(points: Sequence[Point], curve: Curve) -> Crossing:
    """Return the crossing from the points near the curve's root, of which there must be one."""
    near = [point for point in points if is_near(point, curve.root_rps)]
    # Chosen by their rates: to choose by the rooms would be to throw away the unlucky ones.
    close = [point for point in near if abs(point.rate_rps - curve.root_rps) * curve.fall <= CLOSE]
    if len({point.draw for point in close}) >= MIN_DRAWS:
        near = close
    fall = _fall(near, curve)
    by_draw: dict[int, list[Point]] = {}
    for point in near:
        by_draw.setdefault(point.draw, []).append(point)
    most_rps = NEAR * curve.root_rps
    roots = np.array(
        [
            _mean([p.rate_rps + min(max((p.room - 1.0) / fall, -most_rps), most_rps) for p in own])
            for own in by_draw.values()
        ]
    )
    mean_rps = float(roots.mean())
    if len(roots) < MIN_DRAWS:
        return Crossing(rate_rps=mean_rps, low_rps=None, high_rps=None, draws=len(roots))
    squares, degrees = float(((roots - mean_rps) ** 2).sum()), len(roots) - 1.0
    for own in by_draw.values():
        errors = [point.error for point in own if point.error is not None]
        if errors:
            more = TRUST * (BLOCKS - 1.0)
            squares += more * _mean([(error / fall) ** 2 for error in errors])
            degrees += more
    deviation_rps = math.sqrt(squares / degrees)
    # Rooms that are one on average say where the root is whatever the slope; others lean on the slope.
    leaning_rps = DOUBT * abs(_mean([point.room for point in near]) - 1.0) / fall
    half_rps = t_quantile(degrees) * deviation_rps / math.sqrt(len(roots)) + leaning_rps
    return Crossing(
        rate_rps=mean_rps,
        low_rps=mean_rps - half_rps,
        high_rps=mean_rps + half_rps,
        draws=len(roots),
        deviation_rps=deviation_rps,
    )


def is_near(point: Point, root_rps: float) -> bool:
    """Say whether a point tells where the crossing is, by its rate and its room."""
    close = abs(point.rate_rps / root_rps - 1.0) <= NEAR
    return close and 1.0 / MOST_ROOM <= point.room <= MOST_ROOM


def _fall(near: Sequence[Point], curve: Curve) -> float:
    """Return the room's fall per request/s: that of least squares, drawn towards the whole curve's."""
    rates = np.array([point.rate_rps for point in near])
    rooms = np.array([point.room for point in near])
    weight = (SPREAD * curve.root_rps) ** 2
    apart = rates - rates.mean()
    found = float(-(apart @ (rooms - rooms.mean())))
    return max((found + weight * curve.fall) / (float(apart @ apart) + weight), curve.fall / 4.0)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
