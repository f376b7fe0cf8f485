"""Whether more repeats can still change what was decided: what is open, and what no repeat would close.

A verdict is settled when every gate and every benefit that the repeats measure is decided, or when it is
forced whatever the others say: by a gate that failed, by one that nobody can measure, by a regression beyond
what is tolerated. A regression that is possible, and tolerable, is a guardrail of the verdict and is not
waited for: more repeats might lift it, and would not change whether to adopt. What rests on one job per
system (throughput, cost, quality), or on windows that are too short, is named and not waited for either.

To be asked after each repeat, intervals must hold for all of these looks together (see `looks`).
"""

from __future__ import annotations

import math

import msgspec

from bench.analysis.comparison import Comparison
from bench.analysis.decide import Verdict, unsound
from bench.analysis.effects import BENEFITS, FROM_SATURATED_RUN, LATENCIES, Effect
from bench.analysis.further import to_settle
from bench.config import Objectives

BY_REPEATS = ("errors", "SLA")
"""The gates whose interval more repeats narrow."""


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """A gate or figure that is not decided; `needs` says how much more running would decide it, if known."""

    name: str
    text: str
    needs: str = ""

    @property
    def in_words(self) -> str:
        """What is open, and how much more it would need."""
        return f"{self.text} ({self.needs})" if self.needs else self.text


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a comparison stands: `open` is what more repeats may decide, `beyond` what they cannot.

    `void`: a client or device was INVALID, so nothing is decided, and no repeat makes the bad one good.
    """

    decision: str
    open: tuple[Open, ...] = ()
    beyond: tuple[Open, ...] = ()
    void: tuple[Open, ...] = ()

    @property
    def ends(self) -> bool:
        """Whether no further repeat can change the verdict."""
        return not self.open

    @property
    def settled(self) -> bool:
        """Whether that is because it is decided."""
        return self.ends and not self.void

    @property
    def in_words(self) -> str:
        """The verdict if it is settled, else what is open; then what repeats cannot settle."""
        if self.void:
            return f"stopped: {'; '.join(item.in_words for item in self.void)}"
        text = f"{self.decision}, settled"
        if self.open:
            text = f"still open: {'; '.join(item.in_words for item in self.open)}"
        if self.beyond:
            text += f". Not for repeats to settle: {'; '.join(item.in_words for item in self.beyond)}"
        return text


def standing(comparison: Comparison, verdict: Verdict, objectives: Objectives) -> Standing:
    """Return what is open in a verdict that was made by `objectives`."""
    outcomes = {gate.outcome for gate in verdict.gates}
    if void := unsound(verdict.gates):
        found = tuple(Open(name=gate.name, text=gate.text, needs=gate.settle) for gate in void)
        return Standing(decision=verdict.decision, void=found)
    if "fail" in outcomes:
        return Standing(decision=verdict.decision)
    gates_open, gates_beyond = _gates(comparison, verdict)
    if "not measured" in outcomes or _beyond_tolerance(verdict, objectives):
        return Standing(decision=verdict.decision, open=gates_open, beyond=gates_beyond)
    effects_open, effects_beyond = _effects(comparison, verdict, objectives)
    return Standing(
        decision=verdict.decision,
        open=(*gates_open, *effects_open),
        beyond=(*gates_beyond, *effects_beyond),
    )


def _gates(comparison: Comparison, verdict: Verdict) -> tuple[tuple[Open, ...], tuple[Open, ...]]:
    """Return the unclear gates: those that repeats narrow, and the others with those not measured."""
    by_repeats: list[Open] = []
    others: list[Open] = []
    for gate in verdict.gates:
        item = Open(name=gate.name, text=f"{gate.name}: {gate.text}", needs=gate.settle)
        unresolved = gate.name == "SLA" and bool(comparison.row("p95_latency_ms").optimized.unresolved)
        if gate.outcome == "unclear" and gate.name in BY_REPEATS and not unresolved:
            by_repeats.append(item)
        elif gate.outcome in ("unclear", "not measured"):
            others.append(item)
    return tuple(by_repeats), tuple(others)


def _beyond_tolerance(verdict: Verdict, objectives: Objectives) -> bool:
    """Say whether some regression lies beyond what is tolerated with its whole interval: a hold, for good."""
    return any(
        effect.high_pct is not None and effect.high_pct < -verdict.tolerated_pct
        for effect in _unbounded(verdict, objectives)
    )


def _unbounded(verdict: Verdict, objectives: Objectives) -> list[Effect]:
    """Return the effects that the tolerance bounds: an objective takes the latencies' place."""
    bounded = LATENCIES if objectives.p95_latency_ms is not None else ()
    return [effect for effect in verdict.effects if effect.name not in bounded]


def _effects(
    comparison: Comparison, verdict: Verdict, objectives: Objectives
) -> tuple[tuple[Open, ...], tuple[Open, ...]]:
    """Return the effects that are not decided: by repeats, and otherwise."""
    found: dict[str, tuple[Effect, float]] = {}
    for effect in verdict.effects:
        if effect.name in BENEFITS and effect.kind in ("perhaps a benefit", "unclear"):
            found[effect.name] = effect, verdict.material_pct
    for effect in _unbounded(verdict, objectives):
        low_pct = math.nan if effect.low_pct is None else effect.low_pct
        if effect.unresolved or low_pct < -verdict.tolerated_pct:
            found[effect.name] = effect, -verdict.tolerated_pct
    by_repeats: list[Open] = []
    others: list[Open] = []
    for effect, threshold_pct in found.values():
        narrowed = effect.name not in FROM_SATURATED_RUN and not effect.unresolved
        (by_repeats if narrowed else others).append(_open(comparison, effect, threshold_pct))
    return tuple(by_repeats), tuple(others)


def _open(comparison: Comparison, effect: Effect, threshold_pct: float) -> Open:
    side = f"{threshold_pct:+g} %" if threshold_pct > 0 else f"{-threshold_pct:g} % of worsening"
    needs = to_settle(comparison, effect, threshold_pct)
    why = f"not resolved: {effect.unresolved}" if effect.unresolved else f"on both sides of {side}"
    return Open(name=effect.name, text=f"{effect.text}: {why}", needs=needs)
