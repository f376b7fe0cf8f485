"""Pairs of systems for every reason that can bind in each verdict, told as stories and recorded as runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tests.run.recording import Story, record

Changes = dict[str, dict[str, Any]]

BASELINE = Story()
BETTER = Story(latency_s=0.36, rps=9.0, watts=240.0)
SCATTER = (1.0, 1.2, 0.85)
NO_P95: Changes = {"objectives": {}}
WAIVED: Changes = {"objectives": {"p95_latency_ms": 1200, "waive": ["quality", "energy"]}}


def but(story: Story, **changes: Any) -> Story:
    return msgspec.structs.replace(story, **changes)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Two systems, the verdict on them, and how the binding reason begins (or what it holds)."""

    decision: str
    binding: str
    baseline: Story | None = None
    optimized: Story = BETTER
    changes: Changes = {}
    allowed: tuple[str, ...] = ()
    guardrail: str = ""
    settle: str = ""


def recorded(tmp_path: Path, case: Case) -> Path:
    """Record a case; a baseline that it says nothing of has as many repeats as the other."""
    baseline = case.baseline or but(BASELINE, repeats=case.optimized.repeats)
    return record(tmp_path / "run", baseline, case.optimized, case.changes)


CASES = {
    "a benefit and nothing against it": Case(
        decision="adopt",
        binding="throughput rises by 50.0 %",
    ),
    "energy waived, which is no criterion then": Case(
        decision="adopt",
        binding="throughput rises by 50.0 %",
        baseline=but(BASELINE, watts=None),
        optimized=but(BETTER, watts=None, memory_gb=10.0),
        changes=WAIVED,
    ),
    "a regression within the tolerance": Case(
        decision="adopt with guardrails",
        binding="but p50 latency rises by 10.",
        optimized=but(BETTER, latency_s=0.44),
        guardrail="p50 latency is 10.",
    ),
    "a regression that is possible": Case(
        decision="adopt with guardrails",
        binding="but average memory may have become worse",
        optimized=but(BETTER, repeats=3, larger=(1.0, 1.04, 0.97)),
        guardrail="average memory may have become worse",
    ),
    "drift of the outputs within the tolerance": Case(
        decision="adopt with guardrails",
        binding="throughput rises by 50.0 %",
        optimized=but(BETTER, kl=2e-3, agree=0.98),
        guardrail="drift within the tolerance",
    ),
    "a p95 near its objective": Case(
        decision="adopt with guardrails",
        binding="throughput rises by 50.0 %",
        changes={"objectives": {"p95_latency_ms": 640}},
        guardrail="of its objective",
    ),
    "memory near the GPU's": Case(
        decision="adopt with guardrails",
        binding="throughput rises by 50.0 %",
        baseline=but(BASELINE, memory_gb=135.0),
        optimized=but(BETTER, memory_gb=135.0),
        guardrail="Peak memory fills 96 % of the GPU",
    ),
    "a benefit in one saturated run alone": Case(
        decision="adopt with guardrails",
        binding="throughput rises by 50.0 %",
        optimized=but(BETTER, watts=300.0),
        guardrail="rests on one saturated run per system",
    ),
    "a figure that could not be compared": Case(
        decision="adopt with guardrails",
        binding="throughput rises by 50.0 %",
        optimized=but(BETTER, memory_gb=None),
        guardrail="average memory was not compared",
    ),
    "a difference that was allowed": Case(
        decision="adopt with guardrails",
        binding="throughput rises by 50.0 %",
        optimized=but(BETTER, facts={"driver": "600"}),
        allowed=("driver",),
        guardrail="Measured under different circumstances (driver differs",
    ),
    "quality waived, which is unknown then": Case(
        decision="adopt with guardrails",
        binding="throughput rises by 50.0 %",
        baseline=but(BASELINE, quality_missing="the weights are random"),
        optimized=but(BETTER, quality_missing="the weights are random"),
        changes=WAIVED,
        guardrail="Output quality was waived by name and is unknown",
    ),
    "point values": Case(
        decision="adopt with guardrails",
        binding="throughput rises by 50.0 %",
        baseline=but(BASELINE, repeats=1),
        optimized=but(BETTER, repeats=1),
        changes={"protocol": {"repeats": 1}},
        guardrail="These are point values without intervals",
    ),
    "quality that was not measured": Case(
        decision="hold",
        binding="quality: ",
        baseline=but(BASELINE, quality_missing="the weights are random"),
        optimized=but(BETTER, quality_missing="the weights are random"),
    ),
    "energy that was not measured": Case(
        decision="hold",
        binding="energy: not measured: ",
        baseline=but(BASELINE, watts=None),
        optimized=but(BETTER, watts=None),
        settle='objectives.waive = ["energy"]',
    ),
    "quality and energy not measured, both named": Case(
        decision="hold",
        binding="; energy: not measured, either",
        baseline=but(BASELINE, watts=None, quality_missing="the weights are random"),
        optimized=but(BETTER, watts=None, quality_missing="the weights are random"),
    ),
    "a baseline of which nothing was completed": Case(
        decision="hold",
        binding="comparability: no run of baseline was completed",
        baseline=but(BASELINE, saturated_error="out of memory"),
    ),
    "repeats that somebody cancelled": Case(
        decision="not enough evidence",
        binding="optimized: the run is unfinished, 1 of 3 jobs have ended",
        settle="bench run --resume",
        optimized=but(BETTER, dead=(1, 2), ending="cancelled"),
    ),
    "a load that neither system carries": Case(
        decision="hold",
        binding="load: both systems saturate",
        baseline=but(BASELINE, rps=3.0, growing=2),
        optimized=but(BETTER, rps=3.5, growing=2),
    ),
    "a regression beyond the tolerance": Case(
        decision="hold",
        binding="average memory rises by 50.0 %",
        optimized=but(BETTER, memory_gb=30.0),
    ),
    "a slower median that no objective bounds": Case(
        decision="hold",
        binding="p50 latency rises by 50.",
        optimized=but(BETTER, latency_s=0.6),
        changes=NO_P95,
    ),
    "a tail without a bound that no objective bounds": Case(
        decision="hold",
        binding="p95 latency was not measured, and no objective bounds it",
        optimized=but(BETTER, failing=(12.0, 12.0)),
        changes={"objectives": {"max_error_rate": 0.5}},
    ),
    "no material benefit": Case(
        decision="hold",
        binding="no material benefit (at least 5 %)",
        optimized=BASELINE,
    ),
    "no benefit that can be compared": Case(
        decision="hold",
        binding="neither throughput, memory, cost nor energy can be compared",
        baseline=but(BASELINE, watts=None, memory_gb=None),
        optimized=but(BETTER, watts=None, memory_gb=None),
        changes=WAIVED | {"capacity": {"search": True}},
    ),
    "repeats that crashed": Case(
        decision="reject",
        binding="errors: 1 of 3 repeats failed, the first with: out of memory",
        optimized=but(BETTER, repeats=3, dead=(2,)),
    ),
    "a saturated run that crashed": Case(
        decision="reject",
        binding="errors: the saturated run failed: no kernel for sm_75",
        optimized=but(BETTER, saturated_error="no kernel for sm_75"),
    ),
    "too many errors": Case(
        decision="reject",
        binding="errors: error rate",
        optimized=but(BETTER, failing=(8.0, 8.0)),
    ),
    "a load that only the baseline carries": Case(
        decision="reject",
        binding="load: the optimized system cannot carry the common rate",
        optimized=but(BETTER, rps=3.5, growing=2),
    ),
    "a p95 beyond its objective": Case(
        decision="reject",
        binding="SLA: p95 latency",
        optimized=but(BETTER, latency_s=1.0),
    ),
    "a p95 without a bound": Case(
        decision="reject",
        binding="SLA: p95 latency has no bound",
        optimized=but(BETTER, failing=(12.0, 12.0)),
        changes={"objectives": {"max_error_rate": 0.5, "p95_latency_ms": 1200}},
    ),
    "outputs that drifted too far": Case(
        decision="reject",
        binding="quality: ",
        optimized=but(BETTER, kl=0.02, agree=0.9),
    ),
    "a failure, also where energy was not measured": Case(
        decision="reject",
        binding="SLA: p95 latency",
        baseline=but(BASELINE, watts=None),
        optimized=but(BETTER, watts=None, latency_s=1.0),
    ),
    "a client that did not send as asked": Case(
        decision="not enough evidence",
        binding="the client is INVALID",
        optimized=but(BETTER, late_s=0.2, latency_s=1.0),
    ),
    "an error rate on both sides of its limit": Case(
        decision="not enough evidence",
        binding="errors: error rate",
        optimized=but(BETTER, failing=(0.0, 3.0)),
        settle="repeats instead of",
    ),
    "a queue that grew in some repeats": Case(
        decision="not enough evidence",
        binding="load: optimized: the queue grew through the window in 1 of 3 repeats",
        optimized=but(BETTER, repeats=3, growing=1),
        changes=NO_P95,
        settle="lower the load",
    ),
    "a p95 on both sides of its objective": Case(
        decision="not enough evidence",
        binding="SLA: p95 latency",
        optimized=but(BETTER, latency_s=0.7, repeats=3, slower=SCATTER),
        settle="repeats instead of 3 would settle it",
    ),
    "a p95 that such windows do not resolve": Case(
        decision="not enough evidence",
        binding="not resolved: at 93% of the saturated throughput a window holds",
        baseline=but(BASELINE, scattered=True),
        optimized=but(BETTER, rps=4.3, scattered=True),
        settle="set window_s = ",
    ),
    "a median that such windows do not resolve and no objective bounds": Case(
        decision="not enough evidence",
        binding="(not resolved): it may lie beyond the 20 %",
        baseline=but(BASELINE, rps=4.2, scattered=True),
        optimized=but(BETTER, rps=6.0, scattered=True),
        changes=NO_P95,
        settle="set window_s = ",
    ),
    "a p95 that is not resolved, and far beyond its objective all the same": Case(
        decision="reject",
        binding="and it is far beyond",
        baseline=but(BASELINE, scattered=True),
        optimized=but(BETTER, rps=4.3, latency_s=2.5, scattered=True),
    ),
    "a drift on both sides of its limit": Case(
        decision="not enough evidence",
        binding="quality: ",
        optimized=but(BETTER, kl=(0.001, 0.009, 0.002, 0.007, 0.001, 0.006, 0.002, 0.005, 0.001, 0.006)),
        settle="held-out text",
    ),
    "a regression that may lie beyond the tolerance": Case(
        decision="not enough evidence",
        binding="it may lie beyond the 20 % of worsening that is tolerated",
        optimized=but(BETTER, memory_gb=21.0, repeats=3, larger=SCATTER),
        settle="repeats instead of",
    ),
    "a benefit on both sides of what is material": Case(
        decision="not enough evidence",
        binding="the interval straddles the material threshold of 5 %",
        optimized=but(BASELINE, memory_gb=18.6, repeats=3, larger=(1.0, 1.03, 0.98)),
        settle="repeats instead of",
    ),
}
