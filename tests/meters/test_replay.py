"""Recorded telemetry played back."""

from __future__ import annotations

import msgspec
import pyarrow as pa

from bench.clock import VirtualClock
from bench.meters.replay import ReplayMeter
from bench.records import Sample


def sample(t_s: float, field: str, value: float, gpu_uuid: str | None = "GPU-1") -> Sample:
    return Sample(t_s=t_s, read_s=0.001, field=field, value=value, gpu_uuid=gpu_uuid)


RECORD = [
    sample(7.0, "power_w", 60.0),
    sample(7.0, "rss_gb", 1.5, None),
    sample(7.5, "power_w", 300.0),
    sample(8.0, "power_w", 80.0),
]


def test_each_field_holds_its_last_recorded_value() -> None:
    clock = VirtualClock(100.0)
    meter = ReplayMeter(RECORD, clock)
    assert meter.read() == [("power_w", 60.0, "GPU-1"), ("rss_gb", 1.5, None)]
    clock.sleep_until(100.49)
    assert meter.read() == [("power_w", 60.0, "GPU-1")]
    clock.sleep_until(100.5)
    assert meter.read() == [("power_w", 300.0, "GPU-1")]
    clock.sleep_until(101.0)
    assert meter.read() == [("power_w", 80.0, "GPU-1")]


def test_after_the_records_end_there_is_no_reading() -> None:
    clock = VirtualClock()
    meter = ReplayMeter(RECORD, clock)
    clock.sleep_until(1.01)
    assert meter.read() == []


def test_a_telemetry_table_plays_like_its_samples() -> None:
    table = pa.Table.from_pylist([msgspec.to_builtins(s) for s in RECORD])
    clock = VirtualClock()
    meter = ReplayMeter.of_table(table, clock, missing={"energy_j": "no counter"})
    assert meter.read() == ReplayMeter(RECORD, clock).read()
    assert meter.missing == {"energy_j": "no counter"}


def test_a_replay_says_that_it_is_one() -> None:
    meter = ReplayMeter(RECORD, VirtualClock())
    assert meter.facts == {"source": "replayed", "samples": 4}
    assert not meter.simulated


def test_an_empty_record_has_no_reading() -> None:
    assert ReplayMeter([], VirtualClock()).read() == []
