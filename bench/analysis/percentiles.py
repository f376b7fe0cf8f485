"""A percentile under load with an interval that holds, or the reason why there is none.

The interval comes from the repeats; of a single one from five long blocks of its window in issue order, whose
percentiles are hardly correlated (batch means: Law, Simulation Modeling and Analysis, ch. 9). It is withheld
where the windows are too short for the queue's memory (see `relaxation`) or hold too few requests, for then
every repeat errs alike: the percentile of a small sample is that of a lower share.
The note says how many independent requests the sample is worth, and what the percentile is at most.
The simulations behind each choice: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import msgspec
import numpy as np

from bench.analysis.correlation import Correlation, correlation, together
from bench.analysis.early_stopping import least_requests, upper_bound
from bench.analysis.latency import TOO_MANY_FAILED, Read, Sample, SampleOf, latencies, percentile_of
from bench.analysis.numbers import shown
from bench.analysis.recorded import window_of
from bench.analysis.relaxation import relaxation_of
from bench.analysis.stats import level_interval
from bench.analysis.summary import ONE_RUN, over_repeats, why_saturated
from bench.analysis.system import SystemRuns, missing
from bench.records import Run, Value
from bench.units import PERCENT, to_ms

BLOCKS = 5
"""More blocks are shorter and correlated, fewer make Student's t wide."""
BEYOND = 4
"""Requests beyond it that a percentile needs in each repeat: of fewer it errs low, and five agree on it."""
SATURATED = "saturated"
"""What the note of a latency begins with that an overloaded system does not have."""
OVERLOADED = "withheld: overloaded"
MEAN_NEEDS = 10.0
"""Relaxation times that a window needs for the mean of a waiting time: as many as for p90."""


def percentile_over_repeats(system: SystemRuns, sample_of: SampleOf, share: float) -> Value:
    """Return the mean over the repeats of a percentile in ms, with all that is to be known of its doubt."""
    if (lack := _no_latency(system)) is not None:
        return lack
    runs = system.measured
    samples = {id(run): sample_of(run) for run in runs}
    needed = relaxations_needed(share, len(runs))
    unresolved = _why_unresolved(system, needed) or _why_too_few(samples.values(), share)
    value = over_repeats(system, lambda run: percentile_of(samples[id(run)], share), unresolved=unresolved)
    if value.value is None:
        return value
    if len(runs) == 1 and not unresolved:
        value = _in_blocks(value, runs[0], samples[id(runs[0])], share)
    note = f"{value.note}; {_worth(list(samples.values()), share)}"
    return msgspec.structs.replace(value, note=note)


def mean_over_repeats(system: SystemRuns, read: Read) -> Value:
    """Return the mean over the repeats of a figure that depends on the queue, as `read` gives it for each."""
    if (lack := _no_latency(system)) is not None:
        return lack
    return over_repeats(system, read, unresolved=_why_unresolved(system, MEAN_NEEDS))


def withheld(value: Value) -> str:
    """Return in two words why a measured latency is not stated; '' for a figure, or any other lack."""
    if value.value is not None:
        return ""
    if value.note.startswith(SATURATED):
        return OVERLOADED
    return "withheld: failures" if TOO_MANY_FAILED in value.note else ""


def times_needed(share: float) -> float:
    """Return how many relaxation times a window needs for the percentile at `share`: one beyond it."""
    return 1.0 / (1.0 - share)


def relaxations_needed(share: float, repeats: int) -> float:
    """Return the same for the windows of some repeats: that of a single one is cut into blocks."""
    return times_needed(share) * (BLOCKS if repeats == 1 else 1)


def least_in_each(share: float, repeats: int) -> int:
    """Return how many requests each of some repeats needs for an interval of the percentile at `share`.

    In all of them together as many as bound it with one beyond it (MLPerf's early stopping).

    >>> [least_in_each(0.95, repeats) for repeats in (1, 2, 5)]
    [130, 80, 80]
    """
    alone = math.ceil(round(BEYOND * times_needed(share), 6))
    return max(alone, math.ceil(least_requests(share) / repeats))


def correlation_of(system: SystemRuns) -> Correlation:
    """Return how many independent requests the latencies of a system's repeats are worth."""
    return together([correlation(latencies(run).values_s) for run in system.measured])


def _no_latency(system: SystemRuns) -> Value | None:
    """Return the missing value of a saturated system: its latency only grows with time."""
    if (why := why_saturated(system)) is None:
        return None
    rate_rps = system.measured[0].meta.offered_rps
    at = f" at {rate_rps:.3g} requests/s" if rate_rps is not None else ""
    return missing(f"{SATURATED}{at}: {why}, so a percentile has no meaning")


def _why_unresolved(system: SystemRuns, needed: float) -> str:
    """Return why windows are too short for an interval; empty where they are not, or nobody knows."""
    relaxation = relaxation_of(system) if system.measured else None
    return "" if relaxation is None else relaxation.why(needed)


def _why_too_few(samples: Collection[Sample], share: float) -> str:
    """Return why repeats hold too few requests for an interval; empty where they do not."""
    least = least_in_each(share, max(len(samples), 1))
    fewest = min((len(sample.values_s) for sample in samples), default=least)
    if not 0 < fewest < least:
        return ""
    return f"{fewest} requests in a repeat are too few for p{share * PERCENT:g}, which needs {least}"


def _in_blocks(value: Value, run: Run, sample: Sample, share: float) -> Value:
    """Give the only repeat's value the interval of its blocks; none where one holds too few requests."""
    window = window_of(run)
    edges_s = np.linspace(window.start_s, window.end_s, BLOCKS + 1)
    places = np.clip(np.searchsorted(edges_s, sample.rows.due_s, side="right") - 1, 0, BLOCKS - 1)
    rows = [np.flatnonzero(places == block) for block in range(BLOCKS)]
    if min(len(part) for part in rows) < least_in_each(share, BLOCKS):
        return value
    found = [np.quantile(sample.values_s[part], share) for part in rows]
    if not all(math.isfinite(figure) for figure in found):
        return value
    estimate = level_interval([to_ms(float(figure)) for figure in found], value.confidence)
    assert value.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    low, high = (value.value * end / estimate.mean for end in (estimate.low, estimate.high))
    note = value.note.replace(
        ONE_RUN,
        f"95 % interval {shown(low)} to {shown(high)} from {BLOCKS} blocks of one run",
    )
    blocks = {i: to_ms(float(figure)) for i, figure in enumerate(found)}
    return msgspec.structs.replace(value, low=low, high=high, n=BLOCKS, blocks=blocks, note=note)


def _worth(samples: list[Sample], share: float) -> str:
    """Return what the sample is worth, in words: its effective size, and the percentile's upper bound."""
    worth = together([correlation(sample.values_s) for sample in samples])
    text = f"worth {worth.effective:.0f} independent requests"
    if worth.lag1 is not None:
        text += f" (lag-1 autocorrelation {worth.lag1:.2f})"
    name, needed = f"p{share * PERCENT:g}", least_requests(share)
    if worth.effective < needed:
        return f"{text}, too few for {name}, which needs {needed}"
    bound_s = upper_bound(np.concatenate([sample.values_s for sample in samples]), share, worth.effective)
    if bound_s is None or math.isinf(bound_s):
        return f"{text}; too many failed for an upper bound"
    return f"{text}; at most {shown(to_ms(bound_s))} with 99 % confidence (early stopping)"
