"""The charts: each turns a figure's rows into a Vega-Lite specification, and decides nothing else.

A chart's top level has the parameter `hidden`, a list of systems whose rows are filtered away; the page's
switches set it. Numbers come with a tooltip; text is data and never markup.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.analysis.figure import Figure
from bench.report.charts.look import Spec

CHARTS: dict[str, Callable[[Figure], Spec]] = {}
"""What draws a figure, by its kind."""
HIDDEN = {"name": "hidden", "value": []}
"""The parameter that the page's switches set."""
SHOWN = {"filter": "indexof(hidden, datum.system) < 0"}
"""The transform by which rows of hidden systems go."""
