"""Whether others are on the GPU before anything is loaded."""

from __future__ import annotations

import os

import pytest

from bench.errors import NotAvailable
from bench.meters.sharing import refuse_shared
from tests import fake_nvml
from tests.meters.conftest import ModelledNvml, opened

ALMOST_EMPTY = (80_000_000_000, 500_000_000, 8_000_000)


def test_a_gpu_of_ones_own_gives_no_doubt(nvml: ModelledNvml) -> None:
    nvml.configure(memory_bytes=ALMOST_EMPTY)
    with opened() as meter:
        assert refuse_shared(meter.facts, allow=False) == []


def test_a_gpu_that_others_use_is_refused_by_their_ids(nvml: ModelledNvml) -> None:
    nvml.configure(pids=f"4242:1000000000,{os.getpid()}:-,4343:-")
    with opened() as meter, pytest.raises(NotAvailable, match=r"\(pid 4242, 4343\).*allow_shared_gpu = true"):
        refuse_shared(meter.facts, allow=False)


def test_a_shared_gpu_that_is_allowed_leaves_a_doubt(nvml: ModelledNvml) -> None:
    nvml.configure(pids="4242:1000000000")
    with opened() as meter:
        (doubt,) = refuse_shared(meter.facts, allow=True)
    assert "pid 4242" in doubt


def test_memory_that_no_process_answers_for_is_a_doubt(nvml: ModelledNvml) -> None:
    nvml.configure(memory_bytes=(80_000_000_000, 500_000_000, 1_200_000_000))
    with opened() as meter:
        (doubt,) = refuse_shared(meter.facts, allow=False)
    assert doubt.startswith("1.20 GB of the GPU were in use before loading")


def test_what_an_old_driver_counts_as_used_may_be_its_own_reserve(nvml: ModelledNvml) -> None:
    nvml.configure(faults=fake_nvml.OLD_DRIVER)
    with opened() as meter:
        assert refuse_shared(meter.facts, allow=False) == []


def test_where_processes_may_not_be_listed_that_is_a_doubt(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["nvmlDeviceGetComputeRunningProcesses_v3:4"], memory_bytes=ALMOST_EMPTY)
    with opened() as meter:
        (doubt,) = refuse_shared(meter.facts, allow=False)
    assert "Insufficient Permissions" in doubt
