"""Evaluations made of recorded systems, without a comparison: what the figures of requests are drawn from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Figure
from bench.analysis.metric_set import metric_set
from bench.analysis.system import SystemRuns
from bench.config import Objectives
from bench.records import Completion, Run
from tests.analysis.clients import INVALID
from tests.recorded import ASSUMED, END_S, OBJECTIVES, START_S, WINDOW_S, window_run


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
    """Return a system with one repeat of these requests, at the rate at which they are due."""
    rows = list(requests)
    due = sum(START_S <= row.due_s < END_S for row in rows)
    fields: dict[str, Any] = {"offered_rps": due / WINDOW_S, **meta}
    return of_runs(window_run(rows, [], system=name, **fields), name=name)


def of_runs(*runs: Run, name: str = "baseline", capacity: Run | None = None) -> SystemRuns:
    """Return a system with these repeats."""
    return SystemRuns(name=name, offline=None, windows=list(runs), capacity=capacity)


def invalid(evaluation: Evaluation, *names: str) -> Evaluation:
    """Return the evaluation in which these systems were measured by a client that sent late."""
    bad = {name: msgspec.structs.replace(evaluation.sets[name], client=INVALID) for name in names}
    return msgspec.structs.replace(evaluation, sets=evaluation.sets | bad)


def cells(figure: Figure, dataset: str, *keys: str, **where: object) -> list[tuple[Any, ...]]:
    """Return the cells of the rows in which each of `where` holds."""
    rows = figure.datasets[dataset].rows
    chosen = [row for row in rows if all(row[key] == wanted for key, wanted in where.items())]
    return [tuple(row[key] for key in keys) for row in chosen]
