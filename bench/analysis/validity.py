"""Was it the client? A verdict on the harness itself: VALID, DEGRADED or INVALID, with reasons.

A load generator that cannot keep its schedule measures another load than it was asked for, and its own
lateness as the system's latency. So the requests due inside the window are held against what was asked:
were they sent at the asked rate, on time, and did each come to an end? What the *system* did to them
(errors, timeouts, refusals) is a result and no fault of the client. Half a limit is DEGRADED.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from bench.analysis.recorded import Scored, length_s, scored, window_of
from bench.analysis.stats import percentile
from bench.analysis.system import Fault, Lag, Level, Validity
from bench.records import Run
from bench.units import PERCENT, to_ms

MAX_RATE_MISS = 0.02
"""INVALID: the realised rate is off the asked one by more than this share."""
MIN_LAG_LIMIT_S = 0.001
MAX_LAG_SHARE = 0.05
"""INVALID: p99 of the dispatch lag is above this share of p99 latency, and above `MIN_LAG_LIMIT_S`."""
DEGRADED = 0.5
"""DEGRADED begins at this share of the limits."""
CHANCE = 4.0
"""How many standard deviations of a Poisson count the drawn schedule may be off the asked rate."""
LEVELS: tuple[Level, ...] = ("VALID", "DEGRADED", "INVALID")
TAIL = 0.99


def judge_validity(run: Run) -> Validity:
    """Return the verdict on the client of one repeat; ValueError for a job without a window."""
    rows = scored(run)
    due = int(run.meta.facts.get("due_in_window", rows.n))
    asked_rps = run.meta.offered_rps
    realised_rps = None if asked_rps is None else asked_rps * _kept(run, rows, due)
    lag = dispatch_lag(rows)
    unfinished = _unfinished(rows)
    found = [
        _schedule(run, due, asked_rps),
        _rate(asked_rps, realised_rps),
        _lateness(run, rows, lag),
        _ends(unfinished, due),
    ]
    faults = tuple(fault for fault in found if fault is not None)
    return Validity(
        level=max((fault.level for fault in faults), key=LEVELS.index, default="VALID"),
        faults=faults,
        asked_rps=asked_rps,
        realised_rps=realised_rps,
        lag=lag,
        unfinished=unfinished,
    )


def worst_validity(runs: Iterable[Run]) -> Validity | None:
    """Return the worst verdict of the completed repeats among `runs`, None where there is none.

    Of two of one level, that with the later requests.
    """
    judged = [
        judge_validity(run) for run in runs if run.meta.status == "complete" and run.meta.window is not None
    ]
    return max(judged, key=_badness, default=None)


def dispatch_lag(rows: Scored) -> Lag | None:
    """Return p99 of `sent_s - due_s` with what it is made of; None where nothing was sent.

    The parts are those of the latest 1 % of the requests (at least one), scaled to p99.
    """
    lag_s = rows.column("sent_s") - rows.due_s
    sent = np.isfinite(lag_s)
    if not sent.any():
        return None
    p99_s = percentile(lag_s[sent], TAIL)
    parts = [rows.column(name) for name in ("pacer_lag_s", "interpreter_lag_s")]
    known = sent & np.isfinite(parts[0]) & np.isfinite(parts[1])
    if not known.any():
        return Lag(p99_s=p99_s)
    latest = known & (lag_s >= min(p99_s, lag_s[known].max()))
    total_s = float(lag_s[latest].sum())
    if total_s <= 0:
        return Lag(p99_s=p99_s, pacer_s=0.0, interpreter_s=0.0)
    pacer_s, interpreter_s = (p99_s * float(part[latest].sum()) / total_s for part in parts)
    return Lag(p99_s=p99_s, pacer_s=pacer_s, interpreter_s=interpreter_s)


def _kept(run: Run, rows: Scored, due: int) -> float:
    """Return the realised rate as a share of the asked one.

    The share of the due requests that were sent, times the window over the time that sending them took:
    longer by the last one's lag and shorter by the first one's. The schedule's own scatter is not in it.
    """
    lag_s = rows.column("sent_s") - rows.due_s
    lag_s = lag_s[np.isfinite(lag_s)]
    if due == 0:
        return 1.0
    if len(lag_s) == 0:
        return 0.0
    planned_s = length_s(window_of(run))
    took_s = planned_s + float(lag_s[-1] - lag_s[0])
    return len(lag_s) / due * (planned_s / took_s if took_s > 0 else math.inf)


def _unfinished(rows: Scored) -> int:
    """Return how many requests were sent and have no end of any kind; refusing one at once is an end."""
    refused = np.array([status == "rejected" for status in rows.table.column("status").to_pylist()], bool)
    return int((np.isfinite(rows.column("sent_s")) & np.isnan(rows.column("done_s")) & ~refused).sum())


def _schedule(run: Run, due: int, asked_rps: float | None) -> Fault | None:
    """Fault a schedule that held another rate than asked, beyond the chance of a random one."""
    if asked_rps is None:
        return None
    span_s = length_s(window_of(run))
    asked = asked_rps * span_s
    miss = abs(due - asked)
    if miss <= max(MAX_RATE_MISS * asked, 1.0 + CHANCE * math.sqrt(asked)):
        return None
    text = f"{due / span_s:.4g} of {asked_rps:.4g} requests/s asked were scheduled (limit: beyond chance)"
    return Fault(level="INVALID", text=text, remedy="check the arrival law; run again")


def _rate(asked_rps: float | None, realised_rps: float | None) -> Fault | None:
    if not asked_rps or realised_rps is None:
        return None
    miss = realised_rps / asked_rps - 1.0
    level = _level(abs(miss), MAX_RATE_MISS)
    if level == "VALID":
        return None
    text = (
        f"sent {realised_rps:.4g} of {asked_rps:.4g} requests/s asked ({miss * PERCENT:+.1f} %, "
        f"limit {MAX_RATE_MISS * PERCENT:g} %)"
    )
    return Fault(level=level, text=text, remedy="lower the rate, or free CPU cores for the client")


def _lateness(run: Run, rows: Scored, lag: Lag | None) -> Fault | None:
    if lag is None:
        return None
    ended_s = rows.latency_s[np.isfinite(rows.latency_s)]
    p99_s = percentile(ended_s, TAIL) if len(ended_s) else 0.0
    limit_s = max(MIN_LAG_LIMIT_S, MAX_LAG_SHARE * p99_s)
    level = _level(lag.p99_s, limit_s)
    if level == "VALID":
        return None
    text = (
        f"requests left late: dispatch lag p99 {lag.in_words}, limit {to_ms(limit_s):.3g} ms "
        f"(1 ms or {MAX_LAG_SHARE * PERCENT:g} % of p99 latency)"
    )
    return Fault(level=level, text=text, remedy=_punctual(run, rows, lag))


def _punctual(run: Run, rows: Scored, lag: Lag) -> str:
    """Return what would make the sender punctual, by the larger part of its lag."""
    if lag.pacer_s is None or lag.interpreter_s is None:
        return "free CPU cores, or lower the rate"
    if lag.pacer_s > lag.interpreter_s:
        return "lower the rate: the sender was still busy with earlier requests"
    queued_s = run.meta.facts.get("pacer", {}).get("run_queue_s")
    waited_s = float(np.nansum(rows.column("interpreter_lag_s")))
    if queued_s is None:
        return "free a CPU core, or lower model.cpu_threads"
    if queued_s >= waited_s / 2.0:
        return f"free a CPU core: the sender waited {queued_s:.2g} s for one"
    return "measure an engine that releases the interpreter more often, or lower the rate"


def _ends(unfinished: int, due: int) -> Fault | None:
    if unfinished == 0:
        return None
    text = f"{unfinished} of {due} requests were sent and never came to an end (limit 0)"
    return Fault(level="INVALID", text=text, remedy="lower the load, or raise protocol.timeout_s")


def _level(value: float, limit: float) -> Level:
    if value > limit:
        return "INVALID"
    return "DEGRADED" if value > DEGRADED * limit else "VALID"


def _badness(validity: Validity) -> tuple[int, float]:
    return LEVELS.index(validity.level), validity.lag.p99_s if validity.lag else 0.0
