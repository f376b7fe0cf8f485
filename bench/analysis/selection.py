"""The choice among measured systems under constraints, and what binds it.

A constraint is judged by the worse end of a figure's interval: a system *fits* where every one surely holds,
*breaks* where one surely does not, and is *open* in between. Among those that fit the objective decides; what
its interval cannot tell from the best is a tie. Where nothing fits, the nearest miss is the system whose
worst constraint is exceeded by the smallest share of its limit. Nothing is assumed of a figure that was not
measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from bench.analysis.effects import MATERIAL_PCT
from bench.analysis.gate import at_most, negated
from bench.analysis.longer import longer_windows
from bench.analysis.metrics import METRICS, Better
from bench.analysis.numbers import shown
from bench.analysis.pareto import Axis, Step, axis_of, lacks, step
from bench.analysis.system import MetricSet
from bench.config import Quality
from bench.errors import ResultError
from bench.records import Value
from bench.units import PERCENT

Fit = Literal["fits", "breaks", "open"]
_FITS: dict[str, Fit] = {"pass": "fits", "fail": "breaks", "unclear": "open"}
_SEVERITY: dict[Fit, int] = {"fits": 0, "open": 1, "breaks": 2}
_TIMES = 9.0
"""A miss by so many limits or more is told as their multiple, as percent no longer say much."""


class Constraint(msgspec.Struct, frozen=True, kw_only=True):
    """A limit on a metric, in its unit. `of_the_run` says that the experiment states it, and no person."""

    name: str
    bound: Literal["at most", "at least"]
    limit: float
    of_the_run: bool = False

    @property
    def in_words(self) -> str:
        """The metric with its limit."""
        metric = METRICS[self.name]
        return f"{metric.label} {self.bound} {self.limit:g} {metric.unit}".rstrip()


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One constraint on one system.

    `over` is how far the worse end of the interval is beyond the limit, as a share of it (of 0: in its unit);
    negative: to spare.
    `settle` says what would decide an open one, `unresolved` why its figure has no interval that would hold.
    """

    constraint: Constraint
    fit: Fit
    value: float
    low: float | None
    high: float | None
    over: float
    settle: str = ""
    unresolved: str = ""

    @property
    def figure(self) -> str:
        """The figure with its interval."""
        ends = "" if self.low in (None, self.high) else f" ({shown(self.low)} to {shown(self.high)})"
        return f"{METRICS[self.constraint.name].label} {shown(self.value)}{ends}"

    @property
    def in_words(self) -> str:
        """The figure with its interval against the limit."""
        unit = METRICS[self.constraint.name].unit
        return f"{self.figure} against {self.constraint.bound} {self.constraint.limit:g} {unit}".rstrip()

    @property
    def margin(self) -> str:
        """How far the worse end is beyond the limit, or what it has to spare, in percent of it.

        Of a figure that is not resolved only a miss has a size: far beyond is told from the figure itself.
        """
        if self.unresolved and self.fit != "breaks":
            return "not resolved"
        if self.constraint.limit == 0:
            share = f"{shown(abs(self.over))} {METRICS[self.constraint.name].unit}".rstrip()
        elif self.over >= _TIMES:
            return f"{shown(1.0 + self.over)} times the limit"
        else:
            share = f"{abs(self.over) * PERCENT:.1f} %"
        return f"{share} beyond" if self.over > 0 else f"{share} to spare"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A system that has every figure; its checks in the constraints' order."""

    name: str
    checks: tuple[Check, ...]

    @property
    def fit(self) -> Fit:
        """The worst of its constraints."""
        return max((check.fit for check in self.checks), key=_SEVERITY.__getitem__, default="fits")

    @property
    def binding(self) -> Check | None:
        """The constraint that decides: the worst one, of several the one with the least to spare.

        Of those that break, one whose figure is resolved first.
        """
        return max(self.checks, key=_decides, default=None)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen, and what stands beside it.

    `tied` fit as well and cannot be told from the choice; `held_back` would be better by the objective and
    break a constraint, or leave it open. `choice` is None where nothing fits, or nothing was to be chosen by;
    `nearest` is then the nearest miss. `unranked` fit and lack the objective's figure, with the reason.
    """

    constraints: tuple[Constraint, ...]
    candidates: dict[str, Candidate]
    excluded: dict[str, str] = {}
    objective: Axis | None = None
    choice: str | None = None
    tied: tuple[Step, ...] = ()
    tied_names: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()
    unranked: dict[str, str] = {}
    nearest: str | None = None
    on_points: bool = False

    def that(self, fit: Fit) -> tuple[str, ...]:
        """Return the systems of that fit, in their order."""
        return tuple(name for name, candidate in self.candidates.items() if candidate.fit == fit)


def select(
    sets: Mapping[str, MetricSet],
    constraints: Sequence[Constraint],
    by: tuple[str, Better] | None = None,
    *,
    quality: Quality | None = None,
    material_pct: float = MATERIAL_PCT,
) -> Selection:
    """Choose among systems by `by`, without it by the cost, or the throughput, of those that fit.

    Raises ResultError where no system has the objective's figure.
    """
    names = [constraint.name for constraint in constraints]
    excluded = {system: why for system, metrics in sets.items() if (why := lacks(metrics, names))}
    candidates = {
        system: Candidate(name=system, checks=tuple(check(metrics, limit) for limit in constraints))
        for system, metrics in sets.items()
        if system not in excluded
    }
    selection = Selection(constraints=tuple(constraints), candidates=candidates, excluded=excluded)
    fitting = selection.that("fits")
    by = by or _usual(sets, fitting)
    objective = _objective(sets, by, quality or Quality(), material_pct) if by else None
    selection = msgspec.structs.replace(selection, objective=objective)
    if not fitting:
        nearest = min(candidates.values(), key=_miss, default=None)
        return msgspec.structs.replace(selection, nearest=nearest.name if nearest else None)
    return selection if objective is None else _chosen(selection, sets, fitting, objective)


def check(metrics: MetricSet, constraint: Constraint) -> Check:
    """Judge a constraint by the worse end of the figure's interval, on the point where there is none."""
    value, limit = metrics.values[constraint.name], constraint.limit
    assert value.value is not None
    at_least = constraint.bound == "at least"
    bounded, most = (negated(value), -limit) if at_least else (value, limit)
    gate = at_most("", bounded, most, "", longer=longer_windows(metrics.window_s))
    worse_end = None if value.unresolved else value.low if at_least else value.high
    beyond = (value.value if worse_end is None else worse_end) - limit
    return Check(
        constraint=constraint,
        fit=_FITS[gate.outcome],
        value=value.value,
        low=value.low,
        high=value.high,
        over=(-beyond if at_least else beyond) / (abs(limit) or 1.0),
        settle=gate.settle,
        unresolved=value.unresolved,
    )


def _usual(sets: Mapping[str, MetricSet], fitting: Sequence[str]) -> tuple[str, Better] | None:
    """Return what is chosen by where nothing was asked for; None where no figure would do."""
    for name in ("cost_per_1k_requests_usd", "throughput_requests_per_sec"):
        if fitting and all(_known(sets[system], name) for system in fitting):
            return name, METRICS[name].better or "lower"
    return None


def _objective(
    sets: Mapping[str, MetricSet], by: tuple[str, Better], quality: Quality, material_pct: float
) -> Axis:
    """Return the axis to choose by, with the tolerance of all systems that have the figure."""
    name, better = by
    known = {system: metrics for system, metrics in sets.items() if _known(metrics, name)}
    if not known:
        notes = [metrics.values[name].note for metrics in sets.values() if name in metrics.values]
        note = next(iter(notes), "not among the metrics")
        raise ResultError(f"no system has {METRICS[name].label} to choose by: {note}")
    return axis_of(name, better, known, quality, material_pct)


def _chosen(
    selection: Selection, sets: Mapping[str, MetricSet], fitting: Sequence[str], objective: Axis
) -> Selection:
    """Return the selection with the best of those that fit, its ties, and what the constraints keep out."""
    unranked = {name: why for name in fitting if (why := lacks(sets[name], [objective.name]))}
    ranked = [name for name in fitting if name not in unranked]
    if not ranked:
        return msgspec.structs.replace(selection, unranked=unranked)
    choice = min(ranked, key=lambda name: _rank(sets[name], objective))
    steps = {name: step(sets[choice], sets[name], objective) for name in ranked if name != choice}
    ties = {name: found for name, found in steps.items() if _ties(found)}
    held_back = [
        name
        for name, candidate in selection.candidates.items()
        if candidate.fit != "fits"
        and _known(sets[name], objective.name)
        and _rank(sets[name], objective) < _rank(sets[choice], objective)
    ]
    figures = [sets[name].values[limit.name] for limit in selection.constraints for name in ranked]
    figures += [sets[name].values[objective.name] for name in ranked]
    return msgspec.structs.replace(
        selection,
        choice=choice,
        tied=tuple(ties.values()),
        tied_names=tuple(ties),
        held_back=tuple(sorted(held_back, key=lambda name: _rank(sets[name], objective))),
        unranked=unranked,
        on_points=any(value.low is None and not value.unresolved for value in figures),
    )


def _ties(found: Step) -> bool:
    """Say whether a system cannot be told from the best: its interval reaches no change.

    Without an interval, where it is worse by no more than what is immaterial.
    """
    return found.high >= 0.0 if found.low != found.high else found.surely_no_worse


def _decides(check: Check) -> tuple[int, bool, float]:
    return _SEVERITY[check.fit], check.fit == "breaks" and not check.unresolved, check.over


def _miss(candidate: Candidate) -> float:
    binding = candidate.binding
    return 0.0 if binding is None else max(check.over for check in candidate.checks)


def _rank(metrics: MetricSet, objective: Axis) -> float:
    """Return the objective's figure so that less is better."""
    value = metrics.values[objective.name].value
    assert value is not None
    return value if objective.better == "lower" else -value


def _known(metrics: MetricSet, name: str) -> bool:
    value: Value | None = metrics.values.get(name)
    return value is not None and value.value is not None
