"""The verdict: adopt, adopt with guardrails, hold, reject, or not enough evidence.

Gates come first and the binding reason is named. Then benefits and regressions are weighed against a
material threshold, each by its interval. The numeric score is secondary, and its weights are printed.
The rules in words: docs/method.md, The verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from bench.analysis.advice import advice
from bench.analysis.comparison import Comparison
from bench.analysis.effects import (
    BENEFITS,
    LATENCIES,
    MATERIAL_PCT,
    Effect,
    effect,
    effects_of,
    uncompared,
)
from bench.analysis.expectations import Expectation, judge_expectations
from bench.analysis.findings import why
from bench.analysis.further import to_settle
from bench.analysis.gate import Gate, Outcome
from bench.analysis.gates import CLIENT, COMPLETENESS, judge
from bench.analysis.guardrails import guardrails
from bench.config import EXPECTATIONS, Expected, Objectives, Quality

Decision = Literal["adopt", "adopt with guardrails", "hold", "reject", "not enough evidence"]

TOLERATED_PCT = 20.0
"""A regression beyond this outweighs a benefit, unless an objective bounds it."""
FORCED_BY: dict[Decision, tuple[Outcome, str]] = {
    "reject": ("fail", "failed"),
    "hold": ("not measured", "not measured"),
    "not enough evidence": ("unclear", "unclear"),
}
"""What a gate forces by its outcome, in the order in which they bind, and the outcome in words."""
WEIGHTS = {
    "p95_latency_ms": 0.25,
    "throughput_requests_per_sec": 0.20,
    "average_memory_gb": 0.10,
    "cost_per_1k_requests_usd": 0.25,
    "estimated_energy_kwh_per_1k_requests": 0.20,
}


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The weighted mean improvement in percent, over the metrics that could be compared."""

    value: float
    weights: dict[str, float]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The decision and everything it rests on; `binding` is the reason that decided, `advice` what to do.

    The expectations are `registered` where they were recorded with the runs, before anything was measured.
    """

    decision: Decision
    binding: str
    on_point_values: bool
    gates: tuple[Gate, ...]
    effects: tuple[Effect, ...]
    guardrails: tuple[str, ...]
    settle: str
    advice: str
    score: Score | None
    material_pct: float
    tolerated_pct: float
    expectations: tuple[Expectation, ...] = ()
    registered: bool = False

    @property
    def waived(self) -> tuple[Gate, ...]:
        """The gates that were not measured, and that a person has waived by name."""
        return tuple(gate for gate in self.gates if gate.outcome == "waived")

    @property
    def in_short(self) -> str:
        """The binding reason, or the gates that forced it by name: the same for all that lack the same."""
        outcome, word = FORCED_BY.get(self.decision, ("", ""))
        named = [gate.name for gate in self.gates if gate.outcome == outcome]
        return f"{' and '.join(named)} {word}" if named and not unsound(self.gates) else self.binding


class _Reason(msgspec.Struct, frozen=True):
    decision: Decision
    binding: str
    settle: str = ""


def decide(
    comparison: Comparison,
    objectives: Objectives,
    quality: Quality,
    *,
    expectations: Mapping[str, Expected] = EXPECTATIONS,
    registered: bool = False,
    material_pct: float = MATERIAL_PCT,
    tolerated_pct: float = TOLERATED_PCT,
) -> Verdict:
    """Return the verdict on a comparison by the service's objectives and the quality tolerance.

    What became of the `expectations` stands beside it and decides nothing.
    """
    gates = judge(comparison, objectives, quality)
    effects = effects_of(comparison, material_pct)
    warnings = guardrails(comparison, gates, effects, objectives)
    reason = (
        _gated(gates)
        or _beyond(comparison, effects, objectives, tolerated_pct)
        or _weighed(comparison, effects, material_pct, warnings)
    )
    return Verdict(
        decision=reason.decision,
        binding=reason.binding,
        on_point_values=not comparison.has_intervals and not unsound(gates),
        gates=gates,
        effects=effects,
        guardrails=warnings if reason.decision == "adopt with guardrails" else (),
        settle=reason.settle,
        advice=advice(comparison, reason.decision, objectives, unsound(gates)),
        score=None if unsound(gates) else score(comparison),
        material_pct=material_pct,
        tolerated_pct=tolerated_pct,
        expectations=judge_expectations(
            comparison, gates, expectations, material_pct=material_pct, tolerated_pct=tolerated_pct
        ),
        registered=registered,
    )


def score(comparison: Comparison) -> Score | None:
    """Return the weighted improvement; None when not even half of the weight can be compared.

    A change that is not resolved is none to be weighed.
    """
    parts = {}
    for name, weight in WEIGHTS.items():
        row = comparison.row(name)
        if row.change.pct_change is not None and not row.unresolved:
            parts[name] = (weight, effect(row).improvement_pct)
    total = sum(weight for weight, _ in parts.values())
    if total < 0.5:
        return None
    value = sum(weight * improvement for weight, improvement in parts.values()) / total
    return Score(value=value, weights={name: weight / total for name, (weight, _) in parts.items()})


def unsound(gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
    """Return the gates that leave nothing to be weighed: an INVALID client or device, an unfinished run."""
    return tuple(gate for gate in gates if gate.name in (CLIENT, COMPLETENESS) and gate.outcome != "pass")


def _gated(gates: tuple[Gate, ...]) -> _Reason | None:
    """Return the verdict that the gates alone force: fail, then not measured, then unclear.

    An invalid client and an unfinished run bind before any of them: even a failure may be theirs.
    """
    for gate in unsound(gates):
        return _Reason("not enough evidence", gate.text, gate.settle)
    for decision, (outcome, word) in FORCED_BY.items():
        found = [gate for gate in gates if gate.outcome == outcome]
        if found:
            first, *others = found
            likewise = "either" if outcome == "not measured" else "too"
            also = f"; {', '.join(gate.name for gate in others)}: {word}, {likewise}" if others else ""
            # Of several gates each has its own remedy.
            settle = "; ".join(
                f"{gate.name}: {gate.settle}" if others else gate.settle for gate in found if gate.settle
            )
            return _Reason(decision, f"{first.name}: {first.text}{also}", settle)
    return None


def _beyond(
    comparison: Comparison, effects: tuple[Effect, ...], objectives: Objectives, tolerated_pct: float
) -> _Reason | None:
    """Return hold, or not enough evidence, for a regression that is, or may be, beyond what is tolerated.

    A latency that an objective bounds is left to it: p95 bounds p50, too, and its gate has passed. What is
    not resolved is never beyond on its figure, and may always be.
    """
    bounded = LATENCIES if objectives.p95_latency_ms is not None else ()
    unbounded = [found for found in effects if found.name not in bounded]
    for found in unbounded:
        if found.unresolved:
            continue
        least = found.improvement_pct if found.high_pct is None else found.high_pct
        if least < -tolerated_pct:
            return _Reason("hold", f"{found.text}: beyond the {tolerated_pct:g} % that is tolerated")
    for row in uncompared(comparison):
        if row.name in LATENCIES and row.name not in bounded and row.optimized.value is None:
            text = f"{row.label} was not measured, and no objective bounds it: {row.optimized.note}"
            return _Reason("hold", text)
    for found in unbounded:
        # Wherever its middle lies: an interval that reaches this far, or cannot be stated, says too little.
        if found.unresolved or (found.low_pct is not None and found.low_pct < -tolerated_pct):
            text = f"{found.text}: it may lie beyond the {tolerated_pct:g} % of worsening that is tolerated"
            text += f"; {found.unresolved}" if found.unresolved else ""
            return _Reason("not enough evidence", text, to_settle(comparison, found, -tolerated_pct))
    return None


def _weighed(
    comparison: Comparison, effects: tuple[Effect, ...], material_pct: float, warnings: tuple[str, ...]
) -> _Reason:
    """Return the verdict once every gate has passed and no regression is intolerable."""
    useful = [effect for effect in effects if effect.name in BENEFITS]
    gains = [effect for effect in useful if effect.kind == "benefit"]
    if not gains:
        return _no_gain(comparison, useful, material_pct)
    best = max(gains, key=lambda effect: effect.improvement_pct)
    if worse := [effect for effect in effects if effect.worse]:
        return _Reason("adopt with guardrails", f"{best.text}, but {worse[0].worsening}")
    if warnings:
        return _Reason("adopt with guardrails", f"{best.text}. {warnings[0]}")
    return _Reason("adopt", f"{best.text}; nothing became materially worse")


def _no_gain(comparison: Comparison, useful: list[Effect], material_pct: float) -> _Reason:
    """Return hold, or not enough evidence where a benefit is still possible."""
    open_ones = [effect for effect in useful if effect.kind in ("perhaps a benefit", "unclear")]
    if open_ones:
        best = max(open_ones, key=lambda effect: effect.improvement_pct)
        text = f"{best.text}: the interval straddles the material threshold of {material_pct:g} %"
        return _Reason("not enough evidence", text, to_settle(comparison, best, material_pct))
    lacking = [row for row in uncompared(comparison) if row.name in BENEFITS]
    lacks = [f"{row.label} was not compared ({why(row)})" for row in lacking]
    if not useful:
        nothing = "neither throughput, memory, cost nor energy can be compared"
        return _Reason("hold", "; ".join([nothing, *lacks]))
    best = max(useful, key=lambda effect: effect.improvement_pct)
    text = f"no material benefit (at least {material_pct:g} %): at best {best.text}"
    return _Reason("hold", "; ".join([text, *lacks]))
