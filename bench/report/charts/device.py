"""The chart of the device: a panel for each quantity, one job at a time, all systems over one another."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.drawing import chart, rows, tooltip
from bench.report.charts.look import DASHES, FAINT_BAND, Spec, systems_scale
from bench.report.charts.panels import (
    across,
    beside,
    chosen,
    ends_of_choice,
    layer,
    panel,
    told_apart,
    zoomed,
)

CHOSEN: Spec = {"filter": "datum.job == chosen_job"}
HEIGHT_PX, LESS_PX = 130, 70
SHADE = 0.24
"""Of what is not scored in any system."""
DECIDE = ("Memory", "Resident", "Power")
"""Panels of these are drawn taller."""


def device(figure: Figure) -> Spec:
    """Return the panels; a menu chooses the job, wheel and drag look closer."""
    telemetry = figure.datasets["telemetry"].rows
    jobs = list(dict.fromkeys(str(row["job"]) for row in telemetry))
    panels = list(dict.fromkeys(str(row["quantity"]) for row in telemetry))
    return chart(
        figure,
        *figure.datasets,
        params=[chosen("chosen_job", "Job", jobs)],
        vconcat=[_panel(figure, name, i, last=name == panels[-1]) for i, name in enumerate(panels)],
        spacing=12,
        resolve={"scale": {"x": "shared"}},
    )


def _panel(figure: Figure, name: str, place: int, *, last: bool) -> Spec:
    limits = [row for row in figure.datasets["limits"].rows if row["quantity"] == name]
    title = ", ".join([name, *(str(row["name"]) for row in limits)])
    x = across("t_s", scale={"nice": False, "zero": False, **_span(figure)}, axis=_seconds(last=last))
    colour = told_apart(figure)["color"]
    line = {"symbolType": "stroke", "symbolSize": 260, "symbolStrokeWidth": 2.5}
    colour = {**colour, "legend": {**colour["legend"], **line}}
    dash = {**colour, "scale": systems_scale(figure.systems, DASHES)}
    data = rows("telemetry", CHOSEN, {"filter": f"datum.quantity == '{name}'"})
    detail: list[Spec] = [{"field": name, "type": "nominal"} for name in ("system", "device")]

    def y(field: str) -> Spec:
        axis = beside(tickCount=4 if name.startswith(DECIDE) else 3, format=".4~g")
        return {
            "field": field,
            "type": "quantitative",
            "axis": axis,
            "scale": {"zero": name.startswith("Power")},
        }

    words = tooltip(figure.datasets["telemetry"])
    layers = [
        _outside(figure, x, name),
        layer(
            {**data, "params": [zoomed(f"closer_{place}")]},
            "area",
            {"opacity": 0.18, "tooltip": None},
            x=x,
            y=y("low"),
            y2={"field": "high"},
            color=colour,
            detail=detail,
        ),
        layer(
            data, "line", {"strokeWidth": 1.6}, x=x, y=y("mean"), color=colour, strokeDash=dash, detail=detail
        ),
        layer(data, "point", {"opacity": 0, "size": 60}, x=x, y=y("mean"), color=colour, tooltip=words),
    ]
    if any(row["drawn"] for row in limits):
        bound: Spec = {"data": {"name": "limits"}}
        bound["transform"] = [{"filter": f"datum.quantity == '{name}' && datum.drawn"}]
        words = tooltip(figure.datasets["limits"])
        layers.append(layer(bound, "rule", {"strokeWidth": 1.5}, y=y("value"), tooltip=words))
    return panel(title, layers, HEIGHT_PX if name.startswith(DECIDE) else LESS_PX)


def _outside(figure: Figure, x: Spec, name: str) -> Spec:
    """Return the shade over what is not scored; with the power, over where no energy was counted."""
    counted = _counted(figure, name)
    what = "slice(datum.span, 0, 6) == 'energy'" if counted else "datum.span == 'scored'"
    inside: Spec = {
        "aggregate": [
            {"op": "min", "field": "start_s", "as": "start_s"},
            {"op": "max", "field": "end_s", "as": "end_s"},
        ],
        "groupby": ["system"],
    }
    first_s, last_s = (end["expr"] for end in _span(figure).values())
    ends = {"from_s": f"[{first_s}, datum.end_s]", "to_s": f"[datum.start_s, {last_s}]"}
    both = [{"calculate": pair, "as": end} for end, pair in ends.items()]
    data = rows("spans", CHOSEN, {"filter": what}, inside, *both, {"flatten": list(ends)})
    title = "No energy counted of" if counted else "Not scored of"
    words = [{"field": "system", "type": "nominal", "title": title}]
    # The shades of all systems lie over one another.
    shade = {"color": FAINT_BAND, "opacity": round(SHADE / max(1, len(figure.systems)), 4)}
    start = {**x, "field": "from_s"}
    return layer(data, "rect", shade, x=start, x2={"field": "to_s"}, tooltip=words)


def _counted(figure: Figure, name: str) -> bool:
    spans = figure.datasets["spans"].rows
    return name.startswith("Power") and any(str(row["span"]).startswith("energy") for row in spans)


def _span(figure: Figure) -> Spec:
    times: dict[str, list[float]] = {}
    for row in figure.datasets["telemetry"].rows:
        times.setdefault(str(row["job"]), []).append(float(row["t_s"] or 0.0))
    return ends_of_choice("chosen_job", {job: (min(own), max(own)) for job, own in times.items()})


def _seconds(*, last: bool) -> Spec | None:
    if not last:
        return None
    return {"title": "seconds since scoring began", "grid": False, "tickCount": 8, "labelOverlap": "greedy"}
