"""Memory figures: what the device had in use over the window, and what weights, cache and torch account for.

They answer different questions and are never mixed: device memory in use (NVML, without the driver's
reserve) includes the CUDA context; torch's allocated peak counts tensors, its reserved peak what its
allocator keeps from others; what is in use beyond that is overhead. An engine that allocates its cache at
once holds it all the time, so what requests really use of it comes from their tokens. On a CPU there is the
resident set of the process tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.analysis.device import others_on
from bench.analysis.numbers import shown
from bench.analysis.recorded import (
    MIN_COVERAGE,
    Series,
    column,
    coverage,
    declared_period_s,
    engine_facts,
    every_gpu,
    gpu_facts,
    length_s,
    on_gpu,
    whole_series,
    why_missing,
    window_of,
)
from bench.analysis.stats import Array, time_weighted_mean
from bench.analysis.system import Reading
from bench.records import Interval, Run
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


def kv_in_use_gb(run: Run) -> Reading:
    """Read the time-weighted mean over the window of the KV cache that requests in service needed, in GB.

    That is their tokens in context times the bytes per token: the whole prompt from the prefill's start
    on, and the output as it grows, evenly from the first token to the last.
    """
    per_token = _kv_bytes_per_token(run)
    if per_token is None:
        return Reading(value=None, why="the engine did not say what a token takes of its KV cache")
    window = window_of(run)
    first_s, decode_s = column(run.requests, "first_token_s"), column(run.requests, "decode_s")
    end_s = np.where(np.isfinite(decode_s), first_s + decode_s, column(run.requests, "done_s"))
    known = np.isfinite(first_s) & np.isfinite(end_s)
    if not known.any():
        return Reading(value=None, why="no request has a first token and an end")
    begin_s = first_s - np.nan_to_num(column(run.requests, "prefill_s"))
    _, prompt_s = _inside(begin_s[known], end_s[known], window)
    middle_s, decoding_s = _inside(first_s[known], end_s[known], window)
    # Halfway through the part of the decoding that lies inside, that share of the output is there.
    took_s = np.maximum(end_s[known] - first_s[known], np.finfo(float).tiny)
    there = np.where(decoding_s > 0, (middle_s - first_s[known]) / took_s, 0.0)
    prompts = column(run.requests, "prompt_tokens")[known] * prompt_s
    outputs = column(run.requests, "output_tokens")[known] * there * decoding_s
    tokens = float((prompts + outputs).sum()) / length_s(window)
    how = f"{shown(tokens)} tokens in context on average, {shown(per_token)} bytes each"
    return Reading(value=to_gb(tokens * per_token), n=int(known.sum()), how=how)


def torch_peak_gb(run: Run) -> Reading:
    """Read torch's peak of allocated memory, in GB."""
    return _fact(run, "torch_allocated_peak_gb")


def torch_reserved_gb(run: Run) -> Reading:
    """Read torch's peak of reserved memory, in GB: what its allocator kept from everybody else."""
    return _fact(run, "torch_reserved_peak_gb")


def non_torch_gb(run: Run) -> Reading:
    """Read what the run took beyond torch's allocator, in GB: context, libraries, their workspaces.

    (Highest sample in use - in use before loading) - torch's reserved peak; never clamped. Unknown where
    others were on the GPU, for it would be theirs as well.
    """
    used, reserved = peak_gb(run), torch_reserved_gb(run)
    before = gpu_facts(run).get("memory_used_gb")
    if reserved.value is None:
        return reserved
    if used.value is None or before is None:
        return Reading(value=None, why=used.why or "the memory in use before loading was not recorded")
    if pids := others_on(run):
        listed = ", ".join(map(str, pids))
        return Reading(value=None, why=f"not attributable: other processes were on the GPU (pids {listed})")
    how = f"{shown(used.value)} in use - {shown(before)} before loading - {shown(reserved.value)} reserved"
    return Reading(value=used.value - before - reserved.value, how=how)


def _inside(from_s: Array, to_s: Array, window: Interval) -> tuple[Array, Array]:
    """Return the middle and the length of the part of each span that lies inside `window`."""
    from_s, to_s = np.maximum(from_s, window.start_s), np.minimum(to_s, window.end_s)
    return (from_s + to_s) / 2.0, np.clip(to_s - from_s, 0.0, None)


def _kv_bytes_per_token(run: Run) -> float | None:
    """Return what a token takes of the cache as it is; the formula alone knows nothing of quantization."""
    cache = engine_facts(run).get("kv_cache") or {}
    per_token: float | None = cache.get("bytes_per_token_by_formula")
    held, formula = cache.get("bytes_held"), cache.get("bytes_held_by_formula")
    return per_token * held / formula if per_token and held and formula else per_token


def _sampled(run: Run, field: str) -> list[Series] | str:
    """Return each device's samples, or why they do not stand for the whole window."""
    window = window_of(run)
    if on_gpu(run) and any(_of_whole_gpu(facts) for facts in every_gpu(run)):
        return "mig: the memory of the whole GPU, not of this run's instance"
    devices = list(whole_series(run, field).values())
    if not devices or length_s(window) <= 0:
        return why_missing(run, field)
    for samples in devices:
        if (covered := coverage(samples, window, declared_period_s(run, field))) < MIN_COVERAGE:
            return f"{field} samples cover only {covered * PERCENT:.0f} % of the window"
    return devices


def _of_whole_gpu(facts: Mapping[str, Any]) -> bool:
    """Say whether the GPU was parted by MIG and read as a whole: an instance has a UUID of its own."""
    parted = facts.get("mig") or (facts.get("after") or {}).get("mig")
    return bool(parted) and not str(facts.get("uuid")).startswith("MIG-")


def _fact(run: Run, key: str) -> Reading:
    value = run.meta.facts.get(key)
    if value is None:
        return Reading(value=None, why=run.meta.missing.get(key, f"{key} was not recorded"))
    return Reading(value=float(value))


def _field(run: Run) -> tuple[str, str]:
    """Return the telemetry field that means memory on this device, and what it is."""
    if not on_gpu(run):
        return "rss_gb", "resident set of the process tree (CPU)"
    if run.meta.facts.get("memory_api") == "v1":
        return "memory_used_gb", "device memory, NVML v1: includes the driver's reserve"
    return "memory_used_gb", "device memory in use (NVML)"
