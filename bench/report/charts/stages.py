"""The chart of the stages: a bar per system, as long as its mean latency, cut where one stage ends."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.drawing import chart, rows, tooltip
from bench.report.charts.look import Spec
from bench.report.charts.panels import across, layer, named_rows, panel

COLOURS = {
    "harness lag": "#8a94a0",
    "queue": "#5f6b78",
    "tokenize": "#b5862c",
    "prefill": "#7d5bb0",
    "decode": "#1f8291",
    "detokenize": "#a86a4a",
    "not timed": "#868686",
}
"""Not those of the systems; 3:1 on both grounds, and under the white names of the stages."""
LETTER = 7.5
"""Pixels per letter of a stage's name: where it fits, it stands in the bar."""
RIGHT = 72
"""Pixels for the total at the right of a bar."""
GROUPS = {
    "all requests": "Mean latency of the answered requests (ms)",
    "slowest 5 %": "Of the slowest 5 % of them",
}


def stages(figure: Figure) -> Spec:
    """Return the bars of all answered requests and of the slowest."""
    there = {row["of"] for row in figure.datasets["totals"].rows}
    views = [_bars(figure, of, title) for of, title in GROUPS.items() if of in there]
    return chart(figure, "stages", "totals", vconcat=views, spacing=14, resolve={"scale": {"x": "shared"}})


def _bars(figure: Figure, of: str, title: str) -> Spec:
    stages, totals = figure.datasets["stages"], figure.datasets["totals"]
    own = {"filter": f"datum.of == '{of}'"}
    gutter, y = named_rows(figure)

    def x(field: str) -> Spec:
        axis = {"title": "ms", "labelOverlap": "greedy", "labelSeparation": 8, "tickCount": 6}
        return across(field, gutter=gutter, right=RIGHT, scale={"zero": True, "nice": False}, axis=axis)

    middle = {"calculate": "(datum.start_ms + datum.end_ms) / 2", "as": "middle"}
    longest_ms = max(float(row["mean_ms"] or 0.0) for row in totals.rows)
    pixels = f"(datum.end_ms - datum.start_ms) / {longest_ms} * (width - {gutter} - {RIGHT})"
    fits = {"filter": f"{pixels} > {LETTER} * length(datum.stage) + 6"}
    name = {"color": "#ffffff", "fontSize": 11, "fontWeight": 600}
    total = {"align": "left", "dx": 6, "fontSize": 12, "clip": False}
    figure_ms = {"field": "mean_ms", "type": "quantitative", "format": ",.4~r"}
    span: Spec = {"x": x("start_ms"), "x2": {"field": "end_ms"}}
    layers = [
        layer(rows("stages", own), "bar", **span, y=y, color=_stage(figure), tooltip=tooltip(stages)),
        layer(rows("stages", own, middle, fits), "text", name, x=x("middle"), y=y, text={"field": "stage"}),
        layer(
            rows("totals", own), "text", total, x=x("mean_ms"), y=y, text=figure_ms, tooltip=tooltip(totals)
        ),
    ]
    return panel(title, layers, {"step": 26})


def _stage(figure: Figure) -> Spec:
    """Return the colour of a stage, with a legend of those that there are."""
    found = {row["stage"] for row in figure.datasets["stages"].rows}
    present = [stage for stage in COLOURS if stage in found]
    columns = {"expr": "max(1, floor(width / 110))"}
    return {
        "field": "stage",
        "type": "nominal",
        "scale": {"domain": present, "range": [COLOURS[stage] for stage in present]},
        "legend": {"title": None, "orient": "top", "columns": columns, "symbolType": "square"},
    }
