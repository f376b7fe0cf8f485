"""Memory stands for the whole window, or it is missing with the reason."""

from __future__ import annotations

import pytest

from bench.analysis import memory
from bench.analysis.latency import Read
from tests.analysis.conftest import constant_power, number, sample, window_run

BOTH = pytest.mark.parametrize("read", [memory.average_gb, memory.peak_gb])


@BOTH
def test_steady_memory_is_both_its_mean_and_its_peak(read: Read) -> None:
    assert number(read(window_run())) == pytest.approx(4.0)


@BOTH
def test_a_meter_that_failed_midway_leaves_no_figure_of_the_first_half(read: Read) -> None:
    half = [s for s in constant_power() if s.t_s < 15]
    reading = read(window_run(telemetry=half, missing={"memory_used_gb": "failed: NVMLError: unknown"}))
    assert reading.value is None
    assert reading.why == "failed: NVMLError: unknown"


@BOTH
def test_samples_with_holes_are_refused_rather_than_bridged(read: Read) -> None:
    holes = [s for s in constant_power() if not 12 < s.t_s < 15]
    reading = read(window_run(telemetry=holes))
    assert reading.value is None
    assert reading.why.startswith("memory_used_gb samples cover only 7")


@BOTH
def test_without_samples_the_recorded_reason_is_given(read: Read) -> None:
    assert read(window_run(telemetry=[])).why == "no memory_used_gb was recorded"
    alone = read(window_run(telemetry=[sample(12.0, "memory_used_gb", 4.0)]))
    assert alone.why == "memory_used_gb samples cover only 0 % of the window"
