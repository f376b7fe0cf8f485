"""Evaluations made of recorded systems, without a comparison: what the figures of requests are drawn from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Figure
from bench.analysis.metric_set import metric_set
from bench.analysis.system import SystemRuns
from bench.config import Objectives
from bench.records import Completion, Run
from tests.recorded import ASSUMED, OBJECTIVES, window_run


def evaluation_of(*systems: SystemRuns, objectives: Objectives = OBJECTIVES) -> Evaluation:
    """Return the systems with their metrics."""
    return Evaluation(
        title="trial",
        systems={system.name: system for system in systems},
        sets={system.name: metric_set(system, ASSUMED, objectives, origin=system.name) for system in systems},
        pairs=(),
        origins=(),
        objectives=objectives,
        assumed=ASSUMED,
    )


def of_requests(requests: Iterable[Completion], name: str = "baseline", **meta: object) -> SystemRuns:
    """Return a system with one repeat of these requests."""
    return of_runs(window_run(list(requests), [], system=name, **meta), name=name)  # type: ignore[arg-type]


def of_runs(*runs: Run, name: str = "baseline", capacity: Run | None = None) -> SystemRuns:
    """Return a system with these repeats."""
    return SystemRuns(name=name, offline=None, windows=list(runs), capacity=capacity)


def cells(figure: Figure, dataset: str, *keys: str, **where: object) -> list[tuple[Any, ...]]:
    """Return the cells of the rows in which each of `where` holds."""
    rows = figure.datasets[dataset].rows
    chosen = [row for row in rows if all(row[key] == wanted for key, wanted in where.items())]
    return [tuple(row[key] for key in keys) for row in chosen]
