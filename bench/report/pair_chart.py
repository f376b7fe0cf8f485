"""The changes of one pair as a picture that needs neither a browser nor a network: SVG in a piece of HTML."""

from __future__ import annotations

from html import escape

from bench.analysis.evaluation import Evaluation, Judged
from bench.analysis.figures.changes import changes as figure_of
from bench.analysis.figures.changes import not_drawn
from bench.report.charts.changes import changes as chart_of
from bench.report.charts.files import svg_of
from bench.report.narrative import Pair

WIDTH_PX = 760


def pair_chart(pair: Pair) -> str:
    """Return the chart of the changes as HTML; a sentence that says why where there is nothing to draw."""
    judged = Judged(comparison=pair.comparison, verdict=pair.verdict)
    evaluation = Evaluation(
        title="",
        systems={},
        sets={},
        pairs=(judged,),
        origins=(),
        objectives=pair.terms.objectives,
        assumed=pair.terms.assumed,
    )
    figure = figure_of(evaluation)
    if figure.missing:
        return f"<p>No chart: {escape(figure.missing)}.</p>"
    about = f"{pair.comparison.baseline.origin} against {pair.comparison.optimized.origin}"
    svg = svg_of(figure, chart_of(figure), theme="light", width_px=WIDTH_PX, about=about)
    # What is not drawn stands in the table above the chart.
    told = set(not_drawn(judged))
    notes = "<br>".join(escape(note) for note in figure.notes if note not in told)
    return f"<figure style='margin: 0'>{svg}<figcaption>{notes}</figcaption></figure>"
