"""The modelled library itself: its structs are the binding's, its truth is exact."""

from __future__ import annotations

import ctypes

import pynvml
import pytest

from tests.meters.conftest import ModelledNvml


@pytest.mark.parametrize(
    ("struct", "binding", "size"),
    [
        ("Memory", "c_nvmlMemory_t", 24),
        ("Memory_v2", "c_nvmlMemory_v2_t", 40),
        ("FieldValue", "c_nvmlFieldValue_t", 40),
        ("ProcessInfo", "c_nvmlProcessInfo_t", 24),
    ],
)
def test_its_structs_have_the_size_of_the_bindings(
    nvml: ModelledNvml, struct: str, binding: str, size: int
) -> None:
    assert nvml.sizeof(struct) == ctypes.sizeof(getattr(pynvml, binding)) == size


@pytest.mark.parametrize(
    ("from_s", "to_s", "joules"), [(0, 5, 300), (4, 9, 1020), (5, 8, 900), (6.5, 7.5, 300), (8, 100, 5520)]
)
def test_its_true_energy_is_the_integral_of_its_power(
    nvml: ModelledNvml, from_s: float, to_s: float, joules: float
) -> None:
    nvml.configure(power_w="60,300@5,60@8")
    assert nvml.true_energy_j(0, from_s, to_s) == pytest.approx(joules)


def test_the_last_power_trace_serves_the_remaining_gpus(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60;300", gpus=3)
    assert [nvml.true_energy_j(gpu, 0, 1) for gpu in range(3)] == [60.0, 300.0, 300.0]


def test_a_fault_rule_fails_from_its_first_call_for_its_number_of_times(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["nvmlDeviceGetCount_v2:999:2:2"])
    outcomes = []
    pynvml.nvmlInit()
    for _ in range(5):
        try:
            outcomes.append(pynvml.nvmlDeviceGetCount())
        except pynvml.NVMLError as error:
            outcomes.append(-error.value)
    pynvml.nvmlShutdown()
    assert outcomes == [2, -999, -999, 2, 2]
