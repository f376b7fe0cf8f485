"""The comparison of recorded results: of one run folder's systems, or of what two paths name.

A side is a metrics CSV, with what its `.meta.json` tells while the CSV is as it was written, or a run folder.
Each has its own terms; two sides are compared under the same, or not at all. What a person states of them
holds for both: a run folder is summarized again, and a CSV's figures that follow from it are computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import store
from bench.analysis.comparability import flat
from bench.analysis.compare import compare
from bench.analysis.csvfile import Role, parse, render
from bench.analysis.decide import decide
from bench.analysis.evaluation import Judged
from bench.analysis.gates import DEFAULT_TERMS
from bench.analysis.quality import AGAINST_REFERENCE
from bench.analysis.restate import restated
from bench.analysis.system import Assumed, Doubt, MetricSet, missing
from bench.config import Objectives
from bench.errors import ResultError
from bench.records import Value
from bench.run.results import Sidecar, Terms, metric_sets, origin_of, terms_of


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Terms that a person states at the command line; None keeps the result's own."""

    requests_per_day: float | None = None
    kg_co2e_per_kwh: float | None = None
    p95_latency_ms: float | None = None
    usd_per_gpu_hour: float | None = None

    def given(self) -> dict[str, float]:
        """Return what is stated, by its name."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a comparison; `terms` and `reference` are None for a bare CSV.

    `outdated` are the stated terms under which its figures do not stand yet. `beside` are all systems of its
    run, where a run folder was named.
    """

    metrics: MetricSet
    terms: Terms | None = None
    reference: str | None = None
    outdated: tuple[str, ...] = ()
    beside: tuple[MetricSet, ...] = ()

    def under(self, assumed: Assumed) -> MetricSet:
        """Return its metrics under the assumptions that hold for both sides."""
        return restated(self.metrics, assumed, self.outdated) if self.outdated else self.metrics


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


def judge_experiment(
    folder: Path,
    override: Override | None = None,
    allow_different: Sequence[str] = (),
    *,
    so_far: bool = False,
) -> list[Judged]:
    """Compare every other system of an experiment's folder with its baseline.

    With `so_far` it counts for nothing that the run is unfinished.
    """
    if folder.is_file():
        if folder.suffix == ".toml":
            raise ResultError(f"{folder}: is an experiment; measure it (bench run), then name its run folder")
        raise ResultError(f"{folder}: is one CSV; name the optimized one too, or give a run folder alone")
    terms = overridden(terms_of(folder, store.read_experiment(folder)), override or Override())
    baseline, *others = metric_sets(folder, terms, so_far=so_far).values()
    return [judge(baseline, other, terms, allow_different, others) for other in others]


def judge_paths(
    baseline: Path, optimized: Path, override: Override, allow_different: Sequence[str] = ()
) -> Judged:
    """Compare what two paths name: a metrics CSV, an experiment's folder, or `FOLDER/system`.

    A folder stands for its first system on the left and its last on the right. Raises ResultError where
    the two were made under different terms (volume, price, grid, objectives, quality settings) unless
    `terms` is allowed to differ; the right one's then hold for both.
    """
    return read_pair(baseline, optimized, override, allow_different)[0]


def read_pair(
    baseline: Path, optimized: Path, override: Override, allow_different: Sequence[str] = ()
) -> tuple[Judged, Terms]:
    """Return what `judge_paths` does, with the terms that hold for both.

    CSVs that were written under other terms than the stated ones are put under these: what follows from
    price, volume and grid is computed again, what cannot be is missing (see `restate`).
    """
    left, right = _read(baseline, "baseline", override), _read(optimized, "optimized", override)
    allowed = [name for name in allow_different if name != "terms"]
    unlike = left.terms and right.terms and _judging(left.terms) != _judging(right.terms)
    if left.terms and right.terms and unlike and "terms" not in allow_different:
        raise ResultError(
            f"{baseline} and {optimized} were made under different terms "
            f"({_differing(left.terms, right.terms)}); compare run folders with the terms stated as options, "
            "or allow it by name (terms)"
        )
    terms = right.terms or left.terms or overridden(BARE, override)
    reference, candidate = left.under(terms.assumed), right.under(terms.assumed)
    if left.terms is None and right.terms is None and (doubt := _unstated(override)):
        reference = msgspec.structs.replace(reference, doubts=(*reference.doubts, doubt))
    if right.reference is not None and right.reference != reference.origin:
        candidate = _without_reference(candidate, right.reference)
    beside = right.beside if left.reference == right.reference else ()
    return judge(reference, candidate, terms, allowed, beside), terms


def _unstated(override: Override) -> Doubt | None:
    """Return a doubt that names the terms by which bare CSVs are judged though nobody stated them."""
    unstated = {key: DEFAULTS[key] for key in DEFAULTS if getattr(override, key) is None}
    if not unstated:
        return None
    options = ", ".join("--" + key.replace("_", "-") for key in unstated)
    text = f"both are judged by defaults: {', '.join(unstated.values())}"
    return Doubt(key=DEFAULT_TERMS, text=text, remedy=f"state your own: {options}")


def judge(
    baseline: MetricSet,
    optimized: MetricSet,
    terms: Terms,
    allow_different: Sequence[str] = (),
    others: Sequence[MetricSet] = (),
) -> Judged:
    """Return two systems' comparison and verdict under `terms`; `others` are the rest of their run."""
    comparison = compare(
        baseline, optimized, terms.assumed, terms.objectives, allow_different=allow_different, others=others
    )
    verdict = decide(
        comparison,
        terms.objectives,
        terms.quality,
        expectations=terms.expectations,
        registered=terms.registered,
    )
    return Judged(comparison=comparison, verdict=verdict)


def _read(path: Path, role: Role, override: Override) -> Subject:
    """Read one side; a folder is summarized under the overridden terms."""
    folder, system = (path, None) if store.is_experiment(path) else (path.parent, path.name)
    if path.is_file() or not store.is_experiment(folder):
        return _read_csv(path, role, override)
    terms = overridden(terms_of(folder, store.read_experiment(folder)), override)
    sets = metric_sets(folder, terms)
    names = list(sets)
    chosen = system or names[0 if role == "baseline" else -1]
    if chosen not in sets:
        raise ResultError(f"{path}: no such system in this run; it has {', '.join(names)}")
    return Subject(
        metrics=sets[chosen],
        terms=terms,
        reference=origin_of(folder, names[0]),
        beside=tuple(sets.values()),
    )


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
        return Subject(metrics=bare, outdated=tuple(override.given()))
    sidecar = _sidecar(meta_path)
    if render(sidecar.metrics.values, role) != text:
        edited = Doubt(
            key="edited csv",
            text=f"{path.name} is not what {meta_path.name} was written with; it is taken as stated",
            remedy=f"bench summarize the run ({sidecar.run_folder}) again, or remove {meta_path.name}",
        )
        doubted = msgspec.structs.replace(bare, doubts=(*bare.doubts, edited))
        return Subject(metrics=doubted, outdated=tuple(override.given()))
    return Subject(
        metrics=sidecar.metrics,
        terms=overridden(sidecar.terms, override),
        reference=sidecar.reference,
        outdated=_changed(sidecar.terms, override),
    )


def _changed(terms: Terms, override: Override) -> tuple[str, ...]:
    """Return which of the stated terms are others than `terms`."""
    return tuple(
        name
        for name, value in override.given().items()
        if overridden(terms, Override(**{name: value})) != terms
    )


def _sidecar(path: Path) -> Sidecar:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (msgspec.DecodeError, OSError) as error:
        raise ResultError(f"{path}: cannot be read ({error}); remove it to compare the bare CSV") from error


def overridden(terms: Terms, override: Override) -> Terms:
    """Return `terms` with what a person states."""
    assumed, objectives = terms.assumed, terms.objectives
    if override.requests_per_day is not None:
        assumed = msgspec.structs.replace(assumed, requests_per_day=override.requests_per_day)
    if override.kg_co2e_per_kwh is not None:
        assumed = msgspec.structs.replace(
            assumed, kg_co2e_per_kwh=override.kg_co2e_per_kwh, kg_co2e_per_kwh_range=None, grid=None
        )
    price = override.usd_per_gpu_hour
    if price is not None and price != assumed.usd_per_gpu_hour.value:
        assumed = msgspec.structs.replace(
            assumed,
            usd_per_gpu_hour=Value(value=price, source="assumed", note=f"{price:g} USD/h as stated"),
            price_looked_up=False,
            price_date=None,
            usd_per_gpu_hour_range=None,
        )
    if override.p95_latency_ms is not None:
        objectives = msgspec.structs.replace(objectives, p95_latency_ms=override.p95_latency_ms)
    return msgspec.structs.replace(terms, assumed=assumed, objectives=objectives)


def _judging(terms: Terms) -> dict[str, Any]:
    """Return the terms that a comparison is made by: what was expected of either is none of them."""
    table: dict[str, Any] = msgspec.to_builtins(terms)
    return {key: value for key, value in table.items() if key not in ("expectations", "registered")}


def _differing(left: Terms, right: Terms) -> str:
    """Return the terms in which two results differ, with both values."""
    one, two = flat(_judging(left)), flat(_judging(right))
    keys = [key for key in one if one[key] != two.get(key)]
    return ", ".join(f"{key}: {one[key]} against {two.get(key)}" for key in keys)


def _without_reference(metrics: MetricSet, reference: str) -> MetricSet:
    """Return `metrics` without what was measured against another baseline than the one compared with."""
    why = missing(f"measured against {reference}, which is not the baseline of this comparison")
    lost = {name: why for name in AGAINST_REFERENCE if name in metrics.values}
    return msgspec.structs.replace(metrics, values=metrics.values | lost, quality=None)
