"""The rules of an A/B replay: every result and every reason, from figures of pairs of segments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.analysis.abtest import (
    Evidence,
    Measured,
    Plan,
    Result,
    compare_metric,
    conclude,
    detectable,
    found_by_plan_pct,
    pairs_for,
    pairs_to_find,
)
from bench.analysis.failures import Failures, Segment, failures
from bench.analysis.system import missing
from bench.records import Value
from tests.recorded import repeated

PLAN = Plan(
    baseline="old",
    candidate="new",
    metric="p95_latency_ms",
    mde_pct=10.0,
    power=0.8,
    tolerated_pct=20.0,
    pairs=6,
    most_pairs=6,
    asked=6,
)
OLD = {"p50_latency_ms": 100.0, "p95_latency_ms": 200.0, "goodput_requests_per_sec": 5.0}
TRAFFIC = (1.0, 1.1, 0.9, 1.05, 0.95, 1.0)
"""What the segments have in common: it cancels in pairs."""
NOISE = (0.99, 1.01, 1.0, 0.995, 1.005, 1.0)


def measured(name: str, ratio: float | Sequence[float], plan: Plan = PLAN) -> Measured:
    """Return a metric whose candidate is `ratio` times the baseline, segment by segment."""
    ratios = [ratio * n for n in NOISE] if isinstance(ratio, float) else list(ratio)
    old = [OLD[name] * t for t in TRAFFIC]
    return Measured(
        name=name,
        label=name,
        unit="",
        better="higher" if name.startswith("goodput") else "lower",
        baseline=repeated(*old, confidence=plan.confidence),
        candidate=repeated(*(o * r for o, r in zip(old, ratios, strict=True)), confidence=plan.confidence),
    )


def evidence(
    changes: Mapping[str, float | Sequence[float]] | None = None, plan: Plan = PLAN, **fields: Any
) -> Evidence:
    ratios: dict[str, float | Sequence[float]] = dict.fromkeys(OLD, 1.0)
    rows = tuple(
        compare_metric(measured(name, ratio, plan), plan)
        for name, ratio in (ratios | dict(changes or {})).items()
    )
    return msgspec.structs.replace(Evidence(rows=rows, pairs=6), **fields)


def result(
    changes: Mapping[str, float | Sequence[float]] | None = None, plan: Plan = PLAN, **fields: Any
) -> Result:
    return conclude(evidence(changes, plan, **fields), plan)


def test_a_benefit_with_every_guard_kept_is_rolled_out() -> None:
    found = result({"p95_latency_ms": 0.8})
    assert found.decision == "rollout"
    assert "better by 20" in found.reason


def test_a_sure_benefit_below_the_stated_effect_is_held() -> None:
    found = result({"p95_latency_ms": 0.97})
    assert found.decision == "hold"
    assert "a benefit of 10 % is ruled out" in found.reason


def test_two_equal_systems_are_held() -> None:
    assert result().decision == "hold"


SCATTERED = (0.7, 1.2, 0.85, 1.1, 0.8, 1.05)


def test_an_open_benefit_is_extended_with_the_number_of_pairs() -> None:
    plan = msgspec.structs.replace(PLAN, mde_pct=25.0, most_pairs=12)
    found = result({"p95_latency_ms": SCATTERED}, plan)
    assert found.decision == "extend"
    assert "neither a benefit is shown nor one of 25 % ruled out" in found.reason
    total = pairs_to_find(evidence({"p95_latency_ms": SCATTERED}, plan).primary, plan)
    assert found.needs.startswith(f"about {(total or 0) - 6} more pairs, {total} in all")
    assert found.more == (total or 0) - 6


def test_an_extension_beyond_the_plan_says_so() -> None:
    found = result({"p95_latency_ms": SCATTERED})
    assert "the plan allows 6" in found.needs or "not even 200 pairs" in found.needs


def test_a_benefit_beside_a_guard_that_may_be_broken_is_extended() -> None:
    found = result({"p95_latency_ms": 0.8, "p50_latency_ms": (1.3, 1.0, 1.25, 1.05, 1.2, 1.1)})
    assert found.decision == "extend"
    assert "may be worse by more than 20 %" in found.reason
    assert "more pairs" in found.needs


@pytest.mark.parametrize(
    ("changes", "metric"),
    [
        ({"p95_latency_ms": 1.5}, "p95_latency_ms"),
        ({"p95_latency_ms": 0.8, "p50_latency_ms": 1.5}, "p50_latency_ms"),
        ({"p95_latency_ms": 0.8, "goodput_requests_per_sec": 0.5}, "goodput_requests_per_sec"),
    ],
)
def test_what_is_surely_worse_beyond_the_tolerance_is_rejected(
    changes: dict[str, float], metric: str
) -> None:
    found = result(changes)
    assert found.decision == "reject"
    assert found.reason.startswith(metric)
    assert "beyond the 20 % that is tolerated" in found.reason


def test_more_errors_reject_whatever_the_benefit() -> None:
    more = failures("errors", [Segment(compared=100, only_candidate=n) for n in (3, 5, 4, 4, 3, 4)])
    found = result({"p95_latency_ms": 0.5}, failures=(more,))
    assert found.decision == "reject"
    assert "more errors: 3.8 % against 0 %" in found.reason


def burst(what: str = "errors") -> Failures:
    """Return one burst: a fifth of the requests of one segment failed, with the candidate alone."""
    return failures(what, [*[Segment(compared=300)] * 7, Segment(compared=300, only_candidate=60)])


def test_a_burst_that_may_be_one_event_is_neither_rejected_nor_rolled_out() -> None:
    found = result({"p95_latency_ms": 0.8}, failures=(burst(),))
    assert not burst().more
    assert found.decision == "extend"
    assert "more errors: 2.5 % against 0 %" in found.reason
    assert "a single event" in found.reason


def test_fewer_failures_keep_no_benefit_back() -> None:
    fewer = failures("errors", [Segment(compared=300)] * 7 + [Segment(compared=300, only_baseline=60)])
    assert result({"p95_latency_ms": 0.8}, failures=(fewer,)).decision == "rollout"


@pytest.mark.parametrize("metric", ["p50_latency_ms", "p95_latency_ms"])
def test_a_latency_that_is_infinite_with_the_candidate_alone_guards_and_is_not_held(metric: str) -> None:
    plan = msgspec.structs.replace(PLAN, metric=metric)
    infinite = msgspec.structs.replace(
        measured("p95_latency_ms", 1.0), candidate=missing("too many failed"), unbounded=True
    )
    rows = (compare_metric(measured("p50_latency_ms", 0.8), plan), compare_metric(infinite, plan))
    found = conclude(Evidence(rows=rows, pairs=6), plan)
    assert found.decision == "extend"
    assert "too many failed" in found.reason


@pytest.mark.parametrize("ratio", [0.5, 0.99, 2.0])
def test_nothing_but_a_crash_is_concluded_before_the_planned_pairs(ratio: float) -> None:
    found = result({"p95_latency_ms": ratio}, pairs=4, dropped=("pair 5: the client was INVALID",))
    assert (found.decision, found.reason) == ("extend", "5 of the planned 6 pairs have been made")
    assert result(pairs=1, crashed="out of memory").decision == "reject"


def test_the_parts_of_one_segment_give_no_interval() -> None:
    def alone(figure: float) -> Value:
        parts = {i: figure * (1 + 0.01 * (i % 3)) for i in range(8)}
        return Value(
            value=figure,
            source="measured",
            note="",
            low=figure * 0.99,
            high=figure * 1.01,
            n=8,
            repeats={1: figure},
            blocks=parts,
        )

    sides = {"baseline": alone(200.0), "candidate": alone(100.0)}
    row = compare_metric(msgspec.structs.replace(measured("p95_latency_ms", 1.0), **sides), PLAN)
    assert row.improvement_pct == pytest.approx(50.0)
    assert (row.low_pct, row.high_pct, row.pairs) == (None, None, 1)


def test_a_candidate_that_crashes_or_cannot_carry_the_load_is_rejected() -> None:
    assert "crashed: out of memory" in result(crashed="out of memory").reason
    found = result({"p95_latency_ms": 0.8}, overloaded=(("candidate", "the queue grew"),))
    assert (found.decision, "cannot carry the load: the queue grew" in found.reason) == ("reject", True)


@pytest.mark.parametrize("who", [("baseline",), ("baseline", "candidate")])
def test_a_load_that_the_baseline_does_not_carry_is_held(who: tuple[str, ...]) -> None:
    found = result({"p95_latency_ms": 0.8}, overloaded=tuple((side, "the queue grew") for side in who))
    assert (found.decision, found.needs) == ("hold", "lower the load")


def test_a_primary_metric_that_was_not_measured_is_held_with_the_reason() -> None:
    plan = msgspec.structs.replace(PLAN, metric="energy")
    row = Measured(
        name="energy",
        label="energy",
        unit="",
        better="lower",
        baseline=missing("no meter"),
        candidate=missing("no meter"),
    )
    found = conclude(Evidence(rows=(compare_metric(row, plan),), pairs=6), plan)
    assert (found.decision, "no meter" in found.reason) == ("hold", True)


def test_a_guard_that_was_not_measured_guards_nothing() -> None:
    row = msgspec.structs.replace(measured("p50_latency_ms", 1.0), candidate=missing("no meter"))
    rows = (compare_metric(measured("p95_latency_ms", 0.8), PLAN), compare_metric(row, PLAN))
    assert conclude(Evidence(rows=rows, pairs=6), PLAN).decision == "rollout"
    assert rows[1].why == "no meter"


def test_what_is_not_resolved_is_extended_by_longer_segments_not_by_pairs() -> None:
    row = measured("p95_latency_ms", 0.5)
    bare = msgspec.structs.replace(row.candidate, low=None, high=None, unresolved="too near saturation")
    row = msgspec.structs.replace(row, candidate=bare)
    found = conclude(Evidence(rows=(compare_metric(row, PLAN),), pairs=6), PLAN)
    assert found.decision == "extend"
    assert "too near saturation" in found.reason
    assert "--segment-s" in found.needs


def test_fewer_than_two_pairs_decide_nothing() -> None:
    assert result({"p95_latency_ms": 0.8}, pairs=1).decision == "extend"


def test_planned_looks_widen_the_interval_of_each() -> None:
    looked = msgspec.structs.replace(PLAN, most_pairs=12)
    assert looked.confidence > PLAN.confidence == 0.95
    one, two = (evidence({"p95_latency_ms": SCATTERED}, plan).primary for plan in (PLAN, looked))
    assert one.low_pct is not None
    assert two.low_pct is not None
    assert two.low_pct < one.low_pct


def test_an_improvement_is_that_of_the_pairs_and_mirrored_by_direction() -> None:
    row = compare_metric(measured("p95_latency_ms", [0.8] * 6), PLAN)
    assert row.improvement_pct == pytest.approx(20.0)
    assert row.scatter == pytest.approx(0.0, abs=1e-12)
    assert row.detectable_pct == pytest.approx(0.0, abs=1e-9)
    up = compare_metric(measured("goodput_requests_per_sec", [1.25] * 6), PLAN)
    assert up.improvement_pct == pytest.approx(25.0)


def test_the_stated_pairs_find_the_effect_with_the_stated_power() -> None:
    scatter, pairs, power = 0.1, 9, 0.8
    effect = detectable(scatter, pairs, 0.95, power)
    assert effect is not None
    drawn = np.random.default_rng(5).normal(effect, scatter, (20_000, pairs))
    half = 2.306 * drawn.std(axis=1, ddof=1) / math.sqrt(pairs)
    assert (drawn.mean(axis=1) - half > 0).mean() == pytest.approx(power, abs=0.02)
    assert pairs_for(scatter, effect, 0.95, power) == pairs
    assert pairs_for(scatter, effect * 0.999, 0.95, power) == pairs + 1
    assert pairs_for(scatter, 1e-3, 0.95, power) is None


def test_what_the_plan_finds_is_said_of_the_scatter_so_far() -> None:
    plan = msgspec.structs.replace(PLAN, asked=12, most_pairs=12)
    row = evidence({"p95_latency_ms": SCATTERED}, plan).primary
    found = found_by_plan_pct(row, plan)
    assert found is not None
    assert row.detectable_pct is not None
    assert 0 < found < row.detectable_pct
    assert found_by_plan_pct(msgspec.structs.replace(row, scatter=None), plan) is None
