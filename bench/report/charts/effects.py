"""The chart of a factorial's effects: a forest plot, metric by metric; of several one at a time."""

from __future__ import annotations

from bench.analysis.figure import Figure
from bench.report.charts.drawing import chart
from bench.report.charts.forest import forest
from bench.report.charts.listing import FITTED
from bench.report.charts.look import Spec


def effects(figure: Figure) -> Spec:
    """Return the effects on each metric; a menu chooses where there are several factorials."""
    dataset = figure.datasets["effects"]
    titles = list(dict.fromkeys(str(row["factors"]) for row in dataset.rows))
    menu: Spec = {"name": "factorial", "value": titles[0]}
    menu |= {"bind": {"input": "select", "options": titles, "name": "Changes "}} if len(titles) > 1 else {}
    longest = max(len(str(row["short"])) for row in dataset.rows)
    return chart(
        figure,
        "effects",
        "material",
        params=[menu, FITTED],
        **forest(
            dataset,
            "effects",
            heading="metric",
            label="short",
            switched=False,
            letters=min(26, longest + 1),
            where=({"filter": "datum.factors == factorial"},),
        ),
    )
