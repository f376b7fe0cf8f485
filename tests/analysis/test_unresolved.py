"""A figure that is not resolved is never judged by its value: it passes nothing, and is no benefit."""

from __future__ import annotations

import msgspec
import pytest

from bench.analysis.compare import compare
from bench.analysis.decide import Verdict, decide
from bench.config import Objectives
from bench.records import Value
from tests.analysis.pairs import FASTER, Change, metrics
from tests.recorded import ASSUMED, LIMITS, OBJECTIVES

LONGER = "set window_s = 200 under [protocol]"
WHY = "the queue remembers 40 s, and a window has 60 s"
P50, P95, MEMORY = "p50_latency_ms", "p95_latency_ms", "average_memory_gb"


def unresolved(figure: float, repeats: tuple[float, ...] = ()) -> Value:
    table = {i + 1: value for i, value in enumerate(repeats)} or None
    return Value(value=figure, source="measured", note="", unresolved=WHY, repeats=table)


def judged(
    figures: dict[str, Value],
    changes: dict[str, Change] | None = None,
    objectives: Objectives = OBJECTIVES,
) -> Verdict:
    optimized = metrics("optimized", FASTER if changes is None else changes)
    optimized = msgspec.structs.replace(optimized, values=optimized.values | figures)
    return decide(compare(metrics("baseline"), optimized, ASSUMED, objectives), objectives, LIMITS)


def test_a_p95_well_within_the_objective_does_not_pass() -> None:
    verdict = judged({P95: unresolved(600.0)})
    assert verdict.decision == "not enough evidence"
    assert verdict.binding == f"SLA: p95 latency 600 ms against at most 1200 ms; not resolved: {WHY}"
    assert verdict.settle == LONGER
    assert not verdict.on_point_values


@pytest.mark.parametrize(
    ("value", "decision"),
    [
        (unresolved(1300.0), "not enough evidence"),
        (unresolved(2000.0, (2100.0, 1900.0, 2000.0)), "reject"),
        (unresolved(2000.0, (1100.0, 2900.0, 2000.0)), "not enough evidence"),
    ],
)
def test_it_fails_only_far_beyond_and_in_every_repeat(value: Value, decision: str) -> None:
    assert judged({P95: value}).decision == decision


def test_a_median_that_p95_bounds_asks_for_a_guardrail_whatever_its_value() -> None:
    verdict = judged({P50: unresolved(300.0)})
    assert verdict.decision == "adopt with guardrails"
    assert "p50 latency may have become worse: it falls by 25.0 % (not resolved)" in verdict.binding


def test_a_median_that_nothing_bounds_may_lie_anywhere() -> None:
    slow = judged({P50: unresolved(4000.0)}, objectives=Objectives())
    assert slow.decision == "not enough evidence", "its value alone would be a regression"
    assert "may lie beyond the 20 %" in slow.binding
    assert slow.binding.endswith(WHY)
    assert slow.settle == LONGER


def test_it_is_no_benefit_and_no_part_of_the_score() -> None:
    verdict = judged({MEMORY: unresolved(2.0)}, {})
    assert verdict.decision == "not enough evidence"
    (effect,) = [effect for effect in verdict.effects if effect.name == MEMORY]
    assert effect.kind == "unclear"
    assert verdict.score is not None
    assert MEMORY not in verdict.score.weights


def test_what_was_expected_of_it_is_inconclusive() -> None:
    (found,) = [item for item in judged({MEMORY: unresolved(2.0)}).expectations if item.name == MEMORY]
    assert found.fate == "inconclusive"
    assert found.text == f"average memory falls by 90.0 % (not resolved): {WHY}"
