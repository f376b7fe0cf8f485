"""How the counter and the sensor tick, found through the real binding on virtual time."""

from __future__ import annotations

import pytest

from bench.meters.faults import GpuLost
from bench.meters.nvml import open_gpu
from bench.meters.sampling import Sampler
from tests import fake_nvml
from tests.meters.conftest import ModelledClock, ModelledNvml, opened


@pytest.mark.parametrize("tick_ms", [20.0, 50.0, 100.0, 137.0])
def test_the_counters_tick_is_found_to_a_millisecond(nvml: ModelledNvml, tick_ms: float) -> None:
    nvml.configure(power_w="60", tick_ms=tick_ms)
    with opened() as meter:
        (found,) = Sampler({"gpu": meter}, ModelledClock(nvml), 0.1).calibrate(2.0).values()
    assert found.reason is None
    assert found.tick_s == pytest.approx(tick_ms / 1e3, abs=0.0011)
    assert found.tick_uncertainty_s == pytest.approx(0.0005)
    assert found.ticks == pytest.approx(2e3 / tick_ms, abs=1)
    assert found.read_latency_us == 7


def test_the_time_between_two_updates_of_the_power_sensor_is_found(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="drift:60:300:7", sensor=(25.0, 100.0))
    with opened() as meter:
        (found,) = Sampler({"gpu": meter}, ModelledClock(nvml), 0.1).calibrate(2.0).values()
    assert found.power_update_s == pytest.approx(0.1, abs=0.002)


def test_a_power_that_never_changes_says_nothing_about_its_sensor(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60")
    with opened() as meter:
        (found,) = Sampler({"gpu": meter}, ModelledClock(nvml), 0.1).calibrate(2.0).values()
    assert found.power_update_s is None


def test_a_counter_that_ticks_too_seldom_has_no_period_and_says_why(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60", tick_ms=900.0)
    with opened() as meter:
        run = Sampler({"gpu": meter}, ModelledClock(nvml), 0.1)
        (found,) = run.calibrate(2.0).values()
    assert (found.tick_s, found.ticks) == (None, 2)
    assert found.reason == "the energy counter changed only 2 times in 2 s"
    assert run.tick_s is None


def test_a_passing_fault_ends_the_calibration_and_not_the_field(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["191:999:150"])
    with opened() as meter:
        (found,) = Sampler({"gpu": meter}, ModelledClock(nvml), 0.1).calibrate(2.0).values()
        assert found.reason == "the energy counter changed only 1 times before a read failed"
        assert meter.facts["transient_faults"] == {"energy_j": 1}
        assert "energy_j" in meter.periods_s


def test_a_gpu_lost_while_it_is_calibrated_is_lost_for_the_run(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["*:15:120"])
    with opened() as meter:
        run = Sampler({"gpu": meter}, ModelledClock(nvml), 0.1)
        assert "GPU is lost" in str(run.calibrate(2.0)["gpu"].reason)
        with pytest.raises(GpuLost, match="the gpu was lost"):
            run.check()
        log = run.stop()
    assert [failure.kind for failure in log.failures] == ["lost"]


def test_the_calibration_stands_among_the_meters_facts_and_gives_the_longest_tick(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60", tick_ms=50.0)
    first, second = open_gpu(fake_nvml.uuid(0)), open_gpu(fake_nvml.uuid(1))
    run = Sampler({"gpu0": first, "gpu1": second}, ModelledClock(nvml), 0.1)
    run.calibrate(1.0)
    run.start()
    facts = run.stop().facts
    first.close()
    second.close()
    assert run.tick_s == pytest.approx(0.05, abs=0.0011)
    assert set(facts["gpu0"]["calibration"]) == {
        "tick_s",
        "tick_uncertainty_s",
        "ticks",
        "power_update_s",
        "read_latency_us",
        "reason",
    }


def test_a_gpu_without_a_counter_is_not_calibrated(nvml: ModelledNvml) -> None:
    nvml.configure(mig=True)
    with opened() as meter:
        run = Sampler({"gpu": meter}, ModelledClock(nvml), 0.1)
        assert run.calibrate(2.0) == {}
        assert run.tick_s is None
