"""What was measured and on what, what is assumed, how each number is defined, and how to make it again."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.analysis.evaluation import Evaluation, Origin
from bench.analysis.metrics import METRICS
from bench.analysis.numbers import plain
from bench.analysis.recorded import every_gpu
from bench.analysis.system import Assumed, SystemRuns
from bench.config import Embodied
from bench.records import Run
from bench.report.page.view import Definition, OriginView
from bench.units import PERCENT

_TREE = {"True": ", with uncommitted changes", "False": ", clean"}
"""What is said of the code at a commit; nothing where it is not known."""


def measured(evaluation: Evaluation) -> tuple[tuple[str, str], ...]:
    """Return model, device, traffic, load and repeats in a few words each, every difference said once."""
    found: dict[str, dict[str, None]] = {}
    for runs in evaluation.systems.values():
        for run in runs.runs[:1]:
            for label, text in _of_run(run):
                found.setdefault(label, {})[text] = None
    found["Repeats"] = _repeats(evaluation.systems.values())
    for origin in evaluation.origins:
        for label, text in _of_origin(origin):
            found.setdefault(label, {})[text] = None
    if limit := evaluation.objectives.p95_latency_ms:
        found["Objective"] = {f"p95 latency at most {limit:g} ms": None}
    return tuple((label, "; ".join(texts)) for label, texts in found.items() if any(texts))


def assumptions(assumed: Assumed) -> tuple[tuple[str, str], ...]:
    """Return what was not measured but stated, or looked up; each line says from where."""
    price = assumed.usd_per_gpu_hour
    found: list[tuple[str, str]] = [
        ("requests a day", f"{assumed.requests_per_day:,.0f}"),
        (
            "price of a GPU-hour",
            f"none: {price.note}" if price.value is None else f"{price.value:g} USD ({price.note})",
        ),
        ("GPUs of a replica", str(assumed.gpus)),
        ("headroom of a replica", f"loaded to {assumed.headroom * PERCENT:g} % of its throughput"),
        ("peak over mean rate", f"{assumed.peak_to_mean:g}"),
        ("replicas at least", f"{assumed.min_replicas}, and {assumed.spare_replicas} to spare"),
        ("carbon intensity of the grid", _grid(assumed)),
        (
            "PUE",
            "none stated: carbon is that of the machine alone" if assumed.pue is None else f"{assumed.pue:g}",
        ),
    ]
    if assumed.embodied is not None:
        found.append(("embodied carbon", _embodied(assumed.embodied)))
    return tuple(found)


def definitions() -> tuple[Definition, ...]:
    """Return every metric that bench defines."""
    ways = {"lower": "lower is better", "higher": "higher is better", None: "not judged"}
    return tuple(
        Definition(
            label=metric.label,
            name=name,
            unit=metric.unit,
            better=ways[metric.better],
            definition=metric.definition,
            source=metric.source,
        )
        for name, metric in METRICS.items()
    )


def origins(evaluation: Evaluation) -> tuple[OriginView, ...]:
    """Return each run folder with its circumstances."""
    gpus = tuple(dict.fromkeys(_gpus(evaluation)))
    return tuple(
        OriginView(
            folder=origin.folder,
            command=shlex.join(origin.command),
            config_file=origin.config_file,
            facts=(*_facts(origin), *gpus),
            written=json.dumps(origin.written, indent=2, ensure_ascii=False, default=str),
        )
        for origin in evaluation.origins
    )


def in_words(table: Any) -> str:
    """Return a law of the workload in words: `lognormal (mean 160, cv 0.4)`."""
    if not isinstance(table, Mapping):
        return str(table)
    rest = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in sorted(table.items(), key=_place)
        if key != "kind" and value is not None and not isinstance(value, (dict, list))
    ]
    kind = str(table.get("kind", ""))
    return f"{kind} ({', '.join(rest)})" if rest else kind


def _place(item: tuple[str, Any]) -> int:
    """Return where a key of a law is read: the mean first, the bounds last."""
    return {"mean": 0, "cv": 1, "min": 8, "max": 9}.get(item[0], 5)


def _of_run(run: Run) -> Iterator[tuple[str, str]]:
    config: Mapping[str, Any] = run.meta.config
    model, workload = (config.get(key) or {} for key in ("model", "workload"))
    weights = f", {model['weights']} weights" if model.get("weights", "pretrained") != "pretrained" else ""
    yield "Model", f"{model.get('id', 'unknown')}{weights}"
    yield "Device", _device(run)
    parts = [
        f"{label} {in_words(workload[key])}"
        for key, label in (
            ("arrivals", "arrivals"),
            ("input_tokens", "input tokens"),
            ("output_tokens", "output tokens"),
        )
        if key in workload
    ]
    yield "Traffic", ", ".join(parts)
    if run.meta.source != "measured":
        yield "Source", f"{run.meta.source}, not measured"


def _repeats(systems: Iterable[SystemRuns]) -> dict[str, None]:
    """Return how many repeats were measured of how many planned, with the systems where these differ."""
    found: dict[str, list[str]] = {}
    for runs in systems:
        jobs = [run for run in (*runs.windows, runs.offline, runs.capacity) if run is not None]
        protocol: Mapping[str, Any] = (jobs[0].meta.config.get("protocol") or {}) if jobs else {}
        if "window_s" in protocol:
            text = f"{len(runs.measured)} of {protocol.get('repeats')}, {protocol['window_s']:g} s each"
            found.setdefault(text, []).append(runs.name)
    if len(found) < 2:
        return {f"{text}, per system": None for text in found}
    return {f"{text} ({', '.join(names)})": None for text, names in found.items()}


def _device(run: Run) -> str:
    gpus = [str(facts.get("name")) for facts in every_gpu(run)]
    if run.meta.device == "cpu" or not gpus:
        host = (run.meta.facts.get("meters") or {}).get("host") or {}
        cpu = host.get("cpu_model") or run.meta.provenance.get("cpu") or "a CPU"
        return str(run.meta.facts.get("gpu_name") or f"{cpu} (CPU: says nothing about a GPU)")
    count = f"{len(gpus)} x " if len(gpus) > 1 else ""
    return count + ", ".join(dict.fromkeys(gpus))


def _of_origin(origin: Origin) -> Iterator[tuple[str, str]]:
    if origin.rate_rps is not None:
        why = re.sub(r"\d+\.\d{4,}", lambda found: plain(float(found[0]), 4), origin.rate_note)
        from_what = f": {why.partition(': ')[0]}" if why else ""
        yield "Common rate", f"{plain(origin.rate_rps, 4)} requests/s to every system{from_what}"
    elif origin.rate_note:
        yield "Load", origin.rate_note
    if origin.rounds:
        yield "Ended", origin.rounds
    if utc := origin.provenance.get("utc"):
        yield "Started", f"{str(utc)[:16].replace('T', ' ')} UTC"


def _facts(origin: Origin) -> Iterator[tuple[str, str]]:
    """Yield the circumstances of a run that were recorded."""
    facts = origin.provenance
    yield "experiment file", origin.config_file
    if origin.rate_note:
        yield "common rate", origin.rate_note
    if commit := facts.get("commit"):
        dirty = _TREE.get(str(facts.get("dirty")), "")
        yield "commit of bench", f"{commit}{dirty}"
    else:
        yield "commit of bench", "not known: it did not run from a git checkout"
    labels = {"utc": "started, UTC", "python": "Python", "platform": "platform", "cpu": "processor"}
    labels |= {"cpus_usable": "cores usable", "load_average_1min": "load average before"}
    for key, label in labels.items():
        if facts.get(key) is not None:
            yield label, str(facts[key])
    for package, version in (facts.get("packages") or {}).items():
        if version is not None:
            yield str(package), str(version)


def _gpus(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    for runs in evaluation.systems.values():
        for run in runs.runs:
            for gpu in every_gpu(run):
                named = {"name": "GPU", "driver": "driver", "nvml": "NVML", "uuid": "GPU uuid"}
                yield from (
                    (label, str(gpu[key])) for key, label in named.items() if gpu.get(key) is not None
                )


def _grid(assumed: Assumed) -> str:
    if assumed.kg_co2e_per_kwh is None:
        return "none stated: no carbon is computed"
    ends = assumed.kg_co2e_per_kwh_range
    spread = f", {ends[0]:g} to {ends[1]:g}" if ends else ""
    of = f" ({assumed.grid})" if assumed.grid else ""
    return f"{assumed.kg_co2e_per_kwh:g} kg CO2e/kWh{spread}{of}"


def _embodied(embodied: Embodied) -> str:
    return ", ".join(f"{key} {getattr(embodied, key)}" for key in embodied.__struct_fields__)
