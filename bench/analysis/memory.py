"""Memory figures: what the device had in use over the window, and what weights and torch account for.

They answer different questions and are never mixed: device memory in use (NVML, without the driver's
reserve) includes the CUDA context; torch's peak counts tensors only; on a CPU there is the resident set.
"""

from __future__ import annotations

from bench.analysis.numbers import shown
from bench.analysis.recorded import (
    MIN_COVERAGE,
    Series,
    coverage,
    engine_facts,
    length_s,
    on_gpu,
    whole_series,
    why_missing,
    window_of,
)
from bench.analysis.stats import time_weighted_mean
from bench.analysis.system import Reading
from bench.records import Run
from bench.units import PERCENT, to_gb


def average_gb(run: Run) -> Reading:
    """Read the time-weighted mean over the window of the memory in use, GB of 10⁹ bytes."""
    field, how = _field(run)
    devices = _sampled(run, field)
    if isinstance(devices, str):
        return Reading(value=None, why=devices)
    window = window_of(run)
    means = [time_weighted_mean(s.t_s, s.values, window.start_s, window.end_s) for s in devices]
    return Reading(value=sum(means), how=f"time-weighted {how}")


def peak_gb(run: Run) -> Reading:
    """Read the highest sample of the memory in use inside the window: a lower bound of the true peak."""
    field, how = _field(run)
    devices = _sampled(run, field)
    if isinstance(devices, str):
        return Reading(value=None, why=devices)
    peaks = [float(samples.within(window_of(run)).values.max()) for samples in devices]
    return Reading(value=sum(peaks), how=f"highest sample of {how}")


def weights_gb(run: Run) -> Reading:
    """Read the resident bytes of the weights, as the treatment check counted them, in GB."""
    reading = _fact(run, "weights_bytes")
    return Reading(value=to_gb(reading.value)) if reading.value is not None else reading


def kv_cache_gb(run: Run) -> Reading:
    """Read the most bytes that the KV cache held, in GB; `how` says what the formula gives for it."""
    cache = engine_facts(run).get("kv_cache") or {}
    held = cache.get("bytes_held")
    if held is None:
        return Reading(value=None, why="the engine did not say what its KV cache held")
    formula = cache.get("bytes_held_by_formula")
    how = "" if formula is None else f"{shown(to_gb(formula))} GB by the formula"
    return Reading(value=to_gb(held), how=how)


def torch_peak_gb(run: Run) -> Reading:
    """Read torch's peak of allocated memory, in GB."""
    return _fact(run, "torch_allocated_peak_gb")


def _sampled(run: Run, field: str) -> list[Series] | str:
    """Return each device's samples, or why they do not stand for the whole window."""
    window = window_of(run)
    devices = list(whole_series(run, field).values())
    if not devices or length_s(window) <= 0:
        return why_missing(run, field)
    for samples in devices:
        if (covered := coverage(samples, window)) < MIN_COVERAGE:
            return f"{field} samples cover only {covered * PERCENT:.0f} % of the window"
    return devices


def _fact(run: Run, key: str) -> Reading:
    value = run.meta.facts.get(key)
    if value is None:
        return Reading(value=None, why=run.meta.missing.get(key, f"{key} was not recorded"))
    return Reading(value=float(value))


def _field(run: Run) -> tuple[str, str]:
    """Return the telemetry field that means memory on this device, and what it is."""
    if not on_gpu(run):
        return "rss_gb", "resident set of the process (CPU)"
    if run.meta.facts.get("memory_api") == "v1":
        return "memory_used_gb", "device memory, NVML v1: includes the driver's reserve"
    return "memory_used_gb", "device memory in use (NVML)"
