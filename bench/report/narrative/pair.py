"""What the narrative is about: a pair, judged, with its terms and what a person has said of it."""

from __future__ import annotations

import msgspec

from bench.analysis.comparison import QUALITY, Comparison, Row
from bench.analysis.decide import Verdict
from bench.analysis.metrics import METRICS, REQUIRED
from bench.report import cells
from bench.run.judging import Override
from bench.run.results import Terms


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two systems compared and judged, the terms that hold for them, and what a person has stated.

    `workload` and `optimization` are descriptions in a person's words; empty where nobody gave one.
    """

    comparison: Comparison
    verdict: Verdict
    terms: Terms
    stated: Override = Override()
    workload: str = ""
    optimization: str = ""

    def row(self, name: str) -> Row:
        """Return a metric's row by the metric's own label, also where neither side has it."""
        row = self.comparison.row(name)
        if name not in METRICS:
            return row
        return msgspec.structs.replace(row, label=METRICS[name].label, unit=METRICS[name].unit)

    @property
    def deciding(self) -> list[Row]:
        """The rows of the six figures that decide."""
        return [self.row(name) for name in REQUIRED]

    @property
    def worse_beside(self) -> list[Row]:
        """The other headline rows that became worse; output quality has its own sentences."""
        return [
            row
            for row in cells.shown_rows(self.comparison, every=False)
            if row.change.direction == "worse" and row.name not in {*REQUIRED, *QUALITY}
        ]
