"""When more repeats can no longer change a verdict, and what is named where they cannot help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bench.analysis.decide import decide
from bench.analysis.settled import Standing, standing
from bench.analysis.system import Fault, Validity
from bench.config import Objectives
from tests.analysis.pairs import FASTER, Change, metrics, pair
from tests.recorded import LIMITS, OBJECTIVES

ENERGY, MEMORY, P95, P50 = (
    "estimated_energy_kwh_per_1k_requests",
    "average_memory_gb",
    "p95_latency_ms",
    "p50_latency_ms",
)
LESS_ENERGY: dict[str, Change] = {ENERGY: (0.02, 0.0201, 0.0199, 0.02, 0.02)}


def stands(
    changes: Mapping[str, Change], objectives: Objectives = OBJECTIVES, **fields: Any
) -> tuple[str, Standing]:
    comparison = pair(changes, **fields)
    verdict = decide(comparison, objectives, LIMITS)
    return verdict.decision, standing(comparison, verdict, objectives)


def names(found: Standing) -> list[str]:
    return [item.name for item in found.open]


def test_a_pair_whose_every_interval_is_narrow_is_settled() -> None:
    decision, found = stands(LESS_ENERGY)
    assert decision == "adopt"
    assert found.settled
    assert found.in_words == "adopt, settled"


def test_no_change_at_all_is_settled_as_a_hold() -> None:
    decision, found = stands({})
    assert decision == "hold"
    assert found.settled


def test_a_benefit_on_both_sides_of_the_threshold_keeps_it_running_and_says_how_much_more() -> None:
    decision, found = stands({ENERGY: (0.024, 0.030, 0.027, 0.025, 0.029)})
    assert decision == "not enough evidence"
    assert names(found) == [ENERGY]
    assert "on both sides of +5 %" in found.open[0].text
    assert "repeats instead of 5" in found.open[0].needs


def test_a_benefit_still_open_beside_a_sure_one_keeps_it_running() -> None:
    decision, found = stands(LESS_ENERGY | {MEMORY: (18.0, 20.0, 19.5, 18.2, 20.2)})
    assert decision.startswith("adopt")
    assert MEMORY in names(found)


def test_a_p95_around_its_objective_keeps_it_running() -> None:
    decision, found = stands(LESS_ENERGY | {P95: (1080.0, 1260.0, 1120.0, 1100.0, 1200.0)})
    assert decision == "not enough evidence"
    assert "SLA" in names(found)
    assert "repeats instead of 5" in found.open[0].needs


def test_a_failed_gate_settles_it_whatever_else_is_open() -> None:
    decision, found = stands({P95: (1900.0, 1901.0, 1899.0, 1900.0, 1900.0), ENERGY: (0.024, 0.03, 0.027)})
    assert decision == "reject"
    assert found.settled


def test_what_was_not_measured_holds_for_good_once_no_gate_is_open() -> None:
    decision, found = stands({ENERGY: "no power meter", MEMORY: (18.0, 20.0, 19.5, 18.2, 20.2)})
    assert decision == "hold"
    assert found.settled
    assert [item.name for item in found.beyond] == ["energy"]
    _, still = stands({ENERGY: "no power meter", P95: (1080.0, 1260.0, 1120.0, 1100.0, 1200.0)})
    assert names(still) == ["SLA"]


def test_a_regression_beyond_the_tolerance_settles_it_as_a_hold() -> None:
    decision, found = stands({MEMORY: (30.0, 30.1, 29.9, 30.0, 30.0), ENERGY: (0.024, 0.03, 0.027)})
    assert decision == "hold"
    assert found.settled


def test_a_regression_that_may_lie_beyond_the_tolerance_keeps_it_running() -> None:
    decision, found = stands({MEMORY: (22.0, 26.0, 23.0, 25.0, 24.0)})
    assert decision == "not enough evidence"
    assert names(found) == [MEMORY]
    assert "20 % of worsening" in found.open[0].text


def test_throughput_on_the_threshold_is_named_and_not_waited_for() -> None:
    name = "throughput_requests_per_sec"
    old = metrics("baseline", {name: (2.0, 2.01, 1.99, 2.0, 2.0)})
    decision, found = stands({name: (2.0, 2.2, 2.1, 2.3, 2.05)}, baseline=old)
    assert decision == "not enough evidence"
    assert found.settled
    assert [item.name for item in found.beyond] == ["throughput_requests_per_sec"]
    assert "Not for repeats to settle" in found.in_words


def test_a_regression_that_is_possible_and_tolerable_is_a_guardrail_and_not_waited_for() -> None:
    decision, found = stands(LESS_ENERGY | {P50: (400.0, 430.0, 410.0, 420.0, 405.0)})
    assert decision == "adopt with guardrails"
    assert found.settled


def test_an_invalid_client_is_not_mended_by_more_repeats() -> None:
    fault = Fault(level="INVALID", text="lag: 9 ms", remedy="quiet the machine")
    decision, found = stands(FASTER, client=Validity(level="INVALID", faults=(fault,)))
    assert decision == "not enough evidence"
    assert found.ends
    assert not found.settled
    assert found.in_words.startswith("stopped: the client is INVALID")
    assert found.in_words.endswith("(quiet the machine)")


@pytest.mark.parametrize("objective", [None, 1200.0])
def test_without_an_objective_the_latencies_must_be_within_the_tolerance(objective: float | None) -> None:
    objectives = Objectives(p95_latency_ms=objective)
    _, found = stands({P95: (1000.0, 1180.0, 1050.0, 1100.0, 1230.0), **LESS_ENERGY}, objectives)
    assert (P95 in [i.name for i in found.open if "20 % of worsening" in i.text]) == (objective is None)
