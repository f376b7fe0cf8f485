"""What a verdict asks for, in one sentence: what to roll out or to keep, and what to do next.

It says what the verdict's reason does not: that the baseline misses the objective as well, so that keeping it
solves nothing, and that several changes at once call for a measurement of each alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.comparison import Comparison
from bench.analysis.findings import against
from bench.analysis.gate import Gate, at_most
from bench.analysis.numbers import shown
from bench.config import Objectives

KEEP = {
    "hold": "keep {}",
    "reject": "keep {}",
    "not enough evidence": "keep {} until that is settled",
}
"""What becomes of the baseline where the verdict is not to adopt."""
EACH_ALONE = "add a system for each change alone, as configs/factorial.toml has them, and bench run that"


def advice(
    comparison: Comparison, decision: str, objectives: Objectives, unsound: Sequence[Gate] = ()
) -> str:
    """Return what to do, as a sentence after `So:`; `unsound` are the gates by which no figure counts."""
    baseline, optimized = comparison.baseline.name, comparison.optimized.name
    if unsound:
        return "So: change nothing on these figures."
    if decision == "adopt":
        return f"So: roll out {optimized}."
    if decision == "adopt with guardrails":
        return f"So: roll out {optimized} in steps, within the guardrails."
    parts = [KEEP[decision].format(baseline)]
    if miss := misses(comparison, objectives):
        parts[0] += f", which misses the objective itself ({miss}): lower the load, or take a faster machine"
    if any(doubt.key == "confounded" for doubt in comparison.doubts):
        parts.append(f"to see which change does what, {EACH_ALONE}")
    return f"So: {'; '.join(parts)}."


def misses(comparison: Comparison, objectives: Objectives) -> str:
    """Return by how much the baseline misses the latency objective; empty where it holds, or nobody knows."""
    limit, side = objectives.p95_latency_ms, comparison.baseline
    if limit is None:
        return ""
    value = comparison.row("p95_latency_ms").baseline
    if side.saturated or side.p95_unbounded:
        return f"its p95 latency has no bound: {value.note}"
    if value.value is None or at_most("SLA", value, limit, "").outcome != "fail":
        return ""
    return f"p95 latency {shown(value.value)} ms is {against(value.value, limit)} the {limit:g} ms"
