"""A library, a driver or a counter that fails: which joules there are then, and what is said of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bench.analysis.energy import kwh_per_1k, sources
from bench.analysis.system import SystemRuns
from bench.analysis.validity import judge_run
from bench.clock import WallClock
from bench.errors import NotAvailable, ResultError
from bench.meters.faults import GpuLost
from bench.meters.nvml import open_gpu
from bench.meters.sampling import Sampler
from bench.meters.sharing import refuse_shared
from bench.records import Interval
from tests import fake_nvml
from tests.fake_nvml.in_process import Modelled
from tests.fake_nvml.metered import run_of
from tests.meters.faults.asking import (
    NO_COUNTER,
    NO_POWER,
    SEES_ALL,
    Measure,
    compared,
    doubts_of,
    energy_of,
    faults_of,
)


def test_without_a_failure_the_joules_are_true_and_nothing_is_said(
    measure: Measure, library: Modelled
) -> None:
    run = measure(power_w="square:100:300:0.5:0.5", capability=SEES_ALL)
    energy = energy_of(run)
    assert energy.source == "counter"
    assert energy.joules == pytest.approx(
        library.true_energy_j(0, energy.span.start_s, energy.span.end_s), rel=1e-3
    )
    assert judge_run(run).level == "VALID"
    assert faults_of(run) == []
    assert doubts_of(run) == {}


@pytest.mark.parametrize(
    ("code", "words"), [(12, "no NVML library"), (9, "driver is not loaded"), (18, "reboot")]
)
def test_without_library_or_driver_there_is_a_reason_and_no_joules(
    library: Modelled, code: int, words: str
) -> None:
    library.configure(faults=[f"nvmlInitWithFlags:{code}"])
    with pytest.raises(NotAvailable, match=words):
        open_gpu(fake_nvml.uuid(0))


def test_without_a_gpu_energy_is_missing_with_its_reason(measure: Measure) -> None:
    run = measure(meta={"device": "cpu", "missing": {"rapl_package_j": "rapl: no such zone"}})
    run.meta.facts["gpu_name"] = None
    assert kwh_per_1k(run).value is None
    assert "rapl: no such zone" in str(kwh_per_1k(run).why)


def test_without_a_counter_the_power_is_integrated_and_it_is_said(
    measure: Measure, library: Modelled
) -> None:
    run = measure(faults=NO_COUNTER)
    energy = energy_of(run)
    assert energy.source in ("instant_poll", "avg_poll")
    assert "Not Supported" in energy.instead
    assert energy.joules == pytest.approx(2000, rel=1e-3)
    assert not energy.distrusted


def test_with_neither_counter_nor_power_energy_is_missing_with_both_reasons(measure: Measure) -> None:
    run = measure(faults=[*NO_COUNTER, *NO_POWER])
    assert kwh_per_1k(run).value is None
    assert "Not Supported" in str(kwh_per_1k(run).why)
    assert judge_run(run).level == "VALID"


def test_an_old_driver_gives_joules_by_the_methods_that_it_has(measure: Measure) -> None:
    run = measure(faults=fake_nvml.OLD_DRIVER, capability="8.0")
    facts = run.meta.facts["meters"]["gpu"]
    assert energy_of(run).source == "counter"
    assert (facts["energy_method"], facts["memory_api"]) == ("field 83", "v1")
    assert facts["own_pid_listed"] is True
    assert judge_run(run).level == "VALID"


def test_a_forbidden_process_list_is_unknown_and_costs_nothing_else(measure: Measure) -> None:
    run = measure(faults=["nvmlDeviceGetComputeRunningProcesses_v3:4"])
    facts = run.meta.facts["meters"]["gpu"]
    assert facts["other_processes"] is None
    assert "Permission" in facts["unavailable"]["other_processes"]
    assert any("not known" in doubt for doubt in refuse_shared(facts, allow=False))
    assert energy_of(run).source == "counter"


@pytest.mark.parametrize(
    "fault", ["*:15:25s", "*:15:25s:0.2s", "186:16:25s"], ids=["for ever", "once", "reset required"]
)
def test_a_lost_gpu_keeps_its_samples_and_gives_no_joules(measure: Measure, fault: str) -> None:
    run = measure(faults=[fault])
    times_s = run.telemetry.column("t_s").to_numpy()
    assert times_s.min() < 20
    assert 24.5 < times_s.max() <= 25.1, "what was seen before is kept, and nothing is read again"
    assert kwh_per_1k(run).value is None
    assert "lost" in str(kwh_per_1k(run).why)
    assert any("gpu meter lost" in doubt for doubt in run.meta.doubts)


def test_a_lost_gpu_ends_the_run_while_it_goes_on(library: Modelled) -> None:
    library.configure(faults=["*:15:0.1s"], time_s=None, gpus=1)
    meter = open_gpu(fake_nvml.uuid(0))
    sampler = Sampler({"gpu": meter}, WallClock(), 0.01)
    sampler.start()
    sampler.check()

    def go_on() -> None:
        for _ in range(500):
            time.sleep(0.01)
            sampler.check()

    with pytest.raises(GpuLost, match="the gpu was lost"):
        go_on()
    sampler.stop()
    meter.close()


def test_three_transient_faults_in_a_row_are_a_gap_that_is_counted(measure: Measure) -> None:
    run = measure(faults=["186:999:25s:0.25s", "191:10:26s:0.25s"])
    facts = run.meta.facts["meters"]["gpu"]
    assert facts["transient_faults"] == {"power_w": 3, "energy_j": 3}
    assert run.meta.missing == {}
    assert energy_of(run).source == "counter"
    assert judge_run(run).level == "VALID"


def test_more_than_three_end_the_counter_and_the_power_stands_in(measure: Measure) -> None:
    run = measure(faults=["191:999:25s:1s"])
    assert "4 times in a row" in run.meta.missing["energy_j"]
    energy = energy_of(run)
    assert energy.source in ("instant_poll", "avg_poll")
    assert "4 times in a row" in energy.instead


@pytest.mark.parametrize("hang", ["nvmlDeviceGetFieldValues:hang:20", "nvmlDeviceGetMemoryInfo_v2:hang:2"])
def test_a_driver_that_hangs_costs_a_run_less_than_two_seconds_and_its_joules(
    library: Modelled, hang: str
) -> None:
    library.configure(time_s=None, gpus=1, tick_ms=5)
    meter = open_gpu(fake_nvml.uuid(0))
    # Only from here on: what opening calls comes back.
    library.configure(time_s=None, gpus=1, tick_ms=5, faults=[hang])
    clock = WallClock()
    sampler = Sampler({"gpu": meter}, clock, 0.01)
    sampler.start()
    time.sleep(0.6)
    window = Interval(start_s=0.0, end_s=clock.now_s())
    began_s = time.perf_counter()
    log = sampler.stop()
    meter.close()
    assert time.perf_counter() - began_s < 1.9
    library.release()
    run = run_of(window, log)
    assert [failure.kind for failure in log.failures] == ["stalled"]
    assert kwh_per_1k(run).value is None
    assert "stalled" in str(kwh_per_1k(run).why)
    assert [level for level, text in faults_of(run) if "stalled" in text] == ["DEGRADED"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reset_at_s": 25.0}, "went backwards"),
        ({"frozen_s": (24.0, 27.0)}, "stood still"),
        ({"frozen_s": (0.0,)}, "not advance twice"),
        ({"jump": (25.0, 5000.0)}, "jumped"),
    ],
    ids=["reset", "frozen for a while", "frozen for ever", "jump"],
)
def test_a_counter_that_lies_is_discarded_for_the_power_and_doubted(
    measure: Measure, library: Modelled, options: dict[str, Any], words: str
) -> None:
    run = measure(power_w="square:100:300:0.7:0.5", **options)
    energy = energy_of(run)
    assert energy.source in ("instant_poll", "avg_poll")
    assert words in energy.instead
    assert energy.low <= library.true_energy_j(0, 20.0, 30.0) <= energy.high
    assert energy.joules == pytest.approx(library.true_energy_j(0, 20.0, 30.0), rel=0.05)
    assert words in doubts_of(run)["counter discarded"]


def test_a_counter_that_runs_too_fast_is_believed_by_nobody(measure: Measure) -> None:
    run = measure(gain=(1.0, 4.0))  # 800 W on a board of 700 W
    assert energy_of(run).source in ("instant_poll", "avg_poll")
    assert "above the limit" in energy_of(run).instead


def test_counter_and_power_that_disagree_are_doubted(measure: Measure) -> None:
    run = measure(gain=(1.0, 1.08))
    assert energy_of(run).source == "counter"
    assert "disagree by" in doubts_of(run)["counter disagrees"]
    assert "counter disagrees" not in doubts_of(measure(gain=(1.0, 1.03)))


def test_repeats_by_different_meters_are_doubted(measure: Measure) -> None:
    good, polled = measure(gain=(1.0, 1.04)), measure(gain=(1.0, 1.04), faults=["191:999:25s:1s"])
    assert "avg_poll, counter" in doubts_of(good, polled)["mixed energy sources"]
    assert sources(SystemRuns(name="modelled", offline=None, windows=[good])) == {"counter"}
    assert "mixed energy sources" not in doubts_of(good, good)


def test_a_modelled_library_is_never_taken_for_a_measurement(measure: Measure) -> None:
    run = measure(driver="590.48.01")
    assert run.meta.source == "simulated"
    real = measure(meta={"source": "measured"})
    with pytest.raises(ResultError, match="source differs"):
        compared(run, real)
