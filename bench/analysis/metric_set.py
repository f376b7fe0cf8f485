"""From a system's recorded runs to its metrics: every entry of the table, and what a comparison must know."""

from __future__ import annotations

import msgspec

from bench.analysis import cost, latency, quality, summary
from bench.analysis.batching import batching_of
from bench.analysis.comparability import context_of
from bench.analysis.doubts import find_doubts
from bench.analysis.longer import window_needed_s
from bench.analysis.metrics import METRICS
from bench.analysis.system import Assumed, MetricSet, SystemRuns, Validity
from bench.analysis.validity import worst_validity
from bench.config import Objectives
from bench.records import Value


def metric_set(system: SystemRuns, assumed: Assumed, objectives: Objectives, *, origin: str) -> MetricSet:
    """Return a system's metrics with all that a comparison needs to judge them; `origin` names the folder.

    Raises ResultError when some of its runs are simulated and others measured.
    """
    values = summarize(system, assumed, objectives)
    return MetricSet(
        name=system.name,
        origin=origin,
        values=values,
        context=context_of(system),
        jobs=system.jobs,
        saturated=summary.why_saturated(system) is not None,
        p95_unbounded=any(latency.is_unbounded(run, 0.95) for run in system.measured),
        client=worst_validity(system.runs),
        batching=batching_of(system),
        quality=quality.quality_of(system),
        window_s=window_needed_s(system),
        doubts=(*find_doubts(system, values), *([old] if (old := cost.old_price(system, assumed)) else [])),
    )


def summarize(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> dict[str, Value]:
    """Return every metric of one system, in the table's order; what is missing says why.

    Where the client or the device of any repeat was INVALID, the note of every windowed one says so, and
    where it was that of another job, that of the others: a figure must not be read without that.
    """
    values = {name: metric.measure(system, assumed, objectives) for name, metric in METRICS.items()}
    others = [run for run in system.runs if run.meta.window is None]
    warned = {True: worst_validity(system.measured), False: worst_validity(others)}
    return {name: _warned(value, warned[METRICS[name].windowed]) for name, value in values.items()}


def _warned(value: Value, validity: Validity | None) -> Value:
    if validity is None or not validity.warning:
        return value
    return msgspec.structs.replace(value, note=f"{value.note}; {validity.warning}")
