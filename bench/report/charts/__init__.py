"""The charts: each turns a figure's rows into a Vega-Lite specification, and decides nothing else.

A chart's top level has the parameter `hidden`, a list of systems whose rows are filtered away; the page's
switches set it. Numbers come with a tooltip; text is data and never markup.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.analysis.figure import Figure
from bench.report.charts.batches import batches
from bench.report.charts.changes import changes
from bench.report.charts.costs import costs
from bench.report.charts.device import device
from bench.report.charts.effects import effects
from bench.report.charts.frontier import frontier
from bench.report.charts.latency import latency
from bench.report.charts.limits import limits
from bench.report.charts.look import HIDDEN, SHOWN, Spec
from bench.report.charts.quality import quality
from bench.report.charts.rate import rate
from bench.report.charts.stages import stages
from bench.report.charts.timeline import timeline

__all__ = ["CHARTS", "HIDDEN", "SHOWN"]

CHARTS: dict[str, Callable[[Figure], Spec]] = {
    "changes": changes,
    "latency": latency,
    "rate": rate,
    "timeline": timeline,
    "batches": batches,
    "device": device,
    "stages": stages,
    "costs": costs,
    "quality": quality,
    "limits": limits,
    "effects": effects,
    "frontier": frontier,
}
"""What draws a figure, by its kind."""
