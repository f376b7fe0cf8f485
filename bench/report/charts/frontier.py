"""The chart of two figures: each system a mark with its intervals as a cross, those on the front joined."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.drawing import chart, rows, tooltip
from bench.report.charts.look import Spec
from bench.report.charts.panels import across, beside, chosen, layer, told_apart, zoomed

CHOSEN: Spec = {"filter": "datum.pair == chosen_pair"}
DRAWN: Spec = {"filter": "datum.pair == chosen_pair && datum.x > 0 && datum.y > 0"}
"""The axes are logarithmic."""
FILLED = "datum.place == 'on the front' ? 1 : datum.place == 'dominated' ? 0 : 0.35"
AT_RIGHT = "scale('x', datum.x) > 0.6 * width"
"""A name stands where there is room for it."""
HEIGHT_PX = 320


def frontier(figure: Figure) -> Spec:
    """Return one pair of figures at a time; a menu chooses it, wheel and drag look closer."""
    dataset = figure.datasets["frontier"]
    pairs = [str(row["pair"]) for row in figure.datasets["axes"].rows]
    log: Spec = {"type": "log", "nice": False, "padding": 14}
    x = across("x", scale=log, right=14, axis={"title": None, "tickCount": 6, "labelOverlap": "greedy"})
    y: Spec = {
        "field": "y",
        "type": "quantitative",
        "scale": log,
        "axis": beside(tickCount=6, labelOverlap="greedy"),
    }
    data = rows("frontier", DRAWN)
    looks = {channel: _lower(how) for channel, how in told_apart(figure).items()}
    colour = looks["color"]
    words = tooltip(dataset)
    cross: Spec = {"strokeWidth": 1.3, "opacity": 0.7, "tooltip": None}
    joined = rows("frontier", DRAWN, {"filter": "datum.place == 'on the front'"})
    beyond = {"filter": "isValid(datum.x_low) && isValid(datum.x_high)"}
    above = {"filter": "isValid(datum.y_low) && isValid(datum.y_high)"}
    layers = [
        *_objective(figure, y),
        layer(
            joined,
            "line",
            {"strokeWidth": 1, "strokeDash": [3, 3], "opacity": 0.6, "color": "#7b8794", "tooltip": None},
            x=x,
            y=y,
            order={"field": "x", "type": "quantitative"},
        ),
        layer(
            rows("frontier", DRAWN, beyond),
            "rule",
            cross,
            x={**x, "field": "x_low"},
            x2={"field": "x_high"},
            y=y,
            color=colour,
        ),
        layer(
            rows("frontier", DRAWN, above),
            "rule",
            cross,
            x=x,
            y={**y, "field": "y_low"},
            y2={"field": "y_high"},
            color=colour,
        ),
        layer(
            {**data, "params": [zoomed("closer", ("x", "y"))]},
            "point",
            {"filled": True, "size": 130, "strokeWidth": 2, "fillOpacity": {"expr": FILLED}},
            x=x,
            y=y,
            **looks,
            stroke=colour,
            tooltip=words,
        ),
        layer(
            data,
            "text",
            {"align": {"expr": f"{AT_RIGHT} ? 'right' : 'left'"}, "fontSize": 11, "tooltip": None}
            | {"dx": {"expr": f"{AT_RIGHT} ? -9 : 9"}, "dy": -8},
            x=x,
            y=y,
            text={"field": "system", "type": "nominal"},
        ),
    ]
    return chart(
        figure,
        *figure.datasets,
        params=[chosen("chosen_pair", "Figures", pairs)],
        width="container",
        height=HEIGHT_PX,
        layer=[*layers, *_titles()],
    )


def _lower(channel: Spec) -> Spec:
    """Return a channel whose legend leaves room for the title of the axis."""
    return {**channel, "legend": {**channel["legend"], "offset": 24}}


def _objective(figure: Figure, y: Spec) -> list[Spec]:
    """Return the line of the objective with its name, where the figure that goes up has one."""
    data = rows("objective", CHOSEN, switched=False)
    words = tooltip(figure.datasets["objective"], "name", "y")
    name: Spec = {"align": "right", "baseline": "top", "dy": 4, "fontSize": 11, "tooltip": None}
    named = layer(data, "text", name, y=y, text={"field": "name", "type": "nominal"})
    named["encoding"]["x"] = {"value": "width"}
    return [layer(data, "rule", {"strokeWidth": 1.5, "strokeDash": [6, 3]}, y=y, tooltip=words), named]


def _titles() -> list[Spec]:
    """Return what stands for the axes' titles: they change with the choice, which an axis' own cannot."""
    data = rows("axes", CHOSEN, switched=False)
    mark: Spec = {"fontWeight": 500, "tooltip": None, "clip": False}
    up = layer(data, "text", {**mark, "align": "left", "baseline": "bottom"}, text={"field": "up"})
    up["encoding"] |= {"x": {"value": 0}, "y": {"value": -6}}
    along = layer(data, "text", {**mark, "align": "right", "baseline": "top"}, text={"field": "along"})
    along["encoding"] |= {"x": {"value": "width"}, "y": {"value": HEIGHT_PX + 22}}
    return [up, along]
