"""A system that crashed is a result: it is compared, its rows are missing, the verdict names the crash."""

from __future__ import annotations

import msgspec

from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.decide import Verdict, decide
from bench.analysis.gate import Gate
from bench.analysis.metric_set import metric_set
from bench.analysis.system import Jobs, MetricSet, SystemRuns
from bench.records import Run
from tests.analysis.pairs import FASTER, judge, metrics
from tests.recorded import (
    ASSUMED,
    LIMITS,
    OBJECTIVES,
    completion,
    constant_power,
    offline_run,
    quality,
    steady,
    system_runs,
    window_run,
)


def dead(repeat: int, error: str = "out of memory", status: str = "failed") -> Run:
    return window_run([], [], system="optimized", repeat=repeat, status=status, window=None, error=error)


def alive(repeat: int) -> Run:
    return window_run(steady(0.4), constant_power(80.0), system="optimized", repeat=repeat)


def optimized(*windows: Run, offline: Run | None = None) -> SystemRuns:
    offline = offline or offline_run(4.0, system="optimized", table=quality(kl=1e-6))
    return SystemRuns(name="optimized", offline=offline, windows=list(windows))


def judged(system: SystemRuns, baseline: SystemRuns | None = None) -> tuple[Comparison, Verdict]:
    sides = [
        metric_set(runs, ASSUMED, OBJECTIVES, origin=f"runs/{runs.name}")
        for runs in (baseline or system_runs(table=quality()), system)
    ]
    comparison = compare(sides[0], sides[1], ASSUMED, OBJECTIVES)
    return comparison, decide(comparison, OBJECTIVES, LIMITS)


def gate(verdict: Verdict, name: str) -> Gate:
    return next(gate for gate in verdict.gates if gate.name == name)


def test_a_system_whose_repeats_all_failed_is_compared_and_rejected_for_it() -> None:
    comparison, verdict = judged(optimized(dead(1), dead(2, "another"), dead(3)))
    assert comparison.row("p95_latency_ms").optimized.note == "no repeat was completed: out of memory"
    assert comparison.row("throughput_requests_per_sec").optimized.value == 4.0
    assert verdict.decision == "reject"
    assert verdict.binding == "errors: 3 of 3 repeats failed, the first with: out of memory"
    assert gate(verdict, "load").outcome == "not measured"


def test_a_system_that_never_came_up_is_no_bare_csv_and_its_error_decides() -> None:
    crashed = offline_run(system="optimized", status="failed", error="no kernel for sm_75")
    comparison, verdict = judged(optimized(offline=crashed))
    assert not comparison.bare
    assert verdict.decision == "reject"
    assert verdict.binding == "errors: the saturated run failed: no kernel for sm_75"
    assert gate(verdict, "comparability").outcome == "not measured"
    assert gate(verdict, "quality").outcome == "not measured"
    p95 = comparison.row("p95_latency_ms").optimized
    assert p95.note == "no run at the common rate was made, for the saturated run failed: no kernel for sm_75"
    assert not any("not part of the files" in text for text in comparison.tradeoffs)


def test_one_repeat_that_failed_fails_the_gate_whatever_the_survivors_say() -> None:
    comparison, verdict = judged(optimized(alive(1), dead(2), alive(3)))
    assert comparison.row("error_rate").optimized.value == 0.0
    assert verdict.decision == "reject"
    assert verdict.binding == "errors: 1 of 3 repeats failed, the first with: out of memory"


def test_a_repeat_that_somebody_cancelled_is_a_doubt_and_no_failure() -> None:
    comparison, verdict = judged(optimized(alive(1), dead(2, "interrupted", "cancelled"), alive(3)))
    assert gate(verdict, "errors").outcome == "pass"
    assert any("1 of 3 repeats did not complete: interrupted" in doubt.text for doubt in comparison.doubts)


def test_a_repeat_of_the_baseline_that_failed_is_a_doubt() -> None:
    windows = [window_run(), window_run(status="failed", window=None, error="killed"), window_run(repeat=3)]
    baseline = SystemRuns(name="baseline", offline=offline_run(table=quality()), windows=windows)
    comparison, verdict = judged(optimized(alive(1), alive(2), alive(3)), baseline)
    assert gate(verdict, "errors").outcome == "pass"
    assert "baseline: 1 of 3 repeats did not complete: killed" in [doubt.text for doubt in comparison.doubts]


def test_the_count_of_failed_repeats_survives_the_way_through_a_file() -> None:
    found = metric_set(optimized(alive(1), dead(2)), ASSUMED, OBJECTIVES, origin="runs")
    again = msgspec.json.decode(msgspec.json.encode(found), type=MetricSet)
    assert again == found
    assert again.jobs == Jobs(repeats=2, completed=1, failed=1, error="out of memory")


def test_a_crash_of_which_no_error_was_recorded_is_still_a_crash() -> None:
    verdict = judge(FASTER, jobs=Jobs(repeats=3, completed=2, failed=1, error="no error was recorded"))
    assert verdict.decision == "reject"


def test_a_p95_without_a_bound_fails_the_objective_even_where_many_errors_are_allowed() -> None:
    failing = [*steady(n=10)[:8], completion(18.0, status="timeout"), completion(19.0, status="error")]
    windows = [window_run(failing, system="optimized", repeat=i) for i in (1, 2, 3)]
    comparison, _ = judged(optimized(*windows))
    lenient = msgspec.structs.replace(OBJECTIVES, max_error_rate=0.5)
    verdict = decide(comparison, lenient, LIMITS)
    assert gate(verdict, "errors").outcome == "pass"
    assert verdict.decision == "reject"
    assert verdict.binding.startswith("SLA: p95 latency has no bound: latency has no p95: more than 5 %")


def test_a_saturated_system_fails_the_objective_too() -> None:
    verdict = judge(FASTER | {"p95_latency_ms": "saturated"}, saturated=True)
    assert gate(verdict, "SLA").outcome == "fail"
    both = judge(
        FASTER | {"p95_latency_ms": "saturated"},
        baseline=metrics("baseline", saturated=True),
        saturated=True,
    )
    assert gate(both, "SLA").outcome == "not measured", "then the load is at fault"
    assert both.decision == "hold"
