"""Memory, power and what else was sampled, through each job, with the scored window marked.

Time counts from the start of what is scored, so that the jobs of all systems lie over one another. Samples
are put together in bins of even length: the mean, with the lowest and the highest, so that no peak is lost.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.thinning import points_each, seen
from bench.analysis.metered import metered
from bench.analysis.numbers import shown
from bench.analysis.recorded import Series, gpu_facts, on_gpu, series, span_of, why_missing
from bench.analysis.system import SystemRuns
from bench.records import Interval, Run

BINS, LEAST_BINS, TOTAL_BINS = 160, 30, 3_600
"""Bins of a series at most and at least, and of all together about."""
WITHIN = 2.5
"""A limit is drawn where it is at most this many times what was seen; beyond, it would flatten all else."""


class _Panel(msgspec.Struct, frozen=True):
    """One quantity: its telemetry fields, the first that was sampled counts, and the fact that limits it."""

    title: str
    unit: str
    fields: tuple[str, ...]
    limit: str = ""
    limited: str = ""

    @property
    def quantity(self) -> str:
        """The quantity with its unit."""
        return f"{self.title} ({self.unit})"


PANELS = {
    "memory": _Panel("Memory in use", "GB", ("memory_used_gb",), "memory_total_gb", "the GPU has"),
    "resident": _Panel("Resident memory of the processes", "GB", ("rss_gb",)),
    "power": _Panel("Power", "W", ("power_w", "power_average_w"), "power_limit_w", "power limit"),
    "utilisation": _Panel("Utilisation", "%", ("utilization_percent",)),
    "clock": _Panel("SM clock", "MHz", ("sm_clock_mhz",), "sm_clock_limit_mhz", "highest"),
    "temperature": _Panel("Temperature", "°C", ("temperature_c",)),
}


class _Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """One series of one job, on the time since its scored span began."""

    system: str
    job: str
    panel: str
    device: str
    run: Run
    samples: Series


def device(evaluation: Evaluation) -> Figure:
    """Return the device's telemetry through every job of every system."""
    names = tuple(evaluation.systems)
    found = [one for name, system in evaluation.systems.items() for one in _sampled(name, system)]
    if not found:
        return Figure(kind="device", title="Device", systems=names, missing=_why_none(evaluation))
    bins = points_each(len(found), TOTAL_BINS, least=LEAST_BINS, most=BINS)
    longest = max(len(one.samples.t_s) for one in found)
    jobs = dict.fromkeys(one.job for one in found)
    return Figure(
        kind="device",
        title="Memory and power through the run",
        systems=names,
        reading=_reading(evaluation),
        datasets={
            "telemetry": Dataset(
                columns=(
                    Column("system", "System"),
                    Column("job", "Job"),
                    Column("quantity", "Quantity"),
                    Column("device", "Device"),
                    Column("t_s", "Since scoring began (s)"),
                    Column("mean", "Mean"),
                    Column("low", "Lowest"),
                    Column("high", "Highest"),
                ),
                rows=tuple(row for one in found for row in _binned(one, bins)),
                caption="Samples of the device",
                thinned=""
                if longest <= bins
                else f"mean, lowest and highest in at most {bins} even bins of up to {longest} samples",
            ),
            "spans": Dataset(
                columns=(
                    Column("system", "System"),
                    Column("job", "Job"),
                    Column("span", "Span"),
                    Column("start_s", "From (s)"),
                    Column("end_s", "To (s)"),
                ),
                rows=tuple(_spans(evaluation, tuple(jobs))),
                caption="What is scored, and between which ticks energy was counted",
            ),
            "limits": Dataset(
                columns=(Column("name", "Limit"), Column("value", "Value"), Column("unit", "Unit")),
                rows=tuple(_limits(found)),
                caption="Limits of the device",
            ),
        },
        notes=tuple(dict.fromkeys(_lacking(evaluation, found))),
    )


def job_name(run: Run) -> str:
    """Return what a job is called for people: `repeat 2`, `saturated`, `capacity search`."""
    if run.meta.kind == "window":
        return f"repeat {run.meta.repeat}"
    return "saturated" if run.meta.kind == "offline" else "capacity search"


def _jobs(system: SystemRuns) -> Iterator[tuple[str, Run, Interval]]:
    """Yield the repeats first, then the others, each with its scored span."""
    for run in sorted(system.runs, key=lambda run: run.meta.kind != "window"):
        if (span := span_of(run)) is not None:
            yield job_name(run), run, span


def _sampled(name: str, system: SystemRuns) -> Iterator[_Sampled]:
    for job, run, span in _jobs(system):
        for panel, about in PANELS.items():
            if panel == "resident" and on_gpu(run):
                continue
            for field in about.fields:
                by_device = {
                    uuid: samples for uuid, samples in series(run, field).items() if len(samples.t_s)
                }
                for i, (uuid, samples) in enumerate(sorted(by_device.items(), key=str)):
                    yield _Sampled(
                        system=name,
                        job=job,
                        panel=panel,
                        device="host" if uuid is None else f"GPU {i}",
                        run=run,
                        samples=samples.earlier(span.start_s),
                    )
                if by_device:
                    break


def _binned(one: _Sampled, bins: int) -> Iterator[dict[str, Cell]]:
    t_s, values = one.samples.t_s, one.samples.values
    edges = np.linspace(t_s[0], t_s[-1], min(bins, len(t_s)) + 1)
    # The last edge belongs to the last bin.
    at = np.clip(np.searchsorted(edges, t_s, side="right") - 1, 0, max(len(edges) - 2, 0))
    for i in np.unique(at):
        own = values[at == i]
        yield {
            "system": one.system,
            "job": one.job,
            "quantity": PANELS[one.panel].quantity,
            "device": one.device,
            "t_s": seen(float(t_s[at == i].mean())),
            "mean": seen(float(own.mean())),
            "low": seen(float(own.min())),
            "high": seen(float(own.max())),
        }


def _spans(evaluation: Evaluation, jobs: tuple[str, ...]) -> Iterator[dict[str, Cell]]:
    for name, system in evaluation.systems.items():
        for job, run, span in _jobs(system):
            if job not in jobs:
                continue
            yield _span(name, job, "scored", span, span)
            if run.meta.kind != "window":
                continue
            devices = metered(run)
            if not isinstance(devices, str):
                for energy in devices:
                    yield _span(name, job, f"energy by {energy.source}", energy.span, span)


def _span(system: str, job: str, what: str, found: Interval, scored: Interval) -> dict[str, Cell]:
    start_s, end_s = found.start_s - scored.start_s, found.end_s - scored.start_s
    return {"system": system, "job": job, "span": what, "start_s": seen(start_s), "end_s": seen(end_s)}


def _limits(found: list[_Sampled]) -> Iterator[dict[str, Cell]]:
    """Yield each device limit that is known, once, and whether it is near enough to be drawn."""
    told: set[tuple[str, float]] = set()
    for one in found:
        about = PANELS[one.panel]
        limit = gpu_facts(one.run).get(about.limit) if about.limit else None
        if limit is None or (one.panel, limit) in told:
            continue
        told.add((one.panel, limit))
        highest = max(float(other.samples.values.max()) for other in found if other.panel == one.panel)
        yield {
            "quantity": about.quantity,
            "name": f"{about.limited} {shown(limit)} {about.unit}",
            "value": seen(float(limit)),
            "unit": about.unit,
            "drawn": limit <= WITHIN * highest,
        }


def _reading(evaluation: Evaluation) -> str:
    """Return memory and power of each system, as its metrics have them."""
    told = []
    for system, metrics in list(evaluation.sets.items())[:3]:
        parts = [
            f"{shown(value.value, 3)} {unit}"
            for name, unit in (("average_memory_gb", "GB of memory"), ("mean_power_w", "W"))
            if (value := metrics.values.get(name)) is not None and value.value is not None
        ]
        if parts:
            told.append(f"{system} {' and '.join(parts)}")
    more = f", and {len(evaluation.sets) - 3} more" if len(evaluation.sets) > 3 else ""
    return f"On average over the scored windows: {'; '.join(told)}{more}." if told else ""


def _lacking(evaluation: Evaluation, found: list[_Sampled]) -> Iterator[str]:
    """Say of what decides, memory and power, why it was not sampled."""
    seen_panels = {one.panel for one in found}
    for panel, field in (("power", "power_w"), ("memory", "memory_used_gb")):
        if panel in seen_panels:
            continue
        whys = [why_missing(run, field) for system in evaluation.systems.values() for run in system.measured]
        for why in dict.fromkeys(whys):
            yield f"{PANELS[panel].title} of a GPU was not sampled: {why}."
    several = {one.device for one in found if one.device != "host"}
    if len(several) > 1:
        yield f"There is a line for each of {len(several)} GPUs."


def _why_none(evaluation: Evaluation) -> str:
    whys = [
        why_missing(run, field)
        for system in evaluation.systems.values()
        for run in system.runs[:1]
        for field in ("rss_gb", "power_w")
    ]
    return "; ".join(dict.fromkeys(whys)) or "no job was completed, so nothing was sampled"
