"""The regression gate: runs go into the history, and the last one is held against the accepted baseline.

Held against one another are runs that share machine, source and settings (see `history`); of these, figures
that depend on the load only where it was the same, and joules only where the same meters gave them. A run
whose client or device was INVALID is no evidence: it is refused, and the history never hears of it.
"""

from __future__ import annotations

import datetime as dt
import getpass
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec

from bench import store
from bench.analysis.comparability import SAME_LOAD
from bench.analysis.effects import MATERIAL_PCT
from bench.analysis.metrics import METRICS
from bench.analysis.regression import Chart, Judgement, Observed, Scale, scale_of
from bench.analysis.unalike import ENERGIES
from bench.errors import ConfigError
from bench.records import Value
from bench.run.evidence import commit_of, run_name, take
from bench.run.history import Acceptance, Entry, History, append, differences, path_of, read_history

GATED = (
    "p50_latency_ms",
    "p95_latency_ms",
    "throughput_requests_per_sec",
    "average_memory_gb",
    "estimated_energy_kwh_per_1k_requests",
    "error_rate",
)
"""What is judged unless metrics are named; cost is throughput and a price, which nobody measures."""
SHARES = frozenset(
    {
        "error_rate",
        "padding_share",
        "prefill_waste",
        "decode_waste",
        "time_weighted_waste",
        "top1_agreement",
        "identical_outputs",
        "output_edit_distance",
        "format_drop",
    }
)
"""Shares and differences of shares, judged by percentage points: they may be 0."""
MIN_REPEATS = 3
"""A baseline of fewer has hardly an interval: later runs can be held against it only by their scatter."""
State = Literal["judged", "baseline", "no baseline", "not comparable", "refused"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks of the gate.

    `history` is its folder, None for the one beside the runs. `accept` is the reason for which the last run
    becomes the baseline, None to leave it. With `read_only` nothing is written.
    """

    history: Path | None = None
    metrics: tuple[str, ...] = GATED
    material_pct: float = MATERIAL_PCT
    accept: str | None = None
    read_only: bool = False

    def __post_init__(self) -> None:
        """Refuse metrics that cannot be judged, and an acceptance that could not be kept."""
        for name in self.metrics:
            if name not in METRICS or METRICS[name].better is None:
                raise ConfigError(f"--metric {name}: cannot be judged: neither way of it is better by itself")
        if not 0 <= self.material_pct < 100:
            raise ConfigError(f"--material {self.material_pct:g}: must be at least 0 and below 100 percent")
        if self.accept is not None and (self.read_only or not self.accept.strip()):
            raise ConfigError("--accept needs a reason in words, and a history that may be written")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one metric. `judgement` is None where there is none, and `why` says why."""

    metric: str
    judgement: Judgement | None = None
    why: str = ""


class SystemGate(msgspec.Struct, frozen=True, kw_only=True):
    """One system at the gate: its run, what it was held against, and what was found.

    `text` says why nothing was judged, or what changed since the baseline; `accepted` is the acceptance that
    was made now.
    """

    system: str
    state: State
    entry: Entry | None = None
    baseline: Entry | None = None
    acceptance: Acceptance | None = None
    findings: tuple[Finding, ...] = ()
    text: str = ""
    notes: tuple[str, ...] = ()
    accepted: Acceptance | None = None

    @property
    def is_vacuous(self) -> bool:
        """Whether nothing of it was judged, which must not pass for *nothing became worse*."""
        return self.state != "judged" or all(found.judgement is None for found in self.findings)

    def of(self, outcome: str) -> list[Finding]:
        """Return the findings with one outcome."""
        return [found for found in self.findings if found.judgement and found.judgement.outcome == outcome]


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found for every system of the last run named."""

    experiment: str
    run: str
    material_pct: float
    systems: tuple[SystemGate, ...]

    @property
    def exit_code(self) -> int:
        """1 for a regression, else 3 where a run is no evidence, else 2 where nothing could be judged."""
        open_ones = [system for system in self.systems if system.accepted is None]
        if any(system.of("regressed") for system in open_ones):
            return 1
        if any(system.state == "refused" for system in open_ones):
            return 3
        return 2 if any(system.is_vacuous for system in open_ones) else 0


def gate(folders: Sequence[Path], options: Options) -> GateReport:
    """Record the runs in `folders`, in this order, and judge the last one by all that is known.

    Raises ConfigError where they are of several experiments, and where one that is to confirm another was
    not made after it or is the baseline; ResultError where one cannot be read.
    """
    metas = [store.read_experiment(folder) for folder in folders]
    if len({meta.name for meta in metas}) > 1:
        raise ConfigError(f"the runs are of several experiments: {', '.join(meta.name for meta in metas)}")
    _refuse_disorder([(run_name(folder), meta) for folder, meta in zip(folders, metas, strict=True)])
    taken = [take(folder, meta) for folder, meta in zip(folders, metas, strict=True)]
    history = options.history or _beside(folders[-1])
    systems = [
        _gate_system(
            name, [run[name] for run in taken if name in run], path_of(history, metas[-1].name, name), options
        )
        for name in taken[-1]
    ]
    return GateReport(
        experiment=metas[-1].name,
        run=run_name(folders[-1]),
        material_pct=options.material_pct,
        systems=tuple(systems),
    )


def _gate_system(name: str, taken: Sequence[Entry | str], path: Path, options: Options) -> SystemGate:
    """Record one system's runs and judge the last one; a text in place of a run says why it is refused."""
    last = taken[-1]
    refused = tuple(f"no evidence: {one}" for one in taken[:-1] if isinstance(one, str))
    history = read_history(path)
    known = history.entries
    new = list({one.run: one for one in taken if isinstance(one, Entry) and one not in known}.values())
    _refuse_baseline(name, history.with_lines(new), taken[1:], options)
    if options.read_only:
        history = history.with_lines(new)
    else:
        append(path, new)
        history = read_history(path)
    torn = tuple(f"{path}, line {n}: torn by a crash while it was written; left out" for n in history.torn)
    earlier = tuple(
        _at_its_place(name, history, one, options) for one in taken[:-1] if isinstance(one, Entry)
    )
    if isinstance(last, str):
        return SystemGate(system=name, state="refused", text=last, notes=(*earlier, *refused, *torn))
    report = judge_last(name, history, last, options)
    report = msgspec.structs.replace(report, notes=(*earlier, *report.notes, *refused, *torn))
    if options.accept is None:
        return report
    accepted = Acceptance(run=last.run, by=_who(), why=options.accept.strip(), utc=_now())
    append(path, [accepted])
    return msgspec.structs.replace(report, accepted=accepted, notes=(*report.notes, *_few_repeats(last)))


def _refuse_disorder(runs: Sequence[tuple[str, store.ExperimentMeta]]) -> None:
    for (before, one), (after, two) in pairwise(runs):
        times = [str(meta.provenance.get("utc") or "") for meta in (one, two)]
        if before == after or (all(times) and times[1] < times[0]):
            raise ConfigError(
                f"--confirm {after}: was not made after {before}, so it cannot confirm it: "
                "name the earlier run first, bench gate EARLIER --confirm LATER, or gate one alone"
            )


def _refuse_baseline(
    name: str, history: History, confirming: Sequence[Entry | str], options: Options
) -> None:
    for one in confirming:
        if isinstance(one, Entry) and judge_last(name, history, one, options).state == "baseline":
            raise ConfigError(
                f"--confirm {one.run}: is the accepted baseline of {name}, so it confirms no other run: "
                "name another later run, or gate RUN alone"
            )


def _at_its_place(name: str, history: History, run: Entry, options: Options) -> str:
    """Return how a run that another one was to confirm is judged by itself."""
    report = judge_last(name, history, run, options)
    found = [
        f"{METRICS[one.metric].label} {one.judgement.outcome if one.judgement else 'not judged'}"
        for one in report.findings
    ]
    return f"{run.run} by itself: {', '.join(found) or report.text}"


def judge_last(name: str, history: History, last: Entry, options: Options) -> SystemGate:
    """Judge a run that stands in the history against the baseline that was accepted before it."""
    entries = list(history.entries)
    entries = entries[: [entry.run for entry in entries].index(last.run) + 1]
    places = {entry.run: i for i, entry in enumerate(entries)}
    accepted = [acceptance for acceptance in history.acceptances if acceptance.run in places]
    if not accepted:
        text = "no baseline was ever accepted: bench gate RUN --accept REASON makes this run one"
        return SystemGate(system=name, state="no baseline", entry=last, text=text)
    comparable = [entry for entry in entries if not _unlike(entry, last)]
    runs = {entry.run: entry for entry in comparable}
    usable = [acceptance for acceptance in accepted if acceptance.run in runs]
    if not usable:
        newest = entries[places[accepted[-1].run]]
        text = (
            f"not comparable with the baseline {newest.run}: {'; '.join(_unlike(newest, last))}. "
            "Make a baseline of this kind: bench gate RUN --accept REASON"
        )
        return SystemGate(system=name, state="not comparable", entry=last, text=text)
    baseline = runs[usable[-1].run]
    report = SystemGate(
        system=name,
        state="baseline",
        entry=last,
        baseline=baseline,
        acceptance=usable[-1],
        notes=_notes(last),
    )
    if baseline.run == last.run:
        return msgspec.structs.replace(report, text="this run is the accepted baseline: gate a later one")
    starts = {acceptance.run for acceptance in usable}
    findings = [_find(metric, comparable, baseline, starts, options) for metric in options.metrics]
    return msgspec.structs.replace(
        report, state="judged", findings=tuple(findings), text=_changed(baseline, last)
    )


def _find(
    metric: str, entries: Sequence[Entry], baseline: Entry, starts: set[str], options: Options
) -> Finding:
    """Judge one metric of the last of `entries`: all of them go through the chart in their order."""
    last = entries[-1]
    figures = {entry.run: _figure(entry, metric) for entry in entries}
    for entry, whose in ((baseline, "the baseline"), (last, "this run")):
        found = figures[entry.run]
        if isinstance(found, str):
            return Finding(metric=metric, why=f"{whose} has none: {found}")
    first = figures[baseline.run]
    assert not isinstance(first, str)
    if math.isinf(first.figure):
        return Finding(metric=metric, why=f"the baseline has no bound: {baseline.unbounded[metric]}")
    if why := _unlike_in(metric, baseline, last):
        return Finding(metric=metric, why=why)
    begins = [entry.run for entry in entries].index(baseline.run)
    chart, judgement, is_begun = Chart(_scale(metric, options.material_pct)), None, False
    for i, entry in enumerate(entries):
        figure = figures[entry.run]
        if isinstance(figure, str) or _unlike_in(metric, baseline, entry):
            continue
        if entry.run in starts and i <= begins and math.isfinite(figure.figure):
            chart.accept(figure)
            is_begun = True
        elif is_begun:
            judgement = chart.add(figure)
    return Finding(metric=metric, judgement=judgement, why=last.unbounded.get(metric, ""))


def _figure(entry: Entry, metric: str) -> Observed | str:
    """Return a run's figure, infinite where it is worse than any number, or why there is none."""
    if metric in entry.unbounded:
        return Observed(entry.run, Value(value=math.inf, source="derived", note=entry.unbounded[metric]))
    value = entry.figures.get(metric)
    if value is None:
        return "its bench did not know this metric"
    if value.value is None:
        return value.note
    if metric not in SHARES and value.value <= 0:
        return f"it is {value.value:g}, of which there are no percent"
    return Observed(entry.run, value)


def _scale(metric: str, material_pct: float) -> Scale:
    better = METRICS[metric].better
    assert better is not None
    return scale_of(better, share=metric in SHARES, material_pct=material_pct)


def _unlike(one: Entry, two: Entry) -> list[str]:
    return [*differences(one.machine, two.machine), *differences(one.settings, two.settings)]


def _unlike_in(metric: str, baseline: Entry, entry: Entry) -> str:
    """Return why one figure of two otherwise comparable runs is not comparable; '' where it is."""
    one, two = baseline.rate_rps, entry.rate_rps
    other_load = one is not None and two is not None and not math.isclose(one, two, rel_tol=SAME_LOAD)
    if METRICS[metric].windowed and other_load:
        return (
            f"measured at {two:.4g} requests/s, the baseline at {one:.4g}: fix the rate with "
            f'load = {{ kind = "rate", rps = {one:.4g} }}, or --rate'
        )
    if metric in ENERGIES and set(baseline.energy_sources) != set(entry.energy_sources):
        return "its joules come from another meter than the baseline's"
    return ""


def _changed(baseline: Entry, last: Entry) -> str:
    """Return what is known to have changed since the baseline: the code, and the libraries."""
    parts = [f"commit {commit_of(baseline)} to {commit_of(last)}"]
    if baseline.commit == last.commit and not (baseline.dirty or last.dirty):
        parts = [f"the same commit {commit_of(last)}"]
    return "; ".join([*parts, *differences(baseline.packages, last.packages)])


def _notes(last: Entry) -> tuple[str, ...]:
    degraded = ("the client or the device was DEGRADED",) if last.level == "DEGRADED" else ()
    dirty = ("the code had changes that are in no commit",) if last.dirty else ()
    return (*degraded, *dirty)


def _few_repeats(baseline: Entry) -> tuple[str, ...]:
    repeats = max((len(figure.repeats or ()) for figure in baseline.figures.values()), default=0) or 1
    if repeats >= MIN_REPEATS:
        return ()
    count = f"{repeats} repeat{'s' if repeats > 1 else ''}"
    return (
        f"WARNING: the accepted run has {count}, so its interval is wide or none, and the first runs "
        f"after it will be too uncertain to be judged; accept one of at least {MIN_REPEATS}",
    )


def _beside(folder: Path) -> Path:
    """Return `results/history` for a run in `results/runs/<config>/<stamp>`."""
    parents = folder.resolve().parents
    results = parents[2] if len(parents) > 2 and parents[1].name == "runs" else Path("results")
    return results / "history"


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may know no name for its user
        return "unknown"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
