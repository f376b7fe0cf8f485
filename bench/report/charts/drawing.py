"""What the charts share: their data and switches, tooltips made of a dataset's columns, a system's looks.

A specification holds the rows of its figure as they are, under the datasets' names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.analysis.figure import Column, Dataset, Figure
from bench.report.charts.look import HIDDEN, PALETTE, SHOWN, Spec, systems_scale

PIXELS_PER_LETTER = 6.6
"""Of the labels' type size, at the most; for room that is set aside beside an axis."""


def chart(figure: Figure, *names: str, params: Sequence[Spec] = (), **view: Any) -> Spec:
    """Return a specification with the figure's datasets of these names and the parameter of the switches."""
    datasets = {name: [dict(row) for row in figure.datasets[name].rows] for name in names}
    return {"datasets": datasets, "params": [dict(HIDDEN), *params], **view}


def rows(name: str, *transforms: Spec, switched: bool = True) -> Spec:
    """Return the data of a view: a dataset, without the hidden systems, then transformed."""
    first = [dict(SHOWN)] if switched else []
    return {"data": {"name": name}, "transform": [*first, *transforms]}


def tooltip(dataset: Dataset, *names: str) -> list[Spec]:
    """Return the tooltip of these columns, of all where none is named: heading, and significant digits.

    Of text a number's form would make nonsense, so it goes only to columns that hold a number.
    """
    return [_told(dataset, one) for one in dataset.columns if not names or one.name in names]


def _told(dataset: Dataset, column: Column) -> Spec:
    cells = [row.get(column.name) for row in dataset.rows]
    number = any(isinstance(cell, int | float) for cell in cells)
    told = {"field": column.name, "title": column.heading, "type": "quantitative" if number else "nominal"}
    return told | ({"format": f".{column.digits}~r"} if number else {})


def coloured(figure: Figure, *, legend: bool = True) -> Spec:
    """Return the encoding of a system's colour."""
    key: Spec = {"title": None, "orient": "bottom", "columns": 3, "symbolType": "circle"}
    scale = systems_scale(figure.systems, PALETTE)
    return {"field": "system", "type": "nominal", "scale": scale, "legend": key if legend else None}


def label_room(labels: Sequence[str], *, most: int = 170) -> int:
    """Return how many pixels the longest label takes, up to `most`."""
    return min(most, int(12 + PIXELS_PER_LETTER * max(map(len, labels), default=0)))
