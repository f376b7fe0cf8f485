"""The measured systems of one or more run folders side by side: what is chosen from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench import store
from bench.analysis.comparability import check
from bench.analysis.corners import changed_groups
from bench.analysis.metrics import METRICS
from bench.analysis.quality_gate import SHOWN
from bench.analysis.selection import Constraint
from bench.analysis.system import MetricSet, missing
from bench.errors import ResultError
from bench.records import Value
from bench.run.results import Terms, metric_sets, terms_of

_ITSELF = {name: same for name, (_, same) in SHOWN.items() if name in METRICS and same is not None}
"""Figures against the baseline, and what they are for the baseline itself."""
_NOT_ALTERNATED = (
    "systems of different runs did not alternate: what the machine did differently is in their difference"
)


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Systems by name, with the run's before it where two runs have one of that name.

    `terms` hold for all of them. `doubts` say what is against comparing systems of several runs.
    """

    systems: dict[str, MetricSet]
    terms: Terms
    doubts: tuple[str, ...] = ()

    @property
    def objectives(self) -> list[Constraint]:
        """The constraints that the experiment itself states."""
        objectives = self.terms.objectives
        limits = {"error_rate": objectives.max_error_rate}
        if objectives.p95_latency_ms is not None:
            limits = {"p95_latency_ms": objectives.p95_latency_ms} | limits
        return [
            Constraint(name=name, bound="at most", limit=limit, of_the_run=True)
            for name, limit in limits.items()
        ]


def catalogue(folders: Sequence[Path], allow_different: Sequence[str] = ()) -> Catalogue:
    """Return every system of the run folders that has an ended job.

    Raises ResultError where one is no run folder or stands there twice, or where circumstances or terms
    differ and are not allowed to.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ResultError("a run folder is given twice")
    for folder in folders:
        if not store.is_experiment(folder):
            raise ResultError(f"{folder}: is no run folder; name one or more of results/runs/CONFIG/STAMP")
    runs = {folder: _systems(folder) for folder in folders}
    terms = [terms_of(folder, store.read_experiment(folder)) for folder in runs]
    if any(other != terms[0] for other in terms) and "terms" not in allow_different:
        raise ResultError(
            "the runs were made under different terms (volume, price, grid, objectives or tolerances); give "
            "runs of one kind, or allow it by name (terms): those of the first then hold"
        )
    allowed = [name for name in allow_different if name != "terms"]
    _by_one_reference(runs)
    names = [name for systems in runs.values() for name in systems]
    told_apart = _told_apart(folders)
    merged: dict[str, MetricSet] = {}
    for folder, systems in runs.items():
        for name, metrics in systems.items():
            unique = name if names.count(name) == 1 else f"{told_apart[folder]}/{name}"
            merged[unique] = msgspec.structs.replace(metrics, name=unique)
    first = next(iter(merged.values()))
    differing = {text for metrics in merged.values() for text in check(first, metrics, allowed)}
    return Catalogue(
        systems=merged,
        terms=terms[0],
        doubts=(
            *([_NOT_ALTERNATED] if len(runs) > 1 else []),
            *(f"allowed to differ: {text}" for text in sorted(differing)),
        ),
    )


def _told_apart(folders: Sequence[Path]) -> dict[Path, str]:
    """Return the end of each folder's path, as long as it takes to tell all of them apart."""
    parts = {folder: folder.resolve().parts[1:] for folder in folders}
    n = 1
    while len({own[-n:] for own in parts.values()}) < len(parts):
        n += 1
    return {folder: "/".join(own[-n:]) for folder, own in parts.items()}


def _systems(folder: Path) -> dict[str, MetricSet]:
    """Return a run's systems; against itself the baseline's distributions have not moved."""
    sets = metric_sets(folder)
    baseline, *others = sets
    known = {
        name: Value(
            value=figure, source="derived", note="of the reference against itself", low=figure, high=figure
        )
        for name, figure in _ITSELF.items()
        if any((value := sets[other].values.get(name)) and value.value is not None for other in others)
        and sets[baseline].values.get(name, missing("")).value is None
    }
    reference = sets[baseline]
    sets[baseline] = msgspec.structs.replace(reference, values=reference.values | known)
    return sets


def _by_one_reference(runs: Mapping[Path, dict[str, MetricSet]]) -> None:
    """Drop figures against a baseline that is another system than the first run's."""
    first, *others = (next(iter(systems.values())) for systems in runs.values())
    for systems, reference in zip(list(runs.values())[1:], others, strict=True):
        if changed := changed_groups(first, reference):
            why = missing(f"measured against another baseline than in the first run ({', '.join(changed)})")
            for name, metrics in systems.items():
                lost = {key: why for key in _ITSELF if key in metrics.values}
                systems[name] = msgspec.structs.replace(metrics, values=metrics.values | lost)
