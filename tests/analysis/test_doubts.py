from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bench.analysis import latency
from bench.analysis.doubts import DOUBTS, find_doubts
from bench.analysis.metrics import summarize
from bench.analysis.system import Doubt, SystemRuns
from bench.records import Completion, Run, Sample
from tests.analysis.conftest import (
    ASSUMED,
    CONFIG,
    OBJECTIVES,
    completion,
    constant_power,
    offline_run,
    sample,
    steady,
    system_runs,
    window_run,
)


def doubts(*windows: Run) -> dict[str, Doubt]:
    return of(SystemRuns(name="baseline", offline=offline_run(), windows=list(windows)))


def of(system: SystemRuns) -> dict[str, Doubt]:
    return {doubt.key: doubt for doubt in find_doubts(system, summarize(system, ASSUMED, OBJECTIVES))}


def many(latency_s: float = 0.5) -> list[Completion]:
    """Return a thousand requests, enough for every percentile."""
    return steady(latency_s, 1000)


def good(repeat: int = 1, **changes: Any) -> Run:
    requests: Sequence[Completion] = changes.pop("requests", many())
    telemetry: Sequence[Sample] = changes.pop("telemetry", constant_power())
    return window_run(requests, telemetry, repeat=repeat, **changes)


def test_a_sound_result_raises_no_doubt() -> None:
    assert doubts(good(1), good(2), good(3)) == {}


def test_a_result_without_any_run_can_be_asked_for_doubts() -> None:
    assert of(SystemRuns(name="baseline", offline=None, windows=[])) == {}


@pytest.mark.parametrize(
    ("key", "run", "text"),
    [
        (
            "few requests",
            good(requests=steady()),
            "10 requests per repeat are too few for p99, p95, p90, p50",
        ),
        ("few requests", good(requests=steady(n=300)), "too few for p99 (p99 needs 1000)"),
        (
            "dispatch lag",
            good(requests=[completion(10 + i / 100, sent_s=10.03 + i / 100) for i in range(1000)]),
            "dispatch lag p99 is 30 ms, 6 % of p50 latency",
        ),
        (
            "throttling",
            good(
                telemetry=[
                    *constant_power(),
                    *(sample(float(t), "throttle_hw_thermal_s", 0.05 * t) for t in range(5, 26)),
                ]
            ),
            "throttled for 5 % of a window (hw thermal)",
        ),
        (
            "sampler gaps",
            good(telemetry=[s for s in constant_power() if not 12 < s.t_s < 14]),
            "samples cover only 80 % of a window",
        ),
        (
            "counter disagrees",
            good(
                telemetry=[
                    sample(s.t_s, s.field, 80.0 if s.field == "power_w" else s.value)
                    for s in constant_power()
                ]
            ),
            "disagree by 20 %",
        ),
        (
            "counter discarded",
            good(
                telemetry=[
                    sample(s.t_s, s.field, 5.0 if s.field == "energy_j" else s.value)
                    for s in constant_power()
                ]
            ),
            "did not advance",
        ),
        (
            "short energy window",
            good(telemetry=[s for s in constant_power() if s.field != "energy_j" or (s.t_s * 10) % 20 < 0.5]),
            "energy-counter ticks lie inside a window",
        ),
        ("dirty checkout", good(provenance={"dirty": True}), "differed from its commit"),
        ("random weights", good(config=CONFIG | {"model": {"id": "m", "weights": "random"}}), "are random"),
        ("few repeats", good(), "one repeat gives no interval"),
        ("recorded", good(doubts=["the clock jumped"]), "baseline: the clock jumped"),
    ],
)
def test_each_reason_is_found_and_has_a_remedy(key: str, run: Run, text: str) -> None:
    found = doubts(run)
    assert text in found[key].text
    assert found[key].text.startswith("baseline: ")
    assert found[key].remedy


def test_a_small_model_is_doubted() -> None:
    found = of(system_runs(facts={"weights_bytes": 2_000_000}))
    assert "less than 0.5 GB of weights" in found["small model"].text


def test_repeats_that_failed_are_doubted_with_the_error() -> None:
    found = doubts(
        good(1), good(2), window_run(repeat=3, status="failed", window=None, error="out of memory")
    )
    assert found["incomplete"].text == "baseline: 1 of 3 repeats did not complete: out of memory"
    assert "few repeats" in found


def test_an_interval_that_is_wide_says_how_many_more_repeats_it_takes() -> None:
    found = doubts(*(good(i, requests=many(latency_s)) for i, latency_s in enumerate((0.4, 0.5, 0.6))))
    assert "+/- 50 % wide" in found["wide interval"].text
    assert "about 25 times as many repeats" in found["wide interval"].remedy


def test_a_queue_that_grows_in_one_repeat_is_a_doubt() -> None:
    growing = [completion(10 + i / 100, 0.5 + i / 100) for i in range(1000)]
    found = doubts(good(1), good(2), good(3, requests=growing))
    assert "in 1 of 3 repeats" in found["saturation"].text


def test_a_queue_that_only_fluctuates_is_no_saturation() -> None:
    # A burst in the middle of the window that is worked off again.
    requests = [completion(10 + i / 100, 0.5 + (2.0 if 400 <= i < 600 else 0.0)) for i in range(1000)]
    assert not latency.growth(good(requests=requests)).saturated


def test_a_slow_but_stable_system_is_no_saturation() -> None:
    # Every request takes 30 s: nothing ends inside the window, but latency does not grow either.
    assert not latency.growth(good(requests=many(30.0))).saturated


def test_a_queue_whose_end_mostly_times_out_is_saturated() -> None:
    requests = [
        completion(10 + i / 100, 0.5 if i < 300 else 20.0, status="ok" if i < 300 else "timeout")
        for i in range(1000)
    ]
    assert latency.growth(good(requests=requests)).saturated


def test_every_doubt_of_the_table_was_seen_in_these_tests() -> None:
    seen = {
        "incomplete",
        "saturation",
        "few requests",
        "few repeats",
        "wide interval",
        "dispatch lag",
        "throttling",
        "sampler gaps",
        "counter disagrees",
        "counter discarded",
        "short energy window",
        "dirty checkout",
        "random weights",
        "small model",
    }
    assert set(DOUBTS) == seen
