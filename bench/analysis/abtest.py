"""A/B replay: one seeded trace on two systems in turn, and whether to roll the second one out.

The trace is cut into segments, and each is replayed on both systems, in A B B A order: a segment is a *pair*,
whose traffic was the same. What was to be found is stated before: the minimum detectable effect (MDE) of one
primary metric, with its power. The rules, in this order:

- *reject*: a segment of the candidate crashed. Nothing else is concluded before the planned pairs are made.
- *reject*: it cannot carry the load that the baseline carries; errors or timeouts are surely more frequent;
  or some metric is surely worse by more than is tolerated.
- *hold*: a benefit of the MDE's size is ruled out (the upper end of the improvement's interval lies below
  it), or the primary metric cannot be compared at all.
- *rollout*: the primary metric is surely better, every other one is surely not worse by more than is
  tolerated (non-inferiority), and nothing suggests that the candidate fails more.
- *extend*: anything else; how many more pairs it would take is said.

The rules in words, with their reasons: docs/experiments.md, A/B replay.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bench.analysis.contrast import by_repeat, log_contrast
from bench.analysis.failures import Failures
from bench.analysis.looks import look_confidence
from bench.analysis.numbers import shown
from bench.analysis.stats import MAX_REPEATS, repeats_needed, t_quantile
from bench.records import Value
from bench.units import PERCENT

Decision = Literal["rollout", "extend", "hold", "reject"]
Side = Literal["baseline", "candidate"]
Positive = Annotated[float, Meta(gt=0)]

LONGER_SEGMENTS = "longer segments (--segment-s), in a new test"
PILOT = 3
"""Pairs after which it is said what the planned ones can detect."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was stated before the first segment.

    `metric` is the primary one, `mde_pct` the improvement of it that the test is to find with probability
    `power`; a metric may get worse by `tolerated_pct`. `pairs` are made before the result is looked at first,
    `most_pairs` with all extensions; `asked` have been asked for so far.
    """

    baseline: str
    candidate: str
    metric: str
    mde_pct: Positive
    power: Annotated[float, Meta(gt=0.5, lt=1)]
    tolerated_pct: Positive
    pairs: Annotated[int, Meta(ge=2)]
    most_pairs: int
    asked: int

    @property
    def confidence(self) -> float:
        """The confidence of each look, from the planned pairs to the most: 95 % for all of them together."""
        return look_confidence(self.pairs, self.most_pairs)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of both systems over the pairs.

    `unbounded`: so many requests of some segment failed with the candidate alone that its figure is infinite.
    """

    name: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    baseline: Value
    candidate: Value
    unbounded: bool = False


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's improvement in percent (negative: worse), paired by segment, with its interval.

    `detectable_pct` is the improvement that so many pairs find with the planned power, `scatter` the
    deviation of the pairs' log ratios; `why` says why there is no improvement, or no interval of it.
    """

    measured: Measured
    primary: bool
    improvement_pct: float | None = None
    low_pct: float | None = None
    high_pct: float | None = None
    pairs: int = 0
    scatter: float | None = None
    detectable_pct: float | None = None
    why: str = ""

    @property
    def text(self) -> str:
        """The improvement in words, with its interval."""
        if self.improvement_pct is None:
            return f"{self.measured.label}: {self.why}"
        text = f"{self.measured.label} {'better' if self.improvement_pct >= 0 else 'worse'} by "
        text += f"{shown(abs(self.improvement_pct), 3)} %"
        if self.low_pct is None or self.high_pct is None:
            return f"{text} ({self.why})" if self.why else text
        return f"{text} (95 % interval {self.low_pct:+.1f} to {self.high_pct:+.1f} %)"


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the segments brought.

    `crashed` says how segments of the candidate ended without a result; `overloaded` names who cannot carry
    the load, with the reason; `pairs` count, and `dropped` are those that do not, each with the reason.
    """

    rows: tuple[Compared, ...]
    failures: tuple[Failures, ...] = ()
    pairs: int = 0
    crashed: str = ""
    overloaded: tuple[tuple[Side, str], ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def primary(self) -> Compared:
        """The metric that the test was planned for."""
        return next(row for row in self.rows if row.primary)

    @property
    def made(self) -> int:
        """How many pairs have ended, whether they count or not."""
        return self.pairs + len(self.dropped)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, the reason that decided, and what an extension would need: `more` pairs, where known."""

    decision: Decision
    reason: str
    needs: str = ""
    more: int | None = None


def compare_metric(measured: Measured, plan: Plan) -> Compared:
    """Return a metric's improvement over the pairs of segments."""
    sides = (measured.baseline, measured.candidate)
    primary = measured.name == plan.metric
    nothing = Compared(measured=measured, primary=primary)
    for side in sides:
        if side.value is None:
            return msgspec.structs.replace(nothing, why=side.note)
    sign = -1.0 if measured.better == "lower" else 1.0
    ratio = log_contrast(sides, (-1.0, 1.0))
    if ratio is None:
        return msgspec.structs.replace(nothing, why="not every figure is above zero")
    why = next((f"not resolved: {side.unresolved}" for side in sides if side.unresolved), "")
    # What one segment says of itself, by its parts, says nothing of segments.
    alone = any(len(side.repeats or {}) < 2 for side in sides)
    bounds = () if why or alone else (ratio.low, ratio.high)
    ends = sorted(sign * math.expm1(end) * PERCENT for end in bounds if end is not None)
    ratios = by_repeat(sides, (-1.0, 1.0))
    scatter = statistics.stdev(ratios) if len(ratios) >= 2 else None
    return Compared(
        measured=measured,
        primary=primary,
        improvement_pct=sign * math.expm1(ratio.log) * PERCENT,
        low_pct=ends[0] if ends else None,
        high_pct=ends[1] if ends else None,
        pairs=len(ratios),
        scatter=scatter,
        detectable_pct=_in_percent(
            detectable(scatter, len(ratios), plan.confidence, plan.power), measured.better
        ),
        why=why or ("" if ends else "no interval"),
    )


def detectable(scatter: float | None, pairs: int, confidence: float, power: float) -> float | None:
    """Return the smallest log ratio that `pairs` pairs find with probability `power`.

    `(t(1 - α/2) + t(power)) · s / √n` with n - 1 degrees of freedom and s the deviation of the pairs' log
    ratios (Bloom, Evaluation Review 19, 1995). None where fewer than two pairs tell the scatter.
    """
    if scatter is None or pairs < 2:
        return None
    t_power = t_quantile(pairs - 1, 2.0 * power - 1.0)
    return (t_quantile(pairs - 1, confidence) + t_power) * scatter / math.sqrt(pairs)


def pairs_for(scatter: float, effect: float, confidence: float, power: float) -> int | None:
    """Return how many pairs find a log ratio of `effect`; None beyond `MAX_REPEATS`."""
    for pairs in range(2, MAX_REPEATS + 1):
        smallest = detectable(scatter, pairs, confidence, power)
        if smallest is not None and smallest <= effect:
            return pairs
    return None


def pairs_to_find(row: Compared, plan: Plan) -> int | None:
    """Return how many pairs find the stated effect of a metric; None where nothing tells its scatter."""
    if row.scatter is None:
        return None
    return pairs_for(
        row.scatter, abs(_in_log(plan.mde_pct, row.measured.better)), plan.confidence, plan.power
    )


def found_by_plan_pct(row: Compared, plan: Plan) -> float | None:
    """Return the improvement in percent that all pairs asked for find with the planned power."""
    smallest = detectable(row.scatter, plan.asked, plan.confidence, plan.power)
    return _in_percent(smallest, row.measured.better)


def conclude(evidence: Evidence, plan: Plan) -> Result:
    """Return what to do by the rules of this module."""
    if evidence.crashed:
        return Result(decision="reject", reason=f"the candidate crashed: {evidence.crashed}")
    if evidence.made < plan.pairs:
        reason = f"{evidence.made} of the planned {plan.pairs} pairs have been made"
        return Result(decision="extend", reason=reason, needs="the others, before anything is concluded")
    return _rejected(evidence, plan) or _held(evidence, plan) or _shown(evidence, plan)


def _rejected(evidence: Evidence, plan: Plan) -> Result | None:
    """Return reject where a guard is surely broken."""
    overloaded = dict(evidence.overloaded)
    if "candidate" in overloaded and "baseline" not in overloaded:
        return Result(
            decision="reject", reason=f"the candidate cannot carry the load: {overloaded['candidate']}"
        )
    for failed in evidence.failures:
        if failed.more:
            return Result(decision="reject", reason=failed.text)
    for row in evidence.rows:
        if row.high_pct is not None and row.high_pct < -plan.tolerated_pct:
            reason = f"{row.text}: beyond the {plan.tolerated_pct:g} % that is tolerated"
            return Result(decision="reject", reason=reason)
    return None


def _held(evidence: Evidence, plan: Plan) -> Result | None:
    """Return hold where no benefit of the stated size can come out, or nothing can be compared."""
    if overloaded := dict(evidence.overloaded):
        who = "neither system" if len(overloaded) == 2 else "not the baseline"
        text = f"{who} carries the load ({next(iter(overloaded.values()))}), so latencies say nothing"
        return Result(decision="hold", reason=text, needs="lower the load")
    primary = evidence.primary
    if evidence.pairs >= 2 and primary.improvement_pct is None and not primary.measured.unbounded:
        return Result(decision="hold", reason=f"the primary metric cannot be compared: {primary.text}")
    if primary.high_pct is not None and primary.high_pct < plan.mde_pct:
        reason = f"{primary.text}: a benefit of {plan.mde_pct:g} % is ruled out"
        return Result(decision="hold", reason=reason)
    return None


def _shown(evidence: Evidence, plan: Plan) -> Result:
    """Return rollout where the benefit is shown and every guard holds, else extend."""
    if evidence.pairs < 2:
        return Result(decision="extend", reason=f"{evidence.pairs} pairs count, of at least two")
    if doubt := _may_fail_more(evidence):
        return Result(decision="extend", reason=doubt, needs="more pairs, to see whether it happens again")
    primary = evidence.primary
    guards = [row for row in evidence.rows if row.improvement_pct is not None and not row.primary]
    unsure = [row for row in guards if row.low_pct is None or row.low_pct < -plan.tolerated_pct]
    if primary.low_pct is not None and primary.low_pct > 0:
        if not unsure:
            reason = f"{primary.text}, and nothing is worse by more than {plan.tolerated_pct:g} %"
            return Result(decision="rollout", reason=reason)
        text = f"{primary.text}, but {unsure[0].text}: it may be worse by more than {plan.tolerated_pct:g} %"
        return _extended(text, evidence, plan, unsure)
    if primary.low_pct is None:
        needs = LONGER_SEGMENTS if primary.measured.baseline.unresolved or primary.why else ""
        return Result(decision="extend", reason=primary.text, needs=needs)
    text = f"{primary.text}: neither a benefit is shown nor one of {plan.mde_pct:g} % ruled out"
    return _extended(text, evidence, plan, unsure)


def _may_fail_more(evidence: Evidence) -> str:
    """Return what suggests that the candidate fails more, though one event may have been all; else ''."""
    for failed in evidence.failures:
        if failed.suspected:
            return f"{failed.text}, which a single event may explain"
    return next((row.text for row in evidence.rows if row.measured.unbounded), "")


def _extended(reason: str, evidence: Evidence, plan: Plan, unsure: Sequence[Compared]) -> Result:
    """Return extend with how many more pairs would decide, as the pairs have scattered so far."""
    result = Result(decision="extend", reason=reason)
    if any(row.low_pct is None for row in unsure):
        return msgspec.structs.replace(result, needs=LONGER_SEGMENTS)
    primary = evidence.primary
    # A benefit that is shown already needs no more.
    enough = evidence.pairs if primary.low_pct is not None and primary.low_pct > 0 else None
    totals = [enough or pairs_to_find(primary, plan), *(_pairs_for_guard(row, plan) for row in unsure)]
    if any(total is None for total in totals):
        needs = f"not even {MAX_REPEATS} pairs would do: {LONGER_SEGMENTS}, or a larger effect"
        return msgspec.structs.replace(result, needs=needs)
    # An extension is at least one pair: what is planned for is found with the planned power only.
    total = max(*(total for total in totals if total is not None), evidence.pairs + 1)
    more = total - evidence.pairs
    text = f"about {more} more pairs, {total} in all"
    if total > plan.most_pairs:
        text += f"; the plan allows {plan.most_pairs}: plan for more in a new test, or {LONGER_SEGMENTS}"
    return msgspec.structs.replace(result, needs=text, more=more)


def _pairs_for_guard(row: Compared, plan: Plan) -> int | None:
    """Return how many pairs bring the lower end of a guard's interval above what is tolerated."""
    if row.improvement_pct is None or row.scatter is None or row.pairs < 2:
        return None
    better = row.measured.better
    distance = abs(_in_log(row.improvement_pct, better) - _in_log(-plan.tolerated_pct, better))
    half = t_quantile(row.pairs - 1, plan.confidence) * row.scatter / math.sqrt(row.pairs)
    return repeats_needed(row.pairs, half, distance, MAX_REPEATS, plan.confidence)


def _in_log(improvement_pct: float, better: str) -> float:
    """Return an improvement in percent as a log ratio; a fall of 100 % is without end."""
    share = (-improvement_pct if better == "lower" else improvement_pct) / PERCENT
    return math.log1p(share) if share > -1 else -math.inf


def _in_percent(log: float | None, better: str) -> float | None:
    """Return a log ratio as an improvement in percent."""
    if log is None:
        return None
    return -math.expm1(-log) * PERCENT if better == "lower" else math.expm1(log) * PERCENT
