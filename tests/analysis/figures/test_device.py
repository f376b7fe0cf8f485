"""The figure of the device: telemetry on the time of the scored window, thinned without losing a peak."""

from __future__ import annotations

import msgspec

from bench.analysis.figures.device import BINS, device
from bench.analysis.system import SystemRuns
from tests.analysis.figures.compared import evaluation, row, rows
from tests.analysis.pairs import metrics
from tests.recorded import WINDOW_S, constant_power, sample, steady, system_runs, window_run

FACTS = {"meters": {"gpu": {"uuid": "GPU-1", "memory_total_gb": 141.0, "power_limit_w": 200.0}}}


def one(runs: SystemRuns) -> SystemRuns:
    """Return the runs under the name of the pair's baseline."""
    return msgspec.structs.replace(runs, name="baseline")


def test_time_counts_from_the_scored_window_whose_span_and_that_of_the_energy_are_marked() -> None:
    figure = device(evaluation(metrics("baseline"), systems={"baseline": system_runs(watts=120.0)}))
    power = rows(figure, "telemetry", quantity="Power (W)", job="repeat 1")
    times = [float(one["t_s"] or 0.0) for one in power]
    assert min(times) < -4.5
    assert max(times) > WINDOW_S + 4.5
    assert {one["mean"] for one in power} == {120.0}
    scored = row(figure, "spans", job="repeat 1", span="scored")
    assert (scored["start_s"], scored["end_s"]) == (0.0, WINDOW_S)
    energy = row(figure, "spans", job="repeat 1", span="energy by counter")
    assert abs(float(energy["end_s"] or 0.0) - WINDOW_S) < 0.2


def test_a_peak_of_one_sample_is_in_its_bins_highest_and_the_thinning_is_stated() -> None:
    samples = [*constant_power(100.0, hz=100.0), sample(12.3456, "power_w", 480.0)]
    runs = SystemRuns(name="baseline", offline=None, windows=[window_run(steady(), samples)])
    figure = device(evaluation(metrics("baseline"), systems={"baseline": runs}))
    power = rows(figure, "telemetry", quantity="Power (W)")
    assert len(power) <= BINS
    assert max(float(one["high"] or 0.0) for one in power) == 480.0
    assert max(float(one["mean"] or 0.0) for one in power) < 200.0
    assert f"at most {BINS} even bins of up to 2002 samples" in figure.datasets["telemetry"].thinned


def test_each_bin_has_the_samples_between_its_edges_and_the_last_one_its_end() -> None:
    # 640 samples, a second apart, in 160 bins of 639 / 160 s.
    samples = [sample(second + 0.5, "power_w", float(second)) for second in range(4 * BINS)]
    runs = SystemRuns(name="baseline", offline=None, windows=[window_run(steady(), samples)])
    power = rows(
        device(evaluation(metrics("baseline"), systems={"baseline": runs})), "telemetry", quantity="Power (W)"
    )
    assert len(power) == BINS
    assert [(one["low"], one["high"]) for one in power[:3]] == [(0.0, 3.0), (4.0, 7.0), (8.0, 11.0)]
    assert (power[-1]["low"], power[-1]["high"]) == (636.0, 639.0)


def test_a_limit_near_what_was_seen_is_drawn_and_a_far_one_only_named() -> None:
    runs = SystemRuns(name="baseline", offline=None, windows=[window_run(facts=FACTS)])
    figure = device(evaluation(metrics("baseline"), systems={"baseline": runs}))
    assert row(figure, "limits", quantity="Power (W)")["drawn"] is True
    memory = row(figure, "limits", quantity="Memory in use (GB)")
    assert (memory["value"], memory["drawn"], memory["name"]) == (141.0, False, "the GPU has 141 GB")


def test_on_a_cpu_resident_memory_is_shown_and_power_is_missing_with_its_reason() -> None:
    samples = [sample(5.0 + i / 10, "rss_gb", 1.5, None) for i in range(200)]
    why = {"power_w": "rapl: absent", "memory_used_gb": "no GPU"}
    run = window_run(steady(), samples, device="cpu", facts={"gpu_name": None}, missing=why)
    runs = SystemRuns(name="baseline", offline=None, windows=[run])
    figure = device(evaluation(metrics("baseline"), systems={"baseline": runs}))
    quantities = {one["quantity"] for one in figure.datasets["telemetry"].rows}
    assert quantities == {"Resident memory of the processes (GB)"}
    assert "Power of a GPU was not sampled: rapl: absent." in figure.notes


def test_without_samples_it_says_why() -> None:
    run = window_run(steady(), [], missing={"power_w": "no NVML", "rss_gb": "no psutil"})
    runs = SystemRuns(name="baseline", offline=None, windows=[run])
    figure = device(evaluation(metrics("baseline"), systems={"baseline": runs}))
    assert figure.missing == "no psutil; no NVML"
