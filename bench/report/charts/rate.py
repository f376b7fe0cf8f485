"""The chart of latency against rate: p50 and p95 lines, the objective, and the capacity with its interval."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.drawing import chart, rows, tooltip
from bench.report.charts.look import Spec
from bench.report.charts.panels import dashed, layer, told_apart, zoomed

WIDE = 8.0
"""From this ratio of the highest to the lowest rate on, the axis is logarithmic."""
STRIP_PX = 44
"""Of the strip above the axis of latency, for rates that have none."""


def rate(figure: Figure) -> Spec:
    """Return all systems in one plot; rates without a latency are open marks in a strip above it."""
    layers = [*_capacity(figure), *_objective(figure), *_latencies(figure), *_overloaded(figure)]
    return chart(figure, *figure.datasets, width="container", height=320, layer=layers)


def _x(figure: Figure, field: str) -> Spec:
    every = figure.datasets["points"].rows + figure.datasets["capacity"].rows
    found = [row["rate_rps"] for row in every if isinstance(row["rate_rps"], float)]
    wide = max(found) / min(found) > WIDE
    scale: Spec = {"nice": False, "padding": 18, **({"type": "log"} if wide else {"zero": False})}
    if min(found) == max(found):
        scale["domain"] = [0.5 * found[0], 1.5 * found[0]]
    axis = {"title": "requests/s", "grid": False, "labelOverlap": "greedy", "labelSeparation": 8}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _y(figure: Figure, field: str) -> Spec:
    axis = {"title": "latency (ms): p95 thick, p50 thin", "labelOverlap": "greedy", "labelSeparation": 4}
    scale: Spec = {"type": "log", "nice": False, "padding": 18}
    if _without(figure):
        scale["range"] = [{"expr": "height"}, STRIP_PX]
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _looks(figure: Figure) -> dict[str, Spec]:
    """Return a line's colour, shape and dash: those of its first system, whatever runs it goes through."""
    by_system = sorted(
        figure.datasets["points"].rows, key=lambda row: figure.systems.index(str(row["system"]))
    )
    lines: dict[str, str] = {}
    for row in by_system:
        lines.setdefault(str(row["line"]), str(row["system"]))
    dash = dashed(figure, by="line", named=lines)
    return {**told_apart(figure, by="line", named=lines), "strokeDash": dash}


def _without(figure: Figure) -> dict[str, None]:
    """Return the states of the rates that have no latency."""
    return dict.fromkeys(str(row["state"]) for row in figure.datasets["points"].rows if row["p95_ms"] is None)


def _colour(figure: Figure) -> Spec:
    return _looks(figure)["color"]


def _known(field: str) -> Spec:
    return {"filter": f"isValid(datum.{field})"}


def _below_strip(figure: Figure, field: str) -> Spec:
    """Return the transform by which marks go that zooming has moved into the strip, where no latency is."""
    curve = bool(figure.datasets["curve"].rows)
    moved = f"isValid(closer.p95_ms) && datum.{field} > closer.p95_ms[1]" if curve else "false"
    return {"filter": f"isValid(datum.{field}) && !({moved})"}


def _latencies(figure: Figure) -> list[Spec]:
    if not figure.datasets["curve"].rows:
        return []
    looks, words = _looks(figure), tooltip(figure.datasets["points"])
    dot = {"filled": True, "opacity": 1}
    x, colour, dash = _x(figure, "rate_rps"), _colour(figure), looks.pop("strokeDash")

    def line(field: str, mark: Spec) -> Spec:
        data = rows("curve", _known(field))
        return layer(data, "line", mark, x=x, y=_y(figure, field), color=colour, strokeDash=dash)

    p95 = {**rows("points", _below_strip(figure, "p95_ms")), "params": [zoomed("closer", ("x", "y"))]}
    p50 = rows("points", _below_strip(figure, "p50_ms"))
    sure = rows("points", _below_strip(figure, "high_ms"))
    thin: Spec = {
        "x": x,
        "y": _y(figure, "p50_ms"),
        "color": colour,
        "shape": looks["shape"],
        "tooltip": words,
    }
    whisker: Spec = {"x": x, "y": _y(figure, "low_ms"), "y2": {"field": "high_ms"}, "color": colour}
    has_intervals = any(row["low_ms"] is not None for row in figure.datasets["points"].rows)
    return [
        line("p95_ms", {"strokeWidth": 2.2}),
        line("p50_ms", {"strokeWidth": 1.2, "opacity": 0.7}),
        *([layer(sure, "rule", {"strokeWidth": 2}, **whisker)] if has_intervals else []),
        layer(p95, "point", {**dot, "size": 85}, x=x, y=_y(figure, "p95_ms"), **looks, tooltip=words),
        layer(p50, "point", {**dot, "size": 30, "opacity": 0.7}, **thin),
    ]


def _objective(figure: Figure) -> list[Spec]:
    if not figure.datasets["objective"].rows:
        return []
    told = {"calculate": "datum.name + ' ' + format(datum.ms, ',~r') + ' ms'", "as": "told"}
    text = {"align": "left", "baseline": "bottom", "dx": 4, "dy": -3, "fontSize": 12}
    rule = {"strokeDash": [4, 3], "strokeWidth": 1.5}
    data = rows("objective", told, _below_strip(figure, "ms"), switched=False)
    return [
        layer(data, "rule", rule, y=_y(figure, "ms")),
        layer(data, "text", text, y=_y(figure, "ms"), x={"value": 0}, text={"field": "told"}),
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
    """Return the strip of the rates that have no latency, which says why."""
    states = _without(figure)
    if not states:
        return []
    looks = {key: look for key, look in _looks(figure).items() if key != "strokeDash"}
    data = rows("points", {"filter": "!isValid(datum.p95_ms)"})
    mark = {"filled": False, "size": 85, "strokeWidth": 1.8, "opacity": 1}
    words = tooltip(figure.datasets["points"])
    once: Spec = {"data": {"values": [{}]}}
    text = {"align": "left", "baseline": "top", "fontSize": 12, "limit": {"expr": "width"}}
    said = f"no percentile: {' or '.join(states)}"
    edge = {"strokeWidth": 1, "opacity": 0.5}
    return [
        layer(once, "rule", edge, y={"value": STRIP_PX}),
        layer(once, "text", text, x={"value": 4}, y={"value": 2}, text={"value": said}),
        layer(
            data, "point", mark, x=_x(figure, "rate_rps"), y={"value": STRIP_PX - 14}, **looks, tooltip=words
        ),
    ]
