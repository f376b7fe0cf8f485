"""Every branch of the verdict is reached by a pair of systems whose figures call for it."""

from __future__ import annotations

import msgspec
import pytest

from bench.analysis.compare import compare
from bench.analysis.csvfile import parse, render
from bench.analysis.decide import WEIGHTS, decide
from bench.analysis.metric_set import metric_set
from bench.analysis.metrics import METRICS
from bench.analysis.system import Fault, Validity
from bench.config import Objectives, Quality
from tests.analysis.pairs import FASTER, Change, judge, metrics, pair
from tests.recorded import ASSUMED, LIMITS, OBJECTIVES, quality, system_runs


def test_a_benefit_without_any_regression_or_drift_is_adopted() -> None:
    verdict = judge(FASTER)
    assert verdict.decision == "adopt"
    assert verdict.binding.startswith("throughput rises by 50.0 %")
    assert verdict.guardrails == ()
    assert not verdict.on_point_values


def test_a_pair_without_any_change_is_held_and_told_as_such() -> None:
    verdict = judge()
    assert verdict.decision == "hold"
    assert verdict.binding.endswith("at best throughput is unchanged")


def test_a_benefit_with_a_tolerated_regression_is_adopted_with_guardrails() -> None:
    verdict = judge(FASTER | {"p50_latency_ms": (440.0, 441.0, 439.0, 440.0, 440.0)})
    assert verdict.decision == "adopt with guardrails"
    assert "but p50 latency rises by 10.0 %" in verdict.binding
    assert verdict.guardrails[0].startswith("p50 latency is 10.0 % higher")
    assert [effect.name for effect in verdict.effects if effect.kind == "regression"] == ["p50_latency_ms"]


def test_a_regression_of_any_metric_becomes_a_guardrail() -> None:
    verdict = judge(FASTER | {"average_memory_gb": (22.0, 22.0, 22.1)})
    assert verdict.decision == "adopt with guardrails"
    assert verdict.guardrails == (
        "average memory rises by 10.2 % (95 % interval +9.5 to +10.9 %); watch it after the rollout.",
    )


def test_drift_inside_its_tolerance_is_a_guardrail() -> None:
    verdict = judge(FASTER | {"mean_kl": (2e-3,), "top1_agreement": (0.98,)})
    assert verdict.decision == "adopt with guardrails"
    assert verdict.guardrails[0].startswith("Outputs drift within the tolerance (mean KL 0.002 nats")


def test_a_p95_close_to_its_objective_is_a_guardrail() -> None:
    verdict = judge(FASTER | {"p95_latency_ms": (1150.0, 1150.0, 1150.0)})
    assert verdict.decision == "adopt with guardrails"
    assert any("96 % of its objective" in guardrail for guardrail in verdict.guardrails)


def test_memory_close_to_the_gpus_is_a_guardrail() -> None:
    verdict = judge(FASTER | {"peak_memory_gb": (135.0, 135.0)})
    assert any("Peak memory fills 96 % of the GPU" in guardrail for guardrail in verdict.guardrails)


def test_no_material_benefit_is_held() -> None:
    verdict = judge()
    assert verdict.decision == "hold"
    assert verdict.binding.startswith("no material benefit (at least 5 %)")


def test_energy_that_was_not_measured_is_held_and_named() -> None:
    verdict = judge(FASTER | {"estimated_energy_kwh_per_1k_requests": "no GPU here"})
    assert verdict.decision == "hold"
    assert verdict.binding == "energy: not measured: no GPU here"


def test_quality_that_could_have_been_measured_and_was_not_is_held() -> None:
    verdict = judge(FASTER | {"mean_kl": "weights are random"})
    assert verdict.decision == "hold"
    assert verdict.binding == "quality: output quality was not measured: weights are random"


def test_each_gate_that_holds_has_its_own_remedy() -> None:
    energy = "estimated_energy_kwh_per_1k_requests"
    comparison = pair(FASTER | {"mean_kl": "not asked for: quality.tokens = 0", energy: "no GPU here"})
    verdict = decide(comparison, OBJECTIVES, msgspec.structs.replace(LIMITS, tokens=0))
    first, second = verdict.settle.split("; ")
    assert first.startswith("quality: set quality.tokens, or waive it by name")
    assert second.startswith("energy: measure where energy can be read")


def test_a_csv_that_says_that_quality_was_not_measured_is_held_and_not_assumed() -> None:
    one = parse(render(metrics("baseline").values, "baseline"), "b.csv")
    changed = metrics("optimized", FASTER | {"mean_kl": "weights are random"})
    two = parse(render(changed.values, "optimized"), "o.csv")
    verdict = decide(compare(one, two, ASSUMED), OBJECTIVES, LIMITS)
    assert verdict.decision == "hold"
    assert "weights are random" in verdict.binding


@pytest.mark.parametrize(
    ("changes", "binding"),
    [
        ({"error_rate": (0.05, 0.05, 0.05)}, "errors: error rate 5 % against at most 1 %"),
        ({"p95_latency_ms": (1300.0, 1301.0, 1299.0)}, "SLA: p95 latency 1300 ms"),
        ({"mean_kl": (0.02,)}, "quality: mean KL 0.02 nats (at most 0.005)"),
        ({"top1_agreement": (0.9,)}, "quality: top-1 agreement 0.9000 (at least 0.97)"),
        ({"perplexity": (7.6,)}, "quality: perplexity ratio 1.0285 (at most 1.01)"),
    ],
)
def test_a_failed_gate_rejects_whatever_the_benefits(changes: dict[str, Change], binding: str) -> None:
    verdict = judge(FASTER | changes)
    assert verdict.decision == "reject"
    assert verdict.binding.startswith(binding)


def test_a_failed_gate_rejects_even_when_energy_was_not_measured() -> None:
    changes = FASTER | {"error_rate": (0.05, 0.05), "estimated_energy_kwh_per_1k_requests": "no GPU"}
    assert judge(changes).decision == "reject"


def test_a_system_that_cannot_carry_the_common_rate_is_rejected() -> None:
    verdict = judge(FASTER | {"p95_latency_ms": "saturated"}, saturated=True)
    assert verdict.decision == "reject"
    assert verdict.binding.startswith("load: the optimized system cannot carry")


def test_when_both_systems_saturate_nothing_can_be_judged() -> None:
    verdict = judge(FASTER, baseline=metrics("baseline", saturated=True), saturated=True)
    assert verdict.decision == "hold"
    assert "lower the load" in verdict.binding


def test_a_p95_that_is_not_known_is_held() -> None:
    verdict = judge(FASTER | {"p95_latency_ms": "no repeat was completed"})
    assert verdict.decision == "hold"
    assert verdict.binding == "SLA: p95 latency is not known: no repeat was completed"


def test_an_objective_inside_the_p95_interval_is_not_enough_evidence_and_says_how_much_more() -> None:
    verdict = judge(FASTER | {"p95_latency_ms": (1100.0, 1150.0, 1250.0)})
    assert verdict.decision == "not enough evidence"
    assert verdict.binding.startswith("SLA: p95 latency 1167 ms (95 % interval 991.6 to 1373)")
    # On the logarithm: a deviation of 0.0655 against a distance of 0.0282.
    assert verdict.settle == "about 24 repeats instead of 3 would settle it"


def test_a_p95_on_its_objective_cannot_be_settled() -> None:
    verdict = judge(FASTER | {"p95_latency_ms": (1190.0, 1200.0, 1210.0)})
    assert verdict.settle.startswith("the figure lies on its threshold")


def test_the_upper_end_of_the_interval_counts_against_the_objective() -> None:
    verdict = judge(FASTER | {"p95_latency_ms": (1150.0, 1160.0, 1210.0)})
    assert verdict.decision == "not enough evidence", "the mean of 1173 ms alone would pass"


def test_a_quality_interval_over_its_limit_asks_for_more_text() -> None:
    verdict = judge(FASTER | {"mean_kl": (0.0035, 0.0045, 0.004)})
    assert verdict.decision == "not enough evidence"
    assert "held-out text" in verdict.settle


def test_a_benefit_whose_interval_straddles_the_threshold_is_not_enough_evidence() -> None:
    verdict = judge({"average_memory_gb": (17.0, 18.5, 20.0)})
    assert verdict.decision == "not enough evidence"
    assert "straddles the material threshold of 5 %" in verdict.binding
    assert "repeats" in verdict.settle


def test_a_regression_beyond_the_tolerance_is_held() -> None:
    verdict = judge(FASTER | {"average_memory_gb": (30.0, 30.0, 30.1)})
    assert verdict.decision == "hold"
    assert "beyond the 20 % that is tolerated" in verdict.binding


def test_a_regression_that_may_lie_beyond_the_tolerance_is_not_enough_evidence() -> None:
    verdict = judge(FASTER | {"average_memory_gb": (21.0, 23.0, 25.0)})
    assert verdict.decision == "not enough evidence"
    assert "may lie beyond" in verdict.binding


def test_a_slower_latency_is_tolerated_only_as_far_as_an_objective_bounds_it() -> None:
    slower = FASTER | {"p50_latency_ms": (600.0, 601.0, 599.0)}
    assert judge(slower).decision == "adopt with guardrails"
    assert judge(slower, Objectives()).decision == "hold"


def test_an_allowed_difference_is_a_guardrail() -> None:
    baseline, optimized = metrics("baseline"), metrics("optimized", FASTER)
    assert optimized.context is not None
    other = optimized.context.checked | {"driver": "600"}
    optimized = msgspec.structs.replace(
        optimized, context=msgspec.structs.replace(optimized.context, checked=other)
    )
    comparison = compare(baseline, optimized, ASSUMED, allow_different=["driver"])
    verdict = decide(comparison, OBJECTIVES, LIMITS)
    assert verdict.decision == "adopt with guardrails"
    assert verdict.guardrails[0].startswith("Measured under different circumstances (driver differs")


def test_an_unknown_error_rate_of_a_run_is_held() -> None:
    verdict = judge(FASTER | {"error_rate": "no request was due inside the window"})
    assert verdict.decision == "hold"
    assert verdict.binding.startswith("errors:")


def test_a_system_against_itself_is_held_as_immaterial() -> None:
    runs = system_runs("baseline", (0.5, 0.501, 0.499), rps=20.0, n=80, table=quality(kl=0.0))
    same = metric_set(runs, ASSUMED, OBJECTIVES, origin="runs")
    verdict = decide(compare(same, same, ASSUMED), OBJECTIVES, LIMITS)
    assert verdict.decision == "hold"
    assert {effect.kind for effect in verdict.effects} == {"immaterial"}


def test_the_score_is_the_weighted_improvement_and_its_weights_add_up() -> None:
    verdict = judge(FASTER)
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert verdict.score is not None
    assert verdict.score.value == pytest.approx(0.20 * 50 + 0.25 * 33.4 + 0.20 * 20)
    partly = judge(FASTER | {"estimated_energy_kwh_per_1k_requests": "no GPU"})
    assert partly.score is not None
    assert sum(partly.score.weights.values()) == pytest.approx(1.0)


def test_an_invalid_run_has_no_score() -> None:
    fault = Fault(level="INVALID", text="lag: 9 ms", remedy="quiet the machine")
    found = pair(FASTER, client=Validity(level="INVALID", faults=(fault,)))
    assert decide(found, OBJECTIVES, LIMITS).score is None


def test_too_little_that_can_be_compared_has_no_score() -> None:
    absent: dict[str, Change] = dict.fromkeys(METRICS, "gone")
    verdict = judge(absent)
    assert verdict.score is None
    assert verdict.decision == "hold"


def test_the_threshold_is_the_callers() -> None:
    comparison = pair({"average_memory_gb": (18.6, 18.6, 18.6)})
    assert decide(comparison, OBJECTIVES, LIMITS).decision == "adopt"
    assert decide(comparison, OBJECTIVES, LIMITS, material_pct=10.0).decision == "hold"


def test_quality_limits_are_the_callers() -> None:
    comparison = pair(FASTER | {"mean_kl": (0.02,)})
    assert decide(comparison, OBJECTIVES, Quality(max_mean_kl=0.05)).decision == "adopt with guardrails"
