"""Whether a system became worse since a baseline was accepted: persistent and material, never one shot.

A control chart in two phases (Shewhart). The accepted run and the first clean ones after it set the *level*;
later runs cannot move it, so slow drift is not followed for ever. Runs that lie beyond the material threshold
one after the other form a *group*, until one comes back. A group of at least two whose mean is worse than the
level by more than the threshold, with the whole 95 % interval, is a regression; one such run is suspected.

Runs of different days differ by more than their repeats, and only runs tell by how much: once enough of them
do, the interval is Student's from the scatter of all clean runs about their level, earlier levels' included.
Neighbouring runs are alike (the same heat, the same neighbours), so a group counts as fewer runs than it has,
by their lag-1 correlation. Before that the interval comes from the repeats alone, paired where they had the
same traffic, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from bench.analysis.contrast import log_contrast, standard_error, welch_degrees
from bench.analysis.effects import MATERIAL_PCT
from bench.analysis.stats import t_quantile
from bench.records import Value
from bench.units import PERCENT

Outcome = Literal["in line", "too uncertain", "not resolved", "suspected", "regressed", "improved"]

MATERIAL_SHARE = 0.01
"""A worsening below this is none, of shares such as the error rate, which may be 0: one percentage point."""
LEVEL_RUNS = 10
"""The first clean runs, which set the level; the accepted one is among them."""
TOO_WIDE = 3.0
"""Where an interval reaches this many thresholds to the worse, a figure within the threshold says nothing."""
PERSISTENT = 2
"""Runs in a row that make a worsening persistent."""
MIN_DEGREES = 2
"""Degrees of freedom from which the variation between runs is taken as known: three clean runs."""


class Scale(msgspec.Struct, frozen=True):
    """On which a figure is judged: worse is more; a logarithm unless the figure is a `share`.

    `worse_at` and `better_at` are how far beyond the level a change is material.
    """

    sign: float
    share: bool
    worse_at: float
    better_at: float

    def of(self, value: float) -> float:
        """Return a figure on this scale; infinite for one without a bound."""
        if math.isinf(value):
            return math.inf
        return self.sign * (value if self.share else math.log(value))

    def change(self, shift: float | None) -> float | None:
        """Return a shift on this scale as the figure's change, in percent or percentage points."""
        if shift is None or math.isinf(shift):
            return shift if shift is None else self.sign * math.inf
        return PERCENT * (self.sign * shift if self.share else math.expm1(self.sign * shift))


class Observed(msgspec.Struct, frozen=True):
    """One run's figure. An infinite one is known to be worse than any: a saturated system's latency."""

    run: str
    value: Value

    @property
    def figure(self) -> float:
        """The figure itself."""
        assert self.value.value is not None
        return self.value.value


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a figure against its level.

    `in line`: by its figure the run is within the material threshold; how far the truth may lie beyond it is
    for `low` and `high` to say. `too uncertain`: within too, but there is no interval, or one that reaches
    several thresholds to the worse. `not resolved`: beyond, but the interval is not.
    `change`, `low` and `high` are in percent, of a share in percentage points; there are no ends where
    there is no interval. They are the change of the mean of `group`, the runs in a row that lie beyond the
    threshold, or of this run alone where it does not. `level` is the mean of the first of `clean` runs.
    `between` says that the variation between runs is in the interval, with `degrees` of freedom.
    """

    outcome: Outcome
    level: float
    change: float
    low: float | None
    high: float | None
    group: tuple[str, ...]
    clean: int
    between: bool
    degrees: float


def scale_of(better: Literal["lower", "higher"], *, share: bool, material_pct: float = MATERIAL_PCT) -> Scale:
    """Return the scale of a metric; ValueError unless 0 <= `material_pct` < 100."""
    if not 0 <= material_pct < PERCENT:
        raise ValueError(f"material = {material_pct:g} must be at least 0 and below 100 percent")
    sign = 1.0 if better == "lower" else -1.0
    if share:
        return Scale(sign, True, MATERIAL_SHARE, -MATERIAL_SHARE)
    up, down = math.log1p(material_pct / PERCENT), math.log1p(-material_pct / PERCENT)
    return Scale(sign, False, up if sign > 0 else -down, down if sign > 0 else -up)


class Chart:
    """The control chart of one figure: runs go in as they were made, a judgement comes out of each."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._clean: list[Observed] = []
        self._group: list[Observed] = []
        self._squares, self._degrees = 0.0, 0

    def accept(self, baseline: Observed) -> None:
        """Begin a new level at `baseline`; how runs varied about the last one stays known."""
        self._squares, self._degrees = self._scatter(self._clean)
        self._clean, self._group = [baseline], []

    def add(self, run: Observed) -> Judgement:
        """Judge the next run. A level must have been accepted, at a figure with a bound and a logarithm."""
        side = self._side(run)
        if self._group and side != self._side(self._group[0]):
            self._dissolve()
            side = self._side(run)
        if not side:
            judgement = self._judge(self._clean, [run])
            self._join([run])
            return judgement
        self._group.append(run)
        return self._judge_group()

    def _dissolve(self) -> None:
        """End a group: its runs are clean after all, unless they are known to be of another level."""
        _, low, high, _, between = self._shift(self._clean, self._group)
        beyond = (low is not None and low > self._scale.worse_at) or (
            high is not None and high < self._scale.better_at
        )
        # Of one run by its repeats alone nobody can say whether its day was at fault.
        if not beyond or (len(self._group) < PERSISTENT and not between):
            self._join(self._group)
        self._group = []

    def _join(self, runs: Iterable[Observed]) -> None:
        self._clean += [run for run in runs if math.isfinite(self._at(run))]

    def _judge_group(self) -> Judgement:
        """Judge the runs that lie beyond the threshold, all of them or, where that is open, the last ones.

        A level of few runs may have been a lucky one, and all that came after lie beyond it: what is worse
        than these as well must not drown among them.
        """
        whole = self._judge(self._clean, self._group)
        if whole.outcome != "not resolved":
            return whole
        parts = (
            self._judge([*self._clean, *self._group[:i]], self._group[i:]) for i in range(1, len(self._group))
        )
        return next((part for part in parts if part.outcome in ("regressed", "suspected")), whole)

    def _judge(self, clean: Sequence[Observed], group: Sequence[Observed]) -> Judgement:
        shift, low, high, degrees, between = self._shift(clean, group)
        ends = [self._scale.change(end) for end in (low, high)]
        if self._scale.sign < 0:
            ends.reverse()
        level = self._scale.sign * self._level(clean)
        return Judgement(
            outcome=self._outcome(shift, low, high, len(group)),
            level=level if self._scale.share else math.exp(level),
            change=self._scale.change(shift) or 0.0,
            low=ends[0],
            high=ends[1],
            group=tuple(run.run for run in group),
            clean=len(clean),
            between=between,
            degrees=degrees,
        )

    def _outcome(self, shift: float, low: float | None, high: float | None, runs: int) -> Outcome:
        worse_at, better_at = self._scale.worse_at, self._scale.better_at
        if low is not None and low > worse_at:
            return "regressed" if runs >= PERSISTENT else "suspected"
        if high is not None and high < better_at and runs >= PERSISTENT:
            return "improved"
        if shift > worse_at:
            return "not resolved"
        return "too uncertain" if high is None or high > TOO_WIDE * worse_at else "in line"

    def _shift(
        self, clean: Sequence[Observed], group: Sequence[Observed]
    ) -> tuple[float, float | None, float | None, float, bool]:
        """Return how far `group` is from the level, with both ends, degrees, and whether runs make these."""
        shift = _mean(self._at(run) for run in group) - self._level(clean)
        if math.isinf(shift):
            return shift, shift, shift, 0.0, False
        between = self._between_runs(clean, group)
        if between is None:
            return shift, *self._within_runs(clean, group, shift), False
        half, degrees = between
        return shift, shift - half, shift + half, degrees, True

    def _between_runs(
        self, clean: Sequence[Observed], group: Sequence[Observed]
    ) -> tuple[float, float] | None:
        """Return half the interval by how runs vary and its degrees; None where too few runs tell."""
        squares, degrees = self._scatter(clean)
        if degrees < MIN_DEGREES:
            ours = [self._at(run) for run in group]
            squares += math.fsum((x - _mean(ours)) ** 2 for x in ours)
            degrees += len(group) - 1
        if degrees < MIN_DEGREES:
            return None
        variance = squares / degrees
        # A run that scatters more within itself than runs do among one another says so.
        own = _mean(max(variance, (self._error(run) or 0.0) ** 2) for run in group)
        alike = self._correlation(clean)
        counts_as = max(1.0, len(group) * (1.0 - alike) / (1.0 + alike))
        error = math.sqrt(variance / min(len(clean), LEVEL_RUNS) + own / counts_as)
        return t_quantile(degrees) * error, float(degrees)

    def _within_runs(
        self, clean: Sequence[Observed], group: Sequence[Observed], shift: float
    ) -> tuple[float | None, float | None, float]:
        """Return both ends by the repeats alone, and degrees; no ends where a run has no interval."""
        clean = clean[:LEVEL_RUNS]
        weights = [-1.0 / len(clean)] * len(clean) + [1.0 / len(group)] * len(group)
        runs = [*clean, *group]
        if any(run.value.unresolved for run in runs):
            return None, None, 0.0
        if not self._scale.share:
            found = log_contrast([run.value for run in runs], [self._scale.sign * w for w in weights])
            if found is None or found.low is None or found.high is None:
                return None, None, 0.0
            return found.low, found.high, max(found.pairs - 1.0, 0.0)
        errors = [self._error(run) for run in runs]
        known = [abs(w) * error for w, error in zip(weights, errors, strict=True) if error is not None]
        if len(known) < len(runs):
            return None, None, 0.0
        degrees = welch_degrees(known, [(run.value.n or 2) - 1.0 for run in runs])
        half = t_quantile(degrees) * math.hypot(*known)
        return shift - half, shift + half, degrees

    def _scatter(self, clean: Sequence[Observed]) -> tuple[float, int]:
        """Return the squared deviations of all clean runs from their levels, and degrees of freedom."""
        if len(clean) < 2:
            return self._squares, self._degrees
        squares = math.fsum(x**2 for x in self._deviations(clean))
        return self._squares + squares, self._degrees + len(clean) - 1

    def _correlation(self, clean: Sequence[Observed]) -> float:
        """Return the clean runs' lag-1 correlation, a standard error up as few tell little; 0 to 1."""
        deviations = self._deviations(clean)
        squares = math.fsum(x**2 for x in deviations)
        if squares == 0:
            return 0.0
        products = math.fsum(x * y for x, y in pairwise(deviations))
        return min(max(0.0, products / squares + 1.0 / math.sqrt(len(deviations))), 1.0)

    def _deviations(self, clean: Sequence[Observed]) -> list[float]:
        level = self._level(clean)
        return [self._at(run) - level for run in clean]

    def _level(self, clean: Sequence[Observed]) -> float:
        return _mean(self._at(run) for run in clean[:LEVEL_RUNS])

    def _error(self, run: Observed) -> float | None:
        """Return a run's standard error by its own repeats, on the scale."""
        error = standard_error(run.value)
        return error if error is None or self._scale.share else error / abs(run.figure)

    def _side(self, run: Observed) -> int:
        """Return 1 for a run that is materially worse than the level by its figure, -1 for better, 0."""
        shift = self._at(run) - self._level(self._clean)
        return (shift > self._scale.worse_at) - (shift < self._scale.better_at)

    def _at(self, run: Observed) -> float:
        return self._scale.of(run.figure)


def _mean(numbers: Iterable[float]) -> float:
    listed = list(numbers)
    return math.fsum(listed) / len(listed)
