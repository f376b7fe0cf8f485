"""One or more run folders put together for the eye: read once, judged, their systems told apart by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import store
from bench.analysis.evaluation import Evaluation, Judged, Origin
from bench.analysis.system import MetricSet, SystemRuns
from bench.run.catalogue import catalogue
from bench.run.judging import Override, judge, overridden
from bench.run.results import metric_sets, system_runs, terms_of
from bench.run.rounds import rounds_in_words


def read_evaluation(
    folders: Sequence[Path], override: Override | None = None, allow_different: Sequence[str] = ()
) -> Evaluation:
    """Return all that is known of the run folders' systems.

    Raises ResultError where a folder is none, holds no ended job, or where several were made under different
    terms or circumstances that are not allowed to differ.
    """
    if len(folders) == 1:
        return _of_one(folders[0], override or Override(), allow_different)
    merged = catalogue(folders, allow_different)
    terms = overridden(merged.terms, override or Override())
    within = [name for name in allow_different if name != "terms"]  # those of one run are the same
    names = iter(merged.systems)
    systems: dict[str, SystemRuns] = {}
    sets: dict[str, MetricSet] = {}
    pairs: list[Judged] = []
    for folder in folders:
        recorded = system_runs(folder)
        told_apart = {next(names): name for name in recorded}
        found = metric_sets(folder, terms)
        own = {
            unique: msgspec.structs.replace(found[name], name=unique) for unique, name in told_apart.items()
        }
        systems |= {
            unique: msgspec.structs.replace(recorded[name], name=unique)
            for unique, name in told_apart.items()
        }
        sets |= own
        baseline, *others = own.values()
        pairs += [judge(baseline, other, terms, within, others) for other in others]
    return Evaluation(
        title=" and ".join(dict.fromkeys(store.read_experiment(folder).name for folder in folders)),
        systems=systems,
        sets=sets,
        pairs=tuple(pairs),
        origins=tuple(_origin(folder) for folder in folders),
        objectives=terms.objectives,
        assumed=terms.assumed,
        doubts=merged.doubts,
    )


def _of_one(folder: Path, override: Override, allow_different: Sequence[str]) -> Evaluation:
    meta = store.read_experiment(folder)
    terms = overridden(terms_of(folder, meta), override)
    sets = metric_sets(folder, terms)
    baseline, *others = sets.values()
    return Evaluation(
        title=meta.name,
        systems=system_runs(folder),
        sets=sets,
        pairs=tuple(judge(baseline, other, terms, allow_different, others) for other in others),
        origins=(_origin(folder),),
        objectives=terms.objectives,
        assumed=terms.assumed,
    )


def _origin(folder: Path) -> Origin:
    meta = store.read_experiment(folder)
    return Origin(
        folder=folder.resolve().name,
        config_file=meta.config_file,
        command=tuple(meta.argv),
        provenance=meta.provenance,
        written=meta.written,
        rate_rps=meta.rate_rps,
        rate_note=meta.rate_note,
        rounds="" if meta.rounds is None else rounds_in_words(meta.rounds),
    )
