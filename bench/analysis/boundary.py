"""Where a capacity search's boundary lies by the probes so far: at the objective, or where the queue grows.

The objective's boundary is the crossing of `search`. An overloaded queue needs no curve: as long as it
grows, the system answers as fast as it can, so its answers per second *are* the highest stable rate, and a
stable probe just below confirms it. On a cliff, where latency jumps from well below the limit to well above,
the two rates around it are the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from bench.analysis import search
from bench.analysis.search import BLOCKS, Curve, Point
from bench.analysis.stats import t_quantile
from bench.analysis.trials import Binding, Trial

JUST_FAILED = 0.9
"""The room of a probe whose p95 held while too many of its requests failed."""
AT_REACH = 0.9
"""Beyond this share of the guess a probe that passes has shown the guess to be too low …"""
BEYOND = 1.5
"""… and so much further the search then looks."""

ON_IT = 0.02
"""A room that is so near to one is on either side of it."""
MOST_ERROR = 0.5
"""A probe whose p95 is less sure than this share of it tells no more of its error."""
OVERSHOOT = 0.5
"""How far beyond the root a probe goes to see its other side, as a share of the step towards it."""
ABOVE = 0.9
"""A probe that bounds the highest stable rate from above lies this share of the tolerance above it."""
INWARD = 0.25
"""A probe between two rates keeps this share of their distance from either."""
_ROUNDING = 1e-9


class Boundary(msgspec.Struct, frozen=True, kw_only=True):
    """The boundary's rate and interval, what lies beyond it, and whether that is sure enough.

    `target_rps` is where the next probe would tell the most. `draws` are those of the interval; 0 where it is
    no interval of a mean but lies between two rates that were probed. `one_draw` says that further draws of
    the requests were asked for, and all were the same.
    """

    rate_rps: float
    target_rps: float
    binds: Binding
    settled: bool
    low_rps: float | None = None
    high_rps: float | None = None
    draws: int = 0
    one_draw: bool = False


def boundary(trials: Sequence[Trial], guess_rps: float, tolerance: float) -> Boundary | None:
    """Return the boundary by `trials`; None while there is nothing that passed."""
    if not any(t.passed for t in trials):
        return None
    queue = _of_the_queue(trials, guess_rps, tolerance)
    points = points_of(trials)
    if not points:
        return queue
    curve = _curve(points, trials, guess_rps)
    if curve is None or not any(search.is_near(point, curve.root_rps) for point in points):
        queue_first = queue.settled or (curve is not None and curve.root_rps >= queue.target_rps)
        return queue if queue_first else _between(trials, curve, tolerance)
    if one_draw(trials) and not (queue.settled and queue.rate_rps < curve.root_rps):
        return msgspec.structs.replace(_between(trials, curve, tolerance), one_draw=True)
    found = search.crossing(points, curve)
    errors = any(t.binds == "errors" and abs(t.rate_rps / found.rate_rps - 1.0) < search.NEAR for t in trials)
    if queue.settled and queue.rate_rps < found.rate_rps:
        return queue
    passed = max(t.rate_rps for t in trials if t.passed)
    failed = min((t.rate_rps for t in trials if not t.passed), default=math.inf)
    aside = max(passed - found.rate_rps, found.rate_rps - failed)
    if passed < failed and aside > tolerance * found.rate_rps:
        # What passed and what failed lie apart, and the line through them beside both: it is no line.
        between = _between(trials, curve, tolerance)
        return msgspec.structs.replace(between, settled=between.settled and found.draws >= search.MIN_DRAWS)
    surrounded = _surrounded(points, found.rate_rps)
    target_rps = found.rate_rps if surrounded else _across(points, found.rate_rps, reach(trials, guess_rps))
    if not surrounded and found.draws >= search.MIN_DRAWS and any(not t.stable for t in trials):
        # Draw after draw passes: perhaps nothing but the queue binds, which one probe below its limit shows.
        target_rps = max(target_rps, queue.target_rps)
    return Boundary(
        rate_rps=found.rate_rps,
        target_rps=target_rps,
        binds="errors" if errors else "p95",
        settled=math.isfinite(failed)
        and surrounded
        and _is_narrow(found.rate_rps, found.low_rps, found.high_rps, tolerance),
        low_rps=found.low_rps,
        high_rps=found.high_rps,
        draws=found.draws,
    )


def _is_narrow(rate_rps: float, low_rps: float | None, high_rps: float | None, tolerance: float) -> bool:
    """Say whether neither end of an interval is further from the rate than `tolerance` allows."""
    if low_rps is None or high_rps is None:
        return False
    return max(rate_rps - low_rps, high_rps - rate_rps) <= tolerance * rate_rps * (1.0 + _ROUNDING)


def one_draw(trials: Sequence[Trial]) -> bool:
    """Say whether several draws of the requests were asked for, and all of them were the same."""
    stable = [t for t in trials if t.stable and t.draw is not None]
    return len({t.repeat for t in stable}) > 1 and len({t.draw for t in stable}) == 1


def _curve(points: Sequence[Point], trials: Sequence[Trial], guess_rps: float) -> Curve | None:
    """Return the falling curve; where it holds nowhere although a probe passed, the line of the closest."""
    curve = search.curve_through([*points, *_anchors(trials, guess_rps)])
    if curve is not None:
        return curve
    closest = min(points, key=lambda point: abs(point.room - 1.0))
    left_rps = max(reach(trials, guess_rps) - closest.rate_rps, search.SPREAD * closest.rate_rps)
    fall = closest.room / left_rps
    return Curve(closest.rate_rps, fall) if fall > 0 else None


def _surrounded(points: Sequence[Point], root_rps: float) -> bool:
    """Say whether the probes near the root lie on both sides of one, or as good as on it.

    From one side alone a cliff looks like a gentle slope.
    """
    rooms = [point.room for point in points if search.is_near(point, root_rps)]
    return bool(rooms) and min(rooms) < 1.0 + ON_IT and max(rooms) > 1.0 - ON_IT


def _across(points: Sequence[Point], root_rps: float, most_rps: float) -> float:
    """Return a rate beyond the root, where all points near it are on one side: to look at the other.

    A curve with a bend would else be crept up on, in steps that get shorter and shorter.
    """
    near = [point for point in points if search.is_near(point, root_rps)]
    closest_rps = min(
        (point.rate_rps for point in near), key=lambda rate: abs(rate - root_rps), default=root_rps
    )
    beyond_rps = root_rps + OVERSHOOT * (root_rps - closest_rps)
    return beyond_rps if beyond_rps < most_rps else (root_rps + most_rps) / 2.0


def points_of(trials: Sequence[Trial]) -> list[Point]:
    """Return the rooms of the probes whose queue was stable; without a limit there are none."""
    points = []
    first: dict[str, int] = {}
    for t in trials:
        draw = t.repeat if t.draw is None else first.setdefault(t.draw, t.repeat)
        if t.stable and t.room is not None:
            share = 0.0 if t.margin_error is None else min(t.margin_error * t.room, MOST_ERROR)
            # The mean of an inverse is above the inverse of the mean, by the variance's share.
            room = t.room / (1.0 + share**2)
            room = min(room, JUST_FAILED) if t.binds == "errors" else room
            error = None if t.margin_error is None else share * room
            points.append(Point(rate_rps=t.rate_rps, room=room, draw=draw, error=error))
    return points


def reach(trials: Sequence[Trial], guess_rps: float) -> float:
    """Return the highest rate that the system serves at all, as far as it is known.

    Overloaded probes tell it; without any it is the guess, unless a probe has come near that and passed.
    """
    highest_rps = max((t.rate_rps for t in trials if t.stable), default=0.0)
    served = [t.served_rps for t in trials if not t.stable and t.served_rps > 0]
    if served:
        return max(math.fsum(served) / len(served), highest_rps)
    return guess_rps if highest_rps < AT_REACH * guess_rps else BEYOND * highest_rps


def _anchors(trials: Sequence[Trial], guess_rps: float) -> list[Point]:
    """Return where there is no room at all: beyond the reach, and where requests failed."""
    highest_rps = max((t.rate_rps for t in trials if t.stable and t.room is not None), default=0.0)
    rates = [max(reach(trials, guess_rps), highest_rps * (1.0 + 1e-6))]
    rates += [t.rate_rps for t in trials if t.stable and t.room is None]
    return [Point(rate_rps=rate, room=0.0, draw=0) for rate in rates]


def _of_the_queue(trials: Sequence[Trial], guess_rps: float, tolerance: float) -> Boundary:
    """Return the boundary beyond which the queue grows: what overloaded probes served."""
    overloaded = [t for t in trials if not t.stable]
    highest_rps = max((t.rate_rps for t in trials if t.passed), default=0.0)
    if not overloaded:
        target_rps = max(highest_rps / AT_REACH, guess_rps / AT_REACH)
        return Boundary(rate_rps=highest_rps, target_rps=target_rps, binds="queue", settled=False)
    least_rps = min(t.rate_rps for t in overloaded)
    served = [t for t in overloaded if t.served_rps > 0]
    rate_rps = min(reach(trials, guess_rps), least_rps)
    error = max((t.served_error for t in served), default=0.0)
    high_rps = min(least_rps, rate_rps + t_quantile(BLOCKS - 1.0) * error)
    low_rps, high_rps = min(highest_rps, rate_rps), max(high_rps, rate_rps)
    settled = _is_narrow(rate_rps, low_rps, high_rps, tolerance)
    # Just below the estimate; where even that was overloaded, in the middle of what is left. Where the lower
    # end is near enough, just above it: what is overloaded there bounds the upper end.
    target_rps = (1.0 - tolerance / 2.0) * rate_rps
    if target_rps >= least_rps or any(t.rate_rps == target_rps for t in overloaded):
        target_rps = (low_rps + least_rps) / 2.0
    elif not settled and _is_narrow(rate_rps, low_rps, rate_rps, tolerance):
        target_rps = (1.0 + ABOVE * tolerance) * rate_rps
    return Boundary(
        rate_rps=rate_rps,
        target_rps=target_rps,
        binds="queue",
        settled=settled,
        low_rps=low_rps,
        high_rps=high_rps,
    )


def _between(trials: Sequence[Trial], curve: Curve | None, tolerance: float) -> Boundary:
    """Return the boundary between the highest rate that passed and the lowest that failed, or back.

    So it is on a cliff, and as long as no probe has come near.
    """
    failing = [t for t in trials if not t.passed]
    low_rps = max(t.rate_rps for t in trials if t.passed)
    if not failing:
        target_rps = BEYOND * low_rps if curve is None else curve.root_rps
        return Boundary(rate_rps=low_rps, target_rps=target_rps, binds="p95", settled=False)
    first = min(failing, key=lambda t: t.rate_rps)
    low_rps, high_rps = min(first.rate_rps, low_rps), max(first.rate_rps, low_rps)
    # A curve with a bend can lead to the same end again and again; each step is to cut off a part.
    root_rps = (low_rps + high_rps) / 2.0 if curve is None else curve.root_rps
    margin_rps = INWARD * (high_rps - low_rps)
    return Boundary(
        rate_rps=(low_rps + high_rps) / 2.0,
        target_rps=min(max(root_rps, low_rps + margin_rps), high_rps - margin_rps),
        binds=first.binds or "p95",
        settled=_is_narrow((low_rps + high_rps) / 2.0, low_rps, high_rps, tolerance),
        low_rps=low_rps,
        high_rps=high_rps,
    )
