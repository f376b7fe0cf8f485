"""A forest plot: changes in percent with their intervals, in rows under headings, on one axis of ratios.

The axis is that of the ratio, logarithmic: +100 % and -50 % are as far from no change, and +400 % leaves -5 %
still to be seen. What lies beyond its ends is drawn at them; the text at the right has the number.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.figure import Dataset
from bench.report.charts.drawing import rows, tooltip
from bench.report.charts.listing import heading_layer, keyed, layered, named, told, unnamed
from bench.report.charts.look import DIRECTION_COLOURS, DIRECTION_SHAPES, FAINT_BAND, Spec
from bench.units import PERCENT

LEAST, MOST = 0.02, 50.0
"""The axis ends here at the latest: -98 % and +4900 %."""
CONTAINER = "(isFinite(containerSize()[0]) ? containerSize()[0] : 900)"
"""The width of what holds the chart, where there is a page: unlike the plot's, known before the layout."""
BESIDE_PX, COLUMN_PX = 200, 115
"""What the texts beside the plot take of it at most, and what an entry of the legend needs."""
LADDERS = (
    (30.0, (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)),
    (8.0, (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)),
    (3.0, (0.1, 0.15, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20)),
    (1.5, (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5)),
    (0.0, (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2, 1.3)),
)
"""Ticks by how many times the axis spans at least."""
FIGURE = (
    "datum.pct == 0 ? '0.0 %' : format(datum.pct, "
    "abs(datum.pct) < 0.05 ? '+.1r' : abs(datum.pct) < 999.5 ? '+.1f' : '+.0f') + ' %'"
)


def forest(
    dataset: Dataset,
    name: str,
    *,
    heading: str,
    label: str,
    switched: bool,
    letters: int = 18,
    where: tuple[Spec, ...] = (),
) -> Spec:
    """Return the view of the rows with `pct`, `low_pct`, `high_pct` and `direction`.

    Rows of one `heading` stand under it, each by its `label`, in the order of the rows. `where` are further
    transforms. The dataset `material` has the band of what does not matter.
    """
    low, high = _domain(dataset)
    x = _x(low, high)
    placed = (*where, keyed(label, FIGURE), *_ratios(low, high))
    bounded = {"filter": "isValid(datum.low_ratio) && isValid(datum.high_ratio)"}
    kind = {"field": "direction", "type": "nominal"}
    colour = {**kind, "scale": DIRECTION_COLOURS, "legend": _legend(dataset)}
    return layered(
        heading_layer(name, heading, switched=switched, where=where),
        _band(x),
        {
            "data": {"values": [{"ratio": 1}]},
            "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.6},
            "encoding": {"x": x},
        },
        {
            **rows(name, *placed, switched=switched),
            "mark": {"type": "tick", "thickness": 1.5, "size": 15, "opacity": 0.75},
            "encoding": {"x": {**x, "field": "tolerated"}, "y": named(letters)},
        },
        {
            **rows(name, *placed, bounded, switched=switched),
            "mark": {"type": "rule", "strokeWidth": 2, "strokeCap": "round"},
            "encoding": {
                "x": {**x, "field": "low_ratio"},
                "x2": {"field": "high_ratio"},
                "y": unnamed(),
                "color": colour,
                "tooltip": tooltip(dataset),
            },
        },
        {
            **rows(name, *placed, switched=switched),
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {
                "x": x,
                "y": told(),
                "color": colour,
                "shape": {**kind, "scale": DIRECTION_SHAPES, "legend": _legend(dataset)},
                "tooltip": tooltip(dataset),
            },
        },
    )


def _x(low: float, high: float) -> Spec:
    return {
        "field": "ratio",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [low, high], "nice": False, "clamp": True},
        "axis": {
            "values": [tick for tick in _ladder(high / low) if low <= tick <= high],
            "labelExpr": "datum.value == 1 ? 'no change' : format((datum.value - 1) * 100, '+.3~r') + ' %'",
            "labelOverlap": "greedy",
            "title": None,
            "grid": True,
        },
    }


def _band(x: Spec) -> Spec:
    ends = (("datum.low_pct", "ratio"), ("datum.high_pct", "high"))
    return {
        "data": {"name": "material"},
        "transform": [{"calculate": f"{percent} / 100 + 1", "as": end} for percent, end in ends],
        "mark": {"type": "rect", "color": FAINT_BAND, "opacity": 0.22, "tooltip": None},
        "encoding": {"x": x, "x2": {"field": "high"}},
    }


def _ratios(low: float, high: float) -> Iterator[Spec]:
    ends = {"pct": "ratio", "low_pct": "low_ratio", "high_pct": "high_ratio", "tolerated_pct": "tolerated"}
    for percent, ratio in ends.items():
        clamped = f"clamp(datum.{percent} / 100 + 1, {low}, {high})"
        yield {"calculate": f"isValid(datum.{percent}) ? {clamped} : null", "as": ratio}


def _legend(dataset: Dataset) -> Spec:
    present = {row["direction"] for row in dataset.rows}
    values = [kind for kind in DIRECTION_SHAPES["domain"] if kind in present]
    columns = {"expr": f"max(1, floor(({CONTAINER} - {BESIDE_PX}) / {COLUMN_PX}))"}
    return {"title": None, "orient": "bottom", "values": values, "columns": columns, "symbolOpacity": 1}


def _domain(dataset: Dataset) -> tuple[float, float]:
    """Return the ends of the axis: all figures with some room, within what can be drawn."""
    keys = ("pct", "low_pct", "high_pct", "tolerated_pct")
    known = [row.get(key) for row in dataset.rows for key in keys]
    ratios = [cell / PERCENT + 1.0 for cell in known if isinstance(cell, int | float)]
    low, high = max(LEAST, min([0.93, *ratios])), min(MOST, max([1.07, *ratios]))
    room = (high / low) ** 0.04
    return float(f"{max(LEAST, low / room):.4g}"), float(f"{min(MOST, high * room):.4g}")


def _ladder(span: float) -> tuple[float, ...]:
    return next(ticks for least, ticks in LADDERS if span >= least)
