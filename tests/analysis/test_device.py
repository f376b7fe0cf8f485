"""What a device did while it was measured: from the records to the verdict, the notes and the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bench.analysis.compare import compare
from bench.analysis.device import device_faults
from bench.analysis.doubts import find_doubts
from bench.analysis.metric_set import metric_set, summarize
from bench.analysis.system import Level, MetricSet, SystemRuns
from bench.analysis.validity import judge_run, worst_validity
from bench.errors import ResultError
from bench.records import Run, Sample
from tests.analysis.pairs import FASTER, judge
from tests.analysis.probing import recorded, steady_probe
from tests.recorded import (
    ASSUMED,
    OBJECTIVES,
    START_S,
    completion,
    constant_power,
    offline_run,
    quality,
    sample,
    window_run,
)


def throttled(share: float, field: str = "throttle_hw_thermal_s") -> list[Sample]:
    """Return the sound telemetry with a cumulative counter that advances for `share` of the time."""
    return [*constant_power(), *(sample(float(t), field, 7.0 + share * t) for t in range(5, 26))]


def on_gpu(telemetry: Sequence[Sample] | None = None, *, doubts: Sequence[str] = (), **facts: Any) -> Run:
    return window_run(telemetry=telemetry, facts={"meters": {"gpu": facts}}, doubts=list(doubts))


def level(run: Run) -> Level:
    return judge_run(run).level


@pytest.mark.parametrize(
    ("field", "share", "expected"),
    [
        ("throttle_hw_thermal_s", 0.009, "VALID"),
        ("throttle_hw_thermal_s", 0.02, "DEGRADED"),
        ("throttle_hw_thermal_s", 0.06, "INVALID"),
        ("throttle_hw_power_brake_s", 0.06, "INVALID"),
        ("throttle_sw_power_s", 0.02, "DEGRADED"),
        ("throttle_sw_power_s", 0.9, "DEGRADED"),
        ("throttle_sw_thermal_s", 0.9, "DEGRADED"),
    ],
)
def test_throttling_degrades_at_one_percent_and_by_hardware_invalidates_at_five(
    field: str, share: float, expected: Level
) -> None:
    run = window_run(telemetry=throttled(share, field))
    assert level(run) == expected
    if expected != "VALID":
        (fault,) = device_faults(run)
        assert f"{field[9:-2].replace('_', ' ')} {share * 100:.2g} % of the window" in fault.text
        assert fault.of == "device"


def test_only_throttling_inside_the_window_counts() -> None:
    before = [*constant_power(), sample(5.0, "throttle_hw_thermal_s", 0.0)]
    before += [sample(float(t), "throttle_hw_thermal_s", 4.0) for t in range(9, 26)]
    assert level(window_run(telemetry=before)) == "VALID"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"power_limit_w": 700.0}, {"power_limit_w": 700.0}, "VALID"),
        ({"power_limit_w": 700.0}, {"power_limit_w": 500.0}, "INVALID"),
        ({"sm_clock_limit_mhz": 1980}, {"sm_clock_limit_mhz": 1200}, "INVALID"),
        ({"power_limit_w": 700.0}, {"power_limit_w": None}, "VALID"),
        ({"power_limit_w": None}, {"power_limit_w": 700.0}, "VALID"),
        ({"sm_clock_mhz": 1980, "pstate": 0}, {"sm_clock_mhz": 300, "pstate": 8}, "VALID"),
        ({"ecc_uncorrected": 2}, {"ecc_uncorrected": 2}, "VALID"),
        ({"ecc_uncorrected": 2}, {"ecc_uncorrected": 3}, "INVALID"),
        ({"ecc_corrected": 2}, {"ecc_corrected": 9}, "VALID"),
        ({}, {"other_processes": [], "own_pid_listed": True}, "VALID"),
        ({}, {"other_processes": [{"pid": 5}], "own_pid_listed": True}, "DEGRADED"),
        ({"other_processes": [{"pid": 5}]}, {}, "DEGRADED"),
        ({}, {"other_processes": [{"pid": 5}], "own_pid_listed": False}, "VALID"),
        (
            {"other_processes": [{"pid": 5}]},
            {"other_processes": [{"pid": 5}], "own_pid_listed": False},
            "DEGRADED",
        ),
        (
            {"other_processes": [{"pid": 5}]},
            {"other_processes": [{"pid": 5}, {"pid": 6}], "own_pid_listed": False},
            "DEGRADED",
        ),
        ({}, {"other_processes": [{"pid": 5}, {"pid": 6}], "own_pid_listed": False}, "DEGRADED"),
    ],
)
def test_what_was_another_afterwards_decides_the_level(
    before: dict[str, Any], after: dict[str, Any], expected: Level
) -> None:
    run = on_gpu(**before, after=after)
    assert level(run) == expected
    assert all(fault.of == "device" and fault.remedy for fault in device_faults(run))


@pytest.mark.parametrize(
    ("doubt", "expected"),
    [
        ("gpu meter stalled: a read has not returned for 3.1 s", "DEGRADED"),
        ("gpu meter failed: OSError: bad address", "INVALID"),
        ("host meter stalled: a read has not returned for 3.1 s", "VALID"),
    ],
)
def test_a_meter_of_the_gpu_that_stopped_degrades_or_invalidates_the_run(doubt: str, expected: Level) -> None:
    assert level(on_gpu(doubts=[doubt])) == expected


def test_a_run_without_facts_of_a_gpu_has_no_fault_of_the_device() -> None:
    assert device_faults(window_run(device="cpu", facts={"gpu_name": None}, telemetry=[])) == ()


def test_a_fault_of_any_gpu_of_the_run_counts() -> None:
    sound = {"uuid": "GPU-1", "power_limit_w": 700.0, "after": {"power_limit_w": 700.0}}
    second = {"uuid": "GPU-2", "ecc_uncorrected": 0, "after": {"ecc_uncorrected": 1}}
    facts = {"meters": {"host": {}, "gpu": sound, "gpu 1": second}}
    assert level(window_run(facts=facts)) == "INVALID"
    assert level(window_run(facts={"meters": {"host": {}, "gpu": sound}})) == "VALID"
    assert level(on_gpu(doubts=["gpu 1 meter failed: OSError: bad address"])) == "INVALID"


CHANGED = {"meters": {"gpu": {"power_limit_w": 700.0, "after": {"power_limit_w": 500.0}}}}


def test_the_faults_of_client_and_device_make_one_verdict_that_names_both() -> None:
    late = [
        completion(START_S + i / 10, sent_s=START_S + i / 10 + 0.2, pacer_lag_s=0.2, interpreter_lag_s=0.0)
        for i in range(100)
    ]
    both = judge_run(window_run(late, offered_rps=10.0, facts=CHANGED))
    assert both.whose == "client and device"
    assert both.warning.startswith(
        "INVALID client and device: requests left late, the GPU's limits were changed"
    )
    assert both.in_words.endswith(
        "the GPU's limits were changed while it was measured: power_limit_w from 700.0 to 500.0"
    )
    alone = judge_run(window_run(facts=CHANGED))
    assert alone.warning == "INVALID device: the GPU's limits were changed while it was measured"


def test_every_figure_of_an_invalid_device_says_so() -> None:
    system = SystemRuns(
        name="baseline", offline=offline_run(), windows=[window_run(), window_run(repeat=2, facts=CHANGED)]
    )
    values = summarize(system, ASSUMED, OBJECTIVES)
    for name in ("p50_latency_ms", "average_memory_gb", "estimated_energy_kwh_per_1k_requests"):
        assert values[name].note.endswith(
            "; INVALID device: the GPU's limits were changed while it was measured"
        )
    assert "INVALID" not in values["throughput_requests_per_sec"].note
    (doubt,) = [doubt for doubt in find_doubts(system, values) if doubt.key == "device"]
    assert "the device is INVALID in its worst run" in doubt.text


def test_an_invalid_device_in_the_saturated_run_is_said_of_its_figures_alone_and_ends_the_verdict() -> None:
    system = SystemRuns(name="baseline", offline=offline_run(facts=CHANGED), windows=[window_run()])
    values = summarize(system, ASSUMED, OBJECTIVES)
    assert "INVALID device" in values["throughput_requests_per_sec"].note
    assert "INVALID" not in values["p50_latency_ms"].note
    found = metric_set(system, ASSUMED, OBJECTIVES, origin="x").client
    assert found is not None
    assert found.level == "INVALID"


def test_a_saturated_run_is_judged_by_its_saturated_part() -> None:
    throttling = [sample(t / 10, "throttle_hw_thermal_s", 0.1 * t / 10) for t in range(200)]
    run = offline_run()
    hot = Run(folder=run.folder, meta=run.meta, requests=run.requests, telemetry=table_of(throttling))
    worst = worst_validity([hot])
    assert worst is not None
    assert worst.level == "INVALID"
    assert worst_validity([run]) is None


def test_a_capacity_search_is_judged_from_its_first_probe_to_its_last() -> None:
    probes = [steady_probe(start_s, 2.0, 0.3) for start_s in (30.0, 50.0, 70.0)]
    run = recorded(probes)

    def hot(from_s: float, to_s: float) -> Level:
        shares = [
            sample(t / 2, "throttle_hw_thermal_s", min(max(t / 2 - from_s, 0.0), to_s - from_s))
            for t in range(200)
        ]
        found = Run(folder=run.folder, meta=run.meta, requests=run.requests, telemetry=table_of(shares))
        return judge_run(found).level

    assert hot(62.0, 68.0) == "INVALID"  # while a probe warmed up
    assert hot(0.0, 29.0) == hot(81.0, 99.0) == "VALID"


def masked(*bits: int) -> list[Sample]:
    """Return the sound telemetry with the reasons of 100 samples, those given first."""
    values = [*bits, *[0] * (100 - len(bits))]
    return [*constant_power(), *(sample(10.05 + i / 10, "throttle_reasons", v) for i, v in enumerate(values))]


@pytest.mark.parametrize(
    ("bits", "expected", "cause"),
    [
        ((0x40,), "VALID", ""),
        ((0x40,) * 3, "DEGRADED", "hw thermal 3 %"),
        ((0x48,) * 6, "INVALID", "hw thermal 6 %"),
        ((0x80,) * 6, "INVALID", "hw power brake 6 %"),
        ((0x20,) * 6, "DEGRADED", "sw thermal 6 %"),
        ((0x04,) * 90, "DEGRADED", "sw power 90 %"),
        ((0x01,) * 90, "VALID", ""),  # idle
    ],
)
def test_where_a_counter_is_missing_the_mask_of_reasons_tells_for_how_long(
    bits: tuple[int, ...], expected: Level, cause: str
) -> None:
    run = window_run(telemetry=masked(*bits))
    assert level(run) == expected
    assert [cause] * bool(cause) == [cause for fault in device_faults(run) if cause in fault.text]


def test_a_throttle_counter_comes_before_the_mask_unless_it_failed_on_the_way() -> None:
    both = [*throttled(0.0), *masked(*(0x40,) * 50)]
    assert level(window_run(telemetry=both)) == "VALID"
    failed = window_run(telemetry=both, missing={"throttle_hw_thermal_s": "nvml: failed while sampling"})
    assert level(failed) == "INVALID"


def table_of(samples: list[Sample]) -> Any:
    return window_run(telemetry=samples).telemetry


def test_nothing_is_adopted_on_the_word_of_an_invalid_device() -> None:
    invalid = judge_run(window_run(facts=CHANGED))
    verdict = judge(FASTER, client=invalid)
    assert verdict.decision == "not enough evidence"
    assert verdict.binding.startswith("the device is INVALID: optimized: the GPU's limits were changed")


def side(name: str, telemetry: list[Sample] | None = None, **facts: Any) -> MetricSet:
    known = {"meters": {"gpu": facts}} if facts else {}
    windows = [window_run(telemetry=telemetry, system=name, repeat=i, facts=known) for i in (1, 2, 3)]
    offline = offline_run(system=name, table=quality(), facts=known)
    system = SystemRuns(name=name, offline=offline, windows=windows)
    return metric_set(system, ASSUMED, OBJECTIVES, origin=f"runs/{name}")


def test_two_systems_of_which_one_throttled_are_not_comparable_unless_it_is_allowed() -> None:
    cool, hot = side("baseline", throttled(0.0)), side("optimized", throttled(0.03))
    with pytest.raises(
        ResultError, match=r"throttling differs \(0 % of the time against 3 %\).*\(throttling\)"
    ):
        compare(cool, hot, ASSUMED)
    assert compare(cool, hot, ASSUMED, allow_different=["throttling"]).allowed
    assert compare(cool, side("optimized", throttled(0.008)), ASSUMED).allowed == ()
    assert compare(cool, side("optimized"), ASSUMED).allowed == ()
    warm = side("optimized", throttled(0.03, "throttle_sw_thermal_s"))
    with pytest.raises(ResultError, match="throttling differs"):
        compare(side("baseline", throttled(0.0, "throttle_sw_thermal_s")), warm, ASSUMED)


def test_energy_of_a_module_is_not_compared_with_that_of_a_gpu() -> None:
    gpu, module = side("baseline", energy_scope="gpu"), side("optimized", energy_scope="module")
    with pytest.raises(ResultError, match=r"energy_scope differs \(gpu against module\)"):
        compare(gpu, module, ASSUMED)
    assert compare(gpu, module, ASSUMED, allow_different=["energy_scope"]).allowed
