"""Probes of servers whose curve is a formula, and recorded searches made of whole requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from bench.analysis.capacity import Conclusion, Settings, conclude, next_probe
from bench.analysis.trials import Trial
from bench.records import Completion, Interval, Probe, Run
from tests.recorded import completion, window_run

PROBE_S = 10.0
Curve = Callable[[float], float | None]
"""p95 in ms at a rate; None where the queue grows."""


def probed(
    rate_rps: float, draw: int = 1, *, p95_ms: float | None = 500.0, limit_ms: float | None = 1000.0,
    served_rps: float | None = None, errors: float = 0.0, error: float | None = 0.01,
) -> Trial:  # fmt: skip
    """Return a probe; one without p95 found its queue growing while `served_rps` were served."""
    stable = p95_ms is not None
    margin = None if p95_ms is None or limit_ms is None else p95_ms / limit_ms - 1.0
    binds = "queue" if not stable else "errors" if errors > 0.01 else "p95" if margin and margin > 0 else None
    return Trial(
        rate_rps=rate_rps, repeat=draw, seconds=PROBE_S, n=round(rate_rps * PROBE_S), stable=stable,
        passed=binds is None, binds=binds, margin=margin, margin_error=None if margin is None else error,  # type: ignore[arg-type]
        served_rps=rate_rps if served_rps is None else served_rps, served_error=0.01 * rate_rps,
        in_system=3.0, little=1.0, p50_ms=p95_ms and p95_ms / 2.0, p95_ms=p95_ms, ttft_p95_ms=p95_ms and 50.0,
        goodput_rps=None if limit_ms is None else 0.9 * rate_rps, error_rate=errors,
    )  # fmt: skip


def queueing(most_rps: float, service_ms: float) -> Curve:
    """Return the p95 of a server whose waits grow as one over what is left of `most_rps`."""
    return lambda rate: None if rate >= most_rps else service_ms / (1.0 - rate / most_rps)


def search(
    curve: Curve, guess_rps: float, *, limit_ms: float | None = 1000.0, noise: float = 0.0, seed: int = 1,
    most_rps: float = 100.0, max_probes: int = 24, tolerance: float = 0.05,
) -> tuple[Conclusion, list[Trial]]:  # fmt: skip
    """Search a curve; each draw of requests is off by `noise`, whatever the rate."""
    settings = Settings(guess_rps=guess_rps, tolerance=tolerance, max_probes=max_probes)
    trials: list[Trial] = []
    while (ask := next_probe(trials, settings)) is not None:
        off = math.exp(noise * np.random.default_rng([seed, ask.repeat]).standard_normal())
        p95_ms = curve(ask.rate_rps)
        trials.append(
            probed(
                ask.rate_rps,
                ask.repeat,
                p95_ms=None if p95_ms is None else p95_ms * off,
                limit_ms=limit_ms,
                served_rps=min(ask.rate_rps, most_rps),
                error=0.01 if p95_ms is None or limit_ms is None else max(noise * p95_ms / limit_ms, 0.01),
            )
        )
    return conclude(trials, settings), trials


def recorded(probes: Sequence[tuple[Probe, list[Completion]]], **meta: object) -> Run:
    """Return a capacity job's run from its probes and their requests."""
    rows = [row for _, requests in probes for row in requests]
    meta = {"kind": "capacity", "window": None, "probes": [probe for probe, _ in probes]} | meta
    return window_run(rows, [], repeat=0, **meta)  # type: ignore[arg-type]


def steady_probe(
    start_s: float, rate_rps: float, latency_s: float, *, growth_s: float = 0.0, repeat: int = 1
) -> tuple[Probe, list[Completion]]:
    """Return a probe of 10 s whose requests take `latency_s`, and by `growth_s` a second more."""
    n = round(rate_rps * PROBE_S)
    rows = [
        completion(start_s + i / rate_rps, latency_s + growth_s * i / rate_rps, uid=round(1000 * start_s) + i)
        for i in range(n)
    ]
    window = Interval(start_s=start_s, end_s=start_s + PROBE_S)
    return Probe(rate_rps=rate_rps, window=window, repeat=repeat, warmup_s=0.0), rows
