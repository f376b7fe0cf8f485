"""What a finished run has to say at the gate: a line of its system's history, or why it is no evidence.

The line holds every figure of which one way is better, and the circumstances: the machine, and all settings
that figures depend on. A figure that is worse than any number (the latency of a system that cannot carry the
load, the errors of one whose jobs crashed) says so: it must not pass for one that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench import store
from bench.analysis.gates import UNFINISHED
from bench.analysis.metrics import METRICS
from bench.analysis.system import MetricSet
from bench.run.history import Entry
from bench.run.results import metric_sets

_MACHINE = (
    "source",
    "device",
    "gpu",
    "driver",
    "cpu",
    "energy_scope",
    "power_limit_w",
    "sm_clock_limit_mhz",
    "ecc",
)
_HOW_LONG = ("warmup_s", "window_s", "offline_s", "timeout_s", "queue_limit")
"""Keys of the protocol that change figures; how many repeats there are does not."""
_HOW_SCORED = ("tokens", "window", "stride", "prompts", "new_tokens")
"""Likewise of the quality pass; its limits judge figures and change none."""


def take(folder: Path, meta: store.ExperimentMeta) -> dict[str, Entry | str]:
    """Return what a run folder has to say of each system, or why it is no evidence."""
    return {
        name: _why_refused(metrics) or _entry(folder, meta, metrics)
        for name, metrics in metric_sets(folder).items()
    }


def _why_refused(metrics: MetricSet) -> str:
    if metrics.client is not None and metrics.client.level == "INVALID":
        return f"{metrics.origin} is INVALID: {metrics.client.reasons}; {metrics.client.recommendation}"
    unfinished = [doubt for doubt in metrics.doubts if doubt.key == UNFINISHED]
    if unfinished:
        return f"{unfinished[0].text}; {unfinished[0].remedy}"
    if metrics.context is None:
        return f"no job of {metrics.origin} was completed: {metrics.jobs.error or metrics.jobs.offline_error}"
    return ""


def _entry(folder: Path, meta: store.ExperimentMeta, metrics: MetricSet) -> Entry:
    context = metrics.context
    assert context is not None
    machine = {key: context.checked[key] for key in _MACHINE if context.checked.get(key) is not None}
    if context.checked.get("device") == "cpu" and meta.provenance.get("cpus_usable") is not None:
        machine["cpus_usable"] = meta.provenance["cpus_usable"]
    figures = {
        name: value if value.value is None else msgspec.structs.replace(value, note="")
        for name, value in metrics.values.items()
        if name in METRICS and METRICS[name].better is not None
    }
    entry = Entry(
        run=run_name(folder),
        system=metrics.name,
        utc=str(meta.provenance.get("utc", "")),
        commit=meta.provenance.get("commit"),
        dirty=meta.provenance.get("dirty"),
        packages=meta.provenance.get("packages", {}),
        machine=machine,
        settings=_settings(meta.config, metrics.name, context.checked.get("throughput")),
        rate_rps=meta.rate_rps,
        level=metrics.client.level if metrics.client is not None else "VALID",
        figures=figures,
        unbounded=_unbounded(metrics),
        energy_sources=context.energy_sources,
    )
    # As it will be read: a tuple is a list in JSON, and must not differ from it.
    return msgspec.json.decode(msgspec.json.encode(entry), type=Entry)


def _settings(config: Mapping[str, Any], system: str, throughput: Any) -> dict[str, Any]:
    """Return every setting that figures depend on; the daily volume and prices scale them afterwards."""
    workload = {key: value for key, value in config["workload"].items() if key != "requests_per_day"}
    protocol = {key: config["protocol"][key] for key in _HOW_LONG if key in config["protocol"]}
    quality = {key: config["quality"][key] for key in _HOW_SCORED if key in config.get("quality", {})}
    tables = {key: config[key] for key in ("seed", "model", "load", "capacity") if key in config}
    return tables | {
        "workload": workload,
        "protocol": protocol,
        "quality": quality,
        "p95_latency_ms": config["objectives"].get("p95_latency_ms"),
        "throughput": throughput,
        "system": config["systems"][system],
    }


def _unbounded(metrics: MetricSet) -> dict[str, str]:
    """Return the figures that are worse than any number, and why: they must not pass for unmeasured ones."""
    found: dict[str, str] = {}
    for name, value in metrics.values.items():
        if value.value is None and metrics.saturated and value.note.startswith("saturated"):
            found[name] = value.note
    p95 = metrics.values.get("p95_latency_ms")
    if metrics.p95_unbounded and p95 is not None and p95.value is None:
        found["p95_latency_ms"] = p95.note
    jobs = metrics.jobs
    if jobs.offline_error is not None:
        found["error_rate"] = f"the saturated run failed: {jobs.offline_error}"
    elif jobs.failed:
        found["error_rate"] = f"{jobs.failed} of {jobs.repeats} repeats failed: {jobs.error}"
    return found


def commit_of(entry: Entry) -> str:
    """Return a run's commit for people."""
    return "unknown" if entry.commit is None else entry.commit[:7] + ("+" if entry.dirty else "")


def run_name(folder: Path) -> str:
    """Return how a run is called in a history: the last two names of its folder."""
    return "/".join(folder.resolve().parts[-2:])
