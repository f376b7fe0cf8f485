"""The chart of latency against rate: p50 and p95 lines, the objective, and the capacity with its interval."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.drawing import chart, rows, tooltip
from bench.report.charts.look import Spec
from bench.report.charts.panels import dashed, layer, told_apart, zoomed

WIDE = 8.0
"""From this ratio of the highest to the lowest rate on, the axis is logarithmic."""


def rate(figure: Figure) -> Spec:
    """Return all systems in one plot; rates without a latency are open marks at the top."""
    layers = [*_capacity(figure), *_objective(figure), *_latencies(figure), *_overloaded(figure)]
    return chart(figure, *figure.datasets, width="container", height=320, layer=layers)


def _x(figure: Figure, field: str) -> Spec:
    every = figure.datasets["points"].rows + figure.datasets["capacity"].rows
    found = [row["rate_rps"] for row in every if isinstance(row["rate_rps"], float)]
    wide = max(found) / min(found) > WIDE
    scale: Spec = {"nice": False, "padding": 18, **({"type": "log"} if wide else {"zero": False})}
    if min(found) == max(found):
        scale["domain"] = [0.5 * found[0], 1.5 * found[0]]
    states = dict.fromkeys(
        str(row["state"]) for row in figure.datasets["points"].rows if row["p95_ms"] is None
    )
    open_marks = f"; open marks: {' or '.join(states)}" if states else ""
    axis = {
        "title": f"requests/s{open_marks}",
        "titleLimit": {"expr": "width"},
        "labelOverlap": "greedy",
        "labelSeparation": 8,
    }
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _y(field: str) -> Spec:
    axis = {"title": "latency (ms): p95 thick, p50 thin", "labelOverlap": "greedy", "labelSeparation": 4}
    scale = {"type": "log", "nice": False, "padding": 18}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _looks(figure: Figure) -> dict[str, Spec]:
    """Return a line's colour, shape and dash: a system has one line, whatever run it was measured in."""
    lines = list(dict.fromkeys(str(row["line"]) for row in figure.datasets["points"].rows))
    dash = dashed(figure, by="line", names=lines)
    return {**told_apart(figure, by="line", names=lines), "strokeDash": dash}


def _colour(figure: Figure) -> Spec:
    return _looks(figure)["color"]


def _known(field: str) -> Spec:
    return {"filter": f"isValid(datum.{field})"}


def _latencies(figure: Figure) -> list[Spec]:
    if not figure.datasets["curve"].rows:
        return []
    looks, words = _looks(figure), tooltip(figure.datasets["points"])
    dot = {"filled": True, "opacity": 1}
    x, colour, dash = _x(figure, "rate_rps"), _colour(figure), looks.pop("strokeDash")

    def line(field: str, mark: Spec) -> Spec:
        data = rows("curve", _known(field))
        return layer(data, "line", mark, x=x, y=_y(field), color=colour, strokeDash=dash)

    p95 = {**rows("points", _known("p95_ms")), "params": [zoomed("closer", ("x", "y"))]}
    p50, sure = rows("points", _known("p50_ms")), rows("points", _known("low_ms"))
    thin: Spec = {"x": x, "y": _y("p50_ms"), "color": colour, "shape": looks["shape"], "tooltip": words}
    whisker: Spec = {"x": x, "y": _y("low_ms"), "y2": {"field": "high_ms"}, "color": colour}
    has_intervals = any(row["low_ms"] is not None for row in figure.datasets["points"].rows)
    return [
        line("p95_ms", {"strokeWidth": 2.2}),
        line("p50_ms", {"strokeWidth": 1.2, "opacity": 0.7}),
        *([layer(sure, "rule", {"strokeWidth": 2}, **whisker)] if has_intervals else []),
        layer(p95, "point", {**dot, "size": 85}, x=x, y=_y("p95_ms"), **looks, tooltip=words),
        layer(p50, "point", {**dot, "size": 30, "opacity": 0.7}, **thin),
    ]


def _objective(figure: Figure) -> list[Spec]:
    if not figure.datasets["objective"].rows:
        return []
    told = {"calculate": "datum.name + ' ' + format(datum.ms, ',~r') + ' ms'", "as": "told"}
    text = {"align": "left", "baseline": "bottom", "dx": 4, "dy": -3, "fontSize": 12}
    rule = {"strokeDash": [4, 3], "strokeWidth": 1.5}
    data = rows("objective", told, switched=False)
    return [
        layer(data, "rule", rule, y=_y("ms")),
        layer(data, "text", text, y=_y("ms"), x={"value": 0}, text={"field": "told"}),
    ]


def _capacity(figure: Figure) -> list[Spec]:
    """Return each capacity as a rule with its interval as a band, and its figure at the foot."""
    data = figure.datasets["capacity"]
    if not data.rows:
        return []
    words, colour, x = tooltip(data), _colour(figure), _x(figure, "rate_rps")
    told = {"calculate": "datum.line + ': ' + format(datum.rate_rps, '.4~r') + '/s'", "as": "told"}
    row = {"window": [{"op": "row_number", "as": "row"}]}
    pixels = {"calculate": "height - 16 * datum.row + 4", "as": "y_px"}
    # A name left of the middle stands right of its rule, and the other way round: so none is cut off.
    side = {"align": {"expr": "scale('x', datum.rate_rps) > width / 2 ? 'right' : 'left'"}}
    spot = {"field": "y_px", "type": "quantitative", "scale": None, "axis": None}
    text = {**side, "dx": {"expr": "scale('x', datum.rate_rps) > width / 2 ? -5 : 5"}, "fontSize": 12}
    band: Spec = {"x": _x(figure, "low_rps"), "x2": {"field": "high_rps"}}
    labels = rows("capacity", told, row, pixels)
    return [
        layer(
            rows("capacity", _known("low_rps")),
            "rect",
            {"opacity": 0.14},
            **band,
            color=colour,
            tooltip=words,
        ),
        layer(rows("capacity"), "rule", {"strokeWidth": 1.5}, x=x, color=colour, tooltip=words),
        layer(labels, "text", {**text, "fontWeight": 600}, x=x, y=spot, text={"field": "told"}, color=colour),
    ]


def _overloaded(figure: Figure) -> list[Spec]:
    """Return the rates that have no latency; the axis says what their marks mean."""
    without = [row for row in figure.datasets["points"].rows if row["p95_ms"] is None]
    if not without:
        return []
    looks = {key: look for key, look in _looks(figure).items() if key != "strokeDash"}
    data = rows("points", {"filter": "!isValid(datum.p95_ms)"})
    mark = {"filled": False, "size": 85, "strokeWidth": 1.8, "opacity": 1}
    words = tooltip(figure.datasets["points"])
    return [
        layer(data, "point", mark, x=_x(figure, "rate_rps"), y={"value": 8}, **looks, tooltip=words),
    ]
