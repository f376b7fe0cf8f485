"""The page of the metrics: every row that a CSV can have."""

from __future__ import annotations

import re

from bench.analysis.metrics import METRICS, REQUIRED
from bench.analysis.shortnames import SHORT
from tests.reference.experiment import anchor
from tests.reference.words import MADE, table

WAYS = {"lower": "lower", "higher": "higher", None: "neither"}


def page() -> str:
    """Return the page."""
    short = {full: name for name, full in SHORT.items()}
    rows = [
        [
            f"`{name}`" + (f" (`{short[name]}`)" if name in short else ""),
            metric.label,
            metric.unit or "-",
            WAYS[metric.better],
            metric.definition,
            _source(metric.source),
        ]
        for name, metric in METRICS.items()
    ]
    lines = [
        "# Metrics",
        "",
        MADE,
        "",
        f"The rows of the CSVs, in their order; the first {len(REQUIRED)} are always there. In parentheses",
        "the short name that options such as `bench select --by` take. An empty cell means *not measured*,",
        "its note says why; a figure of which neither way is better is not judged. Times are from when a",
        "request was *due*; GB are 10⁹ bytes.",
        "",
        *table(("row", "called", "unit", "better", "definition", "source"), rows),
    ]
    return "\n".join(lines) + "\n"


def _source(source: str) -> str:
    """Return a source, a section of the documentation as a link."""
    section = re.fullmatch(r"docs/([\w-]+\.md), (.+)", source)
    if section is None:
        return "" if source == "bench" else source
    return f"[{section.group(2)}](../{section.group(1)}#{anchor(section.group(2))})"
