"""What the evaluation notebook is made of: one import for the pair, its tables, its sentences, its chart.

::

    from bench import notebook
    pair = notebook.read("baseline_inference_metrics.csv", "optimized_inference_metrics.csv")
    notebook.changes(pair)              # a pandas DataFrame of numbers
    notebook.recommendation(pair)       # Markdown, to be displayed

Nothing is computed here. Each function takes the pair that `read` returns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from bench.errors import BenchError
from bench.report import frames
from bench.report.frames import shown
from bench.report.narrative import (
    Pair,
    analysis,
    baseline_findings,
    context,
    differences,
    in_short,
    recommendation,
    scenario,
    tradeoffs,
)
from bench.report.narrative import per_day as day_in_words
from bench.report.pair_chart import pair_chart
from bench.run.judging import Override, read_pair

__all__ = [
    "NotebookError",
    "Pair",
    "analysis",
    "baseline_findings",
    "changes",
    "chart",
    "context",
    "day_in_words",
    "deciding",
    "differences",
    "in_short",
    "per_day",
    "read",
    "recommendation",
    "scenario",
    "shown",
    "tradeoffs",
]

BOUNDS = {
    "requests_per_day": (1, 1e15),
    "p95_latency_ms": (0.001, 1e9),
    "kg_co2e_per_kwh": (0, 10),
    "usd_per_gpu_hour": (1e-6, 1e6),
}
"""Least and most of each term that can be stated, as at the command line."""


class NotebookError(BenchError):
    """An error that a notebook shows as one line, without the traceback of code that nobody there wrote."""

    def _render_traceback_(self) -> list[str]:
        return [f"bench: {self}"]


def read(
    baseline: str | Path,
    optimized: str | Path,
    *,
    requests_per_day: float | None = None,
    p95_latency_ms: float | None = None,
    kg_co2e_per_kwh: float | None = None,
    usd_per_gpu_hour: float | None = None,
    workload: str | None = None,
    optimization: str | None = None,
) -> Pair:
    """Read and judge two metrics CSVs, or run folders, under the stated terms.

    None keeps the measurement's own; bare CSVs then take the defaults, and their cost as they state it. What
    follows from terms is computed again where they are stated; what cannot be is missing. `workload` and
    `optimization` are descriptions in your words. Raises NotebookError, in one line.
    """
    stated = Override(
        requests_per_day=_bounded("requests_per_day", requests_per_day),
        p95_latency_ms=_bounded("p95_latency_ms", p95_latency_ms),
        kg_co2e_per_kwh=_bounded("kg_co2e_per_kwh", kg_co2e_per_kwh),
        usd_per_gpu_hour=_bounded("usd_per_gpu_hour", usd_per_gpu_hour),
    )
    try:
        judged, terms = read_pair(Path(baseline), Path(optimized), stated)
    except BenchError as error:
        # "from None": the notebook shows the line, and nothing behind it.
        raise NotebookError(str(error)) from None
    return Pair(
        comparison=judged.comparison,
        verdict=judged.verdict,
        terms=terms,
        stated=stated,
        workload=(workload or "").strip(),
        optimization=(optimization or "").strip(),
    )


def deciding(pair: Pair, side: Literal["baseline", "optimized"]) -> Any:
    """Return one system's six figures as a pandas DataFrame (see `report.frames.deciding`)."""
    return frames.deciding(pair.comparison, side)


def changes(pair: Pair, *, every: bool = False) -> Any:
    """Return the comparison as a pandas DataFrame (see `report.frames.changes`)."""
    return frames.changes(pair.comparison, every=every)


def per_day(pair: Pair) -> Any:
    """Return a day at the workload's volume as a pandas DataFrame (see `report.frames.per_day`)."""
    return frames.per_day(pair.comparison)


def chart(pair: Pair) -> str:
    """Return the changes with their intervals as HTML that holds an SVG picture (see `report.pair_chart`)."""
    return pair_chart(pair)


def _bounded(name: str, value: float | None) -> float | None:
    """Return a stated term; NotebookError where it is no number within its bounds."""
    if value is None:
        return None
    least, most = BOUNDS[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:
        raise NotebookError(
            f"{name.upper()} is {value!r}; expected a number from {least:g} to {most:g}, or None"
        )
    return float(value)
