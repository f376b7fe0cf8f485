"""The figures of an evaluation with their charts, as the page shows and embeds them.

A chart and the table beside it are made of the same rows, and the page's data holds them once: a
specification names the datasets that its figure has, and the page's script puts the rows back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures import FIGURES
from bench.analysis.numbers import shown
from bench.report.charts import CHARTS
from bench.report.charts.look import Spec
from bench.report.page.view import FigureView, Table

Drawn = tuple[Figure, Spec | None]


def drawn_figures(
    evaluation: Evaluation,
    figures: Mapping[str, Callable[[Evaluation], Figure]] = FIGURES,
    charts: Mapping[str, Callable[[Figure], Spec]] = CHARTS,
) -> dict[str, Drawn]:
    """Return every figure, with its chart unless there is nothing to draw."""
    found: dict[str, Drawn] = {}
    for kind, make in figures.items():
        figure = make(evaluation)
        found[kind] = figure, None if figure.missing or kind not in charts else charts[kind](figure)
    return found


def figure_view(figure: Figure, *, drawn: bool) -> FigureView:
    """Return a figure in texts, its numbers with the digits that its columns state."""
    return FigureView(
        kind=figure.kind,
        title=figure.title,
        reading=figure.reading,
        notes=figure.notes,
        missing=figure.missing,
        drawn=drawn,
        tables=tuple(_table(name, data, figure.systems) for name, data in figure.datasets.items()),
    )


def embedded_figure(figure: Figure, spec: Spec | None) -> dict[str, Any]:
    """Return a figure for the page's script: datasets column-wise in full precision, and the chart."""
    return {
        "title": figure.title,
        "reading": figure.reading,
        "datasets": {name: _packed(data) for name, data in figure.datasets.items()},
        "chart": None if spec is None else named_data(spec, figure.datasets),
    }


def named_data(spec: Spec, datasets: Mapping[str, Dataset]) -> Spec:
    """Return a specification without the rows that are a dataset's of the figure; the name is enough.

    Those that a chart has made itself stay. What no JSON can hold (infinity) becomes null.
    """
    own = {
        name: rows
        for name, rows in spec.get("datasets", {}).items()
        if name not in datasets or list(rows) != list(datasets[name].rows)
    }
    stripped: Spec = _jsonable({**spec, "datasets": own})
    return stripped


def _packed(data: Dataset) -> dict[str, Any]:
    """Return a dataset column by column, which takes a third of the room that rows with their keys take."""
    headings = {column.name: column.heading for column in data.columns}
    fields = list(dict.fromkeys([*headings, *(key for row in data.rows for key in row)]))
    return {
        "fields": fields,
        "headings": [headings.get(field, field) for field in fields],
        "shown": [field in headings for field in fields],
        "rows": len(data.rows),
        "columns": [_column([_finite(row.get(field)) for row in data.rows]) for field in fields],
    }


def _column(cells: list[Cell]) -> list[Cell] | dict[str, Any]:
    """Return a column's cells; of texts that repeat each once, and the place of each row's."""
    if not any(isinstance(cell, str) for cell in cells):
        return cells
    place: dict[Cell, int] = {cell: index for index, cell in enumerate(dict.fromkeys(cells))}
    return {"texts": list(place), "at": [place[cell] for cell in cells]}


def _finite(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _table(name: str, data: Dataset, systems: Sequence[str]) -> Table:
    place = {system: index for index, system in enumerate(systems)}
    return Table(
        name=name,
        caption=data.caption or name,
        thinned=data.thinned,
        headings=tuple((column.heading, _numeric(column, data)) for column in data.columns),
        rows=tuple(
            (
                place.get(str(row.get("system"))),
                tuple(cell_text(row.get(column.name), column.digits) for column in data.columns),
            )
            for row in data.rows
        ),
    )


def _numeric(column: Column, data: Dataset) -> bool:
    cells = [row.get(column.name) for row in data.rows]
    known = [cell for cell in cells if cell is not None]
    return bool(known) and all(
        isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in known
    )


def cell_text(cell: Cell, digits: int) -> str:
    """Return a cell as people read it; a dash where there is no figure."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    if math.isinf(cell):
        return "∞" if cell > 0 else "-∞"
    return str(cell) if isinstance(cell, int) else shown(cell, digits)


def _jsonable(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _jsonable(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_jsonable(value) for value in part]
    return None if isinstance(part, float) and not math.isfinite(part) else part
