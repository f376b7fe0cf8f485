"""The systems of a run folder, each with the law that its own runs determine.

One that crashed, or whose runs say too little, does not stand in the way of the others: it is left out with
its reason, unless it was named by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from bench import store
from bench.analysis.fit import Fit, fit_law
from bench.analysis.system import SystemRuns
from bench.config import Experiment
from bench.errors import BenchError, ResultError
from bench.records import Run
from bench.run.results import experiment_of
from bench.run.synthetic import Laws, laws_of

T = TypeVar("T")


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded system and what is needed to simulate it."""

    folder: Path
    runs: SystemRuns
    meta: store.ExperimentMeta
    experiment: Experiment
    laws: Laws
    fit: Fit


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A system about which nothing could be said, and why."""

    system: str
    reason: str


def each_system(path: Path, say: Callable[[Recorded], T]) -> tuple[tuple[T, ...], tuple[LeftOut, ...]]:
    """Return what `say` says of each system that `path` names, and those of which it cannot say anything.

    What is wrong with a system that is named by itself, or with the first where nothing can be said of any,
    is raised; the latter as a ResultError.
    """
    folder, chosen = (path, None) if store.is_experiment(path) else (path.parent, path.name)
    if chosen is not None and not store.is_experiment(folder):
        folder, chosen = path, None  # `read_experiment` says what is wrong with it
    meta = store.read_experiment(folder)
    experiment = experiment_of(folder, meta)
    names = list(experiment.systems)
    if chosen is not None and chosen not in names:
        raise ResultError(f"{path}: no such system in this run; it has {', '.join(names)}")
    recorded_runs = store.read_runs(folder)
    said: list[T] = []
    left_out: list[LeftOut] = []
    for name in names if chosen is None else [chosen]:
        own = [run for run in recorded_runs if run.meta.system == name]
        try:
            said.append(say(_recorded(folder, name, own, meta, experiment)))
        except BenchError as error:
            if chosen is not None:
                raise
            left_out.append(LeftOut(system=name, reason=str(error)))
    if not said:
        raise ResultError(left_out[0].reason)
    return tuple(said), tuple(left_out)


def _recorded(
    folder: Path, name: str, own: Sequence[Run], meta: store.ExperimentMeta, experiment: Experiment
) -> Recorded:
    """Return a system with its fitted law."""
    runs = SystemRuns(
        name=name,
        offline=next((run for run in own if run.meta.kind == "offline"), None),
        windows=[run for run in own if run.meta.kind == "window"],
    )
    if not runs.runs:
        raise ResultError(f"{folder}: {name} has no completed job; run or resume it first")
    return Recorded(
        folder=folder,
        runs=runs,
        meta=meta,
        experiment=experiment,
        laws=laws_of(experiment, runs.runs),
        fit=fit_law(runs.runs),
    )
