"""A card that throttles, is shared, is part of a module, or has failing memory: what a result says then."""

from __future__ import annotations

from typing import Any

import pytest

from bench.analysis import idle, memory
from bench.analysis.device import HARDWARE, SOFTWARE, hidden_pids, others_on, throttled_share
from bench.analysis.energy import in_words, kwh_per_1k
from bench.analysis.metered import metered
from bench.analysis.system import SystemRuns
from bench.analysis.validity import judge_run
from bench.errors import NotAvailable, ResultError
from bench.meters.nvml import open_gpu
from bench.meters.sharing import refuse_shared
from tests import fake_nvml
from tests.fake_nvml.in_process import Modelled
from tests.meters.faults.asking import (
    IDLE,
    LONG,
    NO_COUNTER,
    NO_POWER,
    SEES_ALL,
    Measure,
    compared,
    doubts_of,
    energy_of,
    faults_of,
)


@pytest.mark.parametrize(
    ("throttle", "level"),
    [
        ({"sw_power": "0.005"}, "VALID"),
        ({"sw_power": "0.02"}, "DEGRADED"),
        ({"sw_thermal": "0.4"}, "DEGRADED"),
        ({"hw_thermal": "0.03"}, "DEGRADED"),
        ({"hw_thermal": "0,1@24,0@25"}, "INVALID"),
        ({"hw_power_brake": "0.06"}, "INVALID"),
    ],
    ids=str,
)
def test_throttling_degrades_a_run_and_by_the_hardware_spoils_it(
    measure: Measure, throttle: dict[str, str], level: str
) -> None:
    run = measure(throttle=throttle)
    assert judge_run(run).level == level
    assert [text for _, text in faults_of(run) if "throttled" in text] or level == "VALID"


def test_throttling_outside_the_window_is_nobodys_fault(measure: Measure) -> None:
    assert judge_run(measure(throttle={"hw_thermal": "1,0@19"})).level == "VALID"


def test_two_runs_that_throttled_differently_are_not_compared(measure: Measure) -> None:
    calm = measure()
    compared(calm, measure(throttle={"hw_thermal": "0.005"}))
    with pytest.raises(ResultError, match="throttling differs"):
        compared(calm, measure(throttle={"hw_thermal": "0.04"}))


@pytest.mark.parametrize("options", [{"limit_w": "700,400@25"}, {"clock_limit_mhz": "1980,1200@25"}], ids=str)
def test_a_limit_that_somebody_changed_spoils_the_run(measure: Measure, options: dict[str, str]) -> None:
    run = measure(**options)
    (fault,) = faults_of(run)
    assert fault[0] == "INVALID"
    assert "limits were changed" in fault[1]


def test_a_gpu_that_others_use_is_refused_unless_it_is_allowed(measure: Measure) -> None:
    run = measure(pids="self:1000000000,4242:2000000000")
    with pytest.raises(NotAvailable, match="4242"):
        refuse_shared(run.meta.facts["meters"]["gpu"], allow=False)
    assert kwh_per_1k(run).value is None
    assert "not attributable" in str(kwh_per_1k(run).why)
    assert [level for level, text in faults_of(run) if "4242" in text] == ["DEGRADED"]


def test_a_process_that_came_while_it_ran_takes_the_joules_with_it(measure: Measure) -> None:
    run = measure(pids="self:1000000000;25=self:1000000000,4242:-")
    assert refuse_shared(run.meta.facts["meters"]["gpu"], allow=False) == []
    assert "4242" in str(kwh_per_1k(run).why)
    assert judge_run(run).level == "DEGRADED"


def test_in_a_container_that_hides_process_ids_the_single_one_is_ones_own_and_is_doubted(
    measure: Measure,
) -> None:
    # Before loading nobody is listed; afterwards one process is, under the host's id.
    run = measure(pids="0=;10=987654:1000000000")
    assert energy_of(run).source == "counter"
    assert "987654" in doubts_of(run)["hidden process"]


def test_in_such_a_container_two_processes_are_one_too_many(measure: Measure) -> None:
    run = measure(pids="0=;10=987654:1000000000,987655:1000000000")
    assert kwh_per_1k(run).value is None
    assert judge_run(run).level == "DEGRADED"


def test_under_mig_neither_joules_nor_memory_are_the_runs(measure: Measure) -> None:
    run = measure(mig=True, used_bytes="60000000000")
    assert kwh_per_1k(run).value is None
    assert "mig" in str(kwh_per_1k(run).why)
    assert "memory_used_gb" in run.telemetry.column("field").to_pylist(), "what was read is kept"
    for read in (memory.average_gb, memory.peak_gb):
        assert (read(run).value, read(run).why) == (
            None,
            "mig: the memory of the whole GPU, not of this run's instance",
        )


def test_where_the_process_list_is_empty_nobody_knows_who_else_computes(measure: Measure) -> None:
    run = measure(pids="")
    assert "other processes cannot be seen" in doubts_of(run)["hidden process"]
    assert energy_of(run).source == "counter"
    assert "hidden process" not in doubts_of(measure())


def test_who_was_there_before_loading_is_somebody_else_though_ones_own_id_is_hidden(measure: Measure) -> None:
    run = measure(pids="4242:2000000000")
    assert "pids 4242" in str(kwh_per_1k(run).why)
    assert judge_run(run).level == "DEGRADED"
    came = measure(pids="4242:2000000000;10=4242:2000000000,987654:1000000000")
    assert others_on(came) == [4242]
    assert hidden_pids(came) == [987654]


NO_THROTTLE_COUNTERS = ("74:2", "269:2", "270:2", "271:2")


NO_MASK = ("nvmlDeviceGetCurrentClocksEventReasons:13", "nvmlDeviceGetCurrentClocksThrottleReasons:13")


@pytest.mark.parametrize(("share", "level"), [("0.6", "INVALID"), ("0", "VALID")])
def test_a_driver_without_throttle_counters_is_judged_by_the_mask_of_reasons(
    measure: Measure, share: str, level: str
) -> None:
    run = measure(faults=NO_THROTTLE_COUNTERS, throttle={"hw_thermal": share}, window=LONG)
    assert judge_run(run).level == level
    found = throttled_share(run, HARDWARE)
    assert found == pytest.approx(float(share), abs=0.04)
    assert throttled_share(run, SOFTWARE) == 0.0
    assert "throttling unknown" not in doubts_of(run)


def test_throttling_that_nobody_can_read_is_doubted(measure: Measure) -> None:
    run = measure(faults=[*NO_THROTTLE_COUNTERS, *NO_MASK])
    assert throttled_share(run) is None
    assert "hw thermal" in doubts_of(run)["throttling unknown"]
    assert "throttling unknown" not in doubts_of(measure(faults=NO_MASK))


def test_a_counter_of_the_whole_module_is_said_and_not_compared_with_a_gpus(measure: Measure) -> None:
    run = measure(module_scope=True, faults=["83:3"])
    assert energy_of(run).source == "counter"
    assert "scope module" in in_words(SystemRuns(name="modelled", offline=None, windows=[run]))
    assert "module" in doubts_of(run)["module energy"]
    with pytest.raises(ResultError, match="energy_scope differs"):
        compared(run, measure())


def test_a_module_is_not_held_against_the_limit_of_its_gpu(measure: Measure) -> None:
    run = measure(module_scope=True, faults=["83:3"], gain=(1.0, 4.0))  # CPU and GPU draw 800 W together
    energy = energy_of(run)
    assert (energy.source, energy.scope) == ("counter", "module")
    assert energy.power_w == pytest.approx(800.0, rel=0.01)
    assert "counter disagrees" not in doubts_of(run), "the GPU's power is another thing"


def test_power_polled_in_place_of_a_modules_counter_is_the_gpus(measure: Measure) -> None:
    run = measure(module_scope=True, faults=["83:3"], reset_at_s=25.0)
    assert (energy_of(run).source, energy_of(run).scope) == ("avg_poll", "gpu")
    assert "scope gpu" in in_words(SystemRuns(name="modelled", offline=None, windows=[run]))
    assert "module energy" not in doubts_of(run)


def test_idle_power_of_a_gpu_is_not_taken_off_the_energy_of_a_module(measure: Measure) -> None:
    options: dict[str, Any] = {"module_scope": True, "faults": ["83:3"], "utilization": "0,87@17"}
    run = measure(power_w="60,80@10,300@17", idle_spans=IDLE, reset_at_s=12.0, **options)
    assert energy_of(run).scope == "module"
    assert idle.net_kwh_per_1k(run).why == "the idle power is of the gpu, that under load of the module"


def test_of_two_gpus_the_joules_are_added_up(measure: Measure) -> None:
    devices = metered(measure(gpus=2, power_w="200;100"))
    assert not isinstance(devices, str)
    assert sorted(energy.power_w for energy in devices) == pytest.approx([100, 200], rel=1e-3)


def test_of_two_gpus_one_without_joules_makes_the_total_missing(measure: Measure) -> None:
    without = [f"{target.split(':')[0]}@1:3" for target in (*NO_COUNTER, *NO_POWER)]
    run = measure(gpus=2, faults=without)
    assert kwh_per_1k(run).value is None
    assert "Not Supported" in str(kwh_per_1k(run).why)


def test_a_gpu_is_read_by_its_uuid_whatever_its_index(library: Modelled) -> None:
    library.configure(gpus=2, power_w="100;300")
    meter = open_gpu(fake_nvml.uuid(1))
    try:
        assert ("power_w", 300.0, fake_nvml.uuid(1)) in meter.read()
    finally:
        meter.close()


def test_uncorrected_memory_errors_spoil_a_run_and_corrected_ones_are_doubted(measure: Measure) -> None:
    spoilt = measure(ecc=("0", "0,2@25"))
    assert [level for level, text in faults_of(spoilt) if "memory errors" in text] == ["INVALID"]
    doubtful = measure(ecc=("1,4@25", "0"))
    assert judge_run(doubtful).level == "VALID"
    assert "corrected 3 errors" in doubts_of(doubtful)["corrected memory errors"]
    old = measure(ecc=("7", "2"), capability=SEES_ALL)
    assert faults_of(old) == []
    assert doubts_of(old) == {}
