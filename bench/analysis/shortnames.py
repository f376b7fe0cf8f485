"""Short names of metrics, for arguments: `p95` is `p95_latency_ms`."""

from __future__ import annotations

import difflib
from typing import cast

from bench.analysis.metrics import METRICS, Better
from bench.errors import ConfigError

SHORT = {
    "p50": "p50_latency_ms",
    "p90": "p90_latency_ms",
    "p95": "p95_latency_ms",
    "p99": "p99_latency_ms",
    "ttft": "ttft_p95_ms",
    "tpot": "tpot_p50_ms",
    "itl": "itl_p95_ms",
    "throughput": "throughput_requests_per_sec",
    "saturated": "saturated_requests_per_sec",
    "tokens": "offline_output_tokens_per_sec",
    "goodput": "goodput_requests_per_sec",
    "memory": "average_memory_gb",
    "peak_memory": "peak_memory_gb",
    "weights": "weights_gb",
    "cost": "cost_per_1k_requests_usd",
    "provisioned": "cost_provisioned_per_1k_requests_usd",
    "energy": "estimated_energy_kwh_per_1k_requests",
    "co2e": "co2e_kg_per_1k_requests",
    "errors": "error_rate",
    "ppl": "perplexity_ratio",
    "kl": "mean_kl",
    "agreement": "top1_agreement",
    "format": "format_drop",
    "tone": "tone_shift",
}
"""Full names by short ones; a full name stands for itself."""


def metric_called(name: str) -> str:
    """Return the full name of a metric; ConfigError, with the nearest ones, where there is none."""
    full = SHORT.get(name, name)
    if full in METRICS:
        return full
    near = difflib.get_close_matches(name, [*SHORT, *METRICS], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"{name!r} is no metric: give a name from a metrics CSV, or one of {', '.join(SHORT)}{hint}"
    )


def short_name(name: str) -> str:
    """Return the short name of a metric, its full one where it has none."""
    return next((short for short, full in SHORT.items() if full == name), name)


def directed_metric(text: str) -> tuple[str, Better]:
    """Return the metric that `NAME` or `NAME:lower` or `NAME:higher` asks for, and which way is better.

    Raises ConfigError for an unknown name, another direction, and a metric of which neither way is better
    by itself and none is stated.
    """
    name, _, way = text.partition(":")
    full = metric_called(name.strip())
    stated = way.strip() or METRICS[full].better
    if stated not in ("lower", "higher"):
        problem = f"{way!r} is no direction" if way else f"neither way of {name} is better by itself"
        raise ConfigError(f"{text}: {problem}; write {name}:lower or {name}:higher")
    return full, cast("Better", stated)
