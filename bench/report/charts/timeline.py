"""The chart of the run as it went: a dot for each request, and below it the queue and what ran."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.drawing import chart, rows, tooltip
from bench.report.charts.look import FAINT_BAND, Spec
from bench.report.charts.panels import (
    across,
    beside,
    chosen,
    dashed,
    ends_of_choice,
    layer,
    panel,
    right_of_gutter,
    told_apart,
    zoomed,
)

SHOWN_REPEAT = {"filter": "datum.repeat == chosen_repeat"}
IN_SIGHT = right_of_gutter("t_s", "t_s")
SHADED = 3
"""Of more systems the highest numbers would hide one another."""
SECONDS: Spec = {
    "title": "seconds since the scored window began",
    "grid": False,
    "tickCount": 8,
    "labelOverlap": "greedy",
}
CROSS = "M-1,-1L1,1M1,-1L-1,1"


def timeline(figure: Figure) -> Spec:
    """Return one repeat at a time of all systems: latencies, requests that waited, requests that ran."""
    repeats = sorted({int(row["repeat"] or 0) for row in figure.datasets["spans"].rows})
    return chart(
        figure,
        *figure.datasets,
        params=[chosen("chosen_repeat", "Repeat", repeats)],
        vconcat=[
            _requests(figure),
            _number(figure, "waiting", "Requests that waited"),
            _number(figure, "running", "Requests that ran", SECONDS),
        ],
        spacing=12,
        resolve={"scale": {"x": "shared"}},
    )


def _x(figure: Figure, field: str, axis: Spec | None = None) -> Spec:
    ends: dict[str | int, tuple[float, float]] = {}
    for row in figure.datasets["spans"].rows:
        repeat, start_s, end_s = int(row["repeat"] or 0), float(row["start_s"] or 0), float(row["end_s"] or 0)
        low, high = ends.get(repeat, (start_s, end_s))
        ends[repeat] = min(low, start_s), max(high, end_s)
    scale = {"nice": False, "zero": False, **ends_of_choice("chosen_repeat", ends)}
    return across(field, scale=scale, axis=axis)


def _outside(figure: Figure, axis: Spec | None = None) -> Spec:
    """Return the shade over what is not scored: the warm-up and the drain."""
    ends: Spec = {
        "aggregate": [
            {"op": "min", "field": "start_s", "as": "start_s"},
            {"op": "max", "field": "end_s", "as": "end_s"},
        ],
        "groupby": ["part"],
    }
    data = rows("spans", SHOWN_REPEAT, {"filter": "datum.part != 'window'"}, ends)
    words = [{"field": "part", "type": "nominal", "title": "Not scored"}]
    shade = {"color": FAINT_BAND, "opacity": 0.18}
    return layer(data, "rect", shade, x=_x(figure, "start_s", axis), x2={"field": "end_s"}, tooltip=words)


def _requests(figure: Figure) -> Spec:
    looks, unanswered = told_apart(figure), figure.datasets["unanswered"]
    data = {**rows("requests", SHOWN_REPEAT, IN_SIGHT), "params": [zoomed("closer")]}
    y = {
        "field": "latency_ms",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 10},
        "axis": beside(labelOverlap="greedy", labelSeparation=6, tickCount=5),
    }
    dot = {"filled": True, "size": 28, "opacity": 0.75}
    words = tooltip(figure.datasets["requests"])
    layers = [_outside(figure), layer(data, "point", dot, x=_x(figure, "t_s"), y=y, **looks, tooltip=words)]
    title = "Latency by due time (ms)"
    if not unanswered.rows:
        return panel(title, layers, 190)
    cross = {"shape": CROSS, "size": 36, "strokeWidth": 1.8, "filled": False, "opacity": 1}
    color = looks["color"]
    # Systems that lose a request at the same time have their crosses one below the other.
    place = {"calculate": "6 + 11 * (datum.lane % 4)", "as": "y_px"}
    pixels = {"field": "y_px", "type": "quantitative", "scale": None, "axis": None}
    lost = layer(
        rows("unanswered", SHOWN_REPEAT, IN_SIGHT, place),
        "point",
        cross,
        x=_x(figure, "t_s"),
        y=pixels,
        color=color,
        tooltip=tooltip(unanswered),
    )
    return panel(f"{title}; ×: not answered", [*layers, lost], 190, resolve={"scale": {"y": "independent"}})


def _number(figure: Figure, what: str, title: str, axis: Spec | None = None) -> Spec:
    color = told_apart(figure)["color"]
    dash = dashed(figure)
    x = _x(figure, "t_s", axis)

    def y(field: str) -> Spec:
        ticks = beside(tickCount=4, tickMinStep=1, format="~s")
        return {"field": field, "type": "quantitative", "axis": ticks, "stack": None}

    step = {"interpolate": "step-after"}
    words = tooltip(figure.datasets["queue"], "system", "repeat", "t_s", what, f"{what}_most")
    data = rows("queue", SHOWN_REPEAT, IN_SIGHT)
    few = len(figure.systems) <= SHADED
    shade = layer(data, "area", {**step, "opacity": 0.16}, x=x, y=y(f"{what}_most"), color=color)
    layers = [
        _outside(figure, axis),
        *([shade] if few else []),
        layer(data, "line", {**step, "strokeWidth": 1.6}, x=x, y=y(what), color=color, strokeDash=dash),
        layer(data, "point", {"opacity": 0, "size": 70}, x=x, y=y(what), color=color, tooltip=words),
    ]
    return panel(f"{title}: mean (line){' and highest (shade)' if few else ''}", layers, 92)
