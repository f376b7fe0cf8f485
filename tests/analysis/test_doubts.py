from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from bench.analysis import latency
from bench.analysis.doubts import DOUBTS, find_doubts
from bench.analysis.metric_set import summarize
from bench.analysis.system import Doubt, SystemRuns
from bench.records import Completion, Footprint, Run, Sample
from tests.analysis.probing import recorded, steady_probe
from tests.recorded import (
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
    return of(measured(*windows))


def of(system: SystemRuns) -> dict[str, Doubt]:
    return {doubt.key: doubt for doubt in find_doubts(system, summarize(system, ASSUMED, OBJECTIVES))}


def many(latency_s: float = 0.5) -> list[Completion]:
    """Return a thousand requests, enough for every percentile."""
    return steady(latency_s, 1000)


def good(repeat: int = 1, **changes: Any) -> Run:
    requests: Sequence[Completion] = changes.pop("requests", many())
    telemetry: Sequence[Sample] = changes.pop("telemetry", constant_power())
    changes.setdefault("offered_rps", max(1.0, len(requests) / 10))
    return window_run(requests, telemetry, repeat=repeat, **changes)


def measured(*windows: Run) -> SystemRuns:
    return SystemRuns(name="baseline", offline=offline_run(150.0), windows=list(windows))


def irregular(seed: int) -> list[Completion]:
    """Return about as many requests as `many` whose number differs from second to second."""
    counts = random.Random(seed).choices((0, 60, 140), k=10)
    return [
        completion(10.0 + i + j / n, 0.5, uid=1000 * i + j) for i, n in enumerate(counts) for j in range(n)
    ]


def telemetry(field: str, value: float) -> list[Sample]:
    """Return the sound telemetry with one field at a constant value."""
    return [sample(s.t_s, s.field, value if s.field == field else s.value) for s in constant_power()]


GROWING = [completion(10 + i / 100, 0.5 + i / 100) for i in range(1000)]
LATE = [
    completion(10 + i / 100, sent_s=10.03 + i / 100, pacer_lag_s=0.0075, interpreter_lag_s=0.0225)
    for i in range(1000)
]
THROTTLED = [
    *constant_power(),
    *(sample(float(t), "throttle_hw_thermal_s", 0.05 * t) for t in range(5, 26)),
]
BATCHED = CONFIG | {"systems": {"baseline": {"batching": {"kind": "dynamic", "max_size": 8}}}}
RETRIED = [completion(19.98 + i / 100, admit_reason="retry after OutOfMemoryError: CUDA") for i in range(2)]
DEAD = window_run(repeat=3, status="failed", window=None, error="out of memory")
RANDOM = CONFIG | {"model": {"id": "m", "weights": "random"}}
HEAVY = Footprint(
    parameters=5 * 10**11,
    weight_bytes=10**12,
    gathered_bytes=0,
    linear_parameters=5 * 10**11,
    head_parameters=0,
    attention_layers=0,
    attention_width=0,
    kv_bytes_per_token=0,
    math="float16",
)
QUARTER = {"meters": {"gpu": {"sensor": {"share_observed": 0.25, "update_s": 0.1, "window_s": 0.025}}}}
EXAMPLES: dict[str, tuple[SystemRuns, str]] = {
    "incomplete": (measured(good(1), good(2), DEAD), "1 of 3 repeats did not complete: out of memory"),
    "mixed runs": (
        measured(good(1), good(2, facts={"driver": "600"})),
        "its own runs differ in driver (595 / 600)",
    ),
    "saturation": (measured(good(1), good(2), good(3, requests=GROWING)), "in 1 of 3 repeats"),
    "few requests": (
        measured(good(requests=steady(n=150))),
        "150 requests per repeat are too few for p95 (p95 needs 200)",
    ),
    "not resolved": (
        measured(*(good(i, requests=irregular(i), offered_rps=140.0) for i in range(3))),
        "p50, p90, p95, p99 latency is not resolved: at 93% of the saturated throughput a window holds",
    ),
    "few repeats": (measured(good()), "one repeat gives no interval"),
    "wide interval": (
        measured(*(good(i, requests=many(latency_s)) for i, latency_s in enumerate((0.4, 0.5, 0.6)))),
        "+/- 50 % wide",
    ),
    "one saturated run": (measured(good()), "throughput and cost rest on one saturated run each"),
    "client": (
        measured(good(1, requests=LATE), good(2)),
        "the client is INVALID in its worst repeat: requests left late: dispatch lag p99 30 ms (pacer 7.5, "
        "interpreter 22.5), limit 25 ms",
    ),
    "device": (
        measured(good(telemetry=THROTTLED)),
        "the device is DEGRADED in its worst run: the GPU throttled: hw thermal 5 % of the window",
    ),
    "sampler gaps": (
        measured(good(telemetry=[s for s in constant_power() if not 12 < s.t_s < 14])),
        "samples cover only 80 % of a window",
    ),
    "counter disagrees": (measured(good(telemetry=telemetry("power_w", 80.0))), "disagree by 20 %"),
    "counter discarded": (measured(good(telemetry=telemetry("energy_j", 5.0))), "did not advance"),
    "beyond limit": (
        measured(good(facts={"model": {"footprint": msgspec.to_builtins(HEAVY)}})),
        "so our count of bytes or operations is wrong",
    ),
    "dirty checkout": (measured(good(provenance={"dirty": True})), "differed from its commit"),
    "random weights": (measured(good(config=RANDOM)), "are random"),
    "small model": (system_runs(facts={"weights_bytes": 2_000_000}), "less than 0.5 GB of weights"),
    "short warm-up": (
        measured(good(config=CONFIG | {"protocol": {"warmup_s": 0.9}})),
        "the warm-up of 0.9 s is shorter than two requests take (p50 0.5 s)",
    ),
    "retried batches": (
        measured(good(requests=[*many()[:998], *RETRIED])),
        "2 requests were served only after their batch had failed (retry after OutOfMemoryError: CUDA)",
    ),
    "batching not in force": (
        measured(good(config=BATCHED)),
        "batches held 1.00 requests on average: batching was hardly in force",
    ),
    "recompiled": (
        measured(good(1), good(2, facts={"engine": {"recompiles_after_prepare": 3}})),
        "compiled again 3 times under traffic, in 1 of 3 jobs",
    ),
    "module energy": (
        measured(good(facts={"meters": {"gpu": {"energy_scope": "module"}}})),
        "covers the whole module (CPU and GPU)",
    ),
    "drift": (
        measured(good(requests=[completion(10 + i / 100, 0.5 + i / 10_000) for i in range(1000)])),
        "median latency drifts by +1",
    ),
    "cold": (
        measured(good(facts={"warmup": {"converged": False, "took_s": 60.0}})),
        "latencies had not converged after 60 s of warm-up in 1 of 1 repeats",
    ),
    "capacity search": (
        SystemRuns(
            name="baseline", offline=None, windows=[], capacity=recorded([steady_probe(100, 40.0, 0.5)])
        ),
        "the capacity search ended unsure after 1 probes",
    ),
    "energy left open": (
        measured(good(telemetry=[*constant_power(counter=False), sample(15.05, "power_w", 3000.0)])),
        "sampling leaves +/- 38 % of the energy open",
    ),
    "idle not idle": (
        measured(good(facts={"idle": {"resident": {"start_s": 5.0, "end_s": 9.0}}})),
        "idle was not idle: 100 W are 100 % of the 100 W under load (limit 80 %): net energy is unknown",
    ),
    "phase lock": (
        measured(
            good(
                requests=steady(n=100),
                facts={"meters": {"gpu": {"sensor": {"share_observed": 0.25, "update_s": 0.1}}}},
            )
        ),
        "batches start in step with the power sensor, which sees 25 % of every 100 ms",
    ),
    "step lock": (
        measured(good(facts=QUARTER, requests=[completion(10 + i / 7, 0.4) for i in range(60)])),
        "a decode step takes 50 ms and the power sensor sees 25 % of every 100 ms",
    ),
    "part-time sensor": (
        measured(good(facts=QUARTER)),
        "the power sensor sees 25 % of the time; whether the energy counter integrates what lies between",
    ),
    "mixed energy sources": (
        measured(good(1), good(2, telemetry=constant_power(counter=False))),
        "the energy of the repeats comes from different meters (counter, instant_poll)",
    ),
    "throttling unknown": (
        measured(good(missing={"throttle_hw_thermal_s": "nvml: Unknown field"})),
        "whether the GPU throttled is not known (hw thermal: nvml: Unknown field)",
    ),
    "hidden process": (
        measured(
            good(
                facts={
                    "meters": {"gpu": {"after": {"other_processes": [{"pid": 42}], "own_pid_listed": False}}}
                }
            )
        ),
        "own process is not among those on the GPU (pids 42)",
    ),
    "corrected memory errors": (
        measured(good(facts={"meters": {"gpu": {"ecc_corrected": 3, "after": {"ecc_corrected": 5}}}})),
        "memory corrected 2 errors",
    ),
    "clock step": (measured(good(facts={"clock_step_s": -0.25})), "the wall clock was set by 250 ms"),
}
"""For each key of the table a system that raises it, and what is then said."""


@pytest.mark.parametrize("key", DOUBTS)
def test_every_doubt_of_the_table_is_raised_by_its_example_and_has_a_remedy(key: str) -> None:
    system, text = EXAMPLES[key]
    found = of(system)
    assert text in found[key].text
    assert found[key].text.startswith("baseline: ")
    assert found[key].remedy


def test_the_mean_of_a_second_is_looked_at_for_gaps_where_it_was_integrated() -> None:
    # Shifted by half of its second, what is there covers the window.
    mean = [sample(5 + i / 10, "power_average_w", 100.0) for i in range(201) if not 50 <= i <= 56]
    polled = good(telemetry=[*constant_power(counter=False), *mean])
    assert "the power_average_w samples cover only 9" in doubts(polled)["sampler gaps"].text
    counted = good(telemetry=[*constant_power(), *mean])
    assert "sampler gaps" not in doubts(counted)


def test_batches_that_hold_several_requests_are_batching_in_force() -> None:
    pairs = [completion(10 + i / 100, batch_id=i // 2, batch_size=2) for i in range(1000)]
    assert "batching not in force" not in doubts(good(requests=pairs, config=BATCHED))


def test_a_long_warm_up_is_not_doubted() -> None:
    assert "short warm-up" not in doubts(good(config=CONFIG | {"protocol": {"warmup_s": 1.1}}))


def test_a_sound_result_raises_none_but_that_its_capacity_was_measured_once() -> None:
    assert list(doubts(good(1), good(2), good(3))) == ["one saturated run"]


def test_a_result_without_any_run_can_be_asked_for_doubts() -> None:
    assert of(SystemRuns(name="baseline", offline=None, windows=[])) == {}


def test_a_doubt_that_a_run_recorded_itself_is_passed_on() -> None:
    assert doubts(good(doubts=["the clock jumped"]))["recorded"].text == "baseline: the clock jumped"


def test_three_hundred_requests_are_too_few_for_p99_alone() -> None:
    found = doubts(good(requests=steady(n=300)))
    assert "few requests" not in found, "one doubt is enough"
    assert "p99 latency is not resolved: 300 requests" in found["not resolved"].text
    assert found["not resolved"].remedy == "read p99 as indicative"


def test_a_saturated_run_that_failed_is_doubted_with_its_error() -> None:
    dead = offline_run(status="failed", error="out of memory")
    found = of(SystemRuns(name="baseline", offline=dead, windows=[good()]))
    assert found["incomplete"].text == "baseline: the saturated run did not complete: out of memory"
    assert "one saturated run" not in found


def test_a_wide_interval_says_how_many_repeats_it_takes_by_students_t() -> None:
    system, _ = EXAMPLES["wide interval"]
    # 100 ms of deviation in 500: t(17) / sqrt(18) is below a half, t(16) / sqrt(17) is not.
    assert of(system)["wide interval"].remedy == "about 18 repeats instead of 3 bring it to 10 %"
    wild = doubts(*(good(i, requests=many(latency_s)) for i, latency_s in enumerate((0.2, 0.5, 1.9))))
    assert wild["wide interval"].remedy.startswith("not even 200 repeats")


def test_more_arrivals_than_it_answers_when_saturated_are_a_doubt_however_few_requests_there_were() -> None:
    slow = SystemRuns(name="baseline", offline=offline_run(0.8), windows=[good(requests=steady(n=3))])
    assert "more requests arrive than the 0.8/s" in of(slow)["saturation"].text


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
