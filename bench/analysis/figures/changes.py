"""What changed from the baseline to each system, in percent, with its 95 % interval and what it means.

A change counts where its interval leaves no doubt: *unclear* is one whose interval includes no change, *not
resolved* one whose figures have no interval that would hold. Within the material threshold it is no reason
for or against; a worsening beyond the tolerated one outweighs any benefit, where no objective bounds it.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.comparison import Row
from bench.analysis.decide import Verdict
from bench.analysis.effects import BENEFITS, LATENCIES
from bench.analysis.evaluation import Evaluation, Judged
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.thinning import seen
from bench.analysis.findings import changed, why
from bench.analysis.metrics import METRICS, REQUIRED
from bench.analysis.numbers import shown

HEADLINES = (*REQUIRED, "ttft_p95_ms", "tpot_p50_ms", "goodput_requests_per_sec", "weights_gb", "perplexity")
"""The metrics that are drawn: those of the CSVs' fixed head, and what explains them."""
LEAST_TOLD = 0.05
"""A change that shows as 0.0 % is not told of in words."""
COLUMNS = (
    Column("system", "System"),
    Column("against", "Against"),
    Column("metric", "Metric"),
    Column("baseline", "Baseline"),
    Column("optimized", "System's"),
    Column("unit", "Unit"),
    Column("pct", "Change (%)"),
    Column("low_pct", "95 % from (%)"),
    Column("high_pct", "95 % to (%)"),
    Column("direction", "Direction"),
)


def changes(evaluation: Evaluation) -> Figure:
    """Return every headline metric's change, of each system against its baseline."""
    names = tuple(evaluation.systems)
    found = [row for judged in evaluation.pairs for row in _rows(judged)]
    rows = tuple({**row, "place": place} for place, row in enumerate(found))
    if not rows:
        return Figure(kind="changes", title="Changes", systems=names, missing=_why_none(evaluation))
    verdict = evaluation.pairs[0].verdict
    material: Cell = verdict.material_pct
    return Figure(
        kind="changes",
        title="Changes against the baseline",
        systems=names,
        reading=" ".join(_reading(judged) for judged in evaluation.pairs[:3]) + _others(evaluation),
        datasets={
            "changes": Dataset(columns=COLUMNS, rows=rows),
            "material": Dataset(
                columns=(Column("low_pct", "Immaterial from (%)"), Column("high_pct", "to (%)")),
                rows=({"low_pct": -verdict.material_pct, "high_pct": material},),
                caption="Changes within are no reason for or against",
            ),
        },
        notes=(
            "The axis is logarithmic, so that twice and half are as far from no change.",
            f"The short upright line is where a worsening of {verdict.tolerated_pct:g} % begins, which is "
            "not tolerated unless an objective bounds the figure.",
            *dict.fromkeys(note for judged in evaluation.pairs for note in not_drawn(judged)),
        ),
    )


def _rows(judged: Judged) -> Iterator[dict[str, Cell]]:
    comparison = judged.comparison
    for row in _known(judged):
        change = row.change
        yield {
            "system": comparison.optimized.name,
            "against": comparison.baseline.name,
            "metric": row.label,
            "baseline": seen(row.baseline.value),
            "optimized": seen(row.optimized.value),
            "unit": row.unit,
            "pct": seen(change.pct_change),
            "low_pct": seen(change.low_pct),
            "high_pct": seen(change.high_pct),
            "direction": change.direction,
            "tolerated_pct": _tolerated(row.name, judged.verdict),
        }


def _known(judged: Judged) -> list[Row]:
    rows = judged.comparison.rows
    return [rows[name] for name in HEADLINES if name in rows and rows[name].change.pct_change is not None]


def _tolerated(name: str, verdict: Verdict) -> float | None:
    """Return the change at which a worsening is no longer tolerated; None of figures that decide nothing."""
    if name not in (*LATENCIES, *BENEFITS):
        return None
    return verdict.tolerated_pct if METRICS[name].better == "lower" else -verdict.tolerated_pct


def not_drawn(judged: Judged) -> Iterator[str]:
    """Say of the headline metrics without a change in percent why there is none."""
    name = judged.comparison.optimized.name
    for metric in HEADLINES:
        row = judged.comparison.rows.get(metric)
        if row is None or row.change.pct_change is not None:
            continue
        if row.change.delta is not None:
            figure = shown(row.optimized.value)
            yield f"{row.label}: {figure} of {name} against 0, of which there is no percentage."
        else:
            yield f"{row.label} is not compared with {name}: {why(row)}."


def _reading(judged: Judged) -> str:
    """Return what became better and worse, most first, in a sentence."""
    name, known = judged.comparison.optimized.name, _known(judged)
    told: list[str] = []
    for way in ("better", "worse"):
        rows = [row for row in known if row.change.direction == way and _size(row) >= LEAST_TOLD]
        rows.sort(key=_size, reverse=True)
        texts = [changed(row).partition(" (")[0] for row in rows[:2]]
        if rows:
            told.append(f"{len(rows)} {way} ({', '.join(texts)}{', …' if len(rows) > 2 else ''})")
    open_ones = sum(row.change.direction in ("unclear", "not resolved") for row in known)
    told += [f"{open_ones} unclear or not resolved"] if open_ones else []
    return f"{name}: of {len(known)} headline metrics {', '.join(told) or 'none changed'}."


def _size(row: Row) -> float:
    return abs(row.change.pct_change or 0.0)


def _others(evaluation: Evaluation) -> str:
    left = len(evaluation.pairs) - 3
    return f" And {left} more." if left > 0 else ""


def _why_none(evaluation: Evaluation) -> str:
    if not evaluation.pairs:
        return "there is one system only, and nothing to compare it with"
    known = {why(row) for judged in evaluation.pairs for row in judged.comparison.rows.values()}
    return f"no headline metric can be compared: {'; '.join(sorted(known)[:3])}"
