"""What became of each figure that decides, against the material threshold.

An effect is judged by its whole interval: a benefit or a regression lies beyond the threshold with both
ends, a *perhaps* with one. What could not be compared has no effect, but is named: a figure that is
missing must not look like one that did not change.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.analysis.comparison import Comparison, Row
from bench.analysis.findings import changed
from bench.analysis.metrics import METRICS

Kind = Literal["benefit", "regression", "immaterial", "perhaps a benefit", "perhaps a regression", "unclear"]

MATERIAL_PCT = 5.0
"""A change below this is no reason for or against."""
BENEFITS = (
    "throughput_requests_per_sec",
    "average_memory_gb",
    "cost_per_1k_requests_usd",
    "estimated_energy_kwh_per_1k_requests",
)
LATENCIES = ("p50_latency_ms", "p95_latency_ms")
FROM_SATURATED_RUN = ("throughput_requests_per_sec", "cost_per_1k_requests_usd")
"""Figures of the one saturated run per system: no repeat narrows their interval."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One metric's improvement in percent (negative: worse), with its interval where there is one.

    `unresolved` says why an interval of it would be too narrow to be stated; it is then unclear, whatever
    the figure.
    """

    name: str
    label: str
    kind: Kind
    text: str
    improvement_pct: float
    low_pct: float | None = None
    high_pct: float | None = None
    unresolved: str = ""

    @property
    def worse(self) -> bool:
        """Whether this is, or may be, a material regression."""
        return self.kind in ("regression", "perhaps a regression", "unclear")

    @property
    def worsening(self) -> str:
        """The text of a regression; one that the interval leaves open is not asserted."""
        if self.kind == "regression":
            return self.text
        return f"{self.label} may have become worse: it {self.text.removeprefix(self.label).strip()}"


def effects_of(comparison: Comparison, material_pct: float = MATERIAL_PCT) -> tuple[Effect, ...]:
    """Return the effect on every figure that decides and could be compared."""
    rows = [comparison.row(name) for name in (*LATENCIES, *BENEFITS)]
    return tuple(effect(row, material_pct) for row in rows if row.change.pct_change is not None)


def uncompared(comparison: Comparison) -> list[Row]:
    """Return the rows of the figures that decide and could not be compared."""
    rows = [comparison.row(name) for name in (*LATENCIES, *BENEFITS)]
    return [row for row in rows if row.change.pct_change is None]


def effect(row: Row, material_pct: float = MATERIAL_PCT) -> Effect:
    """Classify a row's change by where its interval lies against plus and minus the threshold.

    On the point value where there is no interval; not at all where there is none because it would lie.
    """
    change = row.change
    assert change.pct_change is not None
    ends = [change.low_pct, change.high_pct]
    sign = -1.0 if METRICS[row.name].better == "lower" else 1.0
    known = sorted(sign * end for end in ends if end is not None)
    point = sign * change.pct_change
    low, high = (known[0], known[1]) if len(known) == 2 else (point, point)
    return Effect(
        name=row.name,
        label=row.label,
        kind="unclear" if row.unresolved else _kind(low, high, material_pct),
        text=changed(row),
        improvement_pct=point,
        low_pct=low if known else None,
        high_pct=high if known else None,
        unresolved=row.unresolved,
    )


def _kind(low: float, high: float, material_pct: float) -> Kind:
    if low >= material_pct:
        return "benefit"
    if high <= -material_pct:
        return "regression"
    up, down = high >= material_pct, low <= -material_pct
    if up and down:
        return "unclear"
    if up:
        return "perhaps a benefit"
    return "perhaps a regression" if down else "immaterial"
