"""The modelled library itself: its truth is exact, and each sensor, clock and fault is what was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pynvml
import pytest

from tests import fake_nvml
from tests.fake_nvml.in_process import Modelled, behind_binding

WAVES = {
    "constant": "60",
    "steps": "60,300@1.5,80@4.25",
    "square": "square:60:300:0.5:0.4",
    "square, late": "square:60:300:0.5:0.4:0.2",
    "square, over the period's end": "square:60:300:0.5:0.8:0.3",
    "burst": "burst:60:600:0.2:0.3:7",
    "drift": "drift:100:500:3:5:0.2",
}


@pytest.fixture(scope="module")
def library() -> Iterator[Modelled]:
    if fake_nvml.compiler() is None:
        pytest.skip("no C compiler to build the modelled NVML library with")
    with behind_binding() as modelled:
        pynvml.nvmlInit()
        yield modelled
        modelled.configure()
        pynvml.nvmlShutdown()


def gpu(index: int = 0) -> Any:
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def field(number: int) -> float:
    (value,) = pynvml.nvmlDeviceGetFieldValues(gpu(), [number])
    return float(value.value.uiVal if value.valueType == 1 else value.value.ullVal)


def watts_at(library: Modelled, times_s: np.ndarray, number: int = 186) -> np.ndarray:
    watts = []
    for t_s in times_s.tolist():
        library.set_time_s(t_s)
        watts.append(field(number) / 1e3)
    return np.array(watts)


@pytest.mark.parametrize("wave", WAVES.values(), ids=WAVES)
def test_the_true_energy_is_the_integral_of_the_true_power(library: Modelled, wave: str) -> None:
    library.configure(power_w=wave)
    middles_s = np.arange(0.0005, 6.0, 0.001)
    joules = watts_at(library, middles_s).sum() * 0.001
    assert library.true_energy_j(0, 0.0, 6.0) == pytest.approx(joules, rel=2e-3)


@pytest.mark.parametrize(
    "wave", ["square:60:300:0.5:0.4:0.2", "burst:60:600:0.2:0.3:7", "drift:100:500:3:5:0.2"]
)
def test_a_generated_wave_goes_on_for_ever_and_its_energy_with_it(library: Modelled, wave: str) -> None:
    library.configure(power_w=wave)
    whole_j = library.true_energy_j(0, 0.0, 3000.0)
    assert whole_j == pytest.approx(sum(library.true_energy_j(0, t, t + 1.0) for t in range(3000)), rel=1e-9)
    assert library.true_energy_j(0, 2400.0, 3000.0) == pytest.approx(library.true_energy_j(0, 0.0, 600.0))


def test_bursts_of_another_seed_are_other_bursts_and_of_the_same_seed_the_same(library: Modelled) -> None:
    joules = []
    for seed in (1, 2, 1):
        library.configure(power_w=f"burst:60:600:0.2:0.3:{seed}")
        joules.append(library.true_energy_j(0, 0.0, 10.0))
    assert joules[0] == joules[2] != joules[1]


def test_a_trace_can_come_from_a_file_of_any_length(library: Modelled, tmp_path: Path) -> None:
    watts = np.random.default_rng(3).uniform(60, 700, 5000)
    trace = tmp_path / "trace.csv"
    trace.write_text("".join(f"{i * 0.01:.2f},{w:.3f}\n" for i, w in enumerate(watts)))
    library.configure(power_w=f"file:{trace}")
    assert library.true_energy_j(0, 0.0, 50.0) == pytest.approx(watts.sum() * 0.01, rel=1e-6)


def test_the_sensor_shows_the_mean_of_its_window_at_its_last_update(library: Modelled) -> None:
    library.configure(power_w="square:0:100:0.1:0.25", sensor=(25, 100, 25))
    # It looks from 0 to 25 ms of every 100 ms, which is when the power is high: four times the truth.
    assert watts_at(library, np.array([0.2, 0.225, 0.3, 0.32])).tolist() == [100.0] * 4
    library.configure(power_w="60,160@1", sensor=(50, 100, 20))
    assert watts_at(library, np.array([1.019, 1.021, 1.119, 1.121])).tolist() == [60.0, 100.0, 100.0, 160.0]


def test_the_mean_lags_a_step_by_its_second(library: Modelled) -> None:
    library.configure(power_w="100,200@1", average=(1000, 100))
    assert watts_at(library, np.array([1.0, 1.45, 1.5, 2.0, 2.3]), 185).tolist() == [100, 140, 150, 200, 200]


def test_power_usage_is_the_instant_sensor_up_to_ga100_and_the_mean_from_then_on(library: Modelled) -> None:
    for capability, watts in (("8.0", 200.0), ("8.6", 150.0), ("9.0", 150.0)):
        library.configure(power_w="100,200@1", capability=capability, time_s=1.5)
        assert pynvml.nvmlDeviceGetPowerUsage(gpu()) == watts * 1e3


def test_the_gain_is_of_the_readings_and_leaves_the_truth(library: Modelled) -> None:
    library.configure(power_w="100", gain=(0.95, 1.02), time_s=10.0)
    assert field(186) == 95_000
    assert field(191) == 5_000_000 + 1_020_000
    assert library.true_energy_j(0, 0.0, 10.0) == 1000.0


def counter_j(library: Modelled, *times_s: float) -> list[float]:
    joules = []
    for t_s in times_s:
        library.set_time_s(t_s)
        joules.append(field(191) / 1e3 - 5000)
    return joules


def test_the_counters_ticks_have_a_phase(library: Modelled) -> None:
    library.configure(power_w="100", tick_ms=100, tick_phase_ms=30)
    assert counter_j(library, 1.0, 1.029, 1.031, 1.129, 1.131) == [93, 93, 103, 103, 113]


def test_a_frozen_counter_stands_still_and_then_shows_all_that_passed(library: Modelled) -> None:
    library.configure(power_w="100", frozen_s=(2.0, 4.0))
    assert counter_j(library, 1.9, 2.5, 3.9, 4.0) == [190, 200, 200, 400]
    library.configure(power_w="100", frozen_s=(2.0,))
    assert counter_j(library, 1.9, 2.5, 100.0) == [190, 200, 200]


def test_a_counter_can_be_as_blind_as_the_sensor(library: Modelled) -> None:
    options: dict[str, Any] = {"power_w": "square:0:100:0.1:0.25", "sensor": (25, 100, 25)}
    library.configure(counter="readings", **options)
    assert counter_j(library, 10.0) == [pytest.approx(1000, rel=0.02)]  # four times the truth
    library.configure(**options)
    assert counter_j(library, 10.0) == [pytest.approx(250)]
    library.configure(power_w="150", sensor=(25, 100, 25), counter="readings", reset_at_s=5.0)
    assert counter_j(library, 10.0, 2.0, 10.0) == pytest.approx([750 - 5000, 300, 750 - 5000], abs=16)


def test_a_counter_can_jump(library: Modelled) -> None:
    library.configure(power_w="100", jump=(2.0, 5000.0))
    assert counter_j(library, 1.9, 2.0, 2.1) == [190, 5200, 5210]


def test_a_power_limit_a_clock_and_its_limit_change_when_they_are_told_to(library: Modelled) -> None:
    library.configure(limit_w="700,400@5", clock_mhz="1755,900@6", clock_limit_mhz="1980,1000@7")
    seen = []
    for t_s in (0.0, 5.0, 6.0, 7.0):
        library.set_time_s(t_s)
        seen.append(
            (
                pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu()),
                pynvml.nvmlDeviceGetClockInfo(gpu(), pynvml.NVML_CLOCK_SM),
                pynvml.nvmlDeviceGetMaxClockInfo(gpu(), pynvml.NVML_CLOCK_SM),
            )
        )
    assert seen == [(700_000, 1755, 1980), (400_000, 1755, 1980), (400_000, 900, 1980), (400_000, 900, 1000)]


def test_errors_of_the_memory_are_counted_by_kind(library: Modelled) -> None:
    library.configure(ecc=("0,3@5", "0,1@8"))
    seen = []
    for t_s in (0.0, 6.0, 9.0):
        library.set_time_s(t_s)
        seen.append(tuple(pynvml.nvmlDeviceGetTotalEccErrors(gpu(), kind, 0) for kind in (0, 1)))
    assert seen == [(0, 0), (3, 0), (3, 1)]
    assert (field(3), field(4)) == (3, 1)


def test_each_reason_for_throttling_counts_its_own_time(library: Modelled) -> None:
    library.configure(
        throttle={"sw_thermal": "0.5", "hw_thermal": "0,1@5,0@7"}, throttle_share=0.25, time_s=10.0
    )
    assert [field(number) / 1e9 for number in fake_nvml.THROTTLES.values()] == [2.5, 5.0, 2.0, 0.0]
    library.set_time_s(6.0)
    assert pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu()) == 0x04 | 0x20 | 0x40


def test_the_list_of_processes_changes_and_can_name_this_process(library: Modelled) -> None:
    library.configure(pids="self:1000;5=self:1000,4242:-")
    listed = []
    for t_s in (0.0, 6.0):
        library.set_time_s(t_s)
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(gpu())
        listed.append([(each.pid, each.usedGpuMemory) for each in processes])
    assert listed == [[(os.getpid(), 1000)], [(os.getpid(), 1000), (4242, None)]]


def test_memory_in_use_can_change(library: Modelled) -> None:
    library.configure(used_bytes="1000000000,3000000000@5")
    used = []
    for t_s in (0.0, 6.0):
        library.set_time_s(t_s)
        used.append(pynvml.nvmlDeviceGetMemoryInfo(gpu(), version=pynvml.nvmlMemory_v2).used)
    assert used == [1_000_000_000, 3_000_000_000]


def test_a_fault_can_begin_at_a_time_and_last_for_one(library: Modelled) -> None:
    library.configure(faults=["nvmlDeviceGetPowerUsage:15:2s:1.5s"])
    lost = []
    for t_s in (1.9, 2.0, 3.4, 3.5):
        library.set_time_s(t_s)
        try:
            pynvml.nvmlDeviceGetPowerUsage(gpu())
            lost.append(False)
        except pynvml.NVMLError_GpuIsLost:
            lost.append(True)
    assert lost == [False, True, True, False]
