"""From a run folder to what people read: metric sets, the CSVs with their `.meta.json`, comparisons.

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
from bench.analysis.comparability import flat
from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.cost import Quote
from bench.analysis.csvfile import Role, parse, render
from bench.analysis.decide import Verdict, decide
from bench.analysis.metrics import metric_set
from bench.analysis.system import Assumed, Doubt, MetricSet, SystemRuns, missing
from bench.config import Experiment, Objectives, Quality
from bench.errors import ResultError
from bench.records import Run

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


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Terms that a person states at the command line; None keeps the result's own."""

    requests_per_day: float | None = None
    kg_co2e_per_kwh: float | None = None
    p95_latency_ms: float | None = None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a comparison; `terms` and `reference` are None for a bare CSV."""

    metrics: MetricSet
    terms: Terms | None = None
    reference: str | None = None


BARE = Terms(
    assumed=Assumed(
        usd_per_gpu_hour=missing("a bare CSV states its cost itself"),
        requests_per_day=250_000,
        kg_co2e_per_kwh=0.40,
        pue=1.0,
    ),
    objectives=Objectives(p95_latency_ms=1200),
)
"""The terms of two bare CSVs: those of the published evaluation exercise."""
DEFAULTS = {
    "p95_latency_ms": f"p95 latency at most {BARE.objectives.p95_latency_ms:g} ms",
    "requests_per_day": f"{BARE.assumed.requests_per_day:,.0f} requests a day",
    "kg_co2e_per_kwh": f"{BARE.assumed.kg_co2e_per_kwh:g} kg CO2e/kWh",
}
"""Those terms in words, by the option that states another."""


def metric_sets(folder: Path, terms: Terms | None = None) -> dict[str, MetricSet]:
    """Return every system's metrics of an experiment's folder, the baseline first."""
    meta = store.read_experiment(folder)
    terms = terms or terms_of(folder, meta)
    by_system = _by_system(folder, list(meta.config["systems"]))
    searches = bool(meta.config.get("capacity", {}).get("search", False))  # older runs knew of none
    return {
        name: _with_unfinished(
            metric_set(system, terms.assumed, terms.objectives, origin=_origin(folder, name)),
            system,
            1 + searches + meta.config["protocol"]["repeats"],
            folder,
        )
        for name, system in by_system.items()
    }


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
    why = "the baseline's first job has not ended, so the GPU is unknown"
    price = Quote(value=None, source="missing", note=why)
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
            reference=_origin(folder, baseline),
            metrics=metrics,
        )
        store.write_json(path.with_suffix(".meta.json"), sidecar)
        written.append(path)
    return written


def judge_experiment(
    folder: Path, override: Override | None = None, allow_different: Sequence[str] = ()
) -> list[Judged]:
    """Compare every other system of an experiment's folder with its baseline."""
    if folder.is_file():
        raise ResultError(f"{folder}: is one CSV; name the optimized one too, or give a run folder alone")
    terms = _overridden(terms_of(folder, store.read_experiment(folder)), override or Override())
    baseline, *others = metric_sets(folder, terms).values()
    return [_judge(baseline, other, terms, allow_different) for other in others]


def judge_paths(
    baseline: Path, optimized: Path, override: Override, allow_different: Sequence[str] = ()
) -> Judged:
    """Compare what two paths name: a metrics CSV, an experiment's folder, or `FOLDER/system`.

    A folder stands for its first system on the left and its last on the right. Raises ResultError where
    the two were made under different terms (volume, price, grid, objectives, quality settings) unless
    `terms` is allowed to differ; the right one's then hold for both.
    """
    left, right = _read(baseline, "baseline", override), _read(optimized, "optimized", override)
    allowed = [name for name in allow_different if name != "terms"]
    if left.terms and right.terms and left.terms != right.terms and "terms" not in allow_different:
        raise ResultError(
            f"{baseline} and {optimized} were made under different terms "
            f"({_differing(left.terms, right.terms)}); compare run folders with the terms stated as options, "
            "or allow it by name (terms)"
        )
    terms = right.terms or left.terms or _overridden(BARE, override)
    if left.terms is None and right.terms is None and (doubt := _unstated(override)):
        left = Subject(metrics=msgspec.structs.replace(left.metrics, doubts=(*left.metrics.doubts, doubt)))
    candidate = right.metrics
    if right.reference is not None and right.reference != left.metrics.origin:
        candidate = _without_reference(candidate, right.reference)
    return _judge(left.metrics, candidate, terms, allowed)


def _unstated(override: Override) -> Doubt | None:
    """Return a doubt that names the terms by which bare CSVs are judged though nobody stated them."""
    unstated = {key: DEFAULTS[key] for key in DEFAULTS if getattr(override, key) is None}
    if not unstated:
        return None
    options = ", ".join("--" + key.replace("_", "-") for key in unstated)
    text = f"both are judged by defaults: {', '.join(unstated.values())}"
    return Doubt(key="default terms", text=text, remedy=f"state your own: {options}")


def _with_unfinished(metrics: MetricSet, system: SystemRuns, expected: int, folder: Path) -> MetricSet:
    """Return `metrics` with a doubt where jobs of the experiment have not ended."""
    ended = len(system.windows) + (system.offline is not None) + (system.capacity is not None)
    if ended >= expected:
        return metrics
    doubt = Doubt(
        key="unfinished",
        text=f"{system.name}: the run is unfinished, {ended} of {expected} jobs have ended",
        remedy=f"bench run --resume {folder}",
    )
    return msgspec.structs.replace(metrics, doubts=(doubt, *metrics.doubts))


def _judge(
    baseline: MetricSet, optimized: MetricSet, terms: Terms, allow_different: Sequence[str] = ()
) -> Judged:
    comparison = compare(
        baseline, optimized, terms.assumed, terms.objectives, allow_different=allow_different
    )
    return Judged(comparison=comparison, verdict=decide(comparison, terms.objectives, terms.quality))


def _read(path: Path, role: Role, override: Override) -> Subject:
    """Read one side; a folder is summarized under the overridden terms."""
    folder, system = (path, None) if store.is_experiment(path) else (path.parent, path.name)
    if path.is_file() or not store.is_experiment(folder):
        return _read_csv(path, role, override)
    terms = _overridden(terms_of(folder, store.read_experiment(folder)), override)
    sets = metric_sets(folder, terms)
    names = list(sets)
    chosen = system or names[0 if role == "baseline" else -1]
    if chosen not in sets:
        raise ResultError(f"{path}: no such system in this run; it has {', '.join(names)}")
    return Subject(metrics=sets[chosen], terms=terms, reference=_origin(folder, names[0]))


def _read_csv(path: Path, role: Role, override: Override) -> Subject:
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
    if bare.name != role:
        raise ResultError(
            f"{path}: its column is {bare.name}_value, expected {role}_value; baseline comes first"
        )
    meta_path = path.with_suffix(".meta.json")
    if not meta_path.is_file():
        return Subject(metrics=bare)
    sidecar = _sidecar(meta_path)
    if render(sidecar.metrics.values, role) != text:
        edited = Doubt(
            key="edited csv",
            text=f"{path.name} is not what {meta_path.name} was written with; it is taken as stated",
            remedy=f"bench summarize the run ({sidecar.run_folder}) again, or remove {meta_path.name}",
        )
        return Subject(metrics=msgspec.structs.replace(bare, doubts=(*bare.doubts, edited)))
    if _overridden(sidecar.terms, override) != sidecar.terms:
        raise ResultError(
            f"{path}: was made under its own terms ({meta_path.name}); "
            f"to state others compare its run folder ({sidecar.run_folder})"
        )
    return Subject(metrics=sidecar.metrics, terms=sidecar.terms, reference=sidecar.reference)


def _sidecar(path: Path) -> Sidecar:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (msgspec.DecodeError, OSError) as error:
        raise ResultError(f"{path}: cannot be read ({error}); remove it to compare the bare CSV") from error


def _overridden(terms: Terms, override: Override) -> Terms:
    """Return `terms` with what a person states."""
    assumed, objectives = terms.assumed, terms.objectives
    if override.requests_per_day is not None:
        assumed = msgspec.structs.replace(assumed, requests_per_day=override.requests_per_day)
    if override.kg_co2e_per_kwh is not None:
        assumed = msgspec.structs.replace(
            assumed, kg_co2e_per_kwh=override.kg_co2e_per_kwh, kg_co2e_per_kwh_range=None, grid=None
        )
    if override.p95_latency_ms is not None:
        objectives = msgspec.structs.replace(objectives, p95_latency_ms=override.p95_latency_ms)
    return msgspec.structs.replace(terms, assumed=assumed, objectives=objectives)


def _differing(left: Terms, right: Terms) -> str:
    """Return the terms in which two results differ, with both values."""
    one, two = flat(msgspec.to_builtins(left)), flat(msgspec.to_builtins(right))
    keys = [key for key in one if one[key] != two.get(key)]
    return ", ".join(f"{key}: {one[key]} against {two.get(key)}" for key in keys)


def _without_reference(metrics: MetricSet, reference: str) -> MetricSet:
    """Return `metrics` without what was measured against another baseline than the one compared with."""
    why = missing(f"measured against {reference}, which is not the baseline of this comparison")
    lost = {name: why for name in ("mean_kl", "top1_agreement") if name in metrics.values}
    return msgspec.structs.replace(metrics, values=metrics.values | lost)


def _origin(folder: Path, system: str) -> str:
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
