"""How long requests took: every share of them (ECDF) and how they are spread (histogram).

All scored requests of all repeats are put together. A failed request has no time at which it was answered, so
a curve of latencies or times to first token ends below 100 % where some failed. The percentiles marked are
those of these pooled requests; the comparison has the means of the repeats' own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.sentences import by_system, whose
from bench.analysis.figures.thinning import kept_ranks, points_each, seen
from bench.analysis.latency import first_tokens, latencies, times_per_token
from bench.analysis.numbers import shown
from bench.analysis.recorded import scored
from bench.analysis.stats import Array, percentile
from bench.analysis.system import MetricSet, SystemRuns
from bench.records import Run, Value
from bench.units import PERCENT, to_ms

SHARES = (0.50, 0.90, 0.95, 0.99)
CURVE = 300
"""Points of a curve at most …"""
CURVES = 1_200
"""… and of all together."""
BINS = 36
SAME = 1.01
"""Times within this ratio are one bin."""
LEAST_MS = 0.001
"""What took no time stands here, at a microsecond: the axis is logarithmic."""

SYSTEM = Column("system", "System")
WHAT = Column("what", "Time")


def _pooled(sample: Callable[[Run], Array]) -> Callable[[SystemRuns], Array]:
    """Return what puts the sample of each repeat together, in ms, in order; nothing where one lacks it."""

    def read(system: SystemRuns) -> Array:
        parts = [sample(run) for run in system.measured]
        whole = np.sort(np.concatenate([part for part in parts if len(part)] or [np.array([])]))
        in_ms: Array = np.maximum(to_ms(1.0) * whole, LEAST_MS)
        return in_ms

    return read


def _first_tokens(run: Run) -> Array:
    sample = first_tokens(run)
    return np.array([]) if sample.why else sample.values_s


TIMES: dict[str, Callable[[SystemRuns], Array]] = {
    "latency": _pooled(lambda run: latencies(run).values_s),
    "TTFT": _pooled(_first_tokens),
    "TPOT": _pooled(times_per_token),
}
"""The pooled times of a system's scored requests in ms, by their name; failed ones are infinite."""


def latency(evaluation: Evaluation) -> Figure:
    """Return the distribution of latency, TTFT and TPOT of every system."""
    names = tuple(evaluation.systems)
    blank = Figure(kind="latency", title="Latency", systems=names)
    samples = {
        (what, name): values
        for what, read in TIMES.items()
        for name, system in evaluation.systems.items()
        if np.isfinite(values := read(system)).any()
    }
    if not any(what == "latency" for what, _ in samples):
        return Figure(kind=blank.kind, title=blank.title, systems=names, missing=_why_none(evaluation))
    points = points_each(len(samples), CURVES, least=20, most=CURVE)
    return Figure(
        kind=blank.kind,
        title=blank.title,
        systems=names,
        reading=_reading(evaluation),
        datasets={
            "ecdf": _ecdf(samples, points),
            "histogram": _histogram(samples, names),
            "percentiles": _percentiles(samples, evaluation),
            "objective": _objective(evaluation),
        },
        notes=tuple(_notes(evaluation)),
    )


def _ecdf(samples: dict[tuple[str, str], Array], points: int) -> Dataset:
    rows = [row for (what, name), values in samples.items() for row in _curve(what, name, values, points)]
    longest = max(len(values) for values in samples.values())
    return Dataset(
        columns=(SYSTEM, WHAT, Column("ms", "At most (ms)"), Column("percent", "Share of requests (%)")),
        rows=tuple(rows),
        caption="Share of the scored requests that took at most so long, all repeats together",
        thinned=""
        if longest <= points
        else f"about {points} of up to {longest} requests a curve, even in rank, with the shortest, the "
        "longest and those at p50, p90, p95 and p99",
    )


def _curve(what: str, name: str, values: Array, points: int) -> Iterator[dict[str, Cell]]:
    known = values[np.isfinite(values)]
    yield {"system": name, "what": what, "ms": seen(known[0]), "percent": 0.0}
    shares = tuple(share for share in SHARES if share * len(values) <= len(known))
    ranks = kept_ranks(len(values), points, shares)
    for rank in sorted({*ranks[ranks < len(known)].tolist(), len(known) - 1}):
        percent = seen((rank + 1) / len(values) * PERCENT)
        yield {"system": name, "what": what, "ms": seen(known[rank]), "percent": percent}


def _histogram(samples: dict[tuple[str, str], Array], names: tuple[str, ...]) -> Dataset:
    rows: list[dict[str, Cell]] = []
    for what in TIMES:
        own = {name: values for (its, name), values in samples.items() if its == what}
        if not own:
            continue
        known = np.concatenate([values[np.isfinite(values)] for values in own.values()])
        # Bins of one ratio, the same for all; where all took the same time there is one around it.
        low, high = float(known.min()), float(known.max())
        same = high < low * SAME
        edges = np.array([low / SAME, high * SAME]) if same else np.geomspace(low, high, BINS + 1)
        for name, values in own.items():
            counts, _ = np.histogram(values[np.isfinite(values)], edges)
            heights = counts / len(values) * PERCENT
            rows += [
                {
                    "system": name,
                    "what": what,
                    "from_ms": seen(edges[i]),
                    "to_ms": seen(edges[i + 1]),
                    "percent": seen(heights[i]),
                    "lane": names.index(name),
                    "height": seen(heights[i] / heights.max()),
                }
                for i in np.flatnonzero(counts)
            ]
    columns = (Column("from_ms", "From (ms)"), Column("to_ms", "To (ms)"))
    return Dataset(
        columns=(SYSTEM, WHAT, *columns, Column("percent", "Share of requests (%)")),
        rows=tuple(rows),
        caption="Share of the scored requests by how long they took, in bins of one ratio; none is empty",
    )


def _percentiles(samples: dict[tuple[str, str], Array], evaluation: Evaluation) -> Dataset:
    names = tuple(evaluation.systems)
    rows: list[dict[str, Cell]] = [
        {
            "system": name,
            "what": what,
            "percentile": f"p{share * PERCENT:g}",
            "percent": share * PERCENT,
            "ms": seen(percentile(values, share)),
            "n": len(values),
            "lane": names.index(name),
        }
        for (what, name), values in samples.items()
        if not evaluation.sets[name].saturated
        for share in SHARES
    ]
    return Dataset(
        columns=(
            SYSTEM,
            WHAT,
            Column("percentile", "Percentile"),
            Column("ms", "Pooled over repeats (ms)"),
            Column("n", "Requests", 9),
        ),
        rows=tuple(rows),
        caption="Percentiles of all repeats' requests together; none where so many failed, or the queue grew",
    )


def _objective(evaluation: Evaluation) -> Dataset:
    limit_ms = evaluation.objectives.p95_latency_ms
    row: dict[str, Cell] = {"what": "latency", "ms": limit_ms, "name": "p95 objective"}
    return Dataset(
        columns=(Column("name", "Objective"), Column("ms", "At most (ms)")),
        rows=() if limit_ms is None else (row,),
    )


def _reading(evaluation: Evaluation) -> str:
    found = {name: own.values["p95_latency_ms"] for name, own in evaluation.sets.items()}
    known = {name: value for name, value in found.items() if value.value is not None}
    if not known:
        return "No system has a p95 latency: too many requests failed, or the queue grew all along."
    figures = {name: value.value for name, value in known.items() if value.value is not None}
    each = by_system(figures, lambda name: _in_words(known[name]))
    limit_ms = evaluation.objectives.p95_latency_ms
    return f"95 of 100 requests were answered within {each}.{_against(limit_ms, figures, len(found))}"


def _in_words(value: Value) -> str:
    if value.low is None or value.high is None:
        return f"{shown(value.value)} ms"
    return f"{shown(value.value)} ms ({shown(value.low)} to {shown(value.high)})"


def _against(limit_ms: float | None, known: dict[str, float], systems: int) -> str:
    if limit_ms is None:
        return ""
    kept = [name for name, figure in known.items() if figure <= limit_ms]
    if len(kept) == systems:
        who = {1: f"{kept[0]} keeps", 2: "both keep"}.get(systems, "all systems keep")
    elif not kept:
        who = "no system keeps"
    else:
        who = f"{kept[0]} alone keeps" if len(kept) == 1 else f"{len(kept)} of {systems} systems keep"
    return f" At this rate {who} the objective of {limit_ms:g} ms."


def _notes(evaluation: Evaluation) -> Iterator[str]:
    for name, system in evaluation.systems.items():
        if system.measured:
            yield from _note(name, system, evaluation.sets[name])
        else:
            yield f"{name}: {_why_unmeasured(system)}."
    unsure = {
        name: own.values["p95_latency_ms"].unresolved
        for name, own in evaluation.sets.items()
        if own.values["p95_latency_ms"].unresolved
    }
    if unsure:
        first = next(iter(unsure))
        more = f" (of {first})" if len(unsure) > 1 else ""
        yield f"p95 has no interval with {whose(list(unsure))}{more}: {unsure[first]}."
    yield "The marks are percentiles of all repeats together, the comparison's the means of the repeats' own."


def _note(name: str, system: SystemRuns, own: MetricSet) -> Iterator[str]:
    rows = [scored(run) for run in system.measured]
    n, ok = sum(r.n for r in rows), int(sum(r.ok.sum() for r in rows))
    if ok == 0:
        yield f"{name}: none of its {n} scored requests was answered."
        return
    if ok < n:
        end = f"{ok / n * PERCENT:.3g} %"
        yield f"{name}: {n - ok} of {n} requests were not answered, so its curve ends at {end}."
    if own.saturated:
        yield f"{name}: its queue grew all along, so its latencies say how long the window was."


def _why_unmeasured(system: SystemRuns) -> str:
    jobs = system.jobs
    if jobs.failed:
        return f"no repeat was completed ({jobs.error})"
    return "no repeat at a common rate was made" if not jobs.repeats else "no repeat was completed"


def _why_none(evaluation: Evaluation) -> str:
    if not any(system.measured for system in evaluation.systems.values()):
        whys = {_why_unmeasured(system) for system in evaluation.systems.values()}
        return f"There are no latencies to show: {'; '.join(sorted(whys))}."
    return "There are no latencies to show: no scored request was answered."
