"""Guardrails: what to watch or bound after adopting, each following from something that was seen."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.comparison import Comparison
from bench.analysis.gates import Gate
from bench.config import Objectives
from bench.units import PERCENT

NOISE_KL = 1e-4
"""Mean KL of one model in BF16 against FP16 is about 2.5e-5 (llama.cpp); well above it is drift."""
NOISE_TOP1 = 0.995
"""The same pair agrees on 99.7 % of top tokens."""
NEAR_LIMIT = 0.9
"""Latency or memory beyond this share of its limit leaves little room."""


def guardrails(comparison: Comparison, gates: Sequence[Gate], objectives: Objectives) -> tuple[str, ...]:
    """Return the guardrails in the order of their weight; empty when nothing calls for one."""
    found = [
        _assumed_quality(gates),
        _drift(comparison),
        _allowed(comparison),
        _slower_median(comparison),
        _near_objective(comparison, objectives),
        _near_memory(comparison),
        _point_values(comparison),
        _implausible(comparison),
    ]
    return tuple(text for text in found if text)


def _assumed_quality(gates: Sequence[Gate]) -> str:
    if not any(gate.name == "quality" and gate.outcome == "assumed" for gate in gates):
        return ""
    return (
        "Output quality was assumed, not measured: check formatting, tone and factual accuracy on your own "
        "prompts before the rollout, and keep the baseline ready."
    )


def _drift(comparison: Comparison) -> str:
    kl, agree = comparison.row("mean_kl").optimized.value, comparison.row("top1_agreement").optimized.value
    if kl is None or agree is None or (kl <= NOISE_KL and agree >= NOISE_TOP1):
        return ""
    return (
        f"Outputs drift within the tolerance (mean KL {kl:.2g} nats, same top token at "
        f"{agree * PERCENT:.1f} %): run quality regression checks on your own prompts."
    )


def _allowed(comparison: Comparison) -> str:
    if not comparison.allowed:
        return ""
    return f"Measured under different circumstances ({'; '.join(comparison.allowed)}): measure again alike."


def _slower_median(comparison: Comparison) -> str:
    row = comparison.row("p50_latency_ms")
    if row.change.direction != "worse" or row.change.pct_change is None:
        return ""
    text = f"p50 latency is {row.change.pct_change:.1f} % higher"
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


def _implausible(comparison: Comparison) -> str:
    if not any(doubt.key.startswith("implied") for doubt in comparison.doubts):
        return ""
    return "Cost or energy contradict throughput: rest the decision on ratios, and meter both in production."
