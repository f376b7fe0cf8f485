"""Repeats that end when the verdict is settled: from run folders, with a measurement that is only written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import store
from bench.config import decode_experiment
from bench.records import Event
from bench.run.assemble import assemble_written
from bench.run.experiment import run_experiment
from bench.run.judging import judge_experiment
from bench.run.plan import Job, window_jobs
from bench.run.rounds import Seen, look_at_verdicts, rounds_in_words, run_rounds
from tests.recorded import PRICE, WINDOW_S, constant_power, offline_run, quality, steady, window_run, write

MOST = 4
TOKENS = {"kind": "constant", "tokens": 8}

N = 80
"""Requests of a repeat: a p95 of fewer is not resolved."""


class Bench:
    """Writes a job's folder instead of measuring it: latency and power by system and repeat."""

    def __init__(self, folder: Path, watts: Callable[[str, int], float]) -> None:
        self.folder, self.watts = folder, watts
        self.made: list[str] = []
        self.events: list[Event] = []
        self.failing: set[str] = set()

    def ensure(self, job: Job) -> str | None:
        if store.is_complete(job.folder):
            return None
        self.made.append(job.name)
        failed: dict[str, Any] = {}
        if job.name in self.failing:
            failed = {"status": "failed", "error": "out of memory", "window": None}
        power = constant_power(self.watts(job.system, job.repeat), hz=2.0)
        latency_s = 0.5 + 0.001 * job.repeat
        run = window_run(
            steady(latency_s, N),
            power,
            system=job.system,
            repeat=job.repeat,
            offered_rps=N / WINDOW_S,
            **failed,
        )
        config = store.read_experiment(self.folder).config
        write(
            self.folder, msgspec.structs.replace(run, meta=msgspec.structs.replace(run.meta, config=config))
        )
        return "failed" if failed else None

    def run(self, **options: Any) -> list[str]:
        return run_rounds(
            self.folder, self.jobs(), self.ensure, look_at_verdicts, self.events.append, **options
        )

    def jobs(self) -> list[Job]:
        systems = list(store.read_experiment(self.folder).config["systems"])
        return window_jobs(self.folder, systems, MOST, "interleaved", 1.0)

    @property
    def rounds(self) -> store.Rounds | None:
        return store.read_experiment(self.folder).rounds


def bench(
    tmp_path: Path, watts: Callable[[str, int], float], systems: tuple[str, ...] = ("old", "new")
) -> Bench:
    folder = tmp_path / "runs" / "demo" / "20260101T000000Z-abc"
    written: dict[str, Any] = {
        "name": "demo",
        "workload": {"requests_per_day": 86_400, "input_tokens": TOKENS, "output_tokens": TOKENS},
        "model": {"id": "tiny"},
        "systems": {name: {"precision": "fp16"} for name in systems},
        "objectives": {"p95_latency_ms": 1200, "waive": ["quality"]},
        "capacity": {"search": False},
        "protocol": {"stop": "decided", "min_repeats": 3, "repeats": MOST},
    }
    meta = store.ExperimentMeta(
        schema=store.SCHEMA,
        name="demo",
        config_file="demo.toml",
        config=msgspec.to_builtins(decode_experiment(written, "demo.toml")),
        written=written,
        argv=[],
        provenance={},
        price=msgspec.to_builtins(PRICE),
        rate_rps=1.0,
    )
    store.write_experiment(folder, meta)
    for name in systems:
        run = offline_run(2.0 * N / WINDOW_S, system=name, table=quality(kl=1e-6))
        write(
            folder, msgspec.structs.replace(run, meta=msgspec.structs.replace(run.meta, config=meta.config))
        )
    return Bench(folder, watts)


def saves(system: str, repeat: int) -> float:
    """Power of a pair of which the new one takes 30 % less, to a watt."""
    return (100.0 if system == "old" else 70.0) + 0.5 * (repeat % 3)


def undecided(system: str, repeat: int) -> float:
    """Power of a pair whose change lies around the threshold, scattered."""
    return 100.0 if system == "old" else 92.0 + 8.0 * (-1) ** repeat


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Run a pair that is settled at the first look."""
    made = bench(tmp_path_factory.mktemp("ended"), saves)
    assert made.run() == []
    return made


def test_a_pair_that_is_settled_at_the_first_look_ends_there(ended: Bench) -> None:
    assert ended.made == ["old.1", "new.1", "new.2", "old.2", "old.3", "new.3"]
    assert ended.rounds is not None
    assert (ended.rounds.made, ended.rounds.most, ended.rounds.settled) == (3, MOST, True)
    assert "new: adopt" in ended.rounds.why
    assert "ended after 3 of at most 4 rounds" in rounds_in_words(ended.rounds)
    assert (ended.events[0].job, ended.events[0].phase) == ("new.3", "look")


def test_a_run_that_ended_early_is_not_called_unfinished(ended: Bench) -> None:
    (judged,) = judge_experiment(ended.folder)
    assert not [doubt for doubt in judged.comparison.doubts if doubt.key == "unfinished"]


def test_a_settled_run_that_is_resumed_stays_as_it_is_and_starts_nothing_more(ended: Bench) -> None:
    before, written = (
        (ended.folder / store.EXPERIMENT_FILE).read_bytes(),
        store.read_experiment(ended.folder).written,
    )
    events: list[Event] = []
    assert run_experiment(assemble_written(written, "demo.toml"), ended.folder, events.append) == []
    assert [event.phase for event in events] == ["look"]
    assert not (ended.folder / "old.4").exists()
    assert (ended.folder / store.EXPERIMENT_FILE).read_bytes() == before


def test_an_open_pair_goes_on_to_the_most_and_says_how_much_more_it_would_need(tmp_path: Path) -> None:
    made = bench(tmp_path, undecided)
    made.run()
    assert len(made.made) == 2 * MOST
    assert made.rounds is not None
    assert (made.rounds.made, made.rounds.settled) == (MOST, False)
    assert "still open: energy" in made.rounds.why
    assert "repeats instead of 4 would settle it" in made.rounds.why
    assert len(made.events) == MOST - 2


def test_of_many_systems_the_open_one_keeps_all_going(tmp_path: Path) -> None:
    made = bench(
        tmp_path, lambda s, r: undecided("new", r) if s == "third" else saves(s, r), ("old", "new", "third")
    )
    for job in made.jobs()[:9]:
        made.ensure(job)
    seen = look_at_verdicts(made.folder, 3)
    assert seen is not None
    assert not seen.stop
    assert seen.why.startswith("third: still open")


def test_an_interrupted_run_looks_again_and_measures_nothing_twice(tmp_path: Path) -> None:
    made = bench(tmp_path, saves)
    whole = made.jobs()
    for job in whole[:5]:  # two rounds, and one job of the third
        made.ensure(job)
    made.made.clear()
    looked: list[int] = []

    def look(folder: Path, number: int) -> Seen | None:
        looked.append(number)
        return Seen(stop=number == 3, settled=True, why="settled")

    run_rounds(made.folder, whole, made.ensure, look, made.events.append)
    assert made.made == ["new.3"]
    assert looked == [3]


def test_a_repeat_that_crashes_settles_it_and_is_made_again_on_resume(tmp_path: Path) -> None:
    made = bench(tmp_path, saves)
    made.failing = {"new.2"}
    assert made.run() == ["failed"]
    assert made.rounds is not None
    assert (made.rounds.made, "new: reject, settled" in made.rounds.why) == (3, True)
    made.failing, made.made = set(), []
    made.run()
    assert made.made == ["new.2"]
    assert made.rounds is not None
    assert "adopt" in made.rounds.why


def test_one_system_alone_makes_every_repeat(tmp_path: Path) -> None:
    made = bench(tmp_path, saves, ("old",))
    made.run()
    assert len(made.made) == MOST
    assert made.rounds is None


def test_what_cannot_be_compared_ends_the_repeats_with_the_reason(tmp_path: Path) -> None:
    made = bench(tmp_path, saves)
    original = made.ensure

    def elsewhere(job: Job) -> str | None:
        failure = original(job)
        if job.system == "new":
            run = store.read_run(job.folder)
            facts = run.meta.facts | {"gpu_name": "another"}
            write(
                made.folder, msgspec.structs.replace(run, meta=msgspec.structs.replace(run.meta, facts=facts))
            )
        return failure

    run_rounds(made.folder, made.jobs(), elsewhere, look_at_verdicts, made.events.append)
    assert made.rounds is not None
    assert (made.rounds.made, made.rounds.settled) == (3, False)
    assert "nothing can be compared" in made.rounds.why


def test_any_other_look_may_decide(tmp_path: Path) -> None:
    made = bench(tmp_path, undecided)

    def enough(folder: Path, number: int) -> Seen | None:
        return None if number < 2 else Seen(stop=True, settled=False, why="as planned")

    run_rounds(made.folder, made.jobs(), made.ensure, enough, made.events.append)
    assert made.rounds == store.Rounds(made=2, most=MOST, settled=False, why="as planned")


@pytest.mark.parametrize("made", [3, 6])
def test_the_sentence_says_whether_it_ended_early(made: int) -> None:
    rounds = store.Rounds(made=made, most=6, settled=made == 3, why="why")
    text = rounds_in_words(rounds)
    assert text.startswith("ended after 3 of at most 6" if made == 3 else "all 6 rounds were made; why")
