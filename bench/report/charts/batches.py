"""The chart of the batches: their sizes, what padding cost, and why requests went and had waited."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.drawing import chart, rows, tooltip
from bench.report.charts.look import SHAPES, Spec
from bench.report.charts.panels import (
    GUTTER,
    across,
    beside,
    chosen,
    layer,
    named_rows,
    panel,
    told_apart,
)

COLOURS = ("#5f6b78", "#1f8291", "#7d5bb0", "#a86a4a", "#868686", "#b0567d", "#7a7f2a", "#4f6fd0")
"""Of reasons and kinds of padding, which are no systems; 3:1 on both grounds, and under white letters."""
LETTER = 7.5
"""Pixels per letter of a reason: where it fits, it stands in the bar."""
RIGHT = 14
STEP = 22
"""Pixels of a system's row."""


def batches(figure: Figure) -> Spec:
    """Return the sizes as bars, and padding and reasons as a row per system."""
    views = [_sizes(figure)]
    if figure.datasets["padding"].rows:
        views.append(_padding(figure))
    for of in dict.fromkeys(str(row["of"]) for row in figure.datasets["reasons"].rows):
        views.append(_reasons(figure, of))
    return chart(
        figure,
        *figure.datasets,
        params=[chosen("share_of", "Share of", ["requests", "batches"])],
        vconcat=views,
        spacing=16,
        resolve={
            "scale": dict.fromkeys(("x", "y", "color", "shape"), "independent"),
            "legend": {"color": "independent", "shape": "independent"},
        },
    )


def _sizes(figure: Figure) -> Spec:
    sizes, looks = figure.datasets["sizes"], told_apart(figure)
    order = {str(row["size"]): int(row["order"] or 0) for row in sizes.rows}
    x = {
        "field": "size",
        "type": "ordinal",
        "sort": sorted(order, key=lambda size: order[size]),
        "scale": {"range": [{"expr": str(GUTTER)}, {"expr": "width - 4"}], "paddingInner": 0.2},
        "axis": {"title": "requests together", "labelAngle": 0, "labelOverlap": "greedy", "ticks": False},
    }
    y = {"field": "percent", "type": "quantitative", "axis": beside(tickCount=4)}
    place: Spec = {"x": x, "xOffset": {"field": "system", "sort": list(figure.systems)}, "y": y}
    data, words = rows("sizes", {"filter": "datum.of == share_of"}), tooltip(sizes)
    point = {"filled": True, "size": 55, "opacity": 1, "clip": False}
    layers = [
        layer(data, "bar", {"opacity": 0.75}, **place, color=looks["color"], tooltip=words),
        layer(data, "point", point, **place, **looks, tooltip=words),
    ]
    return panel("('Batch sizes: share of the ' + share_of + ' (%)')", layers, 150)


def _padding(figure: Figure) -> Spec:
    """Return a row per system with a mark for what padding is a share of, and its interval."""
    data = figure.datasets["padding"]
    kinds = list(dict.fromkeys(str(row["of"]) for row in data.rows))
    color = _kind("of", kinds, COLOURS)
    shape = {**color, "scale": {"domain": kinds, "range": list(SHAPES[: len(kinds)])}}
    gutter, y = named_rows(figure)
    known = rows("padding", {"filter": "isValid(datum.low) && isValid(datum.high)"})
    sure: Spec = {"x": _percent("low", gutter), "x2": {"field": "high"}, "y": y, "color": color}
    mark = {"filled": True, "size": 70, "opacity": 1, "clip": False}
    place: Spec = {"x": _percent("percent", gutter), "y": y, "color": color, "shape": shape}
    layers = [
        layer(known, "rule", {"strokeWidth": 2}, **sure),
        layer(rows("padding"), "point", mark, **place, tooltip=tooltip(data)),
    ]
    return panel("Padding: share of what was computed (%)", layers, {"step": STEP})


def _reasons(figure: Figure, of: str) -> Spec:
    """Return a bar per system, cut into the reasons."""
    data = figure.datasets["reasons"]
    kinds = list(dict.fromkeys(str(row["reason"]) for row in data.rows if row["of"] == of))
    colours = tuple(COLOURS[i % len(COLOURS)] for i in range(len(kinds)))
    own = {"filter": f"datum.of == '{of}'"}
    gutter, y = named_rows(figure)
    span: Spec = {"x": _percent("start", gutter), "x2": {"field": "end"}}
    middle = {"calculate": "(datum.start + datum.end) / 2", "as": "middle"}
    pixels = f"datum.percent / 100 * (width - {gutter} - {RIGHT})"
    fits = {"filter": f"{pixels} > {LETTER} * length(datum.reason) + 6"}
    name = {"color": "#ffffff", "fontSize": 11, "fontWeight": 600}
    text = {"field": "reason"}
    color = _kind("reason", kinds, colours)
    layers = [
        layer(rows("reasons", own), "bar", **span, y=y, color=color, tooltip=tooltip(data)),
        layer(rows("reasons", own, middle, fits), "text", name, x=_percent("middle", gutter), y=y, text=text),
    ]
    return panel(f"Requests that {of} … (%)", layers, {"step": STEP})


def _percent(field: str, gutter: str) -> Spec:
    axis = {"title": None, "tickCount": 5}
    return across(field, gutter=gutter, right=RIGHT, scale={"domain": [0, 100], "nice": False}, axis=axis)


def _kind(field: str, kinds: list[str], colours: tuple[str, ...]) -> Spec:
    columns = {"expr": "max(1, floor(width / 150))"}
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": kinds, "range": list(colours[: len(kinds)])},
        "legend": {"title": None, "orient": "top", "columns": columns, "symbolSize": 90, "symbolOpacity": 1},
    }
