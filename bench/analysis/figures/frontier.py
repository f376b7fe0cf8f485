"""The systems by two figures at a time: which no other beats in both, which one does, and what is open.

A system is dominated where the intervals say that another is not worse in either figure and better in one,
both by more than what is immaterial; *undecided* where an interval leaves that open (see `analysis.pareto`).
Each pair of figures has its own front: one that is best by latency and memory need not be so by cost.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.thinning import seen
from bench.analysis.metrics import METRICS, Better
from bench.analysis.pareto import Pareto, Standing, pareto
from bench.analysis.system import MetricSet
from bench.records import Value

Pair = tuple[str, str]

P95, P50, THROUGHPUT = "p95_latency_ms", "p50_latency_ms", "throughput_requests_per_sec"
PAIRS: tuple[Pair, ...] = (
    (THROUGHPUT, P95),
    (THROUGHPUT, P50),
    ("cost_per_1k_requests_usd", P95),
    ("average_memory_gb", P95),
    ("estimated_energy_kwh_per_1k_requests", P95),
    ("average_memory_gb", THROUGHPUT),
    ("mean_kl", THROUGHPUT),
)
"""What is drawn against what (along, up), those that two systems have."""
WORDS = {"front": "on the front", "dominated": "dominated", "undecided": "undecided"}


def frontier(evaluation: Evaluation) -> Figure:
    """Return the systems' places in each pair of figures."""
    names = tuple(evaluation.systems)
    fronts = {pair: pareto(evaluation.sets, _directed(pair)) for pair in PAIRS if _known(evaluation, pair)}
    if not fronts:
        missing = "there is one system only, and no front" if len(names) < 2 else _why_none(evaluation)
        return Figure(kind="frontier", title="What beats what", systems=names, missing=missing)
    rows = tuple(row for pair, front in fronts.items() for row in _rows(evaluation, pair, front))
    return Figure(
        kind="frontier",
        title="What beats what",
        systems=names,
        reading=_reading(*next(iter(fronts.items()))),
        datasets={
            "frontier": Dataset(
                columns=(
                    Column("pair", "Figures"),
                    Column("system", "System"),
                    Column("place", "Place"),
                    Column("x", "Along"),
                    Column("x_low", "95 % from"),
                    Column("x_high", "95 % to"),
                    Column("y", "Up"),
                    Column("y_low", "95 % from"),
                    Column("y_high", "95 % to"),
                    Column("by", "Beaten, or perhaps, by"),
                ),
                rows=rows,
            ),
            "axes": Dataset(
                columns=(Column("pair", "Figures"), Column("along", "Along"), Column("up", "Up")),
                rows=tuple({"pair": _called(p), "along": _titled(p[0]), "up": _titled(p[1])} for p in fronts),
                caption="What is drawn",
            ),
            "objective": Dataset(
                columns=(Column("pair", "Figures"), Column("name", "Objective"), Column("y", "At most")),
                rows=tuple(_objective(evaluation, list(fronts))),
            ),
        },
        notes=tuple(dict.fromkeys((*_notes(fronts), *_not_drawn(rows)))),
    )


def _known(evaluation: Evaluation, pair: Pair) -> bool:
    """Say whether two systems have both figures, and these can stand on logarithmic axes."""
    own = [_both(metrics, pair) for metrics in evaluation.sets.values()]
    return sum(both is not None and all((one.value or 0.0) > 0 for one in both) for both in own) > 1


def _both(metrics: MetricSet, pair: Pair) -> tuple[Value, Value] | None:
    one, other = (metrics.values.get(name) for name in pair)
    if one is None or other is None or one.value is None or other.value is None:
        return None
    return one, other


def _directed(pair: Pair) -> list[tuple[str, Better]]:
    return [(name, better) for name in pair if (better := METRICS[name].better) is not None]


def _rows(evaluation: Evaluation, pair: Pair, front: Pareto) -> Iterator[dict[str, Cell]]:
    for system, metrics in evaluation.sets.items():
        both, standing = _both(metrics, pair), front.standings.get(system)
        if both is None or standing is None:
            continue
        x, y = both
        yield {
            "pair": _called(pair),
            "system": system,
            "place": WORDS[standing.place],
            "x": seen(x.value),
            "x_low": _end(x.low),
            "x_high": _end(x.high),
            "y": seen(y.value),
            "y_low": _end(y.low),
            "y_high": _end(y.high),
            "by": _by(standing),
        }


def _end(value: float | None) -> float | None:
    """Return an interval's end; None where it has no place on a logarithmic axis."""
    return None if value is None or value <= 0 else seen(value)


def _by(standing: Standing) -> str:
    return "; ".join(rival.in_words for rival in (standing.by or standing.perhaps_by)[:2])


def _called(pair: Pair) -> str:
    return f"{METRICS[pair[1]].label} against {METRICS[pair[0]].label}"


def _titled(name: str) -> str:
    metric = METRICS[name]
    title = f"{metric.label}, {metric.unit}" if metric.unit else metric.label
    return f"{title} ({metric.better} is better)"


def _objective(evaluation: Evaluation, pairs: list[Pair]) -> Iterator[dict[str, Cell]]:
    limit_ms = evaluation.objectives.p95_latency_ms
    if limit_ms is None:
        return
    for pair in pairs:
        if pair[1] == P95:
            yield {"pair": _called(pair), "name": f"p95 objective, {limit_ms:g} ms", "y": seen(limit_ms)}


def _reading(pair: Pair, front: Pareto) -> str:
    """Return which systems stand where by the first pair."""
    told = []
    for place, words in WORDS.items():
        names = [name for name, standing in front.standings.items() if standing.place == place]
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            told.append(f"{words}: {', '.join(names[:4])}{more}")
    return f"By {METRICS[pair[1]].label} and {METRICS[pair[0]].label}, {'; '.join(told)}."


def _notes(fronts: dict[Pair, Pareto]) -> Iterator[str]:
    yield "A filled mark is on the front, a hollow one dominated, a pale one undecided; crosses: intervals."
    for pair, front in fronts.items():
        if front.point_axes:
            labels = ", ".join(METRICS[name].label for name in front.point_axes)
            yield f"{_called(pair)}: {labels} of some systems has no interval, so its point value was taken."
        for system, why in front.excluded.items():
            yield f"{system} is left out of {_called(pair)}: {why}."


def _not_drawn(rows: tuple[dict[str, Cell], ...]) -> Iterator[str]:
    for row in rows:
        if min(float(row["x"] or 0.0), float(row["y"] or 0.0)) <= 0:
            yield f"{row['system']} is not drawn in {row['pair']}: 0 has no place on a logarithmic axis."


def _why_none(evaluation: Evaluation) -> str:
    lacking = []
    for name in (P95, THROUGHPUT):
        values = [metrics.values.get(name) for metrics in evaluation.sets.values()]
        lacking += [f"{METRICS[name].label}: {v.note}" for v in values if v is not None and v.value is None]
    return "; ".join(dict.fromkeys(lacking)) or "no two systems have two figures in common"
