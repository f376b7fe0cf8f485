"""The golden run: ten requests due at 10, 11, … 19 s with latencies 100, 200, … 1000 ms at 100 W."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench import store
from bench.analysis.metric_set import metric_set, summarize
from bench.analysis.metrics import METRICS, REQUIRED
from bench.analysis.system import SystemRuns
from bench.config import Objectives
from bench.records import Completion, Run, Value
from tests.recorded import (
    ASSUMED,
    OBJECTIVES,
    completion,
    constant_power,
    number,
    offline_run,
    quality,
    sample,
    steady,
    system_runs,
    window_run,
)

GOLDEN = {
    "p50_latency_ms": 550.0,
    "p90_latency_ms": 910.0,
    "p95_latency_ms": 955.0,
    "p99_latency_ms": 991.0,
    "throughput_requests_per_sec": 2.0,
    "saturated_requests_per_sec": 2.0,
    "average_memory_gb": 4.0,
    "peak_memory_gb": 4.0,
    "cost_per_1k_requests_usd": 0.5,  # 1000 · 3.6 ÷ (3600 · 2)
    "cost_provisioned_per_1k_requests_usd": 1.0,  # one GPU for 86.4 USD a day and 86,400 requests
    "replicas": 1.0,
    "fleet_utilisation": 0.5,  # 1 request/s of the one replica's 2
    # 100 W between the ticks at 10 and 20 s, where ten requests end: 100 J each.
    "estimated_energy_kwh_per_1k_requests": 100 * 1000 / 3.6e6,
    "co2e_kg_per_1k_requests": 100 * 1000 / 3.6e6 * 0.5 * 1.2,
    "mean_power_w": 100.0,
    "ttft_p50_ms": 200.0,
    "ttft_p95_ms": 200.0,
    "itl_p95_ms": 40.0,
    "offered_requests_per_sec": 1.0,
    "completed_requests_per_sec": 1.0,
    "output_tokens_per_sec": 5.0,
    "offline_output_tokens_per_sec": 10.0,
    "goodput_requests_per_sec": 1.0,
    "error_rate": 0.0,
    "weights_gb": 2.0,
    "mean_batch_size": 1.0,
    "mean_decode_rows": 1.0,
    "padding_share": 2 / 14,  # 8 prompt positions and 4 decode steps are asked for
    "prefill_waste": 1 / 9,
    "decode_waste": 1 / 5,
    # 1 s of prefill in all and 3.5 s of decoding.
    "time_weighted_waste": (1.0 / 9 + 3.5 / 5) / 4.5,
    "queue_mean_ms": 100.0,
    "prefill_mean_ms": 100.0,
    "decode_mean_ms": 350.0,
    "dispatch_lag_p99_ms": 0.2,
    "perplexity": 7.38905609893065,
    "load_s": 3.0,
    "peak_power_w": 100.0,
    "energy_open_percent": 0.011,  # both ends known to 1.1 ms in 10 s
    "energy_disagreement_percent": 0.0,
}


def golden_requests() -> list[Completion]:
    return [completion(10.0 + i, 0.1 * (i + 1)) for i in range(10)]


def golden(repeats: int = 1) -> SystemRuns:
    windows = [window_run(golden_requests(), repeat=i + 1) for i in range(repeats)]
    return SystemRuns(name="baseline", offline=offline_run(table=quality()), windows=windows)


@pytest.fixture(scope="module")
def values() -> dict[str, Value]:
    return summarize(golden(), ASSUMED, OBJECTIVES)


def test_the_first_six_rows_are_the_fixed_ones_in_their_order() -> None:
    assert REQUIRED == (
        "p50_latency_ms",
        "p95_latency_ms",
        "throughput_requests_per_sec",
        "average_memory_gb",
        "cost_per_1k_requests_usd",
        "estimated_energy_kwh_per_1k_requests",
    )


@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_run_has_the_value_known_by_hand(values: dict[str, Value], name: str) -> None:
    assert number(values[name]) == pytest.approx(GOLDEN[name], rel=1e-6, abs=1e-9)


def test_every_metric_of_the_table_is_known_by_hand_or_missing_with_a_reason(
    values: dict[str, Value],
) -> None:
    rest = {name: value for name, value in values.items() if name not in GOLDEN and name != "tpot_p50_ms"}
    assert set(rest) == {
        "stable_requests_per_sec",
        "perplexity_ratio",
        "kl_p99",
        "identical_outputs",
        "output_edit_distance",
        "output_length_ratio",
        "format_drop",
        "tone_shift",
        "torch_peak_allocated_gb",
        "torch_peak_reserved_gb",
        "non_torch_memory_gb",
        "kv_cache_gb",
        "kv_in_use_gb",
        "idle_cold_w",
        "idle_resident_w",
        "net_energy_kwh_per_1k_requests",
        "active_energy_share",
        "sci_kg_per_1k_requests",
        "decode_floor_ms",
        "prefill_floor_ms",
        "decode_mbu",
        "prefill_mfu",
        "compile_s",
        "mean_kl",
        "top1_agreement",
    }
    assert all(value.value is None and value.source == "missing" and value.note for value in rest.values())


def test_tpot_spreads_the_decode_over_the_tokens_after_the_first(values: dict[str, Value]) -> None:
    # Median latency 550 ms, first token at 200 ms, 4 further tokens.
    assert number(values["tpot_p50_ms"]) == pytest.approx(350 / 4)


def test_one_repeat_says_that_it_has_no_interval(values: dict[str, Value]) -> None:
    p95 = values["p95_latency_ms"]
    assert p95.low is None
    assert "10 requests in a repeat are too few for p95, which needs 130" in p95.unresolved
    assert "one run, so no interval" in values["error_rate"].note
    assert p95.note.startswith("measured on NVIDIA H200; 1 requests/s offered; n = 10 in 1 repeat")


def test_the_interval_comes_from_the_repeats() -> None:
    p50 = summarize(system_runs(latencies_s=(0.4, 0.5, 0.6)), ASSUMED, OBJECTIVES)["p50_latency_ms"]
    assert number(p50) == pytest.approx(500)
    assert p50.n == 3
    # t(2) = 4.303 standard errors on the logarithm of the mean: never below zero.
    assert p50.low == pytest.approx(500 / math.exp(4.30265 * 0.2 / 3**0.5), abs=0.01)
    assert p50.high == pytest.approx(500 * math.exp(4.30265 * 0.2 / 3**0.5), abs=0.01)


def test_requests_due_outside_the_window_are_not_scored() -> None:
    late = [completion(5.0, 9.0), *golden_requests(), completion(20.0, 9.0)]
    runs = SystemRuns(name="baseline", offline=None, windows=[window_run(late)])
    assert number(summarize(runs, ASSUMED, OBJECTIVES)["p99_latency_ms"]) == pytest.approx(991.0)


def test_throughput_says_that_it_is_the_offline_one_and_is_missing_without_that_run() -> None:
    runs = golden()
    assert "offline (saturated)" in summarize(runs, ASSUMED, OBJECTIVES)["throughput_requests_per_sec"].note
    alone = SystemRuns(name="baseline", offline=None, windows=runs.windows)
    values = summarize(alone, ASSUMED, OBJECTIVES)
    assert values["throughput_requests_per_sec"].value is None
    assert "capacity is unknown" in values["cost_per_1k_requests_usd"].note


def test_throughput_counts_neither_the_warm_up_nor_what_came_after_the_end() -> None:
    # 2 requests/s for 10 s; measured from 3 s (the end of a batch) to 7 s: 8 requests in 4 s.
    offline = offline_run(facts={"offline_started_s": 3.0, "offline_ended_s": 7.2})
    runs = SystemRuns(name="baseline", offline=offline, windows=[])
    throughput = summarize(runs, ASSUMED, OBJECTIVES)["throughput_requests_per_sec"]
    assert number(throughput) == pytest.approx(2.0)
    assert "n = 8 in 4 s" in throughput.note


def test_a_percentile_beyond_the_share_of_failures_is_missing_with_the_reason() -> None:
    requests = steady(n=20)
    requests[3] = completion(requests[3].due_s, status="timeout")
    requests[4] = completion(requests[4].due_s, status="rejected", done_s=None)
    runs = SystemRuns(name="baseline", offline=None, windows=[window_run(requests)])
    values = summarize(runs, ASSUMED, OBJECTIVES)
    assert number(values["p50_latency_ms"]) == pytest.approx(500)
    assert values["p95_latency_ms"].value is None
    assert "more than 5 % of the requests failed" in values["p95_latency_ms"].note
    assert "1 timeouts, 1 rejected of 20" in values["p95_latency_ms"].note
    assert number(values["error_rate"]) == pytest.approx(0.1)


def test_failures_are_no_goodput() -> None:
    requests = [*steady(n=5)[:3], completion(16.0, 5.0), completion(17.0, status="error")]
    runs = SystemRuns(name="baseline", offline=None, windows=[window_run(requests, offered_rps=0.5)])
    assert number(summarize(runs, ASSUMED, OBJECTIVES)["goodput_requests_per_sec"]) == pytest.approx(0.3)
    without = summarize(runs, ASSUMED, Objectives())["goodput_requests_per_sec"]
    assert without.note == "no latency objective is set"


def test_a_figure_missing_in_one_repeat_is_missing_and_says_in_how_many() -> None:
    windows = [
        window_run(repeat=1),
        window_run(telemetry=[], repeat=2, missing={"memory_used_gb": "GPU lost"}),
    ]
    runs = SystemRuns(name="baseline", offline=None, windows=windows)
    memory = summarize(runs, ASSUMED, OBJECTIVES)["average_memory_gb"]
    assert memory.value is None
    assert memory.note == "GPU lost (in 1 of 2 runs)"


def test_without_any_completed_repeat_the_error_is_the_reason() -> None:
    failed = window_run(status="failed", window=None, error="out of memory")
    runs = SystemRuns(name="baseline", offline=None, windows=[failed])
    values = summarize(runs, ASSUMED, OBJECTIVES)
    assert values["p50_latency_ms"].note == "no repeat was completed: out of memory"
    assert all(value.value is None and value.note for value in values.values())


def test_on_a_cpu_memory_is_the_resident_set_and_cost_and_energy_say_why_they_are_missing() -> None:
    telemetry = [sample(float(t_s), "rss_gb", 1.5, None) for t_s in range(5, 26)]
    absent = {"rapl_package_j": "rapl: absent"}
    run = window_run(telemetry=telemetry, device="cpu", facts={"gpu_name": None}, missing=absent)
    values = summarize(SystemRuns(name="baseline", offline=None, windows=[run]), ASSUMED, OBJECTIVES)
    assert number(values["average_memory_gb"]) == pytest.approx(1.5)
    assert values["average_memory_gb"].note.startswith("measured on CPU")
    assert "resident set" in values["average_memory_gb"].note
    energy = values["estimated_energy_kwh_per_1k_requests"]
    why = "no GPU in use, and the CPU's energy cannot be read (rapl: absent)"
    assert (energy.value, energy.source, energy.note) == (None, "missing", why)
    assert values["co2e_kg_per_1k_requests"].note == why


def test_a_simulated_run_never_calls_itself_measured() -> None:
    values = summarize(system_runs(source="simulated", table=quality()), ASSUMED, OBJECTIVES)
    assert {value.source for value in values.values()} == {"simulated", "missing"}
    assert not any("measured on" in value.note for value in values.values())


def test_a_growing_queue_has_no_latency_percentile() -> None:
    # 20 requests/s arrive for 10 s and are answered at 10/s: the last waits 10 s.
    requests = [completion(10 + i / 20, 0.5 + i / 20) for i in range(200)]
    runs = SystemRuns(name="baseline", offline=None, windows=[window_run(requests)])
    result = metric_set(runs, ASSUMED, OBJECTIVES, origin="here")
    assert result.saturated
    assert result.values["p95_latency_ms"].value is None
    assert "saturated" in result.values["p95_latency_ms"].note
    assert number(result.values["completed_requests_per_sec"]) > 0, "rates are still reported"


def test_torchs_peak_is_the_highest_of_all_processes() -> None:
    windows = [window_run(facts={"torch_allocated_peak_gb": peak}) for peak in (5.0, 7.0)]
    runs = SystemRuns(name="baseline", offline=None, windows=windows)
    assert number(summarize(runs, ASSUMED, OBJECTIVES)["torch_peak_allocated_gb"]) == 7.0


def test_a_mean_batch_size_counts_a_batch_once() -> None:
    batched = [completion(10.0 + i, batch_id=0, batch_size=4) for i in range(4)]
    alone = [completion(15.0, batch_id=1, batch_size=1)]
    runs = SystemRuns(name="baseline", offline=None, windows=[window_run(batched + alone)])
    assert number(summarize(runs, ASSUMED, OBJECTIVES)["mean_batch_size"]) == pytest.approx(2.5)


def test_the_cache_is_the_largest_of_all_processes_beside_the_formula_and_compiling_the_longest() -> None:
    def run(gb: float, seconds: float) -> Run:
        cache = {"bytes_held": gb * 1e9, "bytes_held_by_formula": 3e9}
        return window_run(facts={"engine": {"kv_cache": cache, "compile_s": seconds}})

    runs = SystemRuns(name="baseline", offline=None, windows=[run(2.0, 30.0), run(4.0, 5.0)])
    values = summarize(runs, ASSUMED, OBJECTIVES)
    assert number(values["kv_cache_gb"]) == 4.0
    assert values["kv_cache_gb"].note == "measured on NVIDIA H200; 3 GB by the formula"
    assert number(values["compile_s"]) == 30.0


def test_what_an_engine_did_not_say_is_missing_with_the_reason(values: dict[str, Value]) -> None:
    assert values["kv_cache_gb"].note == "the engine did not say what its KV cache held"
    assert values["compile_s"].note == "nothing was compiled"


def test_kl_and_agreement_have_intervals_from_blocks() -> None:
    runs = system_runs("optimized", table=quality(kl=0.001, agree=0.98))
    values = summarize(runs, ASSUMED, OBJECTIVES)
    assert number(values["mean_kl"]) == pytest.approx(0.001)
    assert number(values["top1_agreement"]) == pytest.approx(0.98)
    assert values["top1_agreement"].low is not None


def test_a_run_read_back_from_its_folder_gives_the_same_metrics(
    tmp_path: Path, values: dict[str, Value]
) -> None:
    run = window_run(golden_requests())
    store.write_run(tmp_path / "baseline.1", run.meta, golden_requests(), constant_power())
    offline = offline_run(table=quality())
    again = SystemRuns(name="baseline", offline=offline, windows=[store.read_run(tmp_path / "baseline.1")])
    assert summarize(again, ASSUMED, OBJECTIVES) == values


def test_every_metric_is_defined_with_a_source() -> None:
    for name, metric in METRICS.items():
        assert metric.definition.endswith("."), name
        assert metric.source, name
        assert metric.digits >= 3, name
