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
from bench.analysis.gate import at_most
from bench.analysis.latency import first_tokens, latencies, times_per_token
from bench.analysis.numbers import shown
from bench.analysis.recorded import scored
from bench.analysis.stats import Array, percentile
from bench.analysis.summary import why_saturated
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
        caption="Percentiles of all repeats' requests; none where so many failed, or the rate was too high",
    )


def _objective(evaluation: Evaluation) -> Dataset:
    limit_ms = evaluation.objectives.p95_latency_ms
    row: dict[str, Cell] = {"what": "latency", "ms": limit_ms, "name": "p95 objective"}
    return Dataset(
        columns=(Column("name", "Objective"), Column("ms", "At most (ms)")),
        rows=() if limit_ms is None else (row,),
    )


def _reading(evaluation: Evaluation) -> str:
    sound = {name: own for name, own in evaluation.sets.items() if name not in evaluation.invalid}
    p95 = {name: own.values["p95_latency_ms"] for name, own in sound.items()}
    known = {name: value.value for name, value in p95.items() if value.value is not None}
    if not known:
        return "No system has a p95 latency to go by; the notes say why."
    each = by_system(known, lambda name: _in_words(p95[name], evaluation.systems[name]))
    several = any(len(evaluation.systems[name].measured) > 1 for name in known)
    over = ", mean over repeats," if several else ""
    return f"The p95 latency{over} is {each}.{_against(evaluation, sound)}"


def _in_words(value: Value, system: SystemRuns) -> str:
    if value.low is None or value.high is None:
        n = sum(scored(run).n for run in system.measured)
        return f"{shown(value.value)} ms (point value of {n} requests)"
    return f"{shown(value.value)} ms ({shown(value.low)} to {shown(value.high)})"


def _against(evaluation: Evaluation, sound: dict[str, MetricSet]) -> str:
    """Return who keeps the objective, judged as by the verdict's gate; only who was measured is named."""
    limit_ms = evaluation.objectives.p95_latency_ms
    if limit_ms is None:
        return ""
    kept = {name: _kept(own, limit_ms) for name, own in sound.items()}
    parts = [
        f"{how} {whose(names)}"
        for how in ("kept by", "unclear with", "broken by")
        if (names := [name for name in kept if kept[name] == how])
    ]
    rates = {run.meta.offered_rps for name in sound for run in evaluation.systems[name].measured}
    at = "At this rate" if len(rates) == 1 else "Each at its rate,"
    return f" {at} the objective of {limit_ms:g} ms is {'; '.join(parts)}."


def _kept(own: MetricSet, limit_ms: float) -> str:
    value = own.values["p95_latency_ms"]
    if value.value is None:
        return "broken by" if own.p95_unbounded or own.saturated else ""
    return {"pass": "kept by", "fail": "broken by"}.get(
        at_most("SLA", value, limit_ms, "").outcome, "unclear with"
    )


def _notes(evaluation: Evaluation) -> Iterator[str]:
    yield "The marks are percentiles of all repeats together, the comparison's the means of the repeats' own."
    for name, system in evaluation.systems.items():
        if system.measured:
            yield from _note(name, system)
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


def _note(name: str, system: SystemRuns) -> Iterator[str]:
    rows = [scored(run) for run in system.measured]
    n, ok = sum(r.n for r in rows), int(sum(r.ok.sum() for r in rows))
    if ok == 0:
        yield f"{name}: none of its {n} scored requests was answered."
        return
    if ok < n:
        end = shown(ok * 10_000 // n / PERCENT)  # downwards: never at 100
        yield f"{name}: {n - ok} of {n} requests were not answered, so its curve ends at {end} %."
    if (why := why_saturated(system)) is not None:
        yield f"{name} cannot carry this rate ({why}), so its latencies would grow with the window."


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
