"""From a run folder to what people read: metric sets, and the CSVs with their `.meta.json`.

Everything here is recomputed from recorded data; nothing is measured and nothing cached, so
`bench summarize` gives the same bytes whenever it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import store
from bench.analysis.capacity import Conclusion, conclusion_of
from bench.analysis.carbon import intensity
from bench.analysis.cost import Quote
from bench.analysis.csvfile import Role, render
from bench.analysis.doubts import busy_machine
from bench.analysis.gates import UNFINISHED
from bench.analysis.metric_set import metric_set
from bench.analysis.system import Assumed, Doubt, MetricSet, SystemRuns
from bench.config import EXPECTATIONS, Expected, Experiment, Objectives, Quality
from bench.errors import ResultError
from bench.records import Run

CSV_NAME = "{system}_inference_metrics.csv"


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a result is scaled and judged by.

    `expectations` decide nothing; `registered` says whether they were recorded before the measurement.
    """

    assumed: Assumed
    objectives: Objectives
    quality: Quality = Quality()
    expectations: dict[str, Expected] = msgspec.field(default_factory=lambda: dict(EXPECTATIONS))
    registered: bool = False


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """`.meta.json` beside a CSV: the runs it was made from, and all that the CSV has no column for.

    `reference` is the origin of the system that its quality figures were measured against.
    """

    schema: int
    run_folder: str
    jobs: list[str]
    commit: str | None
    command: list[str]
    terms: Terms
    reference: str
    metrics: MetricSet


def metric_sets(folder: Path, terms: Terms | None = None, *, so_far: bool = False) -> dict[str, MetricSet]:
    """Return every system's metrics of an experiment's folder, the baseline first.

    Each has what can be doubted of the run as a whole: that it is unfinished (but for a look `so_far`), and
    that the machine was busy.
    """
    meta = store.read_experiment(folder)
    terms = terms or terms_of(folder, meta)
    by_system = _by_system(folder, list(meta.config["systems"]))
    searches = bool(meta.config.get("capacity", {}).get("search", False))  # older runs knew of none
    repeats = meta.rounds.made if meta.rounds else meta.config["protocol"]["repeats"]
    return {
        name: _doubted(
            metric_set(system, terms.assumed, terms.objectives, origin=origin_of(folder, name)),
            None if so_far else _unfinished(system, repeats, folder, searches=searches),
            busy_machine(name, meta.provenance),
        )
        for name, system in by_system.items()
    }


def system_runs(folder: Path) -> dict[str, SystemRuns]:
    """Return every system's recorded jobs of an experiment's folder, the baseline first."""
    return _by_system(folder, list(store.read_experiment(folder).config["systems"]))


def capacities(folder: Path) -> dict[str, Conclusion]:
    """Return what each system's capacity search found; ResultError where none was made."""
    meta = store.read_experiment(folder)
    objectives = experiment_of(folder, meta).objectives
    found = {
        name: conclusion_of(system.capacity, objectives)
        for name, system in _by_system(folder, list(meta.config["systems"])).items()
        if system.capacity is not None
        and system.capacity.meta.status == "complete"
        and system.capacity.meta.probes
    }
    if not found:
        raise ResultError(f"{folder}: holds no capacity search; make one: bench capacity CONFIG")
    return found


def experiment_of(folder: Path, meta: store.ExperimentMeta) -> Experiment:
    """Return the experiment that a run folder was made with.

    Raises ResultError where what was recorded of it is none.
    """
    try:
        return msgspec.convert(meta.config, Experiment)
    except msgspec.ValidationError as error:
        raise _damaged(folder, "config", error) from error


def _damaged(folder: Path, key: str, error: msgspec.ValidationError) -> ResultError:
    return ResultError(
        f"{folder / store.EXPERIMENT_FILE}: {key}: {error}; the file is damaged: restore it, or run again"
    )


def terms_of(folder: Path, meta: store.ExperimentMeta) -> Terms:
    """Return an experiment's own terms, with the price as it was when the run was made.

    Raises ResultError where what was recorded of them cannot be read.
    """
    experiment = experiment_of(folder, meta)
    assumptions = experiment.assumptions
    price = Quote(value=None, source="missing", note="no price was recorded with the run")
    if meta.price is not None:
        try:
            price = msgspec.convert(meta.price, Quote)
        except msgspec.ValidationError as error:
            raise _damaged(folder, "price", error) from error
    kg_co2e_per_kwh, kg_range, grid = intensity(assumptions)
    return Terms(
        assumed=Assumed(
            usd_per_gpu_hour=price.figure,
            requests_per_day=experiment.workload.requests_per_day,
            price_looked_up=price.looked_up,
            price_date=price.date,
            usd_per_gpu_hour_range=assumptions.usd_per_gpu_hour_range or price.asked,
            kg_co2e_per_kwh=kg_co2e_per_kwh,
            kg_co2e_per_kwh_range=kg_range,
            grid=grid,
            pue=assumptions.pue,
            embodied=assumptions.embodied,
            headroom=assumptions.headroom,
            peak_to_mean=assumptions.peak_to_mean,
            min_replicas=assumptions.min_replicas,
            spare_replicas=assumptions.spare_replicas,
        ),
        objectives=experiment.objectives,
        quality=experiment.quality,
        expectations=experiment.expectations,
        registered="expectations" in meta.config,
    )


def write_csvs(folder: Path, target: Path) -> list[Path]:
    """Write each system's CSV and `.meta.json` into `target`; return the CSVs' paths.

    The first system is written as `baseline`; the one called `optimized`, else the last, as `optimized`:
    readers rely on these two files and must never find another run's beside them. The others keep their
    names.
    """
    meta = store.read_experiment(folder)
    sets = metric_sets(folder)
    baseline, *others = sets
    optimized = "optimized" if "optimized" in others else (others or [baseline])[-1]
    written = []
    for name, metrics in sets.items():
        role: Role = "baseline" if name == baseline else "optimized"
        path = target / CSV_NAME.format(system=role if name in (baseline, optimized) else name)
        store.write_atomically(path, render(metrics.values, role).encode())
        sidecar = Sidecar(
            schema=store.SCHEMA,
            run_folder=f"runs/{folder.resolve().parent.name}/{folder.resolve().name}",
            jobs=sorted(run.parent.name for run in folder.glob(f"{name}.*/{store.RUN_FILE}")),
            commit=meta.provenance.get("commit"),
            command=meta.argv,
            terms=terms_of(folder, meta),
            reference=origin_of(folder, baseline),
            metrics=metrics,
        )
        store.write_json(path.with_suffix(".meta.json"), sidecar)
        written.append(path)
    return written


def _unfinished(system: SystemRuns, repeats: int, folder: Path, *, searches: bool) -> Doubt | None:
    """Doubt a run of which jobs have not ended.

    After a saturated run that failed none is to come, and no search once a repeat was made: it had no rate to
    begin with.
    """
    jobs = [*system.windows, system.offline, system.capacity]
    expected = 1 + repeats + (searches and (system.capacity is not None or not system.windows))
    ended = sum(job is not None and job.meta.status != "cancelled" for job in jobs)
    if ended >= expected or (system.offline is not None and system.offline.meta.status == "failed"):
        return None
    return Doubt(
        key=UNFINISHED,
        text=f"{system.name}: the run is unfinished, {ended} of {expected} jobs have ended",
        remedy=f"bench {resume_command(folder)}",
    )


def _doubted(metrics: MetricSet, *doubts: Doubt | None) -> MetricSet:
    """Return `metrics` with the doubts there are before its own."""
    found = tuple(doubt for doubt in doubts if doubt is not None)
    return msgspec.structs.replace(metrics, doubts=(*found, *metrics.doubts)) if found else metrics


def resume_command(folder: Path) -> str:
    """Return the command of bench that goes on with a run folder."""
    return f"{'ab' if (folder / store.REPLAY_FILE).is_file() else 'run'} --resume {folder}"


def origin_of(folder: Path, system: str) -> str:
    """Return a system's name for messages and references: the run folder's stamp and the system."""
    return f"{folder.resolve().name}/{system}"


def _by_system(folder: Path, names: Sequence[str]) -> dict[str, SystemRuns]:
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for run in store.read_runs(folder):
        if run.meta.system in runs:
            runs[run.meta.system].append(run)
    if not any(runs.values()):
        raise ResultError(f"{folder}: holds no ended job yet; run or resume it first")
    return {
        name: SystemRuns(
            name=name,
            offline=next((run for run in own if run.meta.kind == "offline"), None),
            capacity=next((run for run in own if run.meta.kind == "capacity"), None),
            windows=[run for run in own if run.meta.kind == "window"],
        )
        for name, own in runs.items()
    }
