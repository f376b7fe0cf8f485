"""The physical limits: no implementation of this model on this device can be faster than this.

*Decode*: a step reads every weight once, however many requests it serves, and the cache of their tokens:
`(weights + context · KV bytes) / bandwidth`. *Prefill*: two operations per weight and token and
`2 · layers · S² · width` for causal attention, but never less than the weights take to read:
`max(operations / peak, weights / bandwidth)`. A request alone on the GPU takes at least its prefill and its
steps, one after the other; so an objective below that cannot be met, and can be refused before the run.

Sources: S. Williams et al., Roofline (CACM 52, 2009); A. Chowdhery et al., PaLM (2022, MFU). Dense peaks.
"""

from __future__ import annotations

import numpy as np

from bench.analysis.reference import Gpu
from bench.analysis.stats import Array, percentile
from bench.config import Objectives
from bench.records import Footprint
from bench.units import BYTES_PER_GB, to_gb, to_ms

OPERATIONS = 2.0
"""A multiplication and an addition per weight and token."""
TERA = 1e12


def step_bytes(footprint: Footprint, context: Array | float, read_bytes: float | None = None) -> Array:
    """Return the bytes that a decode step over rows holding `context` tokens together must read.

    `read_bytes` are the weights' as they were found in memory; by default those predicted.
    """
    weights = footprint.read_bytes if read_bytes is None else read_bytes
    return np.asarray(weights + footprint.kv_bytes_per_token * np.asarray(context, dtype=np.float64))


def prefill_operations(footprint: Footprint, prompt_tokens: Array | float) -> Array:
    """Return the operations of each prompt's prefill; the head is needed for its last token alone."""
    tokens = np.asarray(prompt_tokens, dtype=np.float64)
    attention = attention_operations(footprint, tokens * tokens)
    return np.asarray(
        OPERATIONS * (footprint.linear_parameters * tokens + footprint.head_parameters) + attention
    )


def attention_operations(footprint: Footprint, squared_tokens: Array | float) -> Array:
    """Return what causal attention within prompts takes: half of `4 · layers · S² · width`."""
    width = footprint.attention_layers * footprint.attention_width
    return np.asarray(2.0 * width * np.asarray(squared_tokens, dtype=np.float64))


def decode_floor_s(footprint: Footprint, gpu: Gpu, context: Array | float) -> Array:
    """Return the least time of a decode step over rows that hold `context` tokens together."""
    return step_bytes(footprint, context) / (gpu.bandwidth_gb_per_s * BYTES_PER_GB)


def prefill_floor_s(footprint: Footprint, gpu: Gpu, prompt_tokens: Array | float) -> Array:
    """Return the least time of each prompt's prefill; without a known peak, that of reading the weights."""
    reading_s = footprint.read_bytes / (gpu.bandwidth_gb_per_s * BYTES_PER_GB)
    peak = gpu.tflops(footprint.math)
    if peak is None:
        return np.full(np.shape(prompt_tokens), reading_s)
    return np.maximum(prefill_operations(footprint, prompt_tokens) / (peak * TERA), reading_s)


def request_floor_s(
    footprint: Footprint, gpu: Gpu, prompt_tokens: Array | float, output_tokens: Array | float
) -> Array:
    """Return the least latency of each request, alone on the GPU: the prefill gives the first token."""
    prompt, output = (np.asarray(x, dtype=np.float64) for x in (prompt_tokens, output_tokens))
    steps = np.maximum(output - 1.0, 0.0)
    # The step that makes token i + 1 reads the cache of the prompt and i tokens: a sum over all steps.
    context = steps * prompt + steps * (steps + 1.0) / 2.0
    moved = footprint.read_bytes * steps + footprint.kv_bytes_per_token * context
    decode_s = moved / (gpu.bandwidth_gb_per_s * BYTES_PER_GB)
    return np.asarray(prefill_floor_s(footprint, gpu, prompt) + decode_s)


def impossible(
    objectives: Objectives,
    footprint: Footprint,
    gpu: Gpu | None,
    prompt_tokens: Array,
    output_tokens: Array,
) -> str | None:
    """Return why the latency objective cannot be met by this model at this precision on this GPU, else None.

    The arrays hold the workload's requests, drawn or measured; where outputs may end by themselves, pass the
    fewest tokens that they can have. None, too, where nothing is asked or known.
    """
    limit_ms = objectives.p95_latency_ms
    if limit_ms is None or gpu is None or len(prompt_tokens) == 0:
        return None
    least_s = request_floor_s(footprint, gpu, prompt_tokens, output_tokens)
    p95_ms = to_ms(percentile(least_s, 0.95))
    if p95_ms <= limit_ms:
        return None
    prompt, output = float(np.mean(prompt_tokens)), float(np.mean(output_tokens))
    mean_ms = to_ms(float(request_floor_s(footprint, gpu, prompt, output)))
    doubt = "" if gpu.confidence == "ok" else "; no second source agrees with its specification"
    return (
        f"objectives.p95_latency_ms = {limit_ms:g} cannot be met by this model at this precision on this "
        f"GPU: even alone, at the {gpu.label}'s {gpu.bandwidth_gb_per_s:g} GB/s, a request takes at least "
        f"{p95_ms:.0f} ms at p95 and {mean_ms:.0f} ms with the mean {prompt:.0f} tokens in and {output:.0f} "
        f"out, as each token reads {to_gb(footprint.read_bytes):.3g} GB of weights{doubt}; raise the "
        "objective, or choose fewer bytes per weight, a smaller model or a GPU with more bandwidth"
    )
