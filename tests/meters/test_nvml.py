"""One GPU through the real binding, on the modelled library."""

from __future__ import annotations

import os

import pytest

from bench.meters.nvml_readings import QUANTITIES
from tests import fake_nvml
from tests.meters.conftest import ModelledNvml, opened, values


def test_a_healthy_gpu_gives_every_field_in_its_unit(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60", time_s=10.0, throttle_share=0.25)
    with opened() as meter:
        assert meter.missing == {}
        assert values(meter) == {
            "power_w": 60.0,
            "power_average_w": 60.0,
            "energy_j": 5000.0 + 600.0,
            "memory_used_gb": 1.2,
            "memory_reserved_gb": 0.5,
            "temperature_c": 40.0,
            "sm_clock_mhz": 1755.0,
            "memory_clock_mhz": 2619.0,
            "throttle_sw_power_s": 2.5,
            "throttle_sw_thermal_s": 0.0,
            "throttle_hw_thermal_s": 0.0,
            "throttle_hw_power_brake_s": 0.0,
            "throttle_reasons": 4.0,
            "utilization_percent": 87.0,
        }
        assert meter.simulated


def test_the_energy_counter_follows_a_step_of_power_exactly_from_tick_to_tick(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60,300@5,60@8")
    with opened() as meter:
        nvml.set_time_s(4.0)
        start_j = values(meter)["energy_j"]
        nvml.set_time_s(9.0)
        joules = values(meter)["energy_j"] - start_j
    assert joules == pytest.approx(60 + 3 * 300 + 60, abs=1e-3)
    assert joules == pytest.approx(nvml.true_energy_j(0, 4.0, 9.0), abs=1e-3)


def test_the_energy_counter_stands_still_between_two_ticks(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60", tick_ms=100)
    with opened() as meter:
        readings = []
        for t_s in (1.0, 1.05, 1.099, 1.1):
            nvml.set_time_s(t_s)
            readings.append(values(meter)["energy_j"])
    assert readings[0] == readings[1] == readings[2]
    assert readings[3] - readings[0] == pytest.approx(6.0)


def test_instant_power_jumps_where_the_one_second_mean_lags(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60,300@5", time_s=5.5)
    with opened() as meter:
        now = values(meter)
    assert now["power_w"] == 300.0
    assert now["power_average_w"] == pytest.approx(180.0)


def test_a_counter_reset_is_handed_on_as_read(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60", reset_at_s=2.0)
    with opened() as meter:
        nvml.set_time_s(1.0)
        assert values(meter)["energy_j"] == 5060.0
        nvml.set_time_s(3.0)
        assert values(meter)["energy_j"] == 60.0


@pytest.mark.parametrize("index", [0, 1])
def test_of_two_gpus_the_one_with_the_uuid_is_read(nvml: ModelledNvml, index: int) -> None:
    nvml.configure(power_w="60;300", gpus=2)
    with opened(fake_nvml.uuid(index)) as meter:
        readings = meter.read()
    assert ("power_w", [60.0, 300.0][index], fake_nvml.uuid(index)) in readings
    assert {uuid for _, _, uuid in readings} == {fake_nvml.uuid(index)}


def test_a_uuid_without_its_prefix_names_the_same_gpu(nvml: ModelledNvml) -> None:
    with opened(fake_nvml.uuid(1).removeprefix("GPU-")) as meter:
        assert meter.facts["uuid"] == fake_nvml.uuid(1)


FAULT_OF_FIELD = {
    "power_w": ["186:3", "nvmlDeviceGetPowerUsage:3"],
    "power_average_w": ["185:3"],
    "energy_j": ["191:3", "83:3", "nvmlDeviceGetTotalEnergyConsumption:3"],
    "memory_used_gb": ["nvmlDeviceGetMemoryInfo_v2:3", "nvmlDeviceGetMemoryInfo:3"],
    "memory_reserved_gb": ["nvmlDeviceGetMemoryInfo_v2:3"],
    "temperature_c": ["nvmlDeviceGetTemperatureV:3", "nvmlDeviceGetTemperature:3"],
    "sm_clock_mhz": ["nvmlDeviceGetClockInfo:3"],
    "memory_clock_mhz": ["nvmlDeviceGetClockInfo:3"],
    "throttle_sw_power_s": ["74:3"],
    "throttle_sw_thermal_s": ["269:3"],
    "throttle_hw_thermal_s": ["270:3"],
    "throttle_hw_power_brake_s": ["271:3"],
    "throttle_reasons": [
        "nvmlDeviceGetCurrentClocksEventReasons:3",
        "nvmlDeviceGetCurrentClocksThrottleReasons:3",
    ],
    "utilization_percent": ["nvmlDeviceGetUtilizationRates:3"],
}


def test_every_field_has_a_case_of_not_being_supported() -> None:
    assert set(FAULT_OF_FIELD) == set(QUANTITIES)


@pytest.mark.parametrize("field", FAULT_OF_FIELD)
def test_an_unsupported_field_is_missing_with_its_reason_and_has_no_value(
    nvml: ModelledNvml, field: str
) -> None:
    nvml.configure(faults=FAULT_OF_FIELD[field])
    with opened() as meter:
        assert "Not Supported" in meter.missing[field]
        now = values(meter)
    assert field not in now
    assert now.keys() | meter.missing.keys() == QUANTITIES.keys()


def test_a_stale_number_beside_a_failed_field_is_never_taken_for_a_reading(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["185:3", "186:999:3:1"])  # 186 fails once, in the second read
    with opened() as meter:
        assert values(meter)["power_w"] == 60.0
        assert "power_w" not in values(meter)
        assert values(meter)["power_w"] == 60.0
        assert "power_average_w" not in values(meter)


def test_what_is_not_supported_is_asked_for_at_opening_only(nvml: ModelledNvml) -> None:
    def calls_of_a_read() -> int:
        with opened() as meter:
            before = nvml.calls
            meter.read()
            return nvml.calls - before

    whole = calls_of_a_read()
    nvml.configure(faults=FAULT_OF_FIELD["temperature_c"] + FAULT_OF_FIELD["utilization_percent"])
    assert calls_of_a_read() == whole - 2


def test_power_falls_back_to_the_legacy_call_and_says_so(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60,300@5", time_s=5.5, faults=["186:3"])
    with opened() as meter:
        assert values(meter)["power_w"] == pytest.approx(180.0)
        assert meter.facts["power_method"] == "nvmlDeviceGetPowerUsage"
        assert meter.facts["sensor"]["reading"] == "legacy"
        assert meter.facts["sensor"]["window_s"] == 1.0


def test_an_energy_counter_of_the_module_is_named_as_such(nvml: ModelledNvml) -> None:
    nvml.configure(module_scope=True)
    with opened() as meter:
        assert meter.facts["energy_scope"] == "module"
        assert values(meter)["energy_j"] == 5000.0


@pytest.mark.parametrize(
    ("faults", "method"),
    [
        ([], "field 191"),
        (["191:2"], "field 83"),
        (["191:2", "83:3"], "nvmlDeviceGetTotalEnergyConsumption"),
    ],
)
def test_the_energy_counter_is_the_same_by_each_method(
    nvml: ModelledNvml, faults: list[str], method: str
) -> None:
    nvml.configure(faults=faults, time_s=10.0)
    with opened() as meter:
        assert values(meter)["energy_j"] == 5600.0
        assert meter.facts["energy_method"] == method


def test_memory_v1_is_memory_v2_plus_the_reserved_part(nvml: ModelledNvml) -> None:
    with opened() as meter:
        v2 = values(meter)
        assert meter.facts["memory_api"] == "v2"
    nvml.configure(faults=["nvmlDeviceGetMemoryInfo_v2:13"])
    with opened() as meter:
        v1 = values(meter)
        assert meter.facts["memory_api"] == "v1"
        assert "memory_reserved_gb" in meter.missing
    assert v1["memory_used_gb"] - v2["memory_used_gb"] == pytest.approx(v2["memory_reserved_gb"])


def test_an_old_driver_is_read_by_the_methods_that_it_has(nvml: ModelledNvml) -> None:
    nvml.configure(faults=fake_nvml.OLD_DRIVER, driver="470.82-fake", pids="4242:1000000000")
    with opened() as meter:
        now = values(meter)
        assert (now["power_w"], now["energy_j"], now["temperature_c"]) == (60.0, 5000.0, 40.0)
        assert meter.facts["memory_api"] == "v1"
        assert meter.facts["driver"] == "470.82-fake"
        assert meter.facts["other_processes"] == [{"pid": 4242, "memory_gb": 1.0}]
        assert set(meter.missing) == {
            "power_average_w",
            "memory_reserved_gb",
            "throttle_sw_thermal_s",
            "throttle_hw_thermal_s",
            "throttle_hw_power_brake_s",
        }


def test_under_mig_power_and_energy_are_missing_and_memory_is_not(nvml: ModelledNvml) -> None:
    nvml.configure(mig=True)
    with opened() as meter:
        for field in ("power_w", "power_average_w", "energy_j"):
            assert meter.missing[field] == "mig: whole-GPU counter only"
        assert "Not Supported" in meter.missing["utilization_percent"]
        assert meter.facts["energy_method"] is None
        now = values(meter)
    assert now["memory_used_gb"] == 1.2
    assert not {"power_w", "power_average_w", "energy_j"} & now.keys()


def test_the_facts_describe_the_gpu_and_the_reading_methods(nvml: ModelledNvml) -> None:
    nvml.configure(pids=f"4242:1000000000,4343:-,{os.getpid()}:7")
    with opened() as meter:
        facts = meter.facts
    assert facts.pop("binding")
    del facts["lib_path"]  # in this process the modelled library has a name of its own
    assert facts == {
        "name": "Modelled GPU",
        "uuid": fake_nvml.uuid(0),
        "architecture": "Hopper",
        "compute_capability": "9.0",
        "driver": "590.00-fake",
        "nvml": "13.590.00-fake",
        "memory_total_gb": 80.0,
        "power_limit_w": 700.0,
        "persistence": True,
        "ecc": True,
        "mig": False,
        "pstate": 0,
        "other_processes": [{"pid": 4242, "memory_gb": 1.0}, {"pid": 4343, "memory_gb": None}],
        "own_pid_listed": True,
        "sm_clock_limit_mhz": 1980,
        "ecc_corrected": 0,
        "ecc_uncorrected": 0,
        "memory_used_gb": 1.2,
        "temperature_c": 40.0,
        "transient_faults": {},
        "read_latency_us": None,
        "unavailable": {},
        "power_method": "field 186 (instant)",
        "sensor": {
            "reading": "instant",
            "window_s": 0.025,
            "update_s": 0.1,
            "share_observed": 0.25,
            "source": "SC24 (measured on H100 PCIe (10 boards))",
        },
        "energy_method": "field 191",
        "energy_scope": "gpu",
        "memory_api": "v2",
    }


def test_a_fact_that_cannot_be_had_is_none_with_its_reason(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["nvmlDeviceGetEccMode:3", "nvmlDeviceGetComputeRunningProcesses_v3:4"])
    with opened() as meter:
        assert meter.facts["ecc"] is None
        assert meter.facts["other_processes"] is None
        assert meter.facts["unavailable"] == {
            "ecc": "nvml: Not Supported",
            "other_processes": "nvml: Insufficient Permissions",
            "own_pid_listed": "nvml: Insufficient Permissions",
        }
        assert (meter.facts["other_processes"], meter.facts["own_pid_listed"]) == (None, None)


def test_settings_processes_and_levels_are_read_again_at_the_end(nvml: ModelledNvml) -> None:
    nvml.configure(
        limit_w="700,400@5", ecc=("2,3@5", "0,1@5"), pids="4242:1000000000", used_bytes="1e9,2e9@5"
    )
    with opened() as meter:
        before = meter.facts
        nvml.set_time_s(6.0)
        after = meter.after()
    assert (before["power_limit_w"], after["power_limit_w"]) == (700.0, 400.0)
    assert (before["ecc_corrected"], after["ecc_corrected"]) == (2, 3)
    assert (before["ecc_uncorrected"], after["ecc_uncorrected"]) == (0, 1)
    assert (before["memory_used_gb"], after["memory_used_gb"]) == (1.0, 2.0)
    assert after["other_processes"] == [{"pid": 4242, "memory_gb": 1.0}]
    assert after["own_pid_listed"] is False
    assert after.keys() <= before.keys()


def test_the_process_list_is_read_at_opening_and_at_the_end_only(nvml: ModelledNvml) -> None:
    # The binding calls twice for one list, and here the third call fails: that is at the end.
    nvml.configure(faults=["nvmlDeviceGetComputeRunningProcesses_v3:4:3"], pids="4242:-")
    with opened() as meter:
        assert meter.facts["other_processes"] == [{"pid": 4242, "memory_gb": None}]
        for _ in range(3):
            meter.read()
        after = meter.after()
    assert after["other_processes"] is None
    assert after["unavailable"]["other_processes"] == "nvml: Insufficient Permissions"


def test_without_application_clocks_the_highest_clock_is_the_limit(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["nvmlDeviceGetApplicationsClock:3"])
    with opened() as meter:
        assert meter.facts["sm_clock_limit_mhz"] == 1980


def test_only_the_asked_fields_are_read(nvml: ModelledNvml) -> None:
    with opened() as meter:
        before = nvml.calls
        assert [field for field, _, _ in meter.read({"energy_j"})] == ["energy_j"]
        assert nvml.calls - before == 1


def test_power_and_energy_may_be_read_at_any_rate_and_what_changes_slowly_less_often(
    nvml: ModelledNvml,
) -> None:
    with opened() as meter:
        periods_s = meter.periods_s
    assert {field for field, period_s in periods_s.items() if period_s == 0.0} == {
        "power_w",
        "power_average_w",
        "energy_j",
        "throttle_sw_power_s",
        "throttle_sw_thermal_s",
        "throttle_hw_thermal_s",
        "throttle_hw_power_brake_s",
    }
    assert periods_s["memory_used_gb"] == 0.2
    assert periods_s["temperature_c"] == 1.0


def test_without_the_counters_of_throttling_its_reasons_are_read_as_often_as_power(
    nvml: ModelledNvml,
) -> None:
    nvml.configure(faults=fake_nvml.OLD_DRIVER, throttle={"hw_thermal": "1"})
    with opened() as meter:
        assert meter.periods_s["throttle_reasons"] == 0.0
        assert values(meter)["throttle_reasons"] == 0x40


def test_a_driver_before_event_reasons_tells_throttle_reasons(nvml: ModelledNvml) -> None:
    nvml.configure(
        faults=["nvmlDeviceGetCurrentClocksEventReasons:13"],
        throttle={"hw_power_brake": "1", "sw_power": "1"},
    )
    with opened() as meter:
        assert values(meter)["throttle_reasons"] == 0x84
