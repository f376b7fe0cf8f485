"""A driver whose calls do not return: at whichever call, it costs a run its joules and no time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pynvml
import pytest

from bench.clock import WallClock
from bench.errors import NotAvailable
from bench.meters.faults import Hung, within
from bench.meters.nvml import open_gpu, probe_nvml
from bench.meters.sampling import Sampler
from tests import fake_nvml
from tests.meters.conftest import ModelledNvml
from tests.meters.test_sampling import steady


@pytest.fixture
def hanging(nvml: ModelledNvml) -> Iterator[ModelledNvml]:
    """Lets go what hangs, waits for it, and leaves NVML as often as it was entered."""
    sessions = nvml.sessions
    yield nvml
    nvml.release()
    for thread in threading.enumerate():
        if thread.name in ("bench-sampler", "bench-driver-call"):
            thread.join(5)
    nvml.configure()
    while nvml.sessions > sessions:
        pynvml.nvmlShutdown()


def test_what_a_call_returns_or_raises_comes_through() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    assert within(5.0, lambda: 7, "counting") == 7
    with pytest.raises(TimeoutError, match="its own"):
        within(5.0, fail, "counting")


def test_a_call_that_does_not_return_is_named_and_left() -> None:
    gate = threading.Event()
    before = time.perf_counter()
    with pytest.raises(Hung, match=r"counting: the driver has not answered for 0\.05 s"):
        within(0.05, gate.wait, "counting")
    assert time.perf_counter() - before < 1.0
    gate.set()


@pytest.mark.parametrize(
    "call",
    ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "nvmlDeviceGetName", "nvmlSystemGetDriverVersion"],
)
def test_a_driver_that_hangs_while_it_is_looked_for_is_absent(hanging: ModelledNvml, call: str) -> None:
    hanging.configure(faults=[f"{call}:hang"])
    status = probe_nvml(limit_s=0.1)
    assert not status.available
    assert status.gpus == ()
    assert "has not answered for 0.1 s" in str(status.reason)


@pytest.mark.parametrize(
    "call",
    [
        "nvmlInitWithFlags",
        "nvmlDeviceGetHandleByUUID",
        "nvmlDeviceGetEccMode",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetUtilizationRates",
    ],
)
def test_a_gpu_that_hangs_while_it_is_opened_is_not_available(hanging: ModelledNvml, call: str) -> None:
    hanging.configure(faults=[f"{call}:hang"])
    with pytest.raises(NotAvailable, match="has not answered"):
        open_gpu(fake_nvml.uuid(0), limit_s=0.1)


@pytest.mark.parametrize(
    ("call", "samples_power", "join_timeout_s"),
    [
        ("nvmlDeviceGetFieldValues", False, 1.0),
        ("nvmlDeviceGetMemoryInfo_v2", True, 0.1),
        ("nvmlDeviceGetClockInfo", True, 0.1),
        ("nvmlDeviceGetEnforcedPowerLimit", True, 1.0),
        ("nvmlDeviceGetComputeRunningProcesses_v3", True, 1.0),
        ("nvmlShutdown", True, 1.0),
    ],
)
def test_whichever_call_hangs_the_end_of_a_run_takes_less_than_two_seconds(
    hanging: ModelledNvml, call: str, samples_power: bool, join_timeout_s: float
) -> None:
    meter = open_gpu(fake_nvml.uuid(0))
    hanging.configure(faults=[f"{call}:hang"])
    run = Sampler({"gpu": meter}, WallClock(), 0.01, join_timeout_s=join_timeout_s)
    run.start()
    time.sleep(0.1)
    before = time.perf_counter()
    log = run.stop()
    meter.close()
    assert time.perf_counter() - before < 1.9
    assert ("power_w" in {sample.field for sample in log.samples}) == samples_power
    assert hanging.sessions == 1, "a hung library is left as it is"


def test_a_hang_while_sampling_is_seen_while_it_lasts_and_told_in_the_log(hanging: ModelledNvml) -> None:
    meter = open_gpu(fake_nvml.uuid(0))
    hanging.configure(faults=["nvmlDeviceGetFieldValues:hang:3"])
    run = Sampler({"gpu": meter}, WallClock(), 0.002, join_timeout_s=0.3)
    run.start()
    said = [run.stalled]
    while said[-1] is None and len(said) < 600:
        time.sleep(0.01)
        said.append(run.stalled)
    assert said[0] is None
    assert str(said[-1]).startswith("the gpu meter stalled: a read has not returned for ")
    before = time.perf_counter()
    log = run.stop()
    meter.close()
    assert time.perf_counter() - before < 0.5, "what is known to have stalled is not waited for"
    (failure,) = log.failures
    assert (failure.meter, failure.kind) == ("gpu", "stalled")
    assert len([s for s in log.samples if s.field == "power_w"]) == 2
    assert log.missing["power_w"].startswith("stalled: a read has not returned")
    assert log.doubts[0].startswith("gpu meter stalled: a read has not returned")
    assert "after" not in log.facts["gpu"]


def test_a_stalled_gpu_takes_nothing_from_the_other_meters_samples(hanging: ModelledNvml) -> None:
    meter, host = open_gpu(fake_nvml.uuid(0)), steady()
    hanging.configure(faults=["nvmlDeviceGetFieldValues:hang:3"])
    run = Sampler({"host": host, "gpu": meter}, WallClock(), 0.002, join_timeout_s=0.1)
    run.start()
    host.wait_for_reads(3)
    log = run.stop()
    meter.close()
    assert "x" not in log.missing
    assert "power_w" in log.missing
    assert [doubt for doubt in log.doubts if not doubt.startswith("gpu meter stalled")] == []


def test_a_hang_after_the_last_sample_leaves_the_samples_whole(hanging: ModelledNvml) -> None:
    meter = open_gpu(fake_nvml.uuid(0))
    hanging.configure(faults=["nvmlDeviceGetPersistenceMode:hang"])
    run = Sampler({"gpu": meter}, WallClock(), 0.01)
    run.start()
    time.sleep(0.05)
    log = run.stop()
    meter.close()
    assert (log.failures, log.missing) == ((), {})
    assert "has not answered" in log.facts["gpu"]["after"]["reason"]
    assert log.doubts[0].startswith("gpu meter: its state after the run is not known")


def test_a_driver_that_hangs_while_it_is_calibrated_costs_the_calibration(hanging: ModelledNvml) -> None:
    meter = open_gpu(fake_nvml.uuid(0))
    hanging.configure(faults=["nvmlDeviceGetFieldValues:hang:3"], time_s=None)
    run = Sampler({"gpu": meter}, WallClock(), 0.01)
    before = time.perf_counter()
    found = run.calibrate(seconds=0.05)
    assert time.perf_counter() - before < 3.0
    assert "has not answered" in str(found["gpu"].reason)
    run.start()
    log = run.stop()
    meter.close()
    assert [failure.kind for failure in log.failures] == ["stalled"]
    assert "power_w" in log.missing
