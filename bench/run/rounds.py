"""Repeats round by round, with a look at what is recorded after each: every system once per round, A B B A.

A look is a pure function of the run folder, so nothing is lost when a run is interrupted: it is taken again
when the run is resumed. Only the newest round is looked at, for the looks before it said to go on. What was
made, and why no more, is written into `experiment.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from bench import store
from bench.analysis.settled import standing
from bench.errors import ResultError
from bench.records import Event
from bench.run.judging import judge_experiment
from bench.run.plan import Job
from bench.run.results import experiment_of


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a look found: whether the repeats may end, whether that is because all is settled, and why."""

    stop: bool
    settled: bool
    why: str


Look = Callable[[Path, int], Seen | None]
"""Is given the run folder and the number of rounds that it holds; None where it is too early to look."""
Ensure = Callable[[Job], str | None]
"""Runs a job unless it is complete; returns a line about its failure."""


def run_rounds(
    folder: Path, jobs: Sequence[Job], ensure: Ensure, look: Look, watch: Callable[[Event], None] | None
) -> list[str]:
    """Run `jobs`, in order of their rounds, until a look says to stop; return a line per job that failed."""
    failures: list[str] = []
    write_rounds(folder, None)  # until it ends again
    rounds = [list(group) for _, group in groupby(jobs, key=lambda job: job.repeat)]
    for number, (now, later) in enumerate(zip(rounds, [*rounds[1:], []], strict=True), start=1):
        failures += [failure for job in now if (failure := ensure(job)) is not None]
        if _begun(later):
            continue
        if (seen := look(folder, number)) is None:
            continue
        if watch is not None:
            told = f"{number} of {len(rounds)} rounds: {seen.why}"
            watch(Event(job=now[-1].name, phase="look", detail=told, done=1.0))
        if seen.stop or not later:
            write_rounds(
                folder, store.Rounds(made=number, most=len(rounds), settled=seen.settled, why=seen.why)
            )
            break
    return failures


def look_at_verdicts(folder: Path, made: int) -> Seen | None:
    """Stop as soon as the verdict on every system against the baseline is settled.

    Before `protocol.min_repeats` rounds nothing is looked at, and one system alone never. Where nothing can
    be compared, more repeats would not help: the reason is why they end.
    """
    experiment = experiment_of(folder, store.read_experiment(folder))
    if made < experiment.protocol.min_repeats or len(experiment.systems) < 2:
        return None
    try:
        judged = judge_experiment(folder, so_far=True)
    except ResultError as error:
        return Seen(stop=True, settled=False, why=f"nothing can be compared: {error}")
    found = {
        one.comparison.optimized.name: standing(one.comparison, one.verdict, experiment.objectives)
        for one in judged
    }
    stop = all(each.ends for each in found.values())
    # Of many systems only those that keep the rounds going.
    told = found if stop else {name: each for name, each in found.items() if not each.ends}
    why = "; ".join(f"{name}: {each.in_words}" for name, each in told.items())
    return Seen(stop=stop, settled=all(each.settled for each in found.values()), why=why)


def write_rounds(folder: Path, rounds: store.Rounds | None) -> None:
    """Write into `experiment.json` how many rounds were made and why."""
    meta = store.read_experiment(folder)
    if meta.rounds != rounds:
        store.write_experiment(folder, msgspec.structs.replace(meta, rounds=rounds))


def rounds_in_words(rounds: store.Rounds) -> str:
    """Return how the repeats ended, as a sentence."""
    if rounds.settled or rounds.made < rounds.most:
        return f"ended after {rounds.made} of at most {rounds.most} rounds: {rounds.why}"
    return f"all {rounds.most} rounds were made; {rounds.why}"


def _begun(jobs: Iterable[Job]) -> bool:
    """Say whether any of the jobs has ended already."""
    return any((job.folder / store.RUN_FILE).is_file() for job in jobs)
