"""Panels one below the other, each as wide as the page: how charts of several views are put together.

A view that follows its container's width has its axis beside that width, and would be cut off. So the plot
of a panel begins a gutter inside, and its left axis stands in the gutter. `width` in an expression is the
width of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from bench.analysis.figure import Figure
from bench.report.charts.drawing import label_room
from bench.report.charts.look import DASHES, PALETTE, SHAPES, Spec, systems_scale

Gutter = int | str
"""Pixels, or an expression that gives them."""
GUTTER = 54
"""Pixels for the numbers of a left axis."""
CONTAINER = "(isFinite(containerSize()[0]) ? containerSize()[0] : 900)"
"""The width of the chart's container, known where there is a page."""
NARROW = 0.38
"""The share of the width that names may take at most."""
FLUSH = 24
"""Numbers as near to an end of the plot as this are moved inside."""
LEGEND_COLUMN = 190


def panel(title: str, layers: Sequence[Spec], height: int | Spec, **more: object) -> Spec:
    """Return a view over the whole width; a `title` in parentheses is an expression."""
    text: str | Spec = {"expr": title[1:-1]} if title.startswith("(") else title
    head = {"text": text, "anchor": "start", "frame": "group", "fontSize": 13, "fontWeight": 500, "offset": 6}
    head["limit"] = {"expr": "width"}
    return {"title": head, "width": "container", "height": height, "layer": list(layers), **more}


def across(
    field: str, *, gutter: Gutter = GUTTER, right: int = 4, scale: Spec | None = None, **more: object
) -> Spec:
    """Return the quantitative x encoding of a panel: from the gutter on to the right end."""
    span = [{"expr": str(gutter)}, {"expr": f"width - {right}"}]
    if isinstance(axis := more.get("axis"), dict):
        more["axis"] = {"labelFlush": FLUSH, **axis}
    return {"field": field, "type": "quantitative", "scale": {"range": span, **(scale or {})}, **more}


def beside(*, gutter: Gutter = GUTTER, **more: object) -> Spec:
    """Return the axis in the gutter."""
    return {
        "offset": {"expr": f"-({gutter})"},
        "title": None,
        "domain": False,
        "ticks": False,
        "labelPadding": 5,
        **more,
    }


def named_rows(figure: Figure) -> tuple[str, Spec]:
    """Return the gutter and the y encoding of a panel that has a row for each system, by its name."""
    gutter = f"min({label_room(figure.systems, most=190)}, {NARROW} * width)"
    y = {
        "field": "system",
        "type": "nominal",
        "sort": list(figure.systems),
        "scale": {"paddingInner": 0.25, "paddingOuter": 0.1},
        "axis": beside(gutter=gutter, labelLimit={"expr": f"{gutter} - 8"}),
    }
    return gutter, y


def told_apart(
    figure: Figure, *, by: str = "system", named: Mapping[str, str] | None = None
) -> dict[str, Spec]:
    """Return the encodings of a system's colour and shape, with one legend over the chart.

    What goes by another name is `named` with the system whose looks it has.
    """
    columns = {"expr": f"max(1, floor(width / {LEGEND_COLUMN}))"}
    legend = {"title": None, "orient": "top", "columns": columns, "labelLimit": LEGEND_COLUMN - 30}
    # The legend takes the dash of the lines along, for an edge that its symbols had better not have.
    solid = {"symbolOpacity": 1, "symbolSize": 90, "symbolStrokeWidth": 0}
    of = {"field": by, "type": "nominal", "legend": {**legend, **solid}}
    return {
        "color": {**of, "scale": _scale(figure, PALETTE, named)},
        "shape": {**of, "scale": _scale(figure, SHAPES, named)},
    }


def _scale(figure: Figure, values: Sequence[object], named: Mapping[str, str] | None) -> Spec:
    scale = systems_scale(figure.systems, values)
    if named is None:
        return scale
    looks = dict(zip(scale["domain"], scale["range"], strict=True))
    return {"domain": list(named), "range": [looks[system] for system in named.values()]}


def dashed(figure: Figure, *, by: str = "system", named: Mapping[str, str] | None = None) -> Spec:
    """Return the encoding of the dash of a system's line; it shares the legend of `told_apart`."""
    color = told_apart(figure, by=by, named=named)["color"]
    return {**color, "scale": _scale(figure, DASHES, named)}


def chosen(name: str, label: str, options: Sequence[str | int]) -> Spec:
    """Return a parameter that the reader chooses among, where there is a choice."""
    param: Spec = {"name": name, "value": options[0]}
    if len(options) > 1:
        param["bind"] = {"input": "select", "options": list(options), "name": f"{label} "}
    return param


def ends_of_choice(name: str, ends: Mapping[str | int, tuple[float, float]]) -> Spec:
    """Return the parts of a scale by which it reaches over what is chosen, by the options of `chosen`."""
    first = next(iter(ends.values()))
    low, high = (
        "".join(f"{name} == {json.dumps(option)} ? {own[i]} : " for option, own in ends.items())
        + str(first[i])
        for i in (0, 1)
    )
    return {"domainMin": {"expr": low}, "domainMax": {"expr": high}}


def zoomed(name: str, channels: Sequence[str] = ("x",)) -> Spec:
    """Return the selection by which wheel and drag look closer; a double click goes back."""
    return {"name": name, "select": {"type": "interval", "encodings": list(channels)}, "bind": "scales"}


def layer(data: Spec, mark: str, look: Spec | None = None, **encoding: Spec | list[Spec] | None) -> Spec:
    """Return a layer of marks, cut off at the plot's edge; `data` may bring parameters along."""
    channels = {channel: how for channel, how in encoding.items() if how is not None}
    return {**data, "mark": {"type": mark, "clip": True, **(look or {})}, "encoding": channels}


def right_of_gutter(field: str, zoomed_field: str) -> Spec:
    """Return the transform by which what zooming has moved into the gutter goes, where numbers stand."""
    return {"filter": f"!isValid(closer.{zoomed_field}) || datum.{field} >= closer.{zoomed_field}[0]"}
