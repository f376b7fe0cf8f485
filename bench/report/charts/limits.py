"""The chart of the physical limits: bars towards 100 %."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.bars import bars
from bench.report.charts.drawing import chart
from bench.report.charts.listing import FITTED
from bench.report.charts.look import Spec


def limits(figure: Figure) -> Spec:
    """Return a bar for each share of each system, and the line that none can cross."""
    known = [row[key] for row in figure.datasets["limits"].rows for key in ("pct", "high_pct")]
    most = max([100.0, *(cell for cell in known if isinstance(cell, int | float))])
    x: Spec = {
        "scale": {"domain": [0, round(most * 1.02, 3)], "nice": False},
        "axis": {"title": "% of the limit", "tickCount": 5, "grid": True},
    }
    limit: Spec = {
        "data": {"values": [{"limit": 100}]},
        "mark": {"type": "rule", "strokeWidth": 2, "tooltip": None},
        "encoding": {"x": {**x, "field": "limit", "type": "quantitative"}},
    }
    view = bars(
        figure,
        "limits",
        heading="what",
        figure_text="format(datum.pct, '.3~r') + ' %'",
        x=x,
        keys=("pct", "low_pct", "high_pct"),
        extra=(limit,),
    )
    return chart(figure, "limits", params=[FITTED], **view)
