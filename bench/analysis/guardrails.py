"""Guardrails: what to watch or bound after adopting, each following from something that was seen."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.comparison import Comparison, Row
from bench.analysis.doubts import ONE_SATURATED_RUN
from bench.analysis.effects import BENEFITS, FROM_SATURATED_RUN, Effect, uncompared
from bench.analysis.findings import why
from bench.analysis.gate import Gate, Part
from bench.config import Objectives
from bench.units import PERCENT

NOISE_KL = 1e-4
"""Without a noise floor: mean KL of one model in BF16 against FP16 is about 2.5e-5 (llama.cpp)."""
NOISE_TOP1 = 0.995
"""The same pair agrees on 99.7 % of top tokens."""
MEDIAN = "p50_latency_ms"
ENERGY = "estimated_energy_kwh_per_1k_requests"
NEAR_LIMIT = 0.9
"""Latency or memory beyond this share of its limit leaves little room."""


def guardrails(
    comparison: Comparison, gates: Sequence[Gate], effects: Sequence[Effect], objectives: Objectives
) -> tuple[str, ...]:
    """Return the guardrails in the order of their weight; empty when nothing calls for one.

    Any of them keeps an adoption from being a plain one.
    """
    waived = {gate.name for gate in gates if gate.outcome == "waived"}
    # Who waives energy says that it is no criterion; what the outputs became stays unknown.
    no_criterion = ENERGY if "energy" in waived else None
    lacking = [row for row in uncompared(comparison) if row.name != no_criterion]
    found = [
        _assumed_quality(gates),
        _waived_quality(gates),
        _drift(gates),
        _allowed(comparison),
        _slower_median(comparison, effects),
        _near_objective(comparison, objectives),
        _near_memory(comparison),
        _point_values(comparison),
        _implausible(comparison),
        _one_saturated_run(comparison, effects),
        *(_uncompared(row) for row in lacking),
        *_watched(effects),
    ]
    return tuple(text for text in found if text)


def _assumed_quality(gates: Sequence[Gate]) -> str:
    if not any(gate.name == "quality" and gate.outcome == "assumed" for gate in gates):
        return ""
    return (
        "Output quality was assumed, not measured: check formatting, tone and factual accuracy on your own "
        "prompts before the rollout, and keep the baseline ready."
    )


def _waived_quality(gates: Sequence[Gate]) -> str:
    waived = [gate.text for gate in gates if gate.name == "quality" and gate.outcome == "waived"]
    if not waived:
        return ""
    return (
        f"Output quality was waived by name and is unknown ({waived[0]}): check it on your own prompts "
        "before the rollout, and keep the baseline ready."
    )


def _drift(gates: Sequence[Gate]) -> str:
    """Return what outputs call for that differ by more than rounding."""
    parts = {part.name: part for gate in gates if gate.name == "quality" for part in gate.parts}
    said = {"mean_kl": "mean KL {:.2g} nats", "top1_agreement": "same top token at {:.1%}"}
    said["output_edit_distance"] = "edit distance of the continued prompts {:.2g}"
    beyond = []
    for name, text in said.items():
        part = parts.get(name)
        if part is not None and part.value.value is not None and _beyond_rounding(part):
            beyond.append(text.format(part.value.value).replace("%", " %"))
    if not beyond:
        return ""
    return (
        f"Outputs drift within the tolerance ({', '.join(beyond)}): run quality regression checks on your "
        "own prompts."
    )


def _beyond_rounding(part: Part) -> bool:
    """Say whether a measure is further from no change than rounding takes it: the floor, and what is known.

    A floor may be exactly zero, where the baseline does the same sums again.
    """
    value, measured = part.value.value, part.floor is not None and part.floor.value is not None
    if value is None or (measured and part.within_floor):
        return False
    if part.name == "mean_kl":
        return value > NOISE_KL
    if part.name == "top1_agreement":
        return value < NOISE_TOP1
    return measured


def _allowed(comparison: Comparison) -> str:
    if not comparison.allowed:
        return ""
    return f"Measured under different circumstances ({'; '.join(comparison.allowed)}): measure again alike."


def _slower_median(comparison: Comparison, effects: Sequence[Effect]) -> str:
    """Return what bounds a median that is, or may be, materially slower."""
    slower = next((effect for effect in effects if effect.name == MEDIAN and effect.worse), None)
    if slower is None:
        return ""
    sure = slower.kind == "regression"
    text = f"p50 latency is {-slower.improvement_pct:.1f} % higher" if sure else slower.worsening
    if any(key.startswith("batching") for key in comparison.differences):
        return f"{text}: bound the batch's waiting time (max_wait_ms) and watch p50 when traffic is low."
    return f"{text}: watch it when traffic is low, and bound the waiting time of any batching."


def _near_objective(comparison: Comparison, objectives: Objectives) -> str:
    value, limit = comparison.row("p95_latency_ms").optimized, objectives.p95_latency_ms
    high = value.value if value.high is None else value.high
    if limit is None or high is None or high <= NEAR_LIMIT * limit:
        return ""
    return f"p95 latency reaches {high / limit * PERCENT:.0f} % of its objective: alert on it."


def _near_memory(comparison: Comparison) -> str:
    context, peak = comparison.optimized.context, comparison.row("peak_memory_gb").optimized.value
    if context is None or not context.memory_total_gb or peak is None:
        return ""
    share = peak / context.memory_total_gb
    if share <= NEAR_LIMIT:
        return ""
    return f"Peak memory fills {share * PERCENT:.0f} % of the GPU: bound batch size and context length."


def _point_values(comparison: Comparison) -> str:
    if comparison.has_intervals:
        return ""
    return "These are point values without intervals: roll out in steps (A/B) and compare again."


def _one_saturated_run(comparison: Comparison, effects: Sequence[Effect]) -> str:
    """Return what a benefit calls for that only the one saturated run of each system shows."""
    gains = [effect for effect in effects if effect.name in BENEFITS and effect.kind == "benefit"]
    once = [doubt.text for doubt in comparison.doubts if doubt.key == ONE_SATURATED_RUN]
    if not once or not gains or any(effect.name not in FROM_SATURATED_RUN for effect in gains):
        return ""
    what = " and ".join(effect.label for effect in gains)
    run = "search" if "search" in once[0] else "saturated run"
    return f"The only benefit ({what}) rests on one {run} per system: repeat the experiment."


def _uncompared(row: Row) -> str:
    return f"{row.label} was not compared ({why(row)}): measure it before relying on it."


def _watched(effects: Sequence[Effect]) -> list[str]:
    """Return a guardrail per regression, sure or possible; a slower median has one of its own."""
    worse = [effect for effect in effects if effect.worse and effect.name != MEDIAN]
    return [f"{effect.worsening}; watch it after the rollout." for effect in worse]


def _implausible(comparison: Comparison) -> str:
    if not any(doubt.key.startswith("implied") for doubt in comparison.doubts):
        return ""
    return "Cost or energy contradict throughput: rest the decision on ratios, and meter both in production."
