"""Which change did what: main effects and interactions of a full 2^k factorial.

Where several settings change at once, their effect belongs to none of them alone. With every combination
measured it can be split (Box, Hunter and Hunter, Statistics for Experimenters, ch. 5). Figures of a service
multiply, so everything is a ratio: a *main effect* is the geometric mean of what a change does over the
levels of the others; the *interaction* of two is how many times what one does is multiplied by the other.
The main effects of two factors and nothing else multiply to what both do together; the interaction says how
far that is from what each does alone. Intervals are those of `contrast`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Literal

import msgspec
import numpy as np

from bench.analysis.contrast import Contrast, log_contrast
from bench.analysis.corners import Corner, Cube, Factor, cube
from bench.analysis.effects import MATERIAL_PCT
from bench.analysis.joules import SENSOR_GAIN
from bench.analysis.metrics import METRICS
from bench.analysis.system import MetricSet, missing
from bench.analysis.unalike import ENERGIES, on_several_cards
from bench.records import Value
from bench.units import PERCENT

Extent = Literal["material", "immaterial", "open"]
NOT_RESOLVED = "not resolved"
_CARDS = math.log((1.0 + SENSOR_GAIN) / (1.0 - SENSOR_GAIN)) / 2.0
"""What the sensor of another card adds to either side of a logarithm, for each figure."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What the factors in `of` do to a figure, as a ratio minus one in percent, with its 95 % interval.

    One factor: its change, a geometric mean over the others' levels, or, with `at`, at the stated ones
    alone. Several: their interaction. All with `together`: from the first corner to the last.
    """

    of: tuple[str, ...]
    pct: float
    low_pct: float | None = None
    high_pct: float | None = None
    at: tuple[str, ...] = ()
    together: bool = False

    @property
    def extent(self) -> Extent:
        """Whether it is surely beyond the material threshold, surely within it, or neither.

        On a ratio scale, where + 5 % and its inverse are the same. Without an interval, by the figure.
        """
        limit = math.log1p(MATERIAL_PCT / PERCENT)
        low, high = (_log(self.pct if end is None else end) for end in (self.low_pct, self.high_pct))
        if low >= limit or high <= -limit:
            return "material"
        return "immaterial" if -limit < low and high < limit else "open"


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What the factors did to one metric.

    `effects` are the main effects, then the interactions; empty where a corner lacks the figure, and `why`
    says which and why. `alone` is what each factor does at fixed levels of the others, wherever both figures
    are known. `unresolved` says why there are no intervals, where there are none.
    """

    name: str
    effects: tuple[Effect, ...] = ()
    total: Effect | None = None
    alone: tuple[Effect, ...] = ()
    why: str = ""
    unresolved: str = ""

    @property
    def label(self) -> str:
        """The metric's label."""
        return METRICS[self.name].label

    def main(self, group: str) -> Effect:
        """Return the main effect of a factor."""
        return next(effect for effect in self.effects if effect.of == (group,))


class Factorial(msgspec.Struct, frozen=True, kw_only=True):
    """The factors, the systems at the corners (the low one first), and the response of each metric."""

    factors: tuple[Factor, ...]
    systems: tuple[str, ...]
    responses: dict[str, Response]
    warnings: tuple[str, ...] = ()


def factorials(sets: Mapping[str, MetricSet]) -> tuple[Factorial, ...]:
    """Return every full factorial among an experiment's systems whose answer does not follow from others.

    The largest come first, and of these those around the first system. Of two levels against a third the
    2x2 between the two says nothing new; it is left out.
    """
    systems = list(sets.values())
    found = [
        cell
        for i, low in enumerate(systems)
        for high in systems[i + 1 :]
        if (cell := cube(low, high, systems)) is not None and _in_order(cell, list(sets))
    ]
    found.sort(key=lambda cell: (-len(cell.factors), systems[0].name not in cell.names))
    told: list[list[float]] = []
    kept = []
    for cell in found:
        spans = [_across(cell, of, list(sets)) for of in _subsets(cell.groups) if len(of) > 1]
        if _rank([*told, spans[-1]]) > _rank(told):
            kept.append(cell)
            told += spans
    return tuple(analyse(cell) for cell in kept)


def factorial_of(
    baseline: MetricSet, optimized: MetricSet, others: Collection[MetricSet]
) -> Factorial | None:
    """Return the factorial between two systems; None where a corner was not measured."""
    cell = cube(baseline, optimized, others)
    return None if cell is None else analyse(cell)


def analyse(cell: Cube) -> Factorial:
    """Return the effects on every metric that is judged."""
    systems = [corner.system for corner in cell.corners]
    cards = any(on_several_cards(systems[0], system) for system in systems[1:])
    return Factorial(
        factors=cell.factors,
        systems=cell.names,
        responses={
            name: _response(cell, name, cards=cards and name in ENERGIES)
            for name, metric in METRICS.items()
            if metric.better is not None and any(name in system.values for system in systems)
        },
        warnings=tuple(
            f"{name} is INVALID: what is made of its figures is not to be trusted" for name in cell.invalid
        ),
    )


def _response(cell: Cube, name: str, *, cards: bool) -> Response:
    """Return the effects on one metric; `cards` widens each interval by the gain of several sensors."""
    values = [corner.system.values.get(name, missing("not in its metrics")) for corner in cell.corners]
    effects = []
    for of in _subsets(cell.groups):
        found = _contrast(values, _weights(cell, of), cards=cards)
        if found is None:
            why = _lack(cell.corners, values)
            return Response(name=name, alone=_alone(cell, values, cards=cards), why=why)
        effects.append(_effect(found, of))
    total = _contrast([values[0], values[-1]], (-1.0, 1.0), cards=cards)
    return Response(
        name=name,
        effects=tuple(effects),
        total=None if total is None else _effect(total, cell.groups, together=True),
        alone=_alone(cell, values, cards=cards),
        unresolved=_why_no_interval(values) if any(effect.low_pct is None for effect in effects) else "",
    )


def _alone(cell: Cube, values: Sequence[Value], *, cards: bool) -> tuple[Effect, ...]:
    """Return what each factor does at fixed levels of the others, where both figures are known."""
    place = {corner.raised: i for i, corner in enumerate(cell.corners)}
    found = []
    for factor in cell.factors:
        for corner in cell.corners:
            if factor.group in corner.raised:
                continue
            pair = [values[place[corner.raised]], values[place[corner.raised | {factor.group}]]]
            contrast = _contrast(pair, (-1.0, 1.0), cards=cards)
            if contrast is not None:
                at = tuple(
                    f"{other.group} {other.high if other.group in corner.raised else other.low}"
                    for other in cell.factors
                    if other is not factor
                )
                found.append(_effect(contrast, (factor.group,), at=at))
    return tuple(found)


def _weights(cell: Cube, of: Collection[str]) -> list[float]:
    """Return the weights of an effect: the product of its factors' signs, averaged over the other factors."""
    share = 2.0 ** (len(cell.groups) - len(of))
    return [math.prod(_sign(corner, group) for group in of) / share for corner in cell.corners]


def _sign(corner: Corner, group: str) -> float:
    return 1.0 if group in corner.raised else -1.0


def _contrast(values: Sequence[Value], weights: Sequence[float], *, cards: bool) -> Contrast | None:
    found = log_contrast(values, weights)
    if found is not None and any(value.unresolved for value in values):
        return msgspec.structs.replace(found, low=None, high=None)
    if found is None or found.low is None or found.high is None or not cards:
        return found
    by = _CARDS * math.fsum(abs(weight) for weight in weights)
    return msgspec.structs.replace(found, low=found.low - by, high=found.high + by)


def _effect(
    contrast: Contrast, of: tuple[str, ...], *, at: tuple[str, ...] = (), together: bool = False
) -> Effect:
    return Effect(
        of=of,
        pct=_pct(contrast.log),
        low_pct=None if contrast.low is None else _pct(contrast.low),
        high_pct=None if contrast.high is None else _pct(contrast.high),
        at=at,
        together=together,
    )


def _pct(log: float) -> float:
    return math.expm1(log) * PERCENT


def _log(pct: float) -> float:
    return math.log1p(pct / PERCENT) if pct > -PERCENT else -math.inf


def _lack(corners: Sequence[Corner], values: Sequence[Value]) -> str:
    """Return which systems lack the figure and why, those with the same reason together."""
    names: dict[str, list[str]] = {}
    for corner, value in zip(corners, values, strict=True):
        if value.value is None:
            names.setdefault(value.note, []).append(corner.system.name)
        elif value.value <= 0:
            names.setdefault(f"{value.value:g}, of which there is no ratio", []).append(corner.system.name)
    if len(names) == 1 and len(next(iter(names.values()))) == len(corners):
        return f"all: {next(iter(names))}"
    return "; ".join(f"{', '.join(who)}: {why}" for why, who in names.items())


def _why_no_interval(values: Sequence[Value]) -> str:
    """Return why the effects have no interval."""
    told = [value.unresolved for value in values if value.unresolved]
    if told:
        return f"{NOT_RESOLVED}: {told[0]}"
    if any(value.low is None for value in values):
        return "one of the figures has none, so these are point values"
    return "a figure is too uncertain for an interval of a ratio"


def _subsets(groups: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each factor, then each pair, … , then all."""
    return [of for n in range(1, len(groups) + 1) for of in combinations(groups, n)]


def _in_order(cell: Cube, order: Sequence[str]) -> bool:
    """Say whether the low corner is the first of the cube's systems: each cube is found from every corner."""
    return min(cell.names, key=order.index) == cell.names[0]


def _across(cell: Cube, of: Collection[str], order: Sequence[str]) -> list[float]:
    """Return the weights of an effect over all systems of the experiment."""
    weights = dict(zip(cell.names, _weights(cell, of), strict=True))
    return [weights.get(name, 0.0) for name in order]


def _rank(rows: Sequence[Sequence[float]]) -> int:
    return int(np.linalg.matrix_rank(np.array(rows))) if rows else 0
