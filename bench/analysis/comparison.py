"""What a comparison holds: rows, the day's totals, and everything noticed on the way."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.analysis.change import Change
from bench.analysis.output_quality import OutputQuality
from bench.analysis.system import Batching, Context, Doubt, Jobs, Validity, missing
from bench.records import Value

REPEATED = ("p95_latency_ms", "average_memory_gb", "estimated_energy_kwh_per_1k_requests")
"""Figures that decide and whose interval comes from the repeats."""
QUALITY = frozenset({"perplexity", "mean_kl", "top1_agreement"})
"""Figures of output quality: where no side has a row for any of them, it was never looked at."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One metric in both systems. `known` is False for a metric that bench does not define."""

    name: str
    label: str
    unit: str
    baseline: Value
    optimized: Value
    change: Change
    known: bool = True

    @property
    def title(self) -> str:
        """The label with its unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def unresolved(self) -> str:
        """Why the change is not resolved; empty where it is, or is not known at all."""
        if self.change.direction != "not resolved":
            return ""
        whys = (self.optimized.unresolved, self.baseline.unresolved)
        return next((why for why in whys if why), "no reason was recorded")


class PerDay(msgspec.Struct, frozen=True, kw_only=True):
    """A figure at the workload's daily volume; `saved` is baseline minus optimized.

    `note` says what is in it and what is not, where that is not plain.
    """

    label: str
    unit: str
    baseline: float | None
    optimized: float | None
    saved: float | None
    note: str = ""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What of a metric set is not a metric (see `MetricSet`)."""

    name: str
    origin: str
    context: Context | None
    bare: bool
    jobs: Jobs
    saturated: bool
    p95_unbounded: bool
    client: Validity | None = None
    batching: Batching | None = None
    quality: OutputQuality | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be said about the pair without judging it.

    `findings` state where the figures lie (objective, GPU memory, grid), `tradeoffs` what is traded for what,
    `attribution` which of several changes did what, where a factorial tells them apart,
    `sensitivity` how far dollars and CO2e depend on assumed prices and grids.
    `allowed` are checked circumstances that differ by explicit allowance, `differences` the settings of
    the two systems that differ. `window_s` is the window that would resolve both (see `longer`), where one is
    known.
    """

    baseline: Side
    optimized: Side
    rows: dict[str, Row]
    per_day: tuple[PerDay, ...]
    requests_per_day: float
    doubts: tuple[Doubt, ...]
    findings: tuple[str, ...] = ()
    sensitivity: tuple[str, ...] = ()
    tradeoffs: tuple[str, ...] = ()
    attribution: tuple[str, ...] = ()
    differences: dict[str, tuple[Any, Any]] = {}
    allowed: tuple[str, ...] = ()
    window_s: float | None = None

    @property
    def bare(self) -> bool:
        """Whether either side is a bare CSV, so that nothing but its figures is known."""
        return self.baseline.bare or self.optimized.bare

    @property
    def has_intervals(self) -> bool:
        """Whether no change that the repeats decide is a point value (p95, memory, energy, where known).

        One that is not resolved is none: it counts for nothing.
        """
        decisive = [self.rows[name].change for name in REPEATED if name in self.rows]
        known = [change for change in decisive if change.delta is not None]
        return bool(known) and all(
            change.low is not None or change.direction == "not resolved" for change in known
        )

    def row(self, name: str) -> Row:
        """Return a metric's row; one with both values missing where neither side has it."""
        lack = missing("neither side has this metric")
        nothing = Row(
            name=name,
            label=name,
            unit="",
            baseline=lack,
            optimized=lack,
            change=Change(direction="not comparable"),
        )
        return self.rows.get(name, nothing)
