"""The Pareto set of measured systems: those that no other is surely better than, all things considered.

A system *dominates* another where the interval of the change says that it is not worse in any figure by more
than what is immaterial, and better in one by more than that. What is immaterial adds up over a chain of such
steps, so a step must also be for the better as a whole (in tolerances, on logarithms): then no circle of
systems can dominate one another, and some system is always left. Where an interval leaves open whether
another dominates, a system is *undecided*, and that interval is named; only where none can is it *on the
front*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from bench.analysis.change import Change, change
from bench.analysis.effects import MATERIAL_PCT
from bench.analysis.metrics import METRICS, Better
from bench.analysis.numbers import shown
from bench.analysis.system import MetricSet
from bench.analysis.unalike import ENERGIES, on_several_cards, widened_by_gain
from bench.config import Quality
from bench.units import PERCENT

Place = Literal["front", "dominated", "undecided"]

USUAL = (
    "p95_latency_ms",
    "cost_per_1k_requests_usd",
    "throughput_requests_per_sec",
    "average_memory_gb",
    "estimated_energy_kwh_per_1k_requests",
    "mean_kl",
)
"""The axes where none are chosen: those that half of the systems have, and throughput only without a cost."""


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """One figure by which systems are compared.

    A difference up to `tolerance` is immaterial: in percent, or, where `absolute`, in the figure's unit.
    """

    name: str
    better: Better
    tolerance: float
    absolute: bool = False

    @property
    def label(self) -> str:
        """The metric's label."""
        return METRICS[self.name].label

    @property
    def tolerance_in_words(self) -> str:
        """The tolerance with its unit."""
        unit = METRICS[self.name].unit if self.absolute else "%"
        return f"{shown(self.tolerance)} {unit}".strip()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """How much better one system is than another in one axis; negative: worse. In the tolerance's unit.

    `unresolved` says why it has no interval that would hold.
    """

    axis: Axis
    gain: float
    low: float
    high: float
    text: str
    unresolved: str = ""

    @property
    def surely_worse(self) -> bool:
        """Whether it is worse by more than the tolerance, whatever the interval."""
        return self.high < -self.axis.tolerance

    @property
    def surely_no_worse(self) -> bool:
        """Whether it is at most worse within the tolerance."""
        return self.low >= -self.axis.tolerance

    @property
    def surely_better(self) -> bool:
        """Whether it is better by more than the tolerance, whatever the interval."""
        return self.low > self.axis.tolerance

    @property
    def perhaps_better(self) -> bool:
        """Whether the interval reaches beyond the tolerance."""
        return self.high > self.axis.tolerance


class Rival(msgspec.Struct, frozen=True, kw_only=True):
    """Another system that dominates or may dominate, and the steps that say so, or leave it open."""

    name: str
    steps: tuple[Step, ...]

    @property
    def in_words(self) -> str:
        """The rival with its steps."""
        return f"{self.name} ({'; '.join(step.text for step in self.steps)})"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a system stands: `by` dominate it, the best as a whole first; `perhaps_by` may."""

    place: Place
    by: tuple[Rival, ...] = ()
    perhaps_by: tuple[Rival, ...] = ()


class Pareto(msgspec.Struct, frozen=True, kw_only=True):
    """The standing of every system that has all figures.

    `excluded` says of the others why they cannot be compared, `without` of the usual axes that are not used
    why. `point_axes` are those in which some figure has no interval, so that its point value was taken.
    """

    axes: tuple[Axis, ...]
    standings: dict[str, Standing]
    excluded: dict[str, str] = {}
    without: dict[str, str] = {}
    point_axes: tuple[str, ...] = ()

    def at(self, place: Place) -> tuple[str, ...]:
        """Return the systems that stand there, in their order."""
        return tuple(name for name, standing in self.standings.items() if standing.place == place)


def pareto(
    sets: Mapping[str, MetricSet],
    chosen: Sequence[tuple[str, Better]] = (),
    *,
    quality: Quality | None = None,
    material_pct: float = MATERIAL_PCT,
) -> Pareto:
    """Return the Pareto set of systems by the chosen metrics, or by the usual ones.

    A system that lacks a figure is excluded with the reason: nothing is assumed of it.
    """
    names, without = (chosen, {}) if chosen else _usual(sets)
    excluded: dict[str, str] = {}
    for system, metrics in sets.items():
        if why := lacks(metrics, [name for name, _ in names]):
            excluded[system] = why
    kept = {system: metrics for system, metrics in sets.items() if system not in excluded}
    axes = tuple(axis_of(name, better, kept, quality or Quality(), material_pct) for name, better in names)
    return Pareto(
        axes=axes,
        standings={system: _standing(system, kept, axes) for system in kept},
        excluded=excluded,
        without=without,
        point_axes=tuple(axis.name for axis in axes if _on_points(axis, kept)),
    )


def lacks(metrics: MetricSet, names: Sequence[str]) -> str:
    """Return why a system cannot be compared in these figures; '' where it can."""
    if metrics.client is not None and metrics.client.level == "INVALID":
        return f"its run is INVALID: {metrics.client.reasons}"
    reasons: dict[str, list[str]] = {}
    for name in names:
        value = metrics.values.get(name)
        if value is None or value.value is None:
            note = "not among its metrics" if value is None else value.note
            reasons.setdefault(note, []).append(METRICS[name].label)
    return "; ".join(f"no {', '.join(labels)}: {why}" for why, labels in reasons.items())


def _usual(sets: Mapping[str, MetricSet]) -> tuple[list[tuple[str, Better]], dict[str, str]]:
    """Return the usual axes that half of the systems have, and why the others are not used."""
    names: list[tuple[str, Better]] = []
    without: dict[str, str] = {}
    for name in USUAL:
        better = METRICS[name].better
        assert better is not None
        values = [metrics.values[name] for metrics in sets.values() if name in metrics.values]
        known = sum(value.value is not None for value in values)
        if name == "throughput_requests_per_sec" and USUAL[1] in dict(names):
            continue  # at one price cost says the same
        if 2 * known >= max(1, len(sets)):
            names.append((name, better))
        else:
            note = next((value.note for value in values if value.value is None), "not among the metrics")
            without[name] = note if known == 0 else f"{known} of {len(sets)} systems have it"
    return names, without


def axis_of(
    name: str, better: Better, sets: Mapping[str, MetricSet], quality: Quality, material_pct: float
) -> Axis:
    """Return an axis with its tolerance: of quality what the experiment states, else what is immaterial.

    All of `sets` have the figure.
    """
    tolerated = {
        "perplexity": ((quality.max_perplexity_ratio - 1.0) * PERCENT, False),
        "perplexity_ratio": (quality.max_perplexity_ratio - 1.0, True),
        "mean_kl": (quality.max_mean_kl, True),
        "top1_agreement": (1.0 - quality.min_top1_agreement, True),
        "format_drop": (quality.max_format_drop, True),
        "tone_shift": (quality.max_tone_shift, True),
    }
    if name in tolerated:
        tolerance, absolute = tolerated[name]
        return Axis(name=name, better=better, tolerance=max(0.0, tolerance), absolute=absolute)
    figures = [abs(_figure(metrics, name)) for metrics in sets.values()]
    if any(_figure(metrics, name) <= 0 for metrics in sets.values()):
        tolerance = material_pct / PERCENT * max(figures)
        return Axis(name=name, better=better, tolerance=tolerance, absolute=True)
    return Axis(name=name, better=better, tolerance=material_pct)


def _standing(system: str, sets: Mapping[str, MetricSet], axes: Sequence[Axis]) -> Standing:
    by, perhaps = [], []
    for name, rival in sets.items():
        if name == system:
            continue
        steps = [step(sets[system], rival, axis) for axis in axes]
        if any(one.surely_worse for one in steps) or not any(one.perhaps_better for one in steps):
            continue
        doubtful = [one for one in steps if not one.surely_no_worse]
        better = [one for one in steps if one.surely_better]
        if doubtful or not better:
            open_steps = doubtful or [one for one in steps if one.perhaps_better]
            perhaps.append(Rival(name=name, steps=tuple(open_steps)))
        elif _worth(rival, axes) > _worth(sets[system], axes):
            by.append(Rival(name=name, steps=tuple(better)))
    if by:
        by.sort(key=lambda rival: -_worth(sets[rival.name], axes))
        return Standing(place="dominated", by=tuple(by))
    return Standing(place="undecided" if perhaps else "front", perhaps_by=tuple(perhaps))


def step(one: MetricSet, other: MetricSet, axis: Axis) -> Step:
    """Return how much better `other` is than `one` in an axis, with the interval of the paired change."""
    old, new = one.values[axis.name], other.values[axis.name]
    found = change(old, new, axis.better)
    if axis.name in ENERGIES and on_several_cards(one, other):
        found = widened_by_gain(found, old.value)
    sign = -1.0 if axis.better == "lower" else 1.0
    unresolved = new.unresolved or old.unresolved
    point, low, high = _ends(found, axis, unresolved=bool(unresolved))
    ends = sorted((sign * low, sign * high))
    return Step(
        axis=axis,
        gain=sign * point,
        low=ends[0],
        high=ends[1],
        text=_text(axis, point, low, high),
        unresolved=unresolved,
    )


def _ends(found: Change, axis: Axis, *, unresolved: bool) -> tuple[float, float, float]:
    """Return a change and its interval's ends: the point where there is none, infinity where not resolved."""
    if axis.absolute:
        point, low, high = found.delta, found.low, found.high
    else:
        point, low, high = found.pct_change, found.low_pct, found.high_pct
    assert point is not None
    if unresolved:
        return point, -math.inf, math.inf
    return (point, point, point) if low is None or high is None else (point, low, high)


def _text(axis: Axis, point: float, low: float, high: float) -> str:
    unit = METRICS[axis.name].unit if axis.absolute else "%"
    figure = f"{point:+.3g}" if axis.absolute else f"{point:+.1f}"
    text = f"{axis.label} {figure} {unit}".rstrip()
    if math.isinf(low):
        return f"{text}, not resolved"
    if low == high:
        return text
    form = "+.3g" if axis.absolute else "+.1f"
    return f"{text}, {low:{form}} to {high:{form}} {unit}".rstrip()


def _worth(metrics: MetricSet, axes: Sequence[Axis]) -> float:
    """Return how good a system is as a whole, in tolerances: what dominance must not lower."""
    worth = 0.0
    for axis in axes:
        figure = _figure(metrics, axis.name)
        sign = -1.0 if axis.better == "lower" else 1.0
        unit = axis.tolerance if axis.absolute else math.log1p(axis.tolerance / PERCENT)
        worth += sign * (figure if axis.absolute or figure <= 0 else math.log(figure)) / (unit or 1.0)
    return worth


def _figure(metrics: MetricSet, name: str) -> float:
    figure = metrics.values[name].value
    assert figure is not None
    return figure


def _on_points(axis: Axis, sets: Mapping[str, MetricSet]) -> bool:
    values = [metrics.values[axis.name] for metrics in sets.values()]
    return any(value.low is None and not value.unresolved for value in values)
