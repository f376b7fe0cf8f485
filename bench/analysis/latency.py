"""Request-level figures of one window: latency, TTFT, TPOT, ITL, rates, stages, saturation.

Latency counts from the moment a request was *due*, so a stalled system cannot hide its stall. Where a
percentile would include failed requests it does not exist, and the reading says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np

from bench.analysis.recorded import (
    Scored,
    answered_between,
    column,
    completions_between,
    length_s,
    scored,
    window_of,
)
from bench.analysis.remembered import remembered
from bench.analysis.stats import Array, percentile
from bench.analysis.system import Reading
from bench.config import Objectives
from bench.records import Run
from bench.units import MS_PER_S, PERCENT, to_ms

GROWTH_SHARE = 0.05
"""Saturated: the backlog grows by more than this share of the offered rate …"""
GROWTH_REQUESTS = 5.0
"""… and by at least this many requests from the first third of the window to the last …"""
LATENCY_GROWTH = 1.5
"""… while the median latency of the last third is this many times that of the first …"""
LITTLE_EXCESS = 1.1
"""… or there are this many times the requests in the system that Little's law finds in the answers …"""
LATENCY_RISE = 1.1
"""… and that ratio is above this: where it is one, the system is only being filled."""

Read = Callable[[Run], Reading]
TOO_MANY_FAILED = "% of the requests failed"
NO_REQUESTS = "no request was due inside the window"


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """How the queue developed from the first to the last third of the window.

    `backlog` is the growth of the number of requests in the system, `latency_ratio` the last third's
    median latency over the first's (infinite where the last third mostly failed). `in_system` is how many
    were in the system on average. `little` is that over the answers per second times their mean latency,
    which Little's law L = λW makes one wherever as many leave as come; where the queue grows it is offered
    over served. None without any answer.
    """

    backlog: float
    latency_ratio: float
    in_system: float
    little: float | None
    saturated: bool

    @property
    def why(self) -> str:
        """How the queue grew, in words."""
        text = f"by {self.backlog:.0f} requests; latency x {self.latency_ratio:.1f}"
        if self.little is not None and self.little > LITTLE_EXCESS:
            text += f"; {self.little:.2f} times as many in the system as Little's law allows"
        return text


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A time of each scored request, by due time; `why` says why there is none."""

    rows: Scored
    values_s: Array
    what: str
    why: str = ""


SampleOf = Callable[[Run], Sample]


def latency_ms(share: float) -> Read:
    """Return a reader of the latency percentile at `share`, in ms."""
    return percentile_ms(latencies, share)


def latencies(run: Run) -> Sample:
    """Return the latencies of the scored requests; failed ones are infinite."""
    rows = scored(run)
    return Sample(rows=rows, values_s=rows.latency_s, what="latency")


def is_unbounded(run: Run, share: float) -> bool:
    """Say whether so many scored requests failed that the latency percentile at `share` is infinite."""
    rows = scored(run)
    return rows.n > 0 and math.isinf(percentile(rows.latency_s, share))


def ttft_ms(share: float) -> Read:
    """Return a reader of the percentile of the time to first token, in ms, from the due time."""
    return percentile_ms(first_tokens, share)


def first_tokens(run: Run) -> Sample:
    """Return the times to first token of the scored requests; of failed ones they are infinite."""
    rows = scored(run)
    first_s = rows.column("first_token_s")
    why = "the time of the first token was not recorded" if np.isnan(first_s[rows.ok]).any() else ""
    return Sample(rows=rows, values_s=np.where(rows.ok, first_s - rows.due_s, np.inf), what="TTFT", why=why)


def percentile_ms(sample_of: SampleOf, share: float) -> Read:
    """Return a reader of the percentile at `share` of a run's sample, in ms."""
    return lambda run: percentile_of(sample_of(run), share)


def percentile_of(sample: Sample, share: float) -> Reading:
    """Read the percentile at `share` of a sample, in ms; there is none where it would be infinite."""
    if sample.why:
        return Reading(value=None, why=sample.why)
    if sample.rows.n == 0:
        return Reading(value=None, why=NO_REQUESTS)
    value = percentile(sample.values_s, share)
    if math.isinf(value):
        limit = (1.0 - share) * PERCENT
        why = f"{sample.what} has no p{share * PERCENT:g}: more than {limit:g} {TOO_MANY_FAILED}"
        return Reading(value=None, n=sample.rows.n, why=f"{why} ({_failures(sample.rows)})")
    return Reading(value=to_ms(value), n=sample.rows.n)


def tpot_ms(share: float) -> Read:
    """Return a reader of the percentile of the time per output token after the first, in ms.

    Over completed requests of at least two tokens; a failed request has no decode to time.
    """

    def read(run: Run) -> Reading:
        tpot_s = times_per_token(run)
        if len(tpot_s) == 0:
            return Reading(value=None, why="no completed request with two or more timed tokens")
        return Reading(value=to_ms(percentile(tpot_s, share)), n=len(tpot_s))

    return read


def times_per_token(run: Run) -> Array:
    """Return the times per output token after the first, of the completed requests of two tokens or more."""
    rows = scored(run)
    tokens = rows.column("output_tokens")
    span_s = rows.column("done_s") - rows.column("first_token_s")
    timed = rows.ok & (tokens >= 2) & np.isfinite(span_s)
    per_token_s: Array = span_s[timed] / (tokens[timed] - 1)
    return per_token_s


def itl_ms(share: float) -> Read:
    """Return a reader of the percentile of the gaps between consecutive tokens, in ms, token-weighted."""

    def read(run: Run) -> Reading:
        rows = scored(run)
        gaps = rows.table.filter(rows.ok).column("itl_ms").combine_chunks().flatten().to_numpy()
        if len(gaps) == 0:
            return Reading(value=None, why="no gaps between tokens were recorded")
        return Reading(value=percentile(gaps.astype(np.float64), share), n=int(rows.ok.sum()))

    return read


def stage_ms(name: str) -> Read:
    """Return a reader of the mean duration of a stage (a column such as `queue_s`), in ms."""

    def read(run: Run) -> Reading:
        rows = scored(run)
        values = rows.column(name)[rows.ok]
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return Reading(value=None, why=f"{name.removesuffix('_s')} was not timed")
        return Reading(value=to_ms(float(values.mean())), n=len(values))

    return read


def dispatch_lag_ms(share: float) -> Read:
    """Return a reader of the percentile of `sent_s - due_s`, in ms: how late the harness itself was."""

    def read(run: Run) -> Reading:
        rows = scored(run)
        lag_s = rows.column("sent_s") - rows.due_s
        lag_s = lag_s[np.isfinite(lag_s)]
        if len(lag_s) == 0:
            return Reading(value=None, why="no request was sent")
        return Reading(value=to_ms(percentile(lag_s, share)), n=len(lag_s))

    return read


def offered_rps(run: Run) -> Reading:
    """Read the requests due per second of the window."""
    n = scored(run).n
    return Reading(value=n / length_s(window_of(run)), n=n)


def completed_rps(run: Run) -> Reading:
    """Read the requests answered per second of the window, whenever they were due."""
    window = window_of(run)
    n = completions_between(run, window.start_s, window.end_s)
    return Reading(value=n / length_s(window), n=n)


def output_tokens_per_s(run: Run) -> Reading:
    """Read the tokens of the requests answered inside the window, per second."""
    window = window_of(run)
    inside = answered_between(run, window.start_s, window.end_s)
    tokens = column(run.requests, "output_tokens")[inside].sum()
    return Reading(value=float(tokens) / length_s(window), n=int(inside.sum()))


def goodput_rps(run: Run, objectives: Objectives) -> Reading:
    """Read the requests that were answered within the latency objective, per second of the window.

    Requests that failed or were rejected count as bad, so dropping load does not raise goodput.
    """
    if objectives.p95_latency_ms is None:
        return Reading(value=None, why="no latency objective is set")
    if (why := why_cut_short(run)) is not None:
        return Reading(value=None, why=why)
    rows = scored(run)
    good = int(np.count_nonzero(rows.latency_s * MS_PER_S <= objectives.p95_latency_ms))
    how = f"within {objectives.p95_latency_ms:g} ms"
    return Reading(value=good / length_s(window_of(run)), n=rows.n, how=how)


def error_rate(run: Run) -> Reading:
    """Read the share of scored requests that failed, timed out or were rejected."""
    if (why := why_cut_short(run)) is not None:
        return Reading(value=None, why=why)
    rows = scored(run)
    if rows.n == 0:
        return Reading(value=None, why=NO_REQUESTS)
    return Reading(value=1.0 - float(rows.ok.mean()), n=rows.n, how=_failures(rows))


def why_cut_short(run: Run) -> str | None:
    """Return why a window was ended before its time, and its requests with it; None where it was not.

    What was turned away then says nothing of how the system would have ended it.
    """
    why = run.meta.facts.get("stopped_early")
    return None if not why else f"the window was ended early, as {why}"


@remembered
def growth(run: Run) -> Growth:
    """Judge whether the queue grew through the window: arrivals above capacity."""
    window, rows = window_of(run), scored(run)
    third_s = length_s(window) / 3.0
    edges = [window.start_s + i * third_s for i in range(4)]
    backlog = _backlog(run, edges[2], edges[3]) - _backlog(run, edges[0], edges[1])
    first = rows.latency_s[rows.due_s < edges[1]]
    last = rows.latency_s[rows.due_s >= edges[2]]
    ratio = _median_ratio(first, last)
    # The thirds' centres lie two thirds of the window apart.
    offered = rows.n * 2.0 / 3.0
    grown = backlog >= GROWTH_REQUESTS and backlog > GROWTH_SHARE * offered
    in_system = _backlog(run, window.start_s, window.end_s)
    little = _little(run, in_system)
    violated = little is not None and little > LITTLE_EXCESS and ratio > LATENCY_RISE
    return Growth(
        backlog=backlog,
        latency_ratio=ratio,
        in_system=in_system,
        little=little,
        saturated=grown and (ratio > LATENCY_GROWTH or violated),
    )


def _little(run: Run, in_system: float) -> float | None:
    """Return L / λW of the window, with λ and W of what was answered inside it; None where nothing was."""
    window = window_of(run)
    inside = answered_between(run, window.start_s, window.end_s)
    latency_s = (column(run.requests, "done_s") - column(run.requests, "due_s"))[inside]
    total_s = float(latency_s.sum())
    return in_system * length_s(window) / total_s if total_s > 0 else None


def _backlog(run: Run, start_s: float, end_s: float) -> float:
    """Return the time-weighted mean number of requests in the system over a span."""
    import pyarrow.compute as pc

    due_s, done_s = column(run.requests, "due_s"), column(run.requests, "done_s")
    # Without an end it was there to the last, timeouts included; unless it was refused or never sent.
    refused = pc.equal(run.requests.column("status"), "rejected").to_numpy().astype(bool)
    held = np.isfinite(column(run.requests, "sent_s")) & ~refused
    done_s = np.where(np.isnan(done_s), np.where(held, math.inf, -math.inf), done_s)
    inside = np.minimum(done_s, end_s) - np.maximum(due_s, start_s)
    return float(np.clip(inside, 0.0, None).sum() / (end_s - start_s))


def _median_ratio(first: Array, last: Array) -> float:
    if len(first) == 0 or len(last) == 0:
        return 1.0
    before, after = percentile(first, 0.5), percentile(last, 0.5)
    if math.isinf(before) or before <= 0:
        return 1.0
    return after / before


def _failures(rows: Scored) -> str:
    """Return how many requests ended in which way other than ok, or 'none failed'."""
    status = rows.table.column("status").to_pylist()
    counts = [
        f"{status.count(kind)} {name}"
        for kind, name in (("error", "errors"), ("timeout", "timeouts"), ("rejected", "rejected"))
        if kind in status
    ]
    return f"{', '.join(counts)} of {rows.n}" if counts else "none failed"
