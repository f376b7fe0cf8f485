"""The chart of energy, cost and carbon: bars under headings, with what is assumed beneath these."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.analysis.figures.costs import LINES
from bench.report.charts.bars import bars
from bench.report.charts.drawing import chart
from bench.report.charts.listing import FITTED
from bench.report.charts.look import Spec


def costs(figure: Figure) -> Spec:
    """Return the figures' bars; lengths are comparable within a figure, so there is no common axis."""
    view = bars(
        figure,
        "costs",
        heading="figure",
        figure_text="format(datum.value, '.3~r')",
        x={"scale": {"domain": [0, 1], "nice": False}, "axis": None},
        keys=("value_share", "low_share", "high_share"),
        beside=tuple(f"by_{i + 1}" for i in range(LINES)),
        band=("band_low_share", "band_high_share"),
    )
    return chart(figure, "costs", params=[FITTED], **view)
