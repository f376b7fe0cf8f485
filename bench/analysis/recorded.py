"""Views of a recorded run as arrays: its scored requests and its telemetry.

*Scored* are the requests due inside the window. A request that failed, timed out or was rejected has
an infinite latency. A null in a table becomes NaN here and is never mistaken for a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bench.analysis.remembered import remembered
from bench.analysis.stats import Array
from bench.records import Interval, Run

if TYPE_CHECKING:
    import pyarrow as pa


MIN_COVERAGE = 0.95
"""Samples must cover this share of the window to stand for all of it."""
GAP_PERIODS = 3.0
"""A gap longer than this many sampling periods counts as not covered."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """The requests due inside a run's window, in order of their due times."""

    table: pa.Table
    due_s: Array
    ok: Array
    latency_s: Array

    @property
    def n(self) -> int:
        """How many requests are scored."""
        return len(self.due_s)

    def column(self, name: str) -> Array:
        """Return a column as floats, NaN for null."""
        return column(self.table, name)


class Series(msgspec.Struct, frozen=True):
    """One telemetry field of one device over time; `read_s` is what each read took, around its `t_s`."""

    t_s: Array
    values: Array
    read_s: Array | None = None

    def within(self, window: Interval) -> Series:
        """Return the samples inside `window`, its ends included."""
        inside = (self.t_s >= window.start_s) & (self.t_s <= window.end_s)
        read_s = None if self.read_s is None else self.read_s[inside]
        return Series(self.t_s[inside], self.values[inside], read_s)

    def earlier(self, by_s: float) -> Series:
        """Return the same values as of `by_s` before."""
        return Series(self.t_s - by_s, self.values, self.read_s)


def window_of(run: Run) -> Interval:
    """Return the run's scored window; only for runs that have one."""
    if run.meta.window is None:
        raise ValueError(f"{run.folder} has no scored window")
    return run.meta.window


def engine_facts(run: Run) -> Mapping[str, Any]:
    """Return what the engine said of itself after the traffic; empty where it was not asked."""
    facts: Mapping[str, Any] = run.meta.facts.get("engine") or {}
    return facts


def every_gpu(run: Run) -> list[Mapping[str, Any]]:
    """Return what each GPU's meter said of itself and its GPU; empty where there was none."""
    meters: Mapping[str, Any] = run.meta.facts.get("meters") or {}
    return [facts for name, facts in meters.items() if name.startswith("gpu") and facts]


def gpu_facts(run: Run, uuid: str | None = None) -> Mapping[str, Any]:
    """Return what the meter of the GPU named by `uuid` said, else that of the first; empty without one."""
    found = every_gpu(run)
    named = [facts for facts in found if uuid is not None and facts.get("uuid") == uuid]
    return next(iter([*named, *found]), {})


def span_of(run: Run) -> Interval | None:
    """Return the span of a job's figures: its window, all its probes, or its saturated part."""
    if run.meta.window is not None:
        return run.meta.window
    if probes := [probe.window for probe in run.meta.probes]:
        return Interval(start_s=min(w.start_s for w in probes), end_s=max(w.end_s for w in probes))
    start_s, end_s = run.meta.facts.get("offline_started_s"), run.meta.facts.get("offline_ended_s")
    if start_s is None or end_s is None or end_s <= start_s:
        return None
    return Interval(start_s=start_s, end_s=end_s)


def length_s(window: Interval) -> float:
    """Return the window's length."""
    return window.end_s - window.start_s


def column(table: pa.Table, name: str) -> Array:
    """Return a numeric column as floats, NaN for null."""
    values: Array = table.column(name).to_numpy().astype(np.float64)
    return values


@remembered
def scored(run: Run) -> Scored:
    """Return the requests due inside the run's window."""
    import pyarrow.compute as pc

    window, due = window_of(run), run.requests.column("due_s")
    inside = pc.and_(pc.greater_equal(due, window.start_s), pc.less(due, window.end_s))
    table = run.requests.filter(inside).sort_by("due_s")
    due_s, done_s, ok = column(table, "due_s"), column(table, "done_s"), is_ok(table)
    latency_s = np.where(ok & np.isfinite(done_s), done_s - due_s, np.inf)
    return Scored(table=table, due_s=due_s, ok=ok, latency_s=latency_s)


def is_ok(table: pa.Table) -> Array:
    """Return which requests were answered in full and in time."""
    import pyarrow.compute as pc

    answered: Array = pc.equal(table.column("status"), "ok").to_numpy().astype(bool)
    return answered


def answered_between(run: Run, start_s: float, end_s: float) -> Array:
    """Return which requests were answered in `(start_s, end_s]`, whenever they were due."""
    done_s = column(run.requests, "done_s")
    answered: Array = is_ok(run.requests) & (done_s > start_s) & (done_s <= end_s)
    return answered


def completions_between(run: Run, start_s: float, end_s: float) -> int:
    """Count the requests answered in `(start_s, end_s]`, whenever they were due."""
    return int(np.count_nonzero(answered_between(run, start_s, end_s)))


def served_between(run: Run, start_s: float, end_s: float) -> float:
    """Return how many answered requests a span served: each counts by the share of its service inside.

    Service is from admission to the answer. Energy is drawn while a request is served, not at the moment
    of its answer: counting answers would be off by a batch at either end. The shares of consecutive spans
    sum to one, so no request counts twice or not at all.
    """
    from_s, to_s = column(run.requests, "admitted_s"), column(run.requests, "done_s")
    known = is_ok(run.requests) & np.isfinite(to_s)
    from_s, to_s = from_s[known], to_s[known]
    from_s = np.where(np.isfinite(from_s), np.minimum(from_s, to_s), to_s)
    inside_s = np.clip(np.minimum(to_s, end_s) - np.maximum(from_s, start_s), 0.0, None)
    took_s = to_s - from_s
    at_once = (to_s > start_s) & (to_s <= end_s)  # of a service without length
    return float(np.where(took_s > 0, inside_s / np.where(took_s > 0, took_s, 1.0), at_once).sum())


@remembered
def series(run: Run, field: str) -> dict[str | None, Series]:
    """Return a telemetry field by GPU UUID (None for the host), ordered by time; {} when absent."""
    import pyarrow.compute as pc

    # Masks, not expressions: a plan for each of so many small filters costs more than the filter.
    table = run.telemetry.filter(pc.equal(run.telemetry.column("field"), field)).sort_by("t_s")
    found: dict[str | None, Series] = {}
    uuids = table.column("gpu_uuid")
    for uuid in pc.unique(uuids).to_pylist():
        rows = table.filter(pc.is_null(uuids) if uuid is None else pc.equal(uuids, uuid))
        found[uuid] = Series(column(rows, "t_s"), column(rows, "value"), column(rows, "read_s"))
    return found


def whole_series(run: Run, field: str) -> dict[str | None, Series]:
    """Return a field's series; {} where it failed on the way: what came before is not the whole."""
    return {} if field in run.meta.missing else series(run, field)


def idle_spans(run: Run) -> dict[str, Interval]:
    """Return the spans in which no request was under way, by name."""
    spans: Mapping[str, Any] = run.meta.facts.get("idle") or {}
    return {
        name: Interval(start_s=span["start_s"], end_s=span["end_s"]) for name, span in spans.items() if span
    }


def declared_period_s(run: Run, field: str) -> float | None:
    """Return the period at which the sampler was to read `field`; None where the run does not say."""
    period_s: float | None = (run.meta.facts.get("sampler") or {}).get("period_s", {}).get(field)
    return period_s or None


def coverage(samples: Series, window: Interval, period_s: float | None = None) -> float:
    """Return the share of `window` without gaps of more than three sampling periods.

    Without the declared `period_s` it is the median of the gaps, which tells nothing of a sampler that was
    slow throughout, and which dense reading at the edges would bias.
    """
    inside = samples.within(window).t_s
    if len(inside) < 2:
        return 0.0
    if period_s is None:
        period_s = float(np.median(np.diff(inside)))
    gaps = np.diff(np.concatenate(([window.start_s], inside, [window.end_s])))
    lost_s = float(gaps[gaps > GAP_PERIODS * period_s].sum())
    return 1.0 - lost_s / length_s(window)


def on_gpu(run: Run) -> bool:
    """Say whether a GPU was metered for this run: its own, or a modelled one under a run on the CPU."""
    return run.meta.device == "cuda" or bool(run.meta.facts.get("gpu_name"))


def why_missing(run: Run, field: str) -> str:
    """Return the recorded reason why `field` has no samples."""
    return run.meta.missing.get(field, f"no {field} was recorded")
