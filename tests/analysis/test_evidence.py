"""How far the verdict trusts its figures: intervals, point values, one saturated run, missing rows."""

from __future__ import annotations

import pytest

from bench.analysis.compare import compare
from bench.analysis.decide import decide
from bench.analysis.gate import ON_THRESHOLD
from bench.config import Objectives
from tests.analysis.pairs import FASTER, Change, judge, metrics, pair
from tests.analysis.sides import side
from tests.recorded import ASSUMED, LIMITS, OBJECTIVES

CAPACITY: dict[str, Change] = {
    "throughput_requests_per_sec": (3.0,),
    "cost_per_1k_requests_usd": (0.333,),
}
ENERGY = "estimated_energy_kwh_per_1k_requests"


def test_a_benefit_that_only_one_saturated_run_shows_is_never_adopted_plainly() -> None:
    verdict = judge(CAPACITY)
    assert verdict.decision == "adopt with guardrails"
    (guardrail,) = verdict.guardrails
    assert guardrail.startswith("The only benefit (throughput and cost per 1k) rests on one saturated run")
    assert judge(FASTER).decision == "adopt", "the repeats show a benefit in energy, too"


def test_that_capacity_was_measured_once_is_said_once_for_both() -> None:
    texts = [doubt.text for doubt in pair().doubts if doubt.key == "one saturated run"]
    assert len(texts) == 1
    assert texts[0].startswith("both: throughput and cost rest on one saturated run each")


def test_a_throughput_on_its_threshold_asks_for_longer_saturated_runs_and_not_for_repeats() -> None:
    flat: dict[str, Change] = {"throughput_requests_per_sec": (2.0, 2.02, 1.98, 2.0, 2.01)}
    verdict = judge(
        {"throughput_requests_per_sec": (2.0, 2.2, 2.4, 2.1, 2.3)}, baseline=metrics("baseline", flat)
    )
    assert verdict.decision == "not enough evidence"
    assert verdict.binding.startswith("throughput rises by")
    assert verdict.settle.startswith("protocol.offline_s about 3.")
    assert "times as long would settle it" in verdict.settle
    on_it = judge(
        {"throughput_requests_per_sec": (2.0, 2.2, 2.1, 2.1, 2.1)}, baseline=metrics("baseline", flat)
    )
    assert on_it.settle == ON_THRESHOLD


@pytest.mark.parametrize("name", ["p95_latency_ms", "average_memory_gb", ENERGY])
def test_one_repeat_is_judged_on_point_values_although_throughput_has_an_interval(name: str) -> None:
    capacity: dict[str, Change] = {"throughput_requests_per_sec": (2.0, 2.0, 2.0)}
    once: dict[str, Change] = {"p95_latency_ms": (900.0,), "average_memory_gb": (15.0,), ENERGY: (0.02,)}
    verdict = judge(capacity | {name: once[name]}, baseline=metrics("baseline", capacity))
    assert verdict.on_point_values
    assert any("point values" in text for text in verdict.guardrails) or verdict.decision != "adopt"


def test_a_decisive_figure_that_is_missing_does_not_make_the_others_point_values() -> None:
    assert not judge(FASTER | {"average_memory_gb": "GPU lost"}).on_point_values


@pytest.mark.parametrize("name", ["average_memory_gb", "cost_per_1k_requests_usd", "p50_latency_ms"])
def test_a_figure_that_could_not_be_compared_is_named_as_a_guardrail(name: str) -> None:
    verdict = judge(FASTER | {name: "the meter failed"})
    assert verdict.decision == "adopt with guardrails"
    assert any("was not compared (optimized: the meter failed)" in text for text in verdict.guardrails)
    of_baseline = judge(FASTER, baseline=metrics("baseline", {name: "the meter failed"}))
    assert any("was not compared (baseline: the meter failed)" in text for text in of_baseline.guardrails)


def test_without_another_benefit_the_missing_one_is_named_with_the_hold() -> None:
    verdict = judge({"average_memory_gb": "the meter failed"})
    assert verdict.decision == "hold"
    assert verdict.binding.endswith("average memory was not compared (optimized: the meter failed)")


def test_a_latency_that_was_not_measured_and_that_nothing_bounds_is_held() -> None:
    comparison = pair(FASTER | {"p95_latency_ms": "the clock jumped"})
    verdict = decide(comparison, Objectives(), LIMITS)
    assert verdict.decision == "hold"
    expected = "p95 latency was not measured, and no objective bounds it: the clock jumped"
    assert verdict.binding == expected


def test_an_interval_that_reaches_beyond_the_tolerance_is_not_enough_wherever_its_middle_lies() -> None:
    # Energy falls by 2 % on the mean, but the interval allows a rise of more than 20 %.
    changes: dict[str, Change] = {"average_memory_gb": (15.0, 15.0, 15.0), ENERGY: (0.0255, 0.0294, 0.0333)}
    verdict = judge(changes)
    assert verdict.decision == "not enough evidence"
    assert verdict.binding.startswith("energy per 1k falls by 2.0 %")
    assert "may lie beyond the 20 %" in verdict.binding
    assert verdict.settle.startswith("about ")


def test_noise_inside_the_tolerance_does_not_stand_in_the_way_of_an_adoption() -> None:
    changes: dict[str, Change] = {"average_memory_gb": (15.0, 15.0, 15.0), ENERGY: (0.0285, 0.030, 0.0312)}
    verdict = judge(changes)
    assert verdict.decision == "adopt with guardrails"
    assert "but energy per 1k may have become worse: it falls by 0.3 % (95 % interval" in verdict.binding
    assert verdict.guardrails[-1].startswith("energy per 1k may have become worse: it falls by 0.3 %")


def test_a_regression_surely_beyond_the_tolerance_comes_before_one_that_may_be() -> None:
    changes = FASTER | {"p50_latency_ms": (380.0, 460.0, 540.0), "average_memory_gb": (30.0, 30.0, 30.1)}
    assert judge(changes, Objectives()).decision == "hold"


def test_a_significant_but_immaterial_slower_median_does_not_demote_an_adoption() -> None:
    verdict = judge(FASTER | {"p50_latency_ms": (408.0, 408.1, 407.9, 408.0, 408.0)})
    assert verdict.decision == "adopt"
    assert verdict.guardrails == ()


@pytest.mark.parametrize("p50_ms", [(440.0, 441.0, 439.0), (410.0, 415.0, 420.0), (380.0, 410.0, 440.0)])
def test_a_median_that_is_or_may_be_slower_has_one_guardrail(p50_ms: Change) -> None:
    verdict = judge(FASTER | {"p50_latency_ms": p50_ms})
    assert len([text for text in verdict.guardrails if text.startswith("p50 latency")]) == 1
    assert len(set(verdict.guardrails)) == len(verdict.guardrails)


def test_every_guardrail_stands_once_and_the_verdict_repeats_the_first() -> None:
    verdict = judge(FASTER | {"p95_latency_ms": (1150.0, 1150.0, 1150.0)}, OBJECTIVES)
    assert len(set(verdict.guardrails)) == len(verdict.guardrails)
    assert verdict.decision == "adopt with guardrails"


def test_a_csv_with_any_quality_row_could_have_measured_it() -> None:
    perplexity: dict[str, float | None] = {"perplexity": 7.4}
    verdict = decide(compare(side("a", perplexity), side("b", perplexity), ASSUMED), OBJECTIVES, LIMITS)
    gate = next(gate for gate in verdict.gates if gate.name == "quality")
    assert gate.outcome == "not measured"
    bare = decide(compare(side("a"), side("b"), ASSUMED), OBJECTIVES, LIMITS)
    assert next(gate for gate in bare.gates if gate.name == "quality").outcome == "assumed"
