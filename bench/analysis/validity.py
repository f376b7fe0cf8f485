"""May the figures be believed? A verdict on the harness itself: VALID, DEGRADED or INVALID, with reasons.

A load generator that cannot keep its schedule measures another load than it was asked for, and its own
lateness as the system's latency. So the requests due inside the window are held against what was asked:
was the asked rate scheduled, were they sent, on time, and did each come to an end? What the *system* did
to them (errors, timeouts, refusals) is a result and no fault of the client. Half a limit is DEGRADED.
What the GPU did meanwhile joins the verdict (`device`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import msgspec
import numpy as np

from bench.analysis.device import device_faults
from bench.analysis.probes import view_of
from bench.analysis.recorded import Scored, column, length_s, scored, window_of
from bench.analysis.stats import Array, percentile
from bench.analysis.system import Fault, Lag, Level, Validity
from bench.records import Run
from bench.units import PERCENT, to_ms

MAX_RATE_MISS = 0.02
"""INVALID: more than this share of the requests were not scheduled, or not sent, or not at their rate."""
MIN_LAG_LIMIT_S = 0.001
MAX_LAG_SHARE = 0.05
"""INVALID: p99 of the dispatch lag is above this share of p99 latency, and above `MIN_LAG_LIMIT_S`."""
DEGRADED = 0.5
"""DEGRADED begins at this share of the limits."""
CHANCE = 4.0
"""How many standard deviations of a Poisson count the drawn schedule may be off the asked rate."""
MOST_JITTER = 0.5
"""The most that a steady law moves a request, as a share of the gap between two."""
MIN_DRIFT_REQUESTS = 10
"""Whether the sender fell behind steadily cannot be told from fewer requests."""
LEVELS: tuple[Level, ...] = ("VALID", "DEGRADED", "INVALID")
TAIL = 0.99
UNFINISHED = "unfinished"
"""How the error of a request begins that had no end when its run ended, before its deadline."""
SLOWER = "lower the rate, or free CPU cores for the client"


def judge_validity(run: Run) -> Validity:
    """Return the verdict on the client of one repeat; ValueError for a job without a window."""
    rows = scored(run)
    due = int(run.meta.facts.get("due_in_window", rows.n))
    sent = _sent_inside(run)
    lag = dispatch_lag(rows)
    unfinished = _unfinished(rows)
    late = _lateness(run, rows, lag)
    # What a window that was ended early left unsent, or inside the engine, is nobody's fault.
    ended_early = bool(run.meta.facts.get("stopped_early"))
    found = [
        _schedule(run, due),
        None if ended_early else _unsent(rows, due),
        _drift(run, rows, late),
        late,
        None if ended_early else _ends(unfinished, due),
    ]
    faults = tuple(fault for fault in found if fault is not None)
    return Validity(
        level=_worst_level(faults),
        faults=faults,
        asked_rps=run.meta.offered_rps,
        realised_rps=sent / length_s(window_of(run)),
        due=due,
        sent=sent,
        lag=lag,
        unfinished=unfinished,
    )


def judge_run(run: Run) -> Validity:
    """Return the verdict on client and device of one job; without traffic of its own the device's alone."""
    client = judge_validity(run) if run.meta.window is not None else _judge_probes(run)
    faults = (*client.faults, *device_faults(run))
    return msgspec.structs.replace(client, faults=faults, level=_worst_level(faults))


def judge_device(run: Run) -> Validity:
    """Return the verdict on the device alone of one job of any kind."""
    faults = device_faults(run)
    return Validity(level=_worst_level(faults), faults=faults)


def worst_validity(runs: Iterable[Run], judge: Callable[[Run], Validity] = judge_run) -> Validity | None:
    """Return the worst verdict of the completed jobs among `runs`, None where there is none.

    A job without a window counts only where its device or a probe was at fault. Of two of one level, that
    with the later requests.
    """
    complete = [run for run in runs if run.meta.status == "complete"]
    traffic = [
        run for run in complete if run.meta.window is not None or run.meta.probes or device_faults(run)
    ]
    judged = [(run, judge(run)) for run in traffic]
    counted = [found for run, found in judged if run.meta.window is not None or found.faults]
    return max(counted, key=_badness, default=None)


def _judge_probes(run: Run) -> Validity:
    """Return the verdict on the client of a capacity search: INVALID where it is of most probes."""
    bad = [found for p in run.meta.probes if (found := judge_validity(view_of(run, p))).level == "INVALID"]
    if not bad:
        return Validity(level="VALID")
    n, remedies = len(run.meta.probes), "; ".join(dict.fromkeys(found.recommendation for found in bad))
    text = f"probes of the capacity search had an INVALID client: {len(bad)} of {n} (first: {bad[0].reasons})"
    level: Level = "INVALID" if 2 * len(bad) > n else "DEGRADED"
    return Validity(level=level, faults=(Fault(level=level, text=text, remedy=remedies),))


def dispatch_lag(rows: Scored) -> Lag | None:
    """Return the tail of `sent_s - due_s` with what it is made of; None where nothing was sent.

    The parts are those of the latest 1 % of the requests (at least one), scaled to the tail.
    """
    lag_s = rows.column("sent_s") - rows.due_s
    sent = np.isfinite(lag_s)
    if not sent.any():
        return None
    whole = Lag(
        p99_s=percentile(lag_s[sent], TAIL), largest_s=float(lag_s[sent].max()), n=int(np.count_nonzero(sent))
    )
    parts = [rows.column(name) for name in ("pacer_lag_s", "interpreter_lag_s")]
    known = sent & np.isfinite(parts[0]) & np.isfinite(parts[1])
    if not known.any():
        return whole
    latest = known & (lag_s >= min(whole.tail_s, lag_s[known].max()))
    total_s = float(lag_s[latest].sum())
    scale = whole.tail_s / total_s if total_s > 0 else 0.0
    pacer_s, interpreter_s = (scale * float(part[latest].sum()) for part in parts)
    return msgspec.structs.replace(whole, pacer_s=pacer_s, interpreter_s=interpreter_s)


def _sent_inside(run: Run) -> int:
    """Return how many requests were sent inside the window, whenever they were due."""
    window, sent_s = window_of(run), column(run.requests, "sent_s")
    return int(np.count_nonzero((sent_s >= window.start_s) & (sent_s < window.end_s)))


def _unfinished(rows: Scored) -> int:
    """Return how many requests had no end of any kind before their deadline; a timeout is an end."""
    import pyarrow.compute as pc

    told = pc.fill_null(pc.starts_with(rows.table.column("error"), UNFINISHED), False).to_numpy()
    return int(np.count_nonzero(_ended_as(rows, "error") & told & np.isnan(rows.column("done_s"))))


def _ended_as(rows: Scored, status: str) -> Array:
    import pyarrow.compute as pc

    found: Array = pc.equal(rows.table.column("status"), status).to_numpy().astype(bool)
    return found


def _schedule(run: Run, due: int) -> Fault | None:
    """Fault a schedule that was empty or held another rate than asked, beyond the chance of a random one."""
    asked_rps, span_s = run.meta.offered_rps, length_s(window_of(run))
    if due == 0:
        text = f"no request was due inside the window: it is {span_s:.4g} s long"
        return Fault(level="INVALID", text=text, remedy="lengthen protocol.window_s, or raise the rate")
    if not asked_rps:
        return None
    asked = asked_rps * span_s
    level = _level(max(abs(due - asked) - _scatter(run, asked), 0.0) / asked, MAX_RATE_MISS)
    if level == "VALID":
        return None
    text = (
        f"another rate was scheduled than asked: {due / span_s:.4g} of {asked_rps:.4g} requests/s "
        f"(limit {MAX_RATE_MISS * PERCENT:g} % beyond chance)"
    )
    return Fault(level=level, text=text, remedy="check the arrival law; run again")


def _scatter(run: Run, asked: float) -> float:
    """Return by how many requests a drawn schedule may be off `asked` without anybody's fault.

    Of a steady law a window can cut off one gap, and the jitter moves a request over either end.
    """
    arrivals = run.meta.config.get("workload", {}).get("arrivals")
    if isinstance(arrivals, Mapping) and arrivals.get("kind") == "steady":
        return 1.0 + 2.0 * float(arrivals.get("jitter", MOST_JITTER))
    return 1.0 + CHANCE * math.sqrt(asked)


def _unsent(rows: Scored, due: int) -> Fault | None:
    """Fault requests that were due and never sent; they may have no row at all."""
    missed = due - int(np.isfinite(rows.column("sent_s")).sum())
    level = _level(missed / due, MAX_RATE_MISS) if missed > 0 else "VALID"
    if level == "VALID":
        return None
    share = f"{missed / due * PERCENT:.3g} %, limit {MAX_RATE_MISS * PERCENT:g} %"
    return Fault(
        level=level, text=f"requests were never sent: {missed} of {due} due ({share})", remedy=SLOWER
    )


def _drift(run: Run, rows: Scored, late: Fault | None) -> Fault | None:
    """Fault a sender that fell behind, or caught up, more and more: it sent at another rate.

    The drift is that between the median lags of the window's halves, whose middles lie half a window
    apart, so that no single request makes it. While the lag is within its limit it is DEGRADED at most.
    """
    lag_s = rows.column("sent_s") - rows.due_s
    lag_s = lag_s[np.isfinite(lag_s)]
    if len(lag_s) < MIN_DRIFT_REQUESTS:
        return None
    planned_s, half = length_s(window_of(run)), len(lag_s) // 2
    drift_s = 2.0 * float(np.median(lag_s[-half:]) - np.median(lag_s[:half]))
    took_s = planned_s + drift_s
    share = planned_s / took_s if took_s > 0 else math.inf
    level = _level(abs(share - 1.0), MAX_RATE_MISS)
    if level == "VALID":
        return None
    if late is None or late.level != "INVALID":
        level = "DEGRADED"
    limit = f"limit {MAX_RATE_MISS * PERCENT:g} % off"
    text = f"another rate was sent than scheduled: {share * PERCENT:.4g} % of it ({limit})"
    return Fault(level=level, text=text, remedy=SLOWER)


def _lateness(run: Run, rows: Scored, lag: Lag | None) -> Fault | None:
    if lag is None:
        return None
    whole_s, words = _time_to_judge_by(run, rows)
    limit_s = max(MIN_LAG_LIMIT_S, MAX_LAG_SHARE * whole_s)
    level = _level(lag.tail_s, limit_s)
    if level == "VALID":
        return None
    text = (
        f"requests left late: {lag.called('dispatch lag')} {lag.in_words}, limit {to_ms(limit_s):.3g} ms "
        f"(1 ms or {MAX_LAG_SHARE * PERCENT:g} % of {words})"
    )
    return Fault(level=level, text=text, remedy=_punctual(run, lag))


def _time_to_judge_by(run: Run, rows: Scored) -> tuple[float, str]:
    """Return the time of which the lag may be a share, in s, and its name.

    It is p99 latency. A failed request is infinitely slow; where p99 would be, the time that failures
    really took takes its place, the timeout where they have no end. A refusal at once says nothing of
    how long the system takes. Where nothing at all was answered, the users waited for the timeout.
    """
    p99_s = percentile(rows.latency_s, TAIL)
    if math.isfinite(p99_s):
        return p99_s, "p99 latency"
    timeout_s = run.meta.config.get("protocol", {}).get("timeout_s")
    if timeout_s is not None and not rows.ok.any():
        return float(timeout_s), "the timeout, as nothing was answered"
    took_s = rows.column("done_s") - rows.due_s
    took_s = np.where(np.isfinite(took_s), took_s, 0.0 if timeout_s is None else timeout_s)
    served = ~_ended_as(rows, "rejected")
    return percentile(took_s[served] if served.any() else took_s, TAIL), "p99 of latency or time to fail"


def _punctual(run: Run, lag: Lag) -> str:
    """Return what would make the sender punctual, by the larger part of its lag."""
    if lag.pacer_s is None or lag.interpreter_s is None:
        return "free CPU cores, or lower the rate"
    if lag.pacer_s > lag.interpreter_s:
        return "lower the rate: the sender was still busy with earlier requests"
    queued_s = run.meta.facts.get("pacer", {}).get("run_queue_s")
    # Of all requests, as the sender's time in the queue is that of its whole life.
    waited_s = float(np.nansum(column(run.requests, "interpreter_lag_s")))
    if queued_s is None:
        return "free a CPU core, or lower model.cpu_threads"
    if queued_s >= waited_s / 2.0:
        return f"free a CPU core: the sender waited {queued_s:.2g} s for one"
    return "measure an engine that releases the interpreter more often, or lower the rate"


def _ends(unfinished: int, due: int) -> Fault | None:
    if unfinished == 0:
        return None
    text = f"requests never came to an end: {unfinished} of {due} due were still under way (limit 0)"
    return Fault(level="INVALID", text=text, remedy="lower the load, or raise protocol.timeout_s")


def _worst_level(faults: Iterable[Fault]) -> Level:
    return max((fault.level for fault in faults), key=LEVELS.index, default="VALID")


def _level(value: float, limit: float) -> Level:
    if value > limit:
        return "INVALID"
    return "DEGRADED" if value > DEGRADED * limit else "VALID"


def _badness(validity: Validity) -> tuple[int, float]:
    return LEVELS.index(validity.level), validity.lag.tail_s if validity.lag else 0.0
