"""From a run folder to what people read: metric sets, the CSVs with their `.meta.json`, comparisons.

Everything here is recomputed from recorded data; nothing is measured and nothing cached, so
`bench summarize` gives the same bytes whenever it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import store
from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.csvfile import Role, parse, render
from bench.analysis.decide import Verdict, decide
from bench.analysis.metrics import metric_set
from bench.analysis.system import Assumed, Doubt, MetricSet, SystemRuns, missing
from bench.config import Experiment, Objectives, Quality
from bench.errors import ResultError
from bench.records import Run, Value

CSV_NAME = "{system}_inference_metrics.csv"


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison and the verdict on it."""

    comparison: Comparison
    verdict: Verdict


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a result is scaled and judged by."""

    assumed: Assumed
    objectives: Objectives
    quality: Quality = Quality()


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """`.meta.json` beside a CSV: the runs it was made from, and all that the CSV has no column for."""

    schema: int
    run_folder: str
    jobs: list[str]
    commit: str | None
    command: list[str]
    terms: Terms
    metrics: MetricSet


def metric_sets(folder: Path) -> dict[str, MetricSet]:
    """Return every system's metrics of an experiment's folder, the baseline first."""
    meta = store.read_experiment(folder)
    terms = terms_of(meta)
    by_system = _by_system(folder, list(meta.config["systems"]))
    return {
        name: metric_set(system, terms.assumed, terms.objectives, origin=f"{folder.name}/{name}")
        for name, system in by_system.items()
    }


def terms_of(meta: store.ExperimentMeta) -> Terms:
    """Return an experiment's own terms, with the price as it was when the run started."""
    experiment = msgspec.convert(meta.config, Experiment)
    assumptions = experiment.assumptions
    return Terms(
        assumed=Assumed(
            usd_per_gpu_hour=msgspec.convert(meta.price, Value),
            requests_per_day=experiment.workload.requests_per_day,
            kg_co2e_per_kwh=assumptions.kg_co2e_per_kwh,
            pue=assumptions.pue,
            headroom=assumptions.headroom,
            peak_to_mean=assumptions.peak_to_mean,
        ),
        objectives=experiment.objectives,
        quality=experiment.quality,
    )


def stated_terms(requests_per_day: float, kg_co2e_per_kwh: float, p95_latency_ms: float) -> Terms:
    """Return terms for bare CSVs, from what a person states."""
    return Terms(
        assumed=Assumed(
            usd_per_gpu_hour=missing("a bare CSV states its cost itself"),
            requests_per_day=requests_per_day,
            kg_co2e_per_kwh=kg_co2e_per_kwh,
        ),
        objectives=Objectives(p95_latency_ms=p95_latency_ms),
    )


def write_csvs(folder: Path, target: Path) -> list[Path]:
    """Write each system's CSV and `.meta.json` into `target`; return the CSVs' paths."""
    meta = store.read_experiment(folder)
    sets = metric_sets(folder)
    written = []
    for name, metrics in sets.items():
        role: Role = "baseline" if name == next(iter(sets)) else "optimized"
        path = target / CSV_NAME.format(system=name)
        store.write_atomically(path, render(metrics.values, role).encode())
        sidecar = Sidecar(
            schema=store.SCHEMA,
            run_folder=f"runs/{folder.resolve().parent.name}/{folder.resolve().name}",
            jobs=sorted(run.parent.name for run in folder.glob(f"{name}.*/{store.RUN_FILE}")),
            commit=meta.provenance.get("commit"),
            command=meta.argv,
            terms=terms_of(meta),
            metrics=metrics,
        )
        store.write_json(path.with_suffix(".meta.json"), sidecar)
        written.append(path)
    return written


def judge_experiment(folder: Path) -> list[Judged]:
    """Compare every other system of an experiment's folder with its baseline."""
    terms = terms_of(store.read_experiment(folder))
    baseline, *others = metric_sets(folder).values()
    return [judge(baseline, other, terms) for other in others]


def judge(
    baseline: MetricSet, optimized: MetricSet, terms: Terms, allow_different: Sequence[str] = ()
) -> Judged:
    """Compare two metric sets and decide."""
    comparison = compare(
        baseline, optimized, terms.assumed, terms.objectives, allow_different=allow_different
    )
    return Judged(comparison=comparison, verdict=decide(comparison, terms.objectives, terms.quality))


def judge_paths(
    baseline: Path, optimized: Path | None, stated: Terms, allow_different: Sequence[str] = ()
) -> list[Judged]:
    """Compare what two paths name: a metrics CSV, an experiment's folder, or `FOLDER/system`.

    A folder stands for its first system on the left and its last on the right; one folder alone for all
    of its comparisons. `stated` are the terms where neither side brings its own.
    """
    if optimized is None:
        if not store.is_experiment(baseline):
            raise ResultError(f"{baseline}: one argument must be a run folder; name two results to compare")
        return judge_experiment(baseline)
    left, left_terms = _read(baseline, first=True)
    right, right_terms = _read(optimized, first=False)
    return [judge(left, right, right_terms or left_terms or stated, allow_different)]


def _read(path: Path, *, first: bool) -> tuple[MetricSet, Terms | None]:
    if store.is_experiment(path):
        sets = list(metric_sets(path).values())
        return sets[0 if first else -1], terms_of(store.read_experiment(path))
    if store.is_experiment(path.parent) and not path.is_file():
        sets_by_name = metric_sets(path.parent)
        if path.name not in sets_by_name:
            raise ResultError(f"{path}: no such system in this run; it has {', '.join(sets_by_name)}")
        return sets_by_name[path.name], terms_of(store.read_experiment(path.parent))
    return _read_csv(path)


def _read_csv(path: Path) -> tuple[MetricSet, Terms | None]:
    """Read a CSV; with an intact `.meta.json` beside it, all that was known when it was written."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be read ({error.strerror}); name a metrics CSV or a run folder"
        ) from error
    except UnicodeDecodeError as error:
        raise ResultError(f"{path}: is no UTF-8 text; a metrics CSV was expected") from error
    bare = parse(text, str(path))
    meta_path = path.with_suffix(".meta.json")
    if not meta_path.is_file():
        return bare, None
    sidecar = _sidecar(meta_path)
    if render(sidecar.metrics.values, _role(bare)) == text:
        return sidecar.metrics, sidecar.terms
    edited = Doubt(
        key="edited csv",
        text=f"{path.name} is not what {meta_path.name} was written with; its figures are taken as stated",
        remedy=f"bench summarize the run ({sidecar.run_folder}) again, or remove {meta_path.name}",
    )
    return msgspec.structs.replace(bare, doubts=(*bare.doubts, edited)), None


def _role(metrics: MetricSet) -> Role:
    return "baseline" if metrics.name == "baseline" else "optimized"


def _sidecar(path: Path) -> Sidecar:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (msgspec.DecodeError, OSError) as error:
        raise ResultError(f"{path}: cannot be read ({error}); remove it to compare the bare CSV") from error


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
            windows=[run for run in own if run.meta.kind == "window"],
        )
        for name, own in runs.items()
    }
