"""A GPU that fails while it is read."""

from __future__ import annotations

import pytest

from bench.meters.faults import GpuLost
from bench.meters.nvml import open_gpu
from bench.meters.nvml_readings import QUANTITIES
from tests import fake_nvml
from tests.meters.conftest import ModelledNvml, opened, values


def test_a_lost_gpu_is_raised_once_and_leaves_every_field_missing(nvml: ModelledNvml) -> None:
    with opened() as meter:
        assert values(meter)
        nvml.configure(faults=["*:15"])
        with pytest.raises(GpuLost, match="GPU is lost"):
            meter.read()
        assert meter.read() == []
        assert meter.missing == dict.fromkeys(QUANTITIES, "nvml: GPU is lost")


def test_a_field_that_wants_a_reset_loses_the_gpu(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["191:16:2"])
    with opened() as meter, pytest.raises(GpuLost, match="requires restart"):
        meter.read()


def test_a_gpu_that_is_lost_before_opening_is_named_and_nvml_is_left(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["*:15"])
    with pytest.raises(GpuLost, match=fake_nvml.uuid(0)):
        open_gpu(fake_nvml.uuid(0))


@pytest.mark.parametrize("code", [10, 999])
def test_three_transient_faults_in_a_row_are_gaps(nvml: ModelledNvml, code: int) -> None:
    nvml.configure(faults=[f"186:{code}:2:3"])
    with opened() as meter:
        assert ["power_w" in values(meter) for _ in range(5)] == [False, False, False, True, True]
        assert meter.missing == {}
        assert meter.facts["transient_faults"] == {"power_w": 3}


def test_gaps_that_are_not_in_a_row_never_end_a_field(nvml: ModelledNvml) -> None:
    # The second rule counts the calls that the first lets pass.
    nvml.configure(faults=["186:999:2:3", "186:999:3:3"])
    with opened() as meter:
        seen = ["power_w" in values(meter) for _ in range(9)]
        assert seen == [False] * 3 + [True] + [False] * 3 + [True] * 2
        assert meter.missing == {}


def test_a_fourth_transient_fault_in_a_row_ends_the_field_with_its_reason(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["186:999:2:4"])
    with opened() as meter:
        assert ["power_w" in values(meter) for _ in range(6)] == [False] * 6
        assert meter.missing == {"power_w": "nvml: failed while sampling: Unknown Error 4 times in a row"}
        assert "energy_j" in values(meter)


def test_a_transient_fault_at_opening_does_not_change_the_method(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["nvmlDeviceGetMemoryInfo_v2:999:1:1"])
    with opened() as meter:
        assert meter.missing == {"memory_used_gb": "nvml: v2: Unknown Error"}
        assert "memory_used_gb" not in values(meter)


def test_closing_twice_leaves_nvml_once(nvml: ModelledNvml) -> None:
    meter = open_gpu(fake_nvml.uuid(0))
    meter.close()
    meter.close()
    assert meter.read() == []
