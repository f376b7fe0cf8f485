"""Latency against rate: what every probe of a capacity search showed, and the windows at the common rate.

Where more is asked than a system can answer, a percentile says how long the window was and nothing of the
system. Such a rate has no latency: it is shown as overloaded where the queue was seen to grow, otherwise as
above the saturated throughput. Several runs at different rates give one line per system, by the name that it
has in each of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.analysis.capacity import Conclusion, searched
from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.sentences import by_system, whose
from bench.analysis.figures.thinning import seen
from bench.analysis.numbers import shown
from bench.analysis.recorded import scored
from bench.analysis.summary import queue_grew
from bench.analysis.system import SystemRuns
from bench.analysis.trials import Trial
from bench.records import Value

NEAR = 0.05
"""Steady rates within this of one another are one point of a line."""
STEADY, OVERLOADED, INVALID, UNKNOWN = "steady", "overloaded", "INVALID", "no p95"
ABOVE = "above the saturated throughput"
Row = dict[str, Cell]

SYSTEM = Column("system", "System")
RATE = Column("rate_rps", "Rate (requests/s)")


def rate(evaluation: Evaluation) -> Figure:
    """Return p50 and p95 latency of every rate at which a system was measured, and its capacity."""
    title, names = "Latency against rate", tuple(evaluation.systems)
    searches = {
        name: found
        for name, system in evaluation.systems.items()
        if (found := searched(system, evaluation.objectives)) is not None
    }
    points = [
        *(row for name, found in searches.items() for row in _probes(name, evaluation.systems[name], found)),
        *(row for name, system in evaluation.systems.items() for row in _window(name, system, evaluation)),
    ]
    if not points:
        why = "no capacity was searched, and no repeat at a common rate was completed"
        return Figure(kind="rate", title=title, systems=names, missing=f"There are no rates to show: {why}.")
    capacities = {name: evaluation.sets[name].values["throughput_requests_per_sec"] for name in searches}
    return Figure(
        kind="rate",
        title=title,
        systems=names,
        reading=_reading(evaluation, capacities, points),
        datasets={
            "points": Dataset(
                columns=(
                    SYSTEM,
                    RATE,
                    Column("job", "Measured in"),
                    Column("state", "State"),
                    Column("p50_ms", "p50 latency (ms)"),
                    Column("p95_ms", "p95 latency (ms)"),
                    Column("low_ms", "p95 from"),
                    Column("high_ms", "p95 to (95 % interval)"),
                    Column("n", "Requests", 9),
                ),
                rows=tuple(points),
                caption="Every rate at which a system was measured; with percentiles where it was steady",
            ),
            "curve": Dataset(
                columns=(
                    SYSTEM,
                    RATE,
                    Column("p50_ms", "p50 latency (ms)"),
                    Column("p95_ms", "p95 latency (ms)"),
                ),
                rows=tuple(_curve(points)),
                caption="The lines: medians of steady points whose rates lie within 5 % of one another",
            ),
            "capacity": Dataset(
                columns=(
                    SYSTEM,
                    Column("rate_rps", "Capacity (requests/s)"),
                    Column("low_rps", "From"),
                    Column("high_rps", "To (95 % interval)"),
                    Column("binds", "Bound by"),
                ),
                rows=tuple(
                    {
                        "system": name,
                        "line": _own_name(evaluation.systems[name]),
                        "rate_rps": seen(value.value),
                        "low_rps": seen(value.low),
                        "high_rps": seen(value.high),
                        "binds": searches[name].binds,
                    }
                    for name, value in capacities.items()
                    if value.value is not None
                ),
                caption="The highest steady rate at which the objectives hold and the queue is stable",
            ),
            "objective": _objective(evaluation),
        },
        notes=tuple(_notes(evaluation, capacities)),
    )


def _own_name(system: SystemRuns) -> str:
    """Return the system's name in its own run."""
    runs = [run for run in (*system.windows, system.offline, system.capacity) if run is not None]
    return runs[0].meta.system if runs else system.name


def _probes(name: str, system: SystemRuns, found: Conclusion) -> Iterator[Row]:
    for trial in found.curve:
        state = _state(trial)
        steady = state == STEADY
        yield {
            "system": name,
            "line": _own_name(system),
            "rate_rps": seen(trial.rate_rps),
            "job": "capacity search",
            "state": state,
            "p50_ms": seen(trial.p50_ms) if steady else None,
            "p95_ms": seen(trial.p95_ms) if steady else None,
            "low_ms": None,
            "high_ms": None,
            "n": trial.n,
        }


def _curve(points: list[Row]) -> Iterator[Row]:
    """Yield the points of the lines: medians, where a search has probed a system near one rate again."""
    steady = sorted((row for row in points if row["state"] == STEADY), key=_rate_rps)
    for name in dict.fromkeys(str(row["system"]) for row in points):
        own = [row for row in steady if row["system"] == name]
        while own:
            near = [row for row in own if _rate_rps(row) <= _rate_rps(own[0]) * (1.0 + NEAR)]
            own = own[len(near) :]
            medians = {key: seen(_median(near, key)) for key in ("rate_rps", "p50_ms", "p95_ms")}
            yield {"system": name, "line": near[0]["line"], **medians}


def _rate_rps(row: Row) -> float:
    rate_rps = row["rate_rps"]
    assert isinstance(rate_rps, float)
    return rate_rps


def _median(rows: list[Row], key: str) -> float:
    return statistics.median(figure for row in rows if isinstance(figure := row[key], float))


def _state(trial: Trial) -> str:
    if not trial.counts:
        return INVALID
    if not trial.stable:
        return OVERLOADED
    return STEADY if trial.p95_ms is not None else UNKNOWN


def _window(name: str, system: SystemRuns, evaluation: Evaluation) -> Iterator[Row]:
    """Yield the system's repeats at the common rate, as the comparison has them."""
    rates = [run.meta.offered_rps for run in system.measured if run.meta.offered_rps is not None]
    if not rates:
        return
    own = evaluation.sets[name]
    p50, p95 = own.values["p50_latency_ms"], own.values["p95_latency_ms"]
    held = ABOVE if own.saturated else STEADY if p95.value is not None else UNKNOWN
    state = INVALID if name in evaluation.invalid else OVERLOADED if queue_grew(system) else held
    steady = state == STEADY
    yield {
        "system": name,
        "line": _own_name(system),
        "rate_rps": seen(sum(rates) / len(rates)),
        "job": "repeats at the common rate",
        "state": state,
        "p50_ms": seen(p50.value) if steady else None,
        "p95_ms": seen(p95.value) if steady else None,
        "low_ms": seen(p95.low) if steady else None,
        "high_ms": seen(p95.high) if steady else None,
        "n": sum(scored(run).n for run in system.measured),
    }


def _objective(evaluation: Evaluation) -> Dataset:
    limit_ms = evaluation.objectives.p95_latency_ms
    return Dataset(
        columns=(Column("name", "Objective"), Column("ms", "At most (ms)")),
        rows=() if limit_ms is None else ({"name": "p95 objective", "ms": limit_ms},),
    )


def _reading(evaluation: Evaluation, capacities: dict[str, Value], points: list[Row]) -> str:
    sound = {name: value for name, value in capacities.items() if name not in evaluation.invalid}
    figures = {name: value.value for name, value in sound.items() if value.value is not None}
    if figures:
        each = by_system(figures, lambda name: _in_words(sound[name]))
        return f"The objectives hold up to {each}."
    if capacities:
        return "There is no capacity to go by; the notes say why."
    rates = sorted({row["rate_rps"] for row in points if isinstance(row["rate_rps"], float)})
    at = (
        shown(rates[0])
        if len(rates) == 1
        else f"{len(rates)} rates from {shown(rates[0])} to {shown(rates[-1])}"
    )
    return f"Measured at {at} requests/s; {_growth(points)}."


def _growth(points: list[Row]) -> str:
    """Return whose queue grew; of INVALID systems, and where p95 is not known, that is not known either."""
    having = {
        state: [str(row["system"]) for row in points if row["state"] == state]
        for state in (OVERLOADED, ABOVE, STEADY, INVALID, UNKNOWN)
    }
    parts = []
    if unknown := having[INVALID] + having[UNKNOWN]:
        parts.append(f"whether the queue grew is not known of {whose(unknown)}")
    if grew := having[OVERLOADED]:
        parts.append(f"the queue grew with {whose(grew)}")
    elif having[STEADY] + having[ABOVE]:
        parts.append("no other queue grew" if unknown else "no queue grew")
    if above := having[ABOVE]:
        parts.append(f"more was asked than is answered when saturated with {whose(above)}")
    return "; ".join(parts)


def _in_words(value: Value) -> str:
    sure = "" if value.low is None or value.high is None else f" ({shown(value.low)} to {shown(value.high)})"
    return f"{shown(value.value)} requests/s{sure}"


def _notes(evaluation: Evaluation, capacities: dict[str, Value]) -> Iterator[str]:
    for name, value in capacities.items():
        if value.value is None:
            yield f"{name}: no capacity: {value.note}."
    if not capacities:
        yield "No capacity was searched, so the rate at which each system fails is not known."
    for name, system in evaluation.systems.items():
        if name not in capacities and system.capacity is not None:
            yield f"{name}: its capacity search did not complete."
