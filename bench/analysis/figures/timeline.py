"""The run as it went: when each request was due and how long it took, and how many waited and ran meanwhile.

Time counts from the beginning of the scored window. A request *waits* from the moment it was due until it is
admitted, and *runs* from there until its end; one that was turned away does neither. Both numbers are known
exactly at every moment, and are drawn as the mean and the highest over spans of equal length.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.sentences import ALL_INVALID, by_system
from bench.analysis.figures.thinning import kept_extremes, points_each, seen
from bench.analysis.numbers import shown
from bench.analysis.recorded import column, is_ok, length_s, window_of
from bench.analysis.stats import Array
from bench.analysis.system import SystemRuns
from bench.records import Run
from bench.units import to_ms

DOTS = 1_000
"""Requests drawn of all repeats of all systems together …"""
STEPS = 900
"""… and spans of time."""
MARKS = 40
"""Spans in which the requests that failed are counted."""
LEAST_MS = 0.001

SYSTEM = Column("system", "System")
REPEAT = Column("repeat", "Repeat", 9)
T_S = Column("t_s", "Due (s since the window began)")
Row = dict[str, Cell]


def timeline(evaluation: Evaluation) -> Figure:
    """Return the requests and the queue of every repeat of every system."""
    runs = [(name, run) for name, system in evaluation.systems.items() for run in system.measured]
    title, names = "Through the run", tuple(evaluation.systems)
    if not any(run.requests.num_rows for _, run in runs):
        why = "no repeat at a common rate was completed" if not runs else "no request was due"
        return Figure(
            kind="timeline", title=title, systems=names, missing=f"There is no run to follow: {why}."
        )
    dots = points_each(len(runs), DOTS, least=30, most=300)
    steps = points_each(len(runs), STEPS, least=30, most=160)
    most = max(run.requests.num_rows for _, run in runs)
    return Figure(
        kind="timeline",
        title=title,
        systems=names,
        reading=_reading(evaluation),
        datasets={
            "requests": Dataset(
                columns=(SYSTEM, REPEAT, T_S, Column("latency_ms", "Latency (ms)")),
                rows=tuple(row for name, run in runs for row in _answered(name, run, dots)),
                caption="Answered requests by the time at which they were due",
                thinned=""
                if most <= dots
                else f"about {dots} requests a repeat: of every few the fastest, the median and the slowest",
            ),
            "unanswered": Dataset(
                columns=(SYSTEM, REPEAT, T_S, Column("status", "Ended as"), Column("n", "Requests", 9)),
                rows=tuple(row for name, run in runs for row in _unanswered(name, run, names.index(name))),
                caption="Requests that were not answered, counted in spans of equal length",
            ),
            "queue": Dataset(
                columns=(
                    SYSTEM,
                    REPEAT,
                    Column("t_s", "From (s since the window began)"),
                    Column("waiting", "Waiting, mean"),
                    Column("waiting_most", "Waiting, highest", 9),
                    Column("running", "Running, mean"),
                    Column("running_most", "Running, highest", 9),
                ),
                rows=tuple(row for name, run in runs for row in _queue(name, run, steps)),
                caption="Requests that waited and that ran",
                thinned=f"mean and highest of {steps} equal spans a repeat; a row holds until the next",
            ),
            "spans": Dataset(
                columns=(
                    SYSTEM,
                    REPEAT,
                    Column("part", "Part"),
                    Column("start_s", "From (s)"),
                    Column("end_s", "To (s)"),
                ),
                rows=tuple(row for name, run in runs for row in _spans(name, run)),
                caption="Warm-up, scored window and drain",
            ),
        },
        notes=tuple(_notes(evaluation)),
    )


def _spans(name: str, run: Run) -> Iterator[Row]:
    """Yield the parts of a repeat, from the first request's due time to the last one's end."""
    window, (first_s, last_s) = window_of(run), _ends_s(run)
    parts = {
        "warm-up": (first_s, window.start_s),
        "window": (window.start_s, window.end_s),
        "drain": (window.end_s, last_s),
    }
    for part, (start_s, end_s) in parts.items():
        if end_s > start_s:
            yield {
                "system": name,
                "repeat": run.meta.repeat,
                "part": part,
                "start_s": seen(start_s - window.start_s),
                "end_s": seen(end_s - window.start_s),
            }


def _ends_s(run: Run) -> tuple[float, float]:
    """Return when the first request was due and when the last one ended, the window's own ends included."""
    window, due_s, done_s = window_of(run), column(run.requests, "due_s"), column(run.requests, "done_s")
    known_s = done_s[np.isfinite(done_s)]
    first_s = min(window.start_s, float(due_s.min(initial=math.inf)))
    return first_s, max(window.end_s, float(known_s.max(initial=-math.inf)))


def _answered(name: str, run: Run, points: int) -> Iterator[Row]:
    ok, start_s = is_ok(run.requests), window_of(run).start_s
    due_s, done_s = column(run.requests, "due_s")[ok], column(run.requests, "done_s")[ok]
    order = np.argsort(due_s, kind="stable")
    due_s, latency_s = due_s[order], (done_s - due_s)[order]
    for i in kept_extremes(latency_s, points):
        yield {
            "system": name,
            "repeat": run.meta.repeat,
            "t_s": seen(due_s[i] - start_s),
            "latency_ms": seen(max(to_ms(latency_s[i]), LEAST_MS)),
        }


def _unanswered(name: str, run: Run, lane: int) -> Iterator[Row]:
    failed, start_s = ~is_ok(run.requests), window_of(run).start_s
    first_s, last_s = _ends_s(run)
    edges_s = np.linspace(first_s, last_s, MARKS + 1)
    due_s = column(run.requests, "due_s")[failed]
    places = np.clip(np.searchsorted(edges_s, due_s, side="right") - 1, 0, MARKS - 1)
    status = run.requests.column("status").filter(failed).to_pylist()
    for (place, end), n in sorted(Counter(zip(places.tolist(), status, strict=True)).items()):
        middle_s = (edges_s[place] + edges_s[place + 1]) / 2.0
        yield {
            "system": name,
            "repeat": run.meta.repeat,
            "t_s": seen(middle_s - start_s),
            "status": end,
            "n": n,
            "lane": lane,
        }


def _queue(name: str, run: Run, spans: int) -> Iterator[Row]:
    start_s, (first_s, last_s) = window_of(run).start_s, _ends_s(run)
    edges_s = np.linspace(first_s, last_s, spans + 1)
    waiting, waiting_most = _over(edges_s, *_waits_s(run, last_s))
    running, running_most = _over(edges_s, *_runs_s(run, last_s))
    figures = list(zip(waiting, waiting_most, running, running_most, strict=True))
    for i in range(spans):
        if 0 < i < spans - 1 and figures[i] == figures[i - 1]:
            continue  # a step goes on until the next row
        yield {
            "system": name,
            "repeat": run.meta.repeat,
            "t_s": seen(edges_s[i] - start_s),
            "waiting": seen(waiting[i]),
            "waiting_most": int(waiting_most[i]),
            "running": seen(running[i]),
            "running_most": int(running_most[i]),
        }


def _waits_s(run: Run, last_s: float) -> tuple[Array, Array]:
    """Return from when to when each request waited; one that was refused or never sent did not."""
    status = np.array(run.requests.column("status").to_pylist(), dtype=object)
    due_s, admitted_s = column(run.requests, "due_s"), column(run.requests, "admitted_s")
    held = np.isfinite(admitted_s) | ((status != "rejected") & np.isfinite(column(run.requests, "sent_s")))
    until_s = np.where(np.isfinite(admitted_s), admitted_s, column(run.requests, "done_s"))
    return due_s[held], np.nan_to_num(until_s[held], nan=last_s)


def _runs_s(run: Run, last_s: float) -> tuple[Array, Array]:
    """Return from when to when each admitted request ran."""
    admitted_s = column(run.requests, "admitted_s")
    admitted = np.isfinite(admitted_s)
    done_s = np.nan_to_num(column(run.requests, "done_s")[admitted], nan=last_s)
    return admitted_s[admitted], done_s


def _over(edges_s: Array, from_s: Array, to_s: Array) -> tuple[Array, Array]:
    """Return the mean and the highest number present in each span between the edges.

    Between the edges and the moments at which one comes or goes the number is constant. Who comes at the
    moment at which another goes does not meet him.
    """
    moments_s = np.unique(np.concatenate((edges_s, from_s, to_s)))
    moments_s = moments_s[(moments_s >= edges_s[0]) & (moments_s <= edges_s[-1])]
    present = np.searchsorted(np.sort(from_s), moments_s, "right") - np.searchsorted(
        np.sort(to_s), moments_s, "right"
    )
    lasted_s, present = np.diff(moments_s), present[:-1]
    place = np.clip(np.searchsorted(edges_s, moments_s[:-1], "right") - 1, 0, len(edges_s) - 2)
    mean = np.bincount(place, present * lasted_s, len(edges_s) - 1) / np.diff(edges_s)
    most = np.zeros(len(edges_s) - 1)
    np.maximum.at(most, place, present)
    return mean, most


def _reading(evaluation: Evaluation) -> str:
    """Return how long the queue was inside the windows, and how long at most."""
    found = {
        name: own
        for name, system in evaluation.systems.items()
        if name not in evaluation.invalid and (own := _waiting(system))
    }
    if not found:
        return ALL_INVALID
    each = by_system(
        {name: mean for name, (mean, _) in found.items()},
        lambda name: f"{shown(found[name][0], 2)} (at most {found[name][1]:g})",
    )
    return f"Requests that waited inside the window, on average: {each}."


def _waiting(system: SystemRuns) -> tuple[float, float] | None:
    means, highest = [], []
    for run in system.measured:
        window = window_of(run)
        edges_s = np.array([window.start_s, window.end_s])
        mean, most = _over(edges_s, *_waits_s(run, _ends_s(run)[1]))
        means.append((float(mean[0]), length_s(window)))
        highest.append(float(most[0]))
    if not means:
        return None
    return sum(mean * s for mean, s in means) / sum(s for _, s in means), max(highest)


def _notes(evaluation: Evaluation) -> Iterator[str]:
    for name, system in evaluation.systems.items():
        if not system.measured:
            yield f"{name}: no repeat at the common rate was completed."
        early = [run for run in system.measured if run.meta.facts.get("stopped_early")]
        for run in early:
            yield f"{name}, repeat {run.meta.repeat}: ended early, as {run.meta.facts['stopped_early']}."
    measured = sum(bool(system.measured) for system in evaluation.systems.values())
    if measured > 1 and len(evaluation.origins) <= 1:
        yield "Repeats of one number had the same traffic in every system."
