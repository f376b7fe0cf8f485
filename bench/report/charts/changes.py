"""The chart of the changes: a forest plot with the systems one below the other."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.drawing import chart
from bench.report.charts.forest import forest
from bench.report.charts.listing import FITTED
from bench.report.charts.look import Spec


def changes(figure: Figure) -> Spec:
    """Return the changes of each system under its name."""
    dataset = figure.datasets["changes"]
    return chart(
        figure,
        "changes",
        "material",
        params=[FITTED],
        **forest(dataset, "changes", heading="system", label="metric", switched=True),
    )
