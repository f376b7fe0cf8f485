"""The sampler: what it keeps, and that no meter can hold it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.clock import VirtualClock, WallClock
from bench.meters import rounds
from bench.meters.faults import GpuLost
from bench.meters.nvml import open_gpu
from bench.meters.nvml_readings import QUANTITIES
from bench.meters.rounds import next_deadline_s
from bench.meters.sampling import Sampler
from bench.protocols import Meter
from tests import fake_nvml
from tests.meters.conftest import ModelledNvml

Reading = tuple[str, float, str | None]


class ScriptedMeter:
    """A meter that counts its reads and does in each what the test says."""

    def __init__(self, act: Callable[[int], list[Reading]], missing: dict[str, str] | None = None) -> None:
        self._act = act
        self._reached = threading.Condition()
        self.reads = 0
        self.missing = missing or {}
        self.facts: dict[str, Any] = {"scripted": True}
        self.simulated = False

    def read(self) -> list[Reading]:
        with self._reached:
            self.reads += 1
            self._reached.notify_all()
        return self._act(self.reads)

    def wait_for_reads(self, n: int) -> None:
        with self._reached:
            assert self._reached.wait_for(lambda: self.reads >= n, timeout=20)

    def close(self) -> None:
        pass


def steady(value: float = 1.0) -> ScriptedMeter:
    return ScriptedMeter(lambda _: [("x", value, None)])


def sampler(period_s: float = 0.002, **meters: Meter) -> Sampler:
    return Sampler(meters, WallClock(), period_s)


def test_every_reading_becomes_a_raw_sample() -> None:
    meter = ScriptedMeter(lambda n: [("x", float(n), "GPU-1"), ("y", -float(n), None)])
    run = sampler(gpu=meter)
    run.start()
    meter.wait_for_reads(5)
    log = run.stop()
    assert [s.value for s in log.samples if s.field == "x"][:4] == [1.0, 2.0, 3.0, 4.0]
    assert [s.value for s in log.samples if s.field == "y"][:4] == [-1.0, -2.0, -3.0, -4.0]
    assert {(s.field, s.gpu_uuid) for s in log.samples} == {("x", "GPU-1"), ("y", None)}
    assert (log.failures, log.missing, log.simulated) == ((), {}, False)
    assert log.facts == {"gpu": {"scripted": True}}


def test_a_sample_stands_at_the_middle_of_its_read_and_tells_the_reads_cost() -> None:
    clock = VirtualClock(10.0)

    def read_for_200_ms(n: int) -> list[Reading]:
        clock.sleep_until(clock.now_s() + 0.2)
        return [("x", float(n), None)]

    meter = ScriptedMeter(read_for_200_ms)
    run = Sampler({"m": meter}, clock, 0.01)
    run.start()
    meter.wait_for_reads(3)
    samples = run.stop().samples
    assert [s.t_s for s in samples[:2]] == pytest.approx([10.1, 10.3])
    assert [s.read_s for s in samples[:2]] == pytest.approx([0.2, 0.2])


@given(
    start_s=st.floats(0, 1e5), late_s=st.floats(0, 1e4), period_s=st.sampled_from([0.01, 0.05, 0.1, 0.3, 1.0])
)
def test_the_next_deadline_is_the_first_multiple_of_the_period_still_to_come(
    start_s: float, late_s: float, period_s: float
) -> None:
    now_s = start_s + late_s
    deadline_s = next_deadline_s(start_s, now_s, period_s)
    assert now_s < deadline_s <= now_s + period_s * (1 + 1e-6) + 1e-9
    periods = (deadline_s - start_s) / period_s
    assert periods == pytest.approx(round(periods), abs=1e-6)


def test_late_deadlines_are_skipped_and_not_bunched() -> None:
    def take_35_ms(n: int) -> list[Reading]:
        time.sleep(0.035)
        return [("x", float(n), None)]

    meter = ScriptedMeter(take_35_ms)
    run = sampler(period_s=0.02, slow=meter)
    run.start()
    meter.wait_for_reads(6)
    began_s = [s.t_s - s.read_s / 2 for s in run.stop().samples]
    # Each read outlasts one deadline, so the next that can be met lies two periods later.
    assert began_s[-1] - began_s[0] >= 0.04 * (len(began_s) - 1) - 0.02


def test_a_meter_that_raises_ends_alone_and_its_failure_is_recorded() -> None:
    def fail_at_third(n: int) -> list[Reading]:
        if n == 3:
            raise OSError("sensor unplugged")
        return [("x", float(n), None)]

    failing, other = ScriptedMeter(fail_at_third), ScriptedMeter(lambda n: [("y", float(n), None)])
    run = sampler(failing=failing, other=other)
    run.start()
    other.wait_for_reads(10)
    log = run.stop()
    assert failing.reads == 3
    assert [s.value for s in log.samples if s.field == "x"] == [1.0, 2.0]
    assert len([s for s in log.samples if s.field == "y"]) >= 9
    (failure,) = log.failures
    assert (failure.meter, failure.kind, failure.error) == ("failing", "failed", "OSError: sensor unplugged")
    assert log.missing == {"x": "failed: OSError: sensor unplugged"}


def test_the_longest_gap_counts_from_start_to_stop() -> None:
    clock = VirtualClock()
    steps_s = iter([0.1, 0.1, 0.7, 0.1])

    def advance(n: int) -> list[Reading]:
        clock.sleep_until(clock.now_s() + next(steps_s, 0.0))
        return [("x", 0.0, None)]

    meter = ScriptedMeter(advance)
    run = Sampler({"m": meter}, clock, 0.002)
    run.start()
    meter.wait_for_reads(6)
    # Middles of the reads: 0.05, 0.15, 0.55, 0.95.
    assert run.stop().max_gap_s == pytest.approx(0.4)


def test_without_a_single_reading_the_gap_is_the_whole_time() -> None:
    clock = VirtualClock()
    meter = ScriptedMeter(lambda _: [])
    run = Sampler({"m": meter}, clock, 0.002)
    run.start()
    meter.wait_for_reads(2)
    clock.sleep_until(3.0)
    log = run.stop()
    assert (log.samples, log.max_gap_s) == ((), 3.0)


def test_a_field_missing_of_one_meter_is_missing_with_every_reason_told() -> None:
    first = ScriptedMeter(lambda _: [("x", 1.0, "GPU-1")], missing={"e": "no counter"})
    second = ScriptedMeter(lambda _: [("x", 1.0, "GPU-2")], missing={"e": "mig", "f": "no counter"})
    run = sampler(first=first, second=second)
    run.start()
    assert run.stop().missing == {"e": "no counter; mig", "f": "no counter"}


def test_a_period_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0 s"):
        sampler(period_s=0.0)


def test_stop_ends_the_thread_at_once_even_with_a_long_period() -> None:
    meter = steady()
    run = sampler(period_s=600.0, m=meter)
    run.start()
    meter.wait_for_reads(1)
    before = time.perf_counter()
    run.stop()
    assert time.perf_counter() - before < 2.0
    assert not [t for t in threading.enumerate() if t.name == "bench-sampler"]


def test_samples_of_a_modelled_gpu_make_the_log_simulated(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60;300")
    first, second, host = open_gpu(fake_nvml.uuid(0)), open_gpu(fake_nvml.uuid(1)), steady()
    run = sampler(gpu0=first, gpu1=second, host=host)
    run.start()
    host.wait_for_reads(3)
    log = run.stop()
    first.close()
    second.close()
    assert log.simulated
    assert {(s.gpu_uuid, s.value) for s in log.samples if s.field == "power_w"} == {
        (fake_nvml.uuid(0), 60.0),
        (fake_nvml.uuid(1), 300.0),
    }
    assert log.facts["gpu1"]["uuid"] == fake_nvml.uuid(1)


def test_a_step_of_power_is_seen_and_its_energy_is_exact(nvml: ModelledNvml) -> None:
    nvml.configure(power_w="60,300@5,60@8")

    def advance_modelled_time(n: int) -> list[Reading]:
        nvml.set_time_s(n / 10)
        return [("modelled_time_s", n / 10, None)]

    gpu, driver = open_gpu(fake_nvml.uuid(0)), ScriptedMeter(advance_modelled_time)
    run = sampler(period_s=0.001, driver=driver, gpu=gpu)
    run.start()
    driver.wait_for_reads(101)
    log = run.stop()
    gpu.close()

    def series(field: str) -> list[float]:
        return [s.value for s in log.samples if s.field == field][:100]

    assert series("power_w") == [300.0 if 5 <= n / 10 < 8 else 60.0 for n in range(1, 101)]
    energy_j = series("energy_j")
    assert energy_j[-1] - energy_j[0] == pytest.approx(nvml.true_energy_j(0, 0.1, 10.0), abs=1e-3)


def test_a_gpu_lost_mid_run_keeps_its_samples_and_the_other_meter_goes_on(nvml: ModelledNvml) -> None:
    meter, host = open_gpu(fake_nvml.uuid(0)), steady()
    nvml.configure(faults=["nvmlDeviceGetFieldValues:15:3"])
    run = sampler(gpu=meter, host=host)
    run.start()
    host.wait_for_reads(6)
    log = run.stop()
    meter.close()
    assert len([s for s in log.samples if s.field == "energy_j"]) == 2
    assert len([s for s in log.samples if s.field == "x"]) >= 5
    (failure,) = log.failures
    assert (failure.meter, failure.kind) == ("gpu", "lost")
    assert "GPU is lost" in failure.error
    with pytest.raises(GpuLost, match="the gpu was lost while it was measured"):
        run.check()
    assert "after" not in log.facts["gpu"]
    assert set(log.missing) == set(QUANTITIES)


class PacedMeter(ScriptedMeter):
    """A scripted meter with rates: a fast counter, a fast reading, a slow one."""

    def __init__(self, counter: Callable[[int], float] = float) -> None:
        super().__init__(lambda _: [])
        self._counter = counter
        self.asked: list[frozenset[str]] = []
        self.periods_s = {"energy_j": 0.0, "power_w": 0.0, "temperature_c": 600.0, "memory_used_gb": 0.025}

    def read(self, fields: Collection[str] | None = None) -> list[Reading]:
        super().read()
        wanted = frozenset(fields or self.periods_s)
        self.asked.append(wanted)
        values = dict.fromkeys(self.periods_s, 1.0) | {"energy_j": self._counter(len(self.asked))}
        return [(field, values[field], None) for field in sorted(wanted)]

    def after(self) -> dict[str, Any]:
        return {"power_limit_w": 400.0}


def test_each_field_is_read_at_its_own_rate_in_a_read_of_its_own() -> None:
    meter = PacedMeter()
    run = sampler(period_s=0.01, gpu=meter)
    run.start()
    meter.wait_for_reads(30)
    log = run.stop()
    fast, slow, slowest = {"energy_j", "power_w"}, {"memory_used_gb"}, {"temperature_c"}
    assert meter.asked[:3] == [fast, slow, slowest]
    n = {
        name: meter.asked.count(frozenset(group))
        for name, group in zip("fst", (fast, slow, slowest), strict=True)
    }
    assert n["f"] > n["s"] > n["t"] == 1
    assert log.period_s == {"energy_j": 0.01, "power_w": 0.01, "memory_used_gb": 0.03, "temperature_c": 600.0}


def test_the_sampler_tells_its_periods_its_cost_and_its_gaps() -> None:
    clock = VirtualClock()

    def take_100_ms(n: int) -> list[Reading]:
        clock.sleep_until(clock.now_s() + (0.1 if n < 4 else 0.3))
        return [("x", 0.0, None)]

    meter = ScriptedMeter(take_100_ms)
    run = Sampler({"m": meter}, clock, 0.08)
    run.start()
    meter.wait_for_reads(4)
    told = run.stop().sampler
    assert told["period_s"] == {"x": 0.08}
    assert told["read_s_median"] == pytest.approx(0.1)
    assert told["read_s_max"] == pytest.approx(0.3)
    assert told["max_gap_s"] == pytest.approx(0.2)
    # Deadlines are 0.08 s apart: one passed during the first read, three during the last.
    assert told["skipped"] == 1 + 3


@pytest.fixture
def however_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tick count as timed sharply on a busy machine, which reads less densely, as well."""
    monkeypatch.setattr(rounds, "SHARP_S", 60.0)


def test_sharpening_reads_the_counter_alone_and_densely_until_its_next_tick(however_late: None) -> None:
    meter = PacedMeter(counter=lambda n: 1.0 if n <= 20 else 2.0)
    run = sampler(period_s=600.0, gpu=meter)
    run.start()
    meter.wait_for_reads(1)
    run.sharpen(until_s=1e9)
    meter.wait_for_reads(21)
    time.sleep(0.02)
    log = run.stop()
    assert meter.asked[1:] == [{"energy_j"}] * (len(meter.asked) - 1)
    assert len(meter.asked) == 21
    dense = [s for s in log.samples if s.field == "energy_j"][1:]
    assert [s.value for s in dense] == [1.0] * 19 + [2.0]
    gaps_s = [later.t_s - earlier.t_s for earlier, later in pairwise(dense)]
    assert min(gaps_s) >= 0.001
    assert log.period_s["energy_j"] == 600.0


def test_sharpening_again_looks_for_the_tick_after(however_late: None) -> None:
    meter = PacedMeter(counter=lambda n: float(n > 5) + float(n > 10))
    run = sampler(period_s=600.0, gpu=meter)
    run.start()
    meter.wait_for_reads(1)
    for reads in (6, 11):
        run.sharpen(until_s=1e9)
        meter.wait_for_reads(reads)
        time.sleep(0.02)
    run.stop()
    assert len(meter.asked) == 11


def test_sharpening_ends_at_its_time_where_the_counter_stands_still() -> None:
    clock = WallClock()
    meter = PacedMeter(counter=lambda _: 1.0)
    run = Sampler({"gpu": meter, "host": steady()}, clock, 600.0)
    run.start()
    meter.wait_for_reads(1)
    until_s = clock.now_s() + 0.05
    run.sharpen(until_s)
    time.sleep(0.1)
    times_s = [s.t_s for s in run.stop().samples if s.field == "energy_j"]
    assert len(times_s) > 3
    assert times_s[-2] < until_s


def test_a_read_that_fails_ends_the_dense_series_for_so_many_faults_would_end_the_field(
    nvml: ModelledNvml,
) -> None:
    meter = open_gpu(fake_nvml.uuid(0))
    nvml.configure(faults=["191:999:5"])
    run = Sampler({"gpu": meter}, WallClock(), 600.0)
    run.start()
    run.sharpen(until_s=1e9)
    time.sleep(0.05)
    log = run.stop()
    meter.close()
    assert log.facts["gpu"]["transient_faults"] == {"energy_j": 1}
    assert "energy_j" not in log.missing


def test_sharpened_edges_bracket_a_tick_of_the_modelled_counter_within_milliseconds(
    nvml: ModelledNvml,
) -> None:
    nvml.configure(power_w="200", time_s=None, tick_ms=50)
    meter = open_gpu(fake_nvml.uuid(0))
    run = Sampler({"gpu": meter}, WallClock(), 0.5)
    run.start()
    run.sharpen(until_s=1e9)
    time.sleep(0.4)
    log = run.stop()
    meter.close()
    counter = [(s.t_s, s.value) for s in log.samples if s.field == "energy_j"]
    (step,) = [(a, b) for a, b in pairwise(counter) if b[1] != a[1]][-1:]
    assert step[1][1] - step[0][1] == pytest.approx(10.0)
    assert step[1][0] - step[0][0] < 0.04


def test_the_devices_are_looked_at_once_more_after_the_last_sample() -> None:
    run = sampler(gpu=PacedMeter(), host=steady())
    run.start()
    facts = run.stop().facts
    assert facts["gpu"]["after"] == {"power_limit_w": 400.0}
    assert "after" not in facts["host"]
