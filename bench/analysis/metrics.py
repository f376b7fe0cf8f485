"""THE table of metrics: name, unit, which way is better, definition, source of the formula, function.

The CSV rows, the comparison's arrows, the report and the reference come from `METRICS` and from nowhere
else. A new metric is one entry. The first six rows and their names are fixed: the evaluation notebook
reads them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.analysis import batching, energy, idle, latency, memory, quality, summary, utilisation, waste
from bench.analysis.measures import (
    Measure,
    compile_s,
    fleet_utilisation,
    goodput,
    gross_energy,
    highest_of,
    load_s,
    of_offline,
    of_percentile,
    of_queueing,
    of_shares,
    of_window,
    operational_carbon,
    provisioned_cost,
    replicas,
    saturated,
    sci,
    shortest_of,
    stable,
    sustained_cost,
    throughput,
)

Better = Literal["lower", "higher"]

NVML = "docs/method.md, Energy and memory"
TOKENS = "vLLM, benchmarks/serve.py (TTFT, TPOT, ITL)"
COORDINATED = "G. Tene, How NOT to Measure Latency (latency from the due time)"
QUALITY = "llama.cpp, tools/perplexity (KL divergence, same top token)"
DRIFT = "docs/quality.md, What is written freely"
ROOFLINE = "S. Williams et al., Roofline (CACM 52, 2009)"
OWN = "bench"


class Metric(msgspec.Struct, frozen=True):
    """One row of the table.

    `unit` is empty for shares and counts, `digits` are the significant digits shown; a metric whose
    `better` is None is not judged: neither way is an end in itself. `windowed` says that the open-loop
    repeats make it, whose client may have been at fault.
    """

    label: str
    unit: str
    better: Better | None
    digits: int
    definition: str
    source: str
    measure: Measure
    windowed: bool = True


METRICS: dict[str, Metric] = {
    "p50_latency_ms": Metric(
        "p50 latency", "ms", "lower", 4,
        "Median of done - due over the requests due inside the window; a failed request is infinitely slow.",
        COORDINATED, of_percentile(latency.latencies, 0.50),
    ),
    "p95_latency_ms": Metric(
        "p95 latency", "ms", "lower", 4,
        "95th percentile of done - due, by linear interpolation.",
        COORDINATED, of_percentile(latency.latencies, 0.95),
    ),
    "throughput_requests_per_sec": Metric(
        "throughput", "requests/s", "higher", 4,
        "Capacity: the highest steady rate at which the objectives hold and the queue is stable, by search; "
        "without a search the offline (saturated) throughput.",
        "docs/method.md, Capacity", throughput, windowed=False,
    ),
    "average_memory_gb": Metric(
        "average memory", "GB", "lower", 4,
        "Time-weighted mean over the window of the device memory in use (on a CPU: of the resident set).",
        NVML, of_window(memory.average_gb),
    ),
    "cost_per_1k_requests_usd": Metric(
        "cost per 1k", "USD", "lower", 4,
        "Sustained: 1000 * USD per GPU-hour * GPUs / (3600 * throughput).",
        OWN, sustained_cost, windowed=False,
    ),
    "estimated_energy_kwh_per_1k_requests": Metric(
        "energy per 1k", "kWh", "lower", 4,
        "Gross energy between two counter ticks / requests served between them * 1000 / 3.6e6.",
        NVML, gross_energy,
    ),
    "p90_latency_ms": Metric(
        "p90 latency", "ms", "lower", 4, "90th percentile of done - due.",
        COORDINATED, of_percentile(latency.latencies, 0.90),
    ),
    "p99_latency_ms": Metric(
        "p99 latency", "ms", "lower", 4, "99th percentile of done - due.",
        COORDINATED, of_percentile(latency.latencies, 0.99),
    ),
    "ttft_p50_ms": Metric(
        "TTFT p50", "ms", "lower", 4, "Median of first token - due.",
        TOKENS, of_percentile(latency.first_tokens, 0.50),
    ),
    "ttft_p95_ms": Metric(
        "TTFT p95", "ms", "lower", 4, "95th percentile of first token - due.",
        TOKENS, of_percentile(latency.first_tokens, 0.95),
    ),
    "tpot_p50_ms": Metric(
        "TPOT p50", "ms", "lower", 4,
        "Median of (done - first token) / (output tokens - 1) over completed requests.",
        TOKENS, of_window(latency.tpot_ms(0.50)),
    ),
    "itl_p95_ms": Metric(
        "ITL p95", "ms", "lower", 4,
        "95th percentile of the gaps between consecutive tokens of completed requests.",
        TOKENS, of_window(latency.itl_ms(0.95)),
    ),
    "offered_requests_per_sec": Metric(
        "offered", "requests/s", None, 4, "Requests due inside the window / its length.",
        OWN, of_window(latency.offered_rps),
    ),
    "completed_requests_per_sec": Metric(
        "completed", "requests/s", None, 4,
        "Requests answered inside the window / its length; at most what is offered, so not judged.",
        OWN, of_window(latency.completed_rps),
    ),
    "output_tokens_per_sec": Metric(
        "output", "tokens/s", None, 4,
        "Output tokens of the requests answered inside the window / its length; set by the load.",
        OWN, of_window(latency.output_tokens_per_s),
    ),
    "offline_output_tokens_per_sec": Metric(
        "offline output", "tokens/s", "higher", 4, "Output tokens/s of the saturated run.",
        "MLPerf Inference, Offline scenario", of_offline(summary.offline_tokens_per_s), windowed=False,
    ),
    "saturated_requests_per_sec": Metric(
        "saturated", "requests/s", "higher", 4,
        "Offline throughput: requests answered per second with more waiting than can run; no objective.",
        "MLPerf Inference, Offline scenario", saturated, windowed=False,
    ),
    "stable_requests_per_sec": Metric(
        "stable", "requests/s", "higher", 4,
        "Highest rate of the capacity search at which the queue did not grow, whatever the objectives.",
        OWN, stable, windowed=False,
    ),
    "goodput_requests_per_sec": Metric(
        "goodput", "requests/s", "higher", 4,
        "Requests answered within the latency objective / window length; failures count as bad.",
        "DistServe (OSDI 2024)", goodput,
    ),
    "error_rate": Metric(
        "error rate", "", "lower", 3,
        "Share of the requests due inside the window that failed, timed out or were rejected.",
        OWN, of_shares(latency.error_rate),
    ),
    "peak_memory_gb": Metric(
        "peak memory", "GB", "lower", 4,
        "Highest sample of the memory in use inside the window; a lower bound of the peak.",
        NVML, of_window(memory.peak_gb),
    ),
    "weights_gb": Metric(
        "weights", "GB", "lower", 4, "Resident bytes of the weights after loading.",
        OWN, highest_of(memory.weights_gb), windowed=False,
    ),
    "torch_peak_allocated_gb": Metric(
        "torch peak allocated", "GB", "lower", 4, "torch.cuda.max_memory_allocated: tensors only.",
        "PyTorch, CUDA memory management", highest_of(memory.torch_peak_gb), windowed=False,
    ),
    "torch_peak_reserved_gb": Metric(
        "torch peak reserved", "GB", "lower", 4,
        "torch.cuda.max_memory_reserved: what its allocator kept from everybody else.",
        "PyTorch, CUDA memory management", highest_of(memory.torch_reserved_gb), windowed=False,
    ),
    "non_torch_memory_gb": Metric(
        "non-torch memory", "GB", "lower", 4,
        "Highest device memory in use - in use before loading - torch peak reserved: context and libraries.",
        NVML, of_window(memory.non_torch_gb),
    ),
    "kv_cache_gb": Metric(
        "KV cache", "GB", "lower", 4, "Most bytes that the cache object held; the note has the formula's.",
        OWN, highest_of(memory.kv_cache_gb), windowed=False,
    ),
    "kv_in_use_gb": Metric(
        "KV cache in use", "GB", None, 4,
        "Time-weighted mean of the tokens in context * bytes per token; set by the load.",
        OWN, of_window(memory.kv_in_use_gb),
    ),
    "mean_power_w": Metric(
        "mean power", "W", None, 4, "Energy / duration of the metered span; a means, not an end.",
        NVML, of_window(energy.mean_power_w),
    ),
    "peak_power_w": Metric(
        "peak power", "W", None, 4, "Highest power sample inside the window; a lower bound of the peak.",
        NVML, of_window(energy.peak_power_w),
    ),
    "idle_cold_w": Metric(
        "idle, cold", "W", None, 4, "Mean power before the model is loaded, while polled.",
        NVML, of_offline(idle.cold), windowed=False,
    ),
    "idle_resident_w": Metric(
        "idle, resident", "W", None, 4,
        "Mean power with the model in memory and no request, while polled; of before and after the traffic.",
        NVML, of_window(idle.resident_w),
    ),
    "net_energy_kwh_per_1k_requests": Metric(
        "net energy per 1k", "kWh", "lower", 4,
        "(Energy - resident idle power * duration) / requests * 1000 / 3.6e6; never clamped.",
        NVML, of_window(idle.net_kwh_per_1k),
    ),
    "active_energy_share": Metric(
        "active energy", "", None, 3, "Share of the energy above resident idle: net / gross.",
        NVML, of_window(idle.active_share),
    ),
    "energy_open_percent": Metric(
        "energy left open", "%", None, 3,
        "Half of what sampling leaves open of the joules of one repeat; the sensor's gain is not in it.",
        NVML, of_window(energy.open_percent),
    ),
    "energy_disagreement_percent": Metric(
        "counter vs power", "%", None, 3,
        "Difference between the polled power and the counter over the counter's span; a check for faults.",
        NVML, of_window(energy.disagreement_percent),
    ),
    "cost_provisioned_per_1k_requests_usd": Metric(
        "provisioned per 1k", "USD", "lower", 4,
        "1000 * replicas * GPUs * USD per GPU-hour * 24 / requests a day; "
        "replicas = max(least, ceil(peak rate / (throughput * headroom))) + spare.",
        OWN, provisioned_cost, windowed=False,
    ),
    "replicas": Metric(
        "replicas", "", "lower", 3,
        "Replicas rented around the clock for the daily volume, as in the provisioned cost.",
        OWN, replicas, windowed=False,
    ),
    "fleet_utilisation": Metric(
        "fleet utilisation", "", None, 3,
        "Mean rate / (replicas * throughput): sustained over provisioned cost.",
        OWN, fleet_utilisation, windowed=False,
    ),
    "co2e_kg_per_1k_requests": Metric(
        "CO2e per 1k", "kg", "lower", 4,
        "Energy * kg CO2e per kWh where the machine stands (operational, location-based), times the PUE "
        "where one is stated.",
        "ISO/IEC 21031 (SCI), without embodied share", operational_carbon,
    ),
    "sci_kg_per_1k_requests": Metric(
        "SCI per 1k", "kg", "lower", 4,
        "Operational CO2e + the making of the provisioned GPUs / their life * the time reserved.",
        "ISO/IEC 21031 (SCI)", sci,
    ),
    "mean_batch_size": Metric(
        "mean batch size", "", None, 3,
        "Mean over the batches admitted of how many requests ran once they had joined.",
        OWN, of_window(batching.mean_batch_size),
    ),
    "mean_decode_rows": Metric(
        "decode rows", "", None, 3,
        "Mean number of requests between their first and last token, over the time in which there is any.",
        OWN, of_window(batching.mean_decode_rows),
    ),
    "padding_share": Metric(
        "padding share", "", "lower", 3,
        "Padded token positions / all computed token positions.", OWN, of_window(waste.padding_share),
    ),
    "prefill_waste": Metric(
        "prefill waste", "", "lower", 3,
        "Padded / all positions computed in prefills.", OWN, of_window(waste.prefill_waste),
    ),
    "decode_waste": Metric(
        "decode waste", "", "lower", 3,
        "Padded / all positions computed in decode steps.", OWN, of_window(waste.decode_waste),
    ),
    "time_weighted_waste": Metric(
        "waste by time", "", "lower", 3,
        "Sum over requests of their share of the engine's prefill and decode time, each times its padding "
        "share / the sum of these shares.",
        OWN, of_window(waste.time_weighted_waste),
    ),
    "queue_mean_ms": Metric(
        "queue mean", "ms", "lower", 4, "Mean of admitted - due.",
        OWN, of_queueing(latency.stage_ms("queue_s")),
    ),
    "prefill_mean_ms": Metric(
        "prefill mean", "ms", "lower", 4, "Mean of first token - admitted (after tokenizing).",
        OWN, of_window(latency.stage_ms("prefill_s")),
    ),
    "decode_mean_ms": Metric(
        "decode mean", "ms", "lower", 4, "Mean of finished - first token.",
        OWN, of_window(latency.stage_ms("decode_s")),
    ),
    "dispatch_lag_p99_ms": Metric(
        "dispatch lag p99", "ms", None, 3,
        "99th percentile of sent - due: the harness's own lateness, part of the latency.",
        OWN, of_window(latency.dispatch_lag_ms(0.99)),
    ),
    "decode_floor_ms": Metric(
        "decode floor", "ms", None, 4,
        "Mean over the decode steps of (weights + KV cache of the context) / memory bandwidth.",
        ROOFLINE, of_offline(utilisation.decode_floor_ms),
    ),
    "prefill_floor_ms": Metric(
        "prefill floor", "ms", None, 4,
        "Mean over the passes with a prefill of max(operations / peak, weights / memory bandwidth).",
        ROOFLINE, of_offline(utilisation.prefill_floor_ms),
    ),
    "decode_mbu": Metric(
        "MBU decode", "", None, 3,
        "Bytes that the decode steps must read / (their time * memory bandwidth).",
        ROOFLINE, of_offline(utilisation.decode_mbu),
    ),
    "prefill_mfu": Metric(
        "MFU prefill", "", None, 3,
        "Operations of the passes with a prefill / (their time * peak of dense products).",
        "PaLM (2022), appendix B", of_offline(utilisation.prefill_mfu),
    ),
    "perplexity": Metric(
        "perplexity", "", "lower", 5, "exp(mean negative log-likelihood) of held-out text, teacher-forced.",
        "Hugging Face, Perplexity of fixed-length models", of_offline(quality.perplexity), windowed=False,
    ),
    "perplexity_ratio": Metric(
        "perplexity ratio", "", "lower", 5,
        "exp(mean difference of the negative log-likelihoods of system and baseline), position by position.",
        QUALITY, of_offline(quality.measured("perplexity_ratio")), windowed=False,
    ),
    "mean_kl": Metric(
        "mean KL", "nats", "lower", 3,
        "Mean KL(baseline || system) of the next-token distributions.",
        QUALITY, of_offline(quality.measured("mean_kl")), windowed=False,
    ),
    "kl_p99": Metric(
        "KL p99", "nats", "lower", 3,
        "KL(baseline || system) of the next-token distributions that one position in a hundred exceeds.",
        QUALITY, of_offline(quality.measured("kl_p99")), windowed=False,
    ),
    "top1_agreement": Metric(
        "top-1 agreement", "", "higher", 4,
        "Share of positions at which system and baseline pick the same token.",
        QUALITY, of_offline(quality.measured("top1_agreement")), windowed=False,
    ),
    "identical_outputs": Metric(
        "identical outputs", "", "higher", 3,
        "Share of prompts that system and baseline continue greedily to the same tokens.",
        DRIFT, of_offline(quality.measured("identical_outputs")), windowed=False,
    ),
    "output_edit_distance": Metric(
        "edit distance", "", "lower", 3,
        "Mean Levenshtein distance of the continuations' tokens / the longer one's length.",
        DRIFT, of_offline(quality.measured("output_edit_distance")), windowed=False,
    ),
    "output_length_ratio": Metric(
        "length ratio", "", None, 4,
        "Tokens written / tokens that the baseline wrote, where either ended by itself.",
        "MLPerf Inference rules (generated length)", of_offline(quality.measured("output_length_ratio")),
        windowed=False,
    ),
    "format_drop": Metric(
        "format drop", "", "lower", 3,
        "Share of prompts whose format the baseline keeps less the share that the system keeps.",
        "Q. McNemar (1947); T. Tango (1998)", of_offline(quality.measured("format_drop")), windowed=False,
    ),
    "tone_shift": Metric(
        "tone shift", "", "lower", 3,
        "Largest paired difference of a tone statistic / the baseline's standard deviation.",
        "D. Schuirmann (1987), two one-sided tests", of_offline(quality.measured("tone_shift")),
        windowed=False,
    ),
    "load_s": Metric(
        "load time", "s", "lower", 3,
        "Time to load the model in a fresh process: the shortest, as the first may download it.",
        OWN, shortest_of(load_s), windowed=False,
    ),
    "compile_s": Metric(
        "compile time", "s", "lower", 3,
        "Time to compile the decode step before any traffic: the longest, as later ones may find a cache.",
        "PyTorch, torch.compile", highest_of(compile_s), windowed=False,
    ),
}  # fmt: skip

REQUIRED = tuple(METRICS)[:6]
"""The six metrics that every CSV carries, in this order."""
