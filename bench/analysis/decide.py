"""The verdict: adopt, adopt with guardrails, hold, reject, or not enough evidence.

Gates come first and the binding reason is named. Then benefits and regressions are weighed against a
material threshold, each by its interval. The numeric score is secondary, and its weights are printed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.analysis.comparison import Comparison, Row
from bench.analysis.findings import changed
from bench.analysis.gates import Gate, judge, repeats_to_settle
from bench.analysis.guardrails import guardrails
from bench.analysis.metrics import METRICS
from bench.config import Objectives, Quality
from bench.records import Value

Decision = Literal["adopt", "adopt with guardrails", "hold", "reject", "not enough evidence"]
Kind = Literal["benefit", "regression", "immaterial", "perhaps a benefit", "perhaps a regression", "unclear"]

MATERIAL_PCT = 5.0
"""A change below this is no reason for or against."""
TOLERATED_PCT = 20.0
"""A regression beyond this outweighs a benefit, unless an objective bounds it."""
BENEFITS = (
    "throughput_requests_per_sec",
    "average_memory_gb",
    "cost_per_1k_requests_usd",
    "estimated_energy_kwh_per_1k_requests",
)
LATENCIES = ("p50_latency_ms", "p95_latency_ms")
WEIGHTS = {
    "p95_latency_ms": 0.25,
    "throughput_requests_per_sec": 0.20,
    "average_memory_gb": 0.10,
    "cost_per_1k_requests_usd": 0.25,
    "estimated_energy_kwh_per_1k_requests": 0.20,
}


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One metric's improvement in percent (negative: worse), with its interval where there is one."""

    name: str
    kind: Kind
    text: str
    improvement_pct: float
    low_pct: float | None = None
    high_pct: float | None = None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The weighted mean improvement in percent, over the metrics that could be compared."""

    value: float
    weights: dict[str, float]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The decision and everything it rests on; `binding` is the reason that decided."""

    decision: Decision
    binding: str
    on_point_values: bool
    gates: tuple[Gate, ...]
    effects: tuple[Effect, ...]
    guardrails: tuple[str, ...]
    settle: str
    score: Score | None
    material_pct: float
    tolerated_pct: float

    @property
    def benefits(self) -> tuple[Effect, ...]:
        """The material benefits."""
        return tuple(effect for effect in self.effects if effect.kind == "benefit")

    @property
    def regressions(self) -> tuple[Effect, ...]:
        """The material regressions."""
        return tuple(effect for effect in self.effects if effect.kind == "regression")


class _Reason(msgspec.Struct, frozen=True):
    decision: Decision
    binding: str
    settle: str = ""


def decide(
    comparison: Comparison,
    objectives: Objectives,
    quality: Quality,
    *,
    material_pct: float = MATERIAL_PCT,
    tolerated_pct: float = TOLERATED_PCT,
) -> Verdict:
    """Return the verdict on a comparison by the service's objectives and the quality tolerance."""
    gates = judge(comparison, objectives, quality)
    effects = tuple(
        effect(row, material_pct)
        for name in (*LATENCIES, *BENEFITS)
        if (row := comparison.row(name)).change.pct_change is not None
    )
    warnings = (*guardrails(comparison, gates, objectives), *_watch(effects))
    reason = _gated(gates) or _weighed(comparison, effects, objectives, material_pct, tolerated_pct, warnings)
    return Verdict(
        decision=reason.decision,
        binding=reason.binding,
        on_point_values=not comparison.has_intervals,
        gates=gates,
        effects=effects,
        guardrails=warnings if reason.decision == "adopt with guardrails" else (),
        settle=reason.settle,
        score=score(comparison),
        material_pct=material_pct,
        tolerated_pct=tolerated_pct,
    )


def effect(row: Row, material_pct: float = MATERIAL_PCT) -> Effect:
    """Classify a row's change by where its interval lies against plus and minus the threshold."""
    change = row.change
    assert change.pct_change is not None
    ends = [change.low_pct, change.high_pct]
    sign = -1.0 if METRICS[row.name].better == "lower" else 1.0
    known = sorted(sign * end for end in ends if end is not None)
    point = sign * change.pct_change
    low, high = (known[0], known[1]) if len(known) == 2 else (point, point)
    return Effect(
        name=row.name,
        kind=_kind(low, high, material_pct),
        text=changed(row),
        improvement_pct=point,
        low_pct=low if known else None,
        high_pct=high if known else None,
    )


def score(comparison: Comparison) -> Score | None:
    """Return the weighted improvement; None when not even half of the weight can be compared."""
    parts = {}
    for name, weight in WEIGHTS.items():
        row = comparison.row(name)
        if row.change.pct_change is not None:
            parts[name] = (weight, effect(row).improvement_pct)
    total = sum(weight for weight, _ in parts.values())
    if total < 0.5:
        return None
    value = sum(weight * improvement for weight, improvement in parts.values()) / total
    return Score(value=value, weights={name: weight / total for name, (weight, _) in parts.items()})


def _kind(low: float, high: float, material_pct: float) -> Kind:
    if low >= material_pct:
        return "benefit"
    if high <= -material_pct:
        return "regression"
    up, down = high >= material_pct, low <= -material_pct
    if up and down:
        return "unclear"
    if up:
        return "perhaps a benefit"
    return "perhaps a regression" if down else "immaterial"


def _gated(gates: tuple[Gate, ...]) -> _Reason | None:
    """Return the verdict that the gates alone force: fail, then not measured, then unclear."""
    outcomes: tuple[tuple[str, Decision], ...] = (
        ("fail", "reject"),
        ("not measured", "hold"),
        ("unclear", "not enough evidence"),
    )
    for outcome, decision in outcomes:
        for gate in gates:
            if gate.outcome == outcome:
                return _Reason(decision, f"{gate.name}: {gate.text}", gate.settle)
    return None


def _weighed(
    comparison: Comparison,
    effects: tuple[Effect, ...],
    objectives: Objectives,
    material_pct: float,
    tolerated_pct: float,
    warnings: tuple[str, ...],
) -> _Reason:
    """Return the verdict once every gate has passed."""
    if (beyond := _beyond(comparison, effects, objectives, tolerated_pct)) is not None:
        return beyond
    useful = [effect for effect in effects if effect.name in BENEFITS]
    gains = [effect for effect in useful if effect.kind == "benefit"]
    if not gains:
        return _no_gain(comparison, useful, material_pct)
    best = max(gains, key=lambda effect: effect.improvement_pct)
    if worse := _worse(effects):
        return _Reason("adopt with guardrails", f"{best.text}, but {worse[0].text}")
    if warnings:
        return _Reason("adopt with guardrails", f"{best.text}. {warnings[0]}")
    return _Reason("adopt", f"{best.text}; nothing became materially worse")


def _worse(effects: tuple[Effect, ...]) -> list[Effect]:
    """Return the effects that are, or may be, material regressions."""
    return [effect for effect in effects if effect.kind in ("regression", "perhaps a regression", "unclear")]


def _watch(effects: tuple[Effect, ...]) -> list[str]:
    """Return a guardrail per regression; a slower median has one of its own."""
    own = {"p50_latency_ms"}
    return [
        f"{effect.text}: watch it after the rollout."
        for effect in _worse(effects)
        if effect.name not in own or effect.kind != "regression"
    ]


def _beyond(
    comparison: Comparison, effects: tuple[Effect, ...], objectives: Objectives, tolerated_pct: float
) -> _Reason | None:
    """Return hold, or not enough evidence, for a regression (perhaps) beyond what is tolerated."""
    for effect in effects:
        if effect.name in LATENCIES and objectives.p95_latency_ms is not None:
            continue  # The objective bounds p95, and p95 bounds p50; its gate has passed.
        least = effect.improvement_pct if effect.high_pct is None else effect.high_pct
        most = effect.improvement_pct if effect.low_pct is None else effect.low_pct
        if least < -tolerated_pct:
            return _Reason("hold", f"{effect.text}: beyond the {tolerated_pct:g} % that is tolerated")
        if most < -tolerated_pct and effect.improvement_pct < 0:
            text = f"{effect.text}: it may lie beyond the {tolerated_pct:g} % that is tolerated"
            return _Reason("not enough evidence", text, _settle(comparison, effect, -tolerated_pct))
    return None


def _no_gain(comparison: Comparison, useful: list[Effect], material_pct: float) -> _Reason:
    open_ones = [effect for effect in useful if effect.kind in ("perhaps a benefit", "unclear")]
    if open_ones:
        best = max(open_ones, key=lambda effect: effect.improvement_pct)
        text = f"{best.text}: the interval straddles the material threshold of {material_pct:g} %"
        return _Reason("not enough evidence", text, _settle(comparison, best, material_pct))
    if not useful:
        return _Reason("hold", "neither throughput, memory, cost nor energy can be compared")
    best = max(useful, key=lambda effect: effect.improvement_pct)
    return _Reason("hold", f"no material benefit (at least {material_pct:g} %): at best {best.text}")


def _settle(comparison: Comparison, effect: Effect, threshold_pct: float) -> str:
    """Return how many repeats would settle an effect against a threshold."""
    row = comparison.row(effect.name)
    repeats = min(row.baseline.n or 1, row.optimized.n or 1)
    value = Value(
        value=effect.improvement_pct,
        source="derived",
        note="",
        low=effect.low_pct,
        high=effect.high_pct,
        n=repeats,
    )
    return repeats_to_settle(value, threshold_pct)
