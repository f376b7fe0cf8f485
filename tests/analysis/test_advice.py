from __future__ import annotations

import msgspec
import pytest

from bench.analysis.decide import decide
from bench.config import Objectives
from tests.analysis.pairs import FASTER, judge, metrics, pair
from tests.recorded import LIMITS, OBJECTIVES

SLOW = (7000.0, 7001.0, 6999.0, 7000.0, 7000.0)


def test_an_adoption_says_what_to_roll_out() -> None:
    assert judge(FASTER).advice == "So: roll out optimized."
    slower = FASTER | {"p50_latency_ms": (440.0, 441.0, 439.0, 440.0, 440.0)}
    found = judge(slower)
    assert found.decision == "adopt with guardrails"
    assert found.advice == "So: roll out optimized in steps, within the guardrails."


def test_what_is_not_adopted_leaves_the_baseline() -> None:
    assert judge().advice == "So: keep baseline."
    open_one = judge({"throughput_requests_per_sec": (2.1,), "p95_latency_ms": (1100.0, 1300.0, 1200.0)})
    assert open_one.decision == "not enough evidence"
    assert open_one.advice == "So: keep baseline until that is settled."


def test_a_baseline_that_misses_the_objective_itself_is_no_refuge() -> None:
    slow = metrics("baseline", {"p95_latency_ms": SLOW})
    found = judge({"p95_latency_ms": tuple(3 * ms for ms in SLOW)}, baseline=slow)
    assert found.decision == "reject"
    assert found.advice == (
        "So: keep baseline, which misses the objective itself "
        "(p95 latency 7000 ms is 483 % above the 1200 ms): lower the load, or take a faster machine."
    )
    unbounded = msgspec.structs.replace(slow, p95_unbounded=True)
    assert "its p95 latency has no bound" in judge({"p95_latency_ms": SLOW}, baseline=unbounded).advice


@pytest.mark.parametrize("limit_ms", [None, 7000.5])
def test_a_baseline_that_does_not_surely_miss_the_objective_is_not_said_to(limit_ms: float | None) -> None:
    slow = metrics("baseline", {"p95_latency_ms": SLOW})
    found = judge({"p95_latency_ms": SLOW}, Objectives(p95_latency_ms=limit_ms), slow)
    assert "misses" not in found.advice


def test_several_changes_at_once_call_for_each_alone() -> None:
    settings = {"batching.kind": "dynamic", "precision.kind": "int8"}
    one = metrics("baseline")
    assert one.context is not None
    context = msgspec.structs.replace(one.context, settings=one.context.settings | settings)
    assert "add a system for each change alone" in judge(context=context).advice


def test_figures_that_do_not_count_change_nothing() -> None:
    comparison = pair(FASTER)
    assert comparison.optimized.client is not None
    client = msgspec.structs.replace(comparison.optimized.client, level="INVALID")
    side = msgspec.structs.replace(comparison.optimized, client=client)
    void = msgspec.structs.replace(comparison, optimized=side)
    assert decide(void, OBJECTIVES, LIMITS).advice == "So: change nothing on these figures."
