"""The chart of output quality: distances from no change against what the gate tolerates."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.bars import bars
from bench.report.charts.drawing import chart, rows, tooltip
from bench.report.charts.listing import FITTED, STEP_PX, keyed, unnamed
from bench.report.charts.look import Spec

MOST_PCT = 200.0
"""Bars are cut here, twice what is tolerated, with an arrow; the text at the right has the number."""
CUT = f"datum.pct > {MOST_PCT}"
SAYS = f"datum.says + ({CUT} ? ' (' + format(datum.pct, ',.3~r') + ' %)' : '')"


def quality(figure: Figure) -> Spec:
    """Return a bar for each measure of each system, with its interval, the noise floor and the limit."""
    dataset = figure.datasets["quality"]
    known = [row[key] for row in dataset.rows if row["drawn"] for key in ("pct", "high_pct")]
    most = min(MOST_PCT, max([110.0, *(cell for cell in known if isinstance(cell, int | float))]))
    x: Spec = {
        "scale": {"domain": [0, round(most, 2)], "nice": False, "clamp": True},
        "axis": {"title": "% of what the gate tolerates", "tickCount": 5, "grid": True},
    }
    drawn: Spec = {"filter": "datum.drawn"}
    along = {**x, "type": "quantitative"}
    floor: Spec = {
        **rows("quality", drawn, keyed("system", SAYS), {"filter": "isValid(datum.floor_pct)"}),
        "mark": {"type": "point", "filled": False, "size": 60, "strokeWidth": 1.5},
        "encoding": {
            "x": {**along, "field": "floor_pct"},
            "y": unnamed(),
            "tooltip": tooltip(dataset, "system", "measure", "floor"),
        },
    }
    limit: Spec = {
        **rows("quality", drawn, keyed("system", SAYS), {"filter": "isValid(datum.limit_pct)"}),
        "mark": {"type": "tick", "thickness": 2, "size": STEP_PX, "tooltip": None},
        "encoding": {"x": {**along, "field": "limit_pct"}, "y": unnamed()},
    }
    arrow: Spec = {
        **rows("quality", drawn, keyed("system", SAYS), {"filter": CUT}),
        "mark": {"type": "point", "shape": "triangle-right", "filled": True, "size": 90, "xOffset": -8}
        | {"color": "#ffffff", "opacity": 1, "tooltip": None},
        "encoding": {"x": {**along, "datum": MOST_PCT}, "y": unnamed()},
    }
    view = bars(
        figure,
        "quality",
        heading="measure",
        figure_text=SAYS,
        x=x,
        keys=("pct", "low_pct", "high_pct"),
        beside=("held",),
        where=(drawn,),
        extra=(floor, limit, arrow),
    )
    return chart(figure, "quality", params=[FITTED], **view)
