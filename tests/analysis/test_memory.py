"""Memory stands for the whole window, or it is missing with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from bench.analysis import memory
from bench.analysis.latency import Read
from bench.records import Interval
from tests.recorded import completion, constant_power, number, sample, steady, window_run

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


@BOTH
@pytest.mark.parametrize(
    ("facts", "known"),
    [
        ({"mig": True, "uuid": "GPU-1"}, False),
        ({"mig": False, "after": {"mig": True}, "uuid": "GPU-1"}, False),
        ({"mig": True, "uuid": "MIG-1"}, True),
        ({"mig": False, "uuid": "GPU-1"}, True),
    ],
)
def test_under_mig_only_an_instances_own_memory_is_the_runs(
    read: Read, facts: dict[str, Any], known: bool
) -> None:
    reading = read(window_run(facts={"meters": {"gpu": facts}}))
    assert (reading.value is not None) is known
    assert known or reading.why == "mig: the memory of the whole GPU, not of this run's instance"


def cached(**cache: Any) -> dict[str, Any]:
    return {"engine": {"kv_cache": {"bytes_per_token_by_formula": 1_000_000} | cache}}


def test_the_cache_in_use_is_the_mean_of_the_tokens_in_context() -> None:
    # One request: 100 prompt tokens from 12 s on, 10 output tokens from 13 to 17 s, in a window of 10 s.
    row = completion(
        11.9, 5.1, first_token_s=13.0, prefill_s=1.0, decode_s=4.0, prompt_tokens=100, output_tokens=10
    )
    reading = memory.kv_in_use_gb(window_run([row], facts=cached()))
    assert number(reading) == pytest.approx((100 * 5 + 10 / 2 * 4) / 10 * 1e6 / 1e9)
    assert reading.how == "52 tokens in context on average, 1000000 bytes each"


def test_the_cache_in_use_of_consecutive_windows_adds_up() -> None:
    def token_s(start_s: float, end_s: float) -> float:
        run = window_run(steady(2.7), facts=cached(), window=Interval(start_s=start_s, end_s=end_s))
        return number(memory.kv_in_use_gb(run)) * (end_s - start_s)

    assert token_s(5.0, 13.3) + token_s(13.3, 30.0) == pytest.approx(token_s(5.0, 30.0))


def test_a_quantized_cache_counts_by_the_bytes_that_it_really_held() -> None:
    half = cached(bytes_held=3_000, bytes_held_by_formula=6_000)
    full, quantized = (number(memory.kv_in_use_gb(window_run(facts=facts))) for facts in (cached(), half))
    assert quantized == pytest.approx(full / 2)


def test_without_the_bytes_of_a_token_the_cache_in_use_is_missing() -> None:
    assert memory.kv_in_use_gb(window_run()).why.startswith("the engine did not say what a token takes")
    never = [completion(12.0, first_token_s=None, done_s=None, decode_s=None, status="timeout")]
    assert memory.kv_in_use_gb(window_run(never, facts=cached())).value is None


TORCH = {"torch_allocated_peak_gb": 2.0, "torch_reserved_peak_gb": 2.5}


def test_what_torch_does_not_account_for_is_overhead() -> None:
    run = window_run(facts=TORCH | {"meters": {"gpu": {"memory_used_gb": 0.4}}})
    assert number(memory.torch_peak_gb(run)) == 2.0
    assert number(memory.torch_reserved_gb(run)) == 2.5
    reading = memory.non_torch_gb(run)
    assert number(reading) == pytest.approx(4.0 - 0.4 - 2.5)
    assert reading.how == "4 in use - 0.4 before loading - 2.5 reserved"


def test_an_overhead_below_nothing_is_not_clamped() -> None:
    run = window_run(facts=TORCH | {"meters": {"gpu": {"memory_used_gb": 3.0}}})
    assert number(memory.non_torch_gb(run)) == pytest.approx(-1.5)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (TORCH, "the memory in use before loading was not recorded"),
        ({"meters": {"gpu": {"memory_used_gb": 0.4}}}, "torch keeps no account of memory on the CPU"),
        (
            TORCH | {"meters": {"gpu": {"memory_used_gb": 0.4, "other_processes": [{"pid": 3}]}}},
            "not attributable: other processes were on the GPU (pids 3)",
        ),
    ],
)
def test_an_overhead_that_cannot_be_known_is_missing(facts: dict[str, Any], why: str) -> None:
    lack = {"torch_reserved_peak_gb": "torch keeps no account of memory on the CPU"}
    reading = memory.non_torch_gb(window_run(facts=facts, missing=lack))
    assert (reading.value, reading.why) == (None, why)


def test_a_sampler_that_was_slow_throughout_is_told_by_its_declared_period() -> None:
    slow = [sample(5.0 + i, "memory_used_gb", 4.0) for i in range(21)]
    assert number(memory.average_gb(window_run(telemetry=slow))) == 4.0
    declared = window_run(telemetry=slow, facts={"sampler": {"period_s": {"memory_used_gb": 0.2}}})
    assert memory.average_gb(declared).why == "memory_used_gb samples cover only 0 % of the window"
