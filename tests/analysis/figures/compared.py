"""Evaluations of systems whose figures are given one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.analysis.compare import compare
from bench.analysis.decide import decide
from bench.analysis.evaluation import Evaluation, Judged, Origin
from bench.analysis.figure import Cell, Figure
from bench.analysis.system import Assumed, MetricSet, SystemRuns
from bench.config import Objectives, Quality
from tests.recorded import ASSUMED, LIMITS, OBJECTIVES

ORIGIN = Origin(
    folder="20260101T000000Z-abc",
    config_file="trial.toml",
    command=("bench", "run", "trial.toml"),
    provenance={"commit": "0123456789abcdef"},
    written={"name": "trial"},
)


def evaluation(
    *sets: MetricSet,
    systems: Mapping[str, SystemRuns] | None = None,
    assumed: Assumed = ASSUMED,
    objectives: Objectives = OBJECTIVES,
    limits: Quality = LIMITS,
) -> Evaluation:
    """Return the systems of these metrics, all others against the first."""
    baseline, *others = sets
    pairs = []
    for other in others:
        comparison = compare(baseline, other, assumed, objectives)
        pairs.append(Judged(comparison=comparison, verdict=decide(comparison, objectives, limits)))
    nothing = {one.name: SystemRuns(name=one.name, offline=None, windows=[]) for one in sets}
    return Evaluation(
        title="trial",
        systems=nothing | dict(systems or {}),
        sets={one.name: one for one in sets},
        pairs=tuple(pairs),
        origins=(ORIGIN,),
        objectives=objectives,
        assumed=assumed,
    )


def uncompared(*sets: MetricSet, **fields: Any) -> Evaluation:
    """Return the systems without any pair."""
    first = evaluation(sets[0], **fields)
    names = {one.name: SystemRuns(name=one.name, offline=None, windows=[]) for one in sets}
    return Evaluation(
        title=first.title,
        systems=names,
        sets={one.name: one for one in sets},
        pairs=(),
        origins=first.origins,
        objectives=first.objectives,
        assumed=first.assumed,
    )


def rows(figure: Figure, dataset: str, /, **where: Cell) -> list[dict[str, Cell]]:
    """Return a dataset's rows that have these cells."""
    found = figure.datasets[dataset].rows
    return [row for row in found if all(row[key] == cell for key, cell in where.items())]


def row(figure: Figure, dataset: str, /, **where: Cell) -> dict[str, Cell]:
    """Return the one row that has these cells."""
    found = rows(figure, dataset, **where)
    assert len(found) == 1, found
    return found[0]
