"""What one job's figure leaves open, because another process would have been faster or slower.

Throughput comes from one process, and the blocks within it cannot show how processes differ: layouts of
memory, clocks, neighbours. The repeats are processes too. Their time per output token, of requests in batches
of one size, depends on little else than the speed of the process, so that its scatter among them, as a share,
stands for that of processes; whatever else it holds only widens the interval.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bench.analysis.contrast import standard_error, welch_degrees
from bench.analysis.numbers import shown
from bench.analysis.recorded import scored
from bench.analysis.stats import Array, t_quantile
from bench.analysis.system import SystemRuns
from bench.records import Run, Value
from bench.units import PERCENT

MIN_REPEATS = 3
"""Two processes tell too little of how processes differ."""


def spread(system: SystemRuns) -> float | None:
    """Return the standard deviation of a process's speed, as a share; None where too few repeats show it."""
    timed = [_tpots(run) for run in system.measured]
    if len(timed) < MIN_REPEATS or min(len(sizes) for sizes, _ in timed) == 0:
        return None
    sizes, counts = np.unique(np.concatenate([sizes for sizes, _ in timed]), return_counts=True)
    usual = sizes[np.argmax(counts)]
    alike = [tpots_s[of == usual] for of, tpots_s in timed]
    if min(len(tpots_s) for tpots_s in alike) == 0:
        return None
    return float(np.std([math.log(float(np.median(tpots_s))) for tpots_s in alike], ddof=1))


def _tpots(run: Run) -> tuple[Array, Array]:
    """Return the batch size and the time per output token of every scored request that has both."""
    rows = scored(run)
    tokens, sizes = rows.column("output_tokens"), rows.column("batch_size")
    span_s = rows.column("done_s") - rows.column("first_token_s")
    timed = rows.ok & (tokens >= 2) & (span_s > 0) & np.isfinite(sizes)
    return sizes[timed], span_s[timed] / (tokens[timed] - 1)


def widened(system: SystemRuns, value: Value) -> Value:
    """Return a figure of one process with an interval that holds for processes, where both are known."""
    error, share = standard_error(value), spread(system)
    if error is None or share is None or value.value is None or value.n is None:
        return value
    errors = (error, share * abs(value.value))
    degrees = welch_degrees(errors, (value.n - 1.0, len(system.measured) - 1.0))
    half = t_quantile(degrees, value.confidence) * math.hypot(*errors)
    low, high = value.value - half, value.value + half
    more = f"with {share * PERCENT:.2g} % between processes, by TPOT, {shown(low)} to {shown(high)}"
    n, note = math.floor(degrees) + 1, f"{value.note}; {more}"
    return msgspec.structs.replace(value, low=low, high=high, n=n, note=note, between_processes=share)
