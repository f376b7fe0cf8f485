"""An A/B replay: an experiment of two systems whose repeats are the segments of one seeded trace.

It runs through the very jobs of any experiment, so its folder is an ordinary run folder with `ab.json`, what
was stated before, beside. Every segment is a window job of each system, in A B B A order. Intervals hold for
all looks from the planned number of pairs up to the most, so that an extension within the plan is no second
chance to be wrong; how far the pairs scatter is looked at after the first few, without who is better.
A crash of the candidate is a result, so nothing is made again after one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from bench import store
from bench.analysis.abtest import (
    PILOT,
    Compared,
    Evidence,
    Measured,
    Plan,
    Result,
    Side,
    compare_metric,
    conclude,
    found_by_plan_pct,
    pairs_to_find,
)
from bench.analysis.failures import failures, segment_of
from bench.analysis.latency import is_unbounded
from bench.analysis.metrics import METRICS
from bench.analysis.numbers import shown
from bench.analysis.stats import MAX_REPEATS
from bench.analysis.summary import why_saturated
from bench.analysis.system import SystemRuns
from bench.analysis.validity import judge_run
from bench.errors import ResultError
from bench.records import Event, Run
from bench.run.ab_plan import COMPARED
from bench.run.assemble import Parts
from bench.run.experiment import new_folder, run_experiment
from bench.run.results import experiment_of, resume_command, system_runs, terms_of
from bench.run.rounds import Seen

PLAN_FILE = store.REPLAY_FILE
PERCENTILES = {"p50_latency_ms": 0.5, "p95_latency_ms": 0.95}
"""Of the metrics that are compared, those that are infinite where so many requests fail."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """An A/B replay as recorded: the plan, what the segments brought, and what to do."""

    plan: Plan
    evidence: Evidence
    result: Result


def start(parts: Parts, plan: Plan, results: Path) -> Path:
    """Create the run folder with the plan in it and return it."""
    folder = new_folder(parts, results)
    store.write_json(folder / PLAN_FILE, plan)
    return folder


def go_on(folder: Path, more: int = 0) -> Plan:
    """Ask for `more` pairs and return the plan to go on with.

    Raises ResultError beyond what was planned for, and where the candidate crashed: made again, the segment
    that was the result would be gone.
    """
    plan = read_plan(folder)
    if crashed := _crashed(system_runs(folder)[plan.candidate]):
        raise ResultError(
            f"{folder}: the candidate crashed ({crashed}), and that is the result; start a new test once it "
            "is mended"
        )
    asked = plan.asked + more
    if asked > plan.most_pairs:
        raise ResultError(
            f"{folder}: {asked} pairs are more than the {plan.most_pairs} that were planned for, and its "
            "intervals hold for looks up to there only; start a new test with a larger --max-pairs"
        )
    plan = msgspec.structs.replace(plan, asked=asked)
    store.write_json(folder / PLAN_FILE, plan)
    return plan


def read_plan(folder: Path) -> Plan:
    """Read what was stated before a replay; ResultError where the folder is none."""
    path = folder / PLAN_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except FileNotFoundError:
        raise ResultError(f"{folder}: is no A/B replay (no {PLAN_FILE}); make one: bench ab CONFIG") from None
    except (msgspec.DecodeError, OSError) as error:
        raise ResultError(f"{path}: cannot be read ({error}); restore it, or run again") from error


def refuse_replay(folder: Path) -> None:
    """Raise ResultError where `folder` is a replay, which goes on by its own plan.

    As an ordinary run its segments would be made again, those that crashed, too.
    """
    if (folder / PLAN_FILE).is_file():
        raise ResultError(f"{folder}: is an A/B replay; go on with: bench {resume_command(folder)}")


def run(
    parts: Parts,
    folder: Path,
    plan: Plan,
    watch: Callable[[Event], None] | None,
    say: Callable[[str], None],
) -> list[str]:
    """Replay every segment that is asked for and not recorded; return a line per job that failed.

    `say` is told what the planned pairs can detect, once the first few have been made.
    """

    def look(at: Path, made: int) -> Seen | None:
        if made == plan.asked:
            found = replay_of(at).result
            return Seen(
                stop=True, settled=found.decision != "extend", why=f"A/B {found.decision}: {found.reason}"
            )
        if made == PILOT < plan.pairs:
            for line in planned_in_words(evidence_of(at, plan), plan, f"the first {made} pairs"):
                say(line)
        return None

    return run_experiment(parts, folder, watch, look=look, most=plan.asked)


def replay_of(folder: Path) -> Replay:
    """Return the result of a recorded replay, as far as it was made."""
    plan = read_plan(folder)
    evidence = evidence_of(folder, plan)
    return Replay(plan=plan, evidence=evidence, result=conclude(evidence, plan))


def evidence_of(folder: Path, plan: Plan) -> Evidence:
    """Return what the recorded segments of the plan's two systems brought."""
    meta = store.read_experiment(folder)
    terms, systems = terms_of(folder, meta), system_runs(folder)
    for name in (plan.baseline, plan.candidate):
        if name not in systems:
            raise ResultError(f"{folder}: no system {name!r} in this run; it has {', '.join(systems)}")
    baseline, candidate, dropped = _in_pairs(systems[plan.baseline], systems[plan.candidate])
    objectives = experiment_of(folder, meta).objectives
    rows = []
    for name, better in COMPARED.items():
        metric = METRICS[name]
        one, two = (metric.measure(side, terms.assumed, objectives) for side in (baseline, candidate))
        rows.append(
            Measured(
                name=name,
                label=metric.label,
                unit=metric.unit,
                better=better,
                baseline=one,
                candidate=two,
                unbounded=_is_unbounded(candidate, name) and not _is_unbounded(baseline, name),
            )
        )
    pairs = list(zip(baseline.windows, candidate.windows, strict=True))
    return Evidence(
        rows=tuple(compare_metric(row, plan) for row in rows),
        failures=(
            failures("errors", [segment_of(one, two) for one, two in pairs], plan.confidence),
            failures(
                "timeouts", [segment_of(one, two, timeouts_only=True) for one, two in pairs], plan.confidence
            ),
        ),
        pairs=len(pairs),
        crashed=_crashed(systems[plan.candidate]),
        overloaded=_overloaded(baseline, candidate),
        dropped=dropped,
    )


def planned_in_words(evidence: Evidence, plan: Plan, source: str) -> list[str]:
    """Return what the planned pairs can detect of each metric, as the pairs of `source` scatter."""
    lines = [_detects(row, plan, source) for row in evidence.rows if row.scatter is not None]
    return lines or [f"{source} do not tell how pairs scatter, so what can be detected is not known"]


def _in_pairs(baseline: SystemRuns, candidate: SystemRuns) -> tuple[SystemRuns, SystemRuns, tuple[str, ...]]:
    """Return both systems with the segments alone that count in both, and why others do not.

    A segment counts where it was completed and client and device were sound. Which pair is dropped does not
    depend on who was faster. A pair of which a segment was cancelled, or not begun, is still to be made.
    """
    one, two = (
        {run.meta.repeat: run for run in side.windows if run.meta.status != "cancelled"}
        for side in (baseline, candidate)
    )
    kept, dropped = [], []
    for number in sorted(one.keys() & two.keys()):
        whys = [_why_not(one[number], baseline.name), _why_not(two[number], candidate.name)]
        if any(whys):
            dropped.append(f"pair {number}: {'; '.join(why for why in whys if why)}")
        else:
            kept.append(number)
    return (
        msgspec.structs.replace(baseline, windows=[one[number] for number in kept]),
        msgspec.structs.replace(candidate, windows=[two[number] for number in kept]),
        tuple(dropped),
    )


def _why_not(run: Run, name: str) -> str:
    """Return why a segment does not count; '' where it does."""
    if run.meta.status != "complete" or run.meta.window is None:
        return f"{name} ended as {run.meta.status}: {run.meta.error or 'no reason was recorded'}"
    found = judge_run(run)
    return f"{name}: the {found.whose} was INVALID: {found.reasons}" if found.level == "INVALID" else ""


def _overloaded(baseline: SystemRuns, candidate: SystemRuns) -> tuple[tuple[Side, str], ...]:
    """Return who cannot carry the load, and why."""
    sides: tuple[tuple[Side, SystemRuns], ...] = (("baseline", baseline), ("candidate", candidate))
    return tuple(
        (side, why) for side, runs in sides if runs.windows and (why := why_saturated(runs)) is not None
    )


def _is_unbounded(system: SystemRuns, metric: str) -> bool:
    """Say whether so many requests of a segment failed that this latency percentile of it is infinite."""
    share = PERCENTILES.get(metric)
    return share is not None and any(is_unbounded(run, share) for run in system.windows)


def _crashed(candidate: SystemRuns) -> str:
    """Return how jobs of the candidate crashed; '' where none did."""
    jobs = candidate.jobs
    if jobs.offline_error is not None:
        return f"its saturated run failed: {jobs.offline_error}"
    return f"{jobs.failed} of {jobs.repeats} segments, the first with: {jobs.error}" if jobs.failed else ""


def _detects(row: Compared, plan: Plan, source: str) -> str:
    """Return what the planned pairs find of one metric, and how many the stated effect takes."""
    text = (
        f"{row.measured.label}: as {source} scatter ({row.scatter:.1%} from pair to pair), "
        f"{plan.asked} pairs find {_at_least(found_by_plan_pct(row, plan))} % with power {plan.power:.0%}"
    )
    if not row.primary:
        return text
    needed = pairs_to_find(row, plan)
    return f"{text}; {plan.mde_pct:g} % takes {needed or f'more than {MAX_REPEATS}'}"


def _at_least(percent: float | None) -> str:
    """Return a smallest change for people; no run is so exact as rounding."""
    return "less than 0.01" if percent is not None and percent < 0.01 else shown(percent, 2)
