"""The self-test sees what a costly meter or policy takes from an engine, and stores what it saw."""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.clock import WallClock
from bench.errors import ResultError, RunFailed
from bench.model.fake import FakeEngine
from bench.protocols import Admission, Meter, Policy, Running, Waiting
from bench.records import Figures, Request, ServiceLaw
from bench.run.assemble import assemble_written
from bench.run.clockwork import Pacing, Queueing, pacing, queueing
from bench.run.overhead import Rounds, Subject, Trial, measure
from bench.run.selftest import SCHEMA, Cost, SelfTest, read, result_of, selftest, store
from bench.serving.policies import ContinuousBatching, DynamicBatching, NoBatching
from tests.run.driving import quiet

BATCH_S = 0.004
LAW = ServiceLaw(prefill_s=BATCH_S)


@pytest.fixture(autouse=True, scope="module")
def frozen() -> None:
    """Leave what tests before have made out of the collections between trials, which it would slow."""
    gc.collect()
    gc.freeze()


class Working(WallClock):
    """A clock on which time passes by computing: a thread that takes the interpreter makes it late."""

    def __init__(self) -> None:
        super().__init__()
        started = time.perf_counter()
        self._work(200_000)
        self._per_s = 200_000 / (time.perf_counter() - started)

    def sleep_until(self, t_s: float) -> None:
        self._work(int(max(0.0, t_s - self.now_s()) * self._per_s))

    def _work(self, n: int) -> None:
        for _ in range(n):
            pass


class Costly:
    """A meter that computes nearly all the time, without giving the interpreter away by itself."""

    missing: Mapping[str, str] = {}
    facts: Mapping[str, Any] = {}
    simulated = False

    def read(self) -> list[tuple[str, float, str | None]]:
        until_s = time.perf_counter() + 0.02
        while time.perf_counter() < until_s:
            pass
        return [("rss_gb", 1.0, None)]

    def close(self) -> None:
        """Nothing is open."""


class Thinking(NoBatching, frozen=True):
    """A policy that thinks for three times as long as a batch takes."""

    def admit(
        self, waiting: Sequence[Waiting], running: Running, now_s: float, *, draining: bool
    ) -> Admission:
        time.sleep(3 * BATCH_S)
        return super().admit(waiting, running, now_s, draining=draining)


def draw(n: int) -> list[Request]:
    return [Request(uid=uid, due_s=0.0, prompt_ids=(uid, 1), output_tokens=1 + uid % 3) for uid in range(n)]


def subject(
    engine: FakeEngine, policy: Policy, clock: WallClock, meters: Mapping[str, Meter] | None = None
) -> Subject:
    return Subject(engine=engine, policy=policy, clock=clock, meters=meters or {}, period_s=0.005)


def by_name(found: SelfTest) -> dict[str, Cost]:
    return {cost.what: cost for cost in found.costs}


@functools.cache
def clockwork() -> tuple[Pacing, Queueing]:
    return pacing(0.05, 400.0), queueing(500)


def result(rounds: Rounds, tried: Subject) -> SelfTest:
    sent, queued = clockwork()
    return result_of(
        rounds,
        tried,
        pacing=sent,
        queueing=queued,
        names={"system": "one"},
        config_file="x.toml",
    )


def test_a_meter_that_takes_the_interpreter_is_seen_to_cost_more_than_the_limit() -> None:
    clock = Working()
    tried = subject(FakeEngine(clock, LAW), NoBatching(), clock, {"costly": Costly()})
    found = result(measure(tried, draw, pairs=12, seconds=0.05, emit=quiet), tried)
    costs = by_name(found)
    sampler = costs["sampler"].throughput
    assert sampler is not None
    assert sampler.median < 0.9
    assert costs["sampler"].verdict == "exceeded"
    assert costs["harness"].verdict == "exceeded"
    assert (found.verdict, found.exit_code) == ("exceeded", 1)
    assert found.sampler["reads"] > 0
    assert found.sampler["read_ms_median"] >= 20


def test_a_slow_policy_costs_the_harness_and_not_the_sampler() -> None:
    clock = WallClock()
    tried = subject(FakeEngine(clock, LAW), Thinking(), clock)
    found = result(measure(tried, draw, pairs=12, seconds=0.05, emit=quiet), tried)
    costs = by_name(found)
    assert costs["harness"].throughput is not None
    assert costs["harness"].throughput.median < 0.7
    assert costs["harness"].verdict == "exceeded"
    assert costs["sampler"].throughput is not None
    assert costs["sampler"].throughput.median > costs["harness"].throughput.median + 0.1


def test_all_ways_serve_the_same_requests_in_the_same_full_batches() -> None:
    clock = WallClock()
    tried = subject(FakeEngine(clock, LAW), DynamicBatching(max_size=4, max_wait_ms=50), clock)
    rounds = measure(tried, draw, pairs=2, seconds=0.05, emit=quiet)
    trials = [trial for of_way in rounds.trials.values() for trial in of_way]
    assert {len(batch) for trial in trials for batch in trial.batches} == {4}
    assert len({trial.batches for trial in trials}) == 1
    assert sorted(uid for batch in trials[0].batches for uid in batch) == list(range(rounds.requests))


def test_requests_that_join_one_another_are_computed_bare_as_they_were_through_the_loop() -> None:
    clock = WallClock()
    law = ServiceLaw(prefill_s=0.001, decode_s=0.001)
    tried = subject(FakeEngine(clock, law, style="steps"), ContinuousBatching(max_size=3), clock)
    rounds = measure(tried, draw, pairs=2, seconds=0.05, emit=quiet)
    order = [
        [uid for batch in t.batches for uid in batch] for of_way in rounds.trials.values() for t in of_way
    ]
    assert all(uids == list(range(rounds.requests)) for uids in order)
    ratios = rounds.ratios("served", "engine", lambda trial: trial.took_s)
    assert len(ratios) == 2
    assert all(0.5 < ratio < 5 for ratio in ratios)  # else the bare loop had left slots empty


def test_stock_generation_takes_the_engines_place_where_there_is_any() -> None:
    clock = WallClock()
    tried = subject(FakeEngine(clock, LAW), NoBatching(), clock)
    tried.generate = lambda batch: time.sleep(BATCH_S / 4)
    found = result(measure(tried, draw, pairs=6, seconds=0.05, emit=quiet), tried)
    costs = by_name(found)
    assert found.bare == "stock generate"
    assert costs["harness"].throughput is not None
    assert costs["harness"].throughput.median < 0.6
    assert costs["token times"].throughput is not None
    assert costs["token times"].throughput.median < 0.6  # the engine took four times as long
    assert costs["serving"].verdict is None


def trial(took_s: float, batches: tuple[tuple[int, ...], ...] = ((0,),)) -> Trial:
    return Trial(took_s=took_s, processor_s=took_s, service_p95_s=took_s, batches=batches)


def rounds_of(bare_s: float, sampled_s: float, served_s: float = 1.0, n: int = 8) -> Rounds:
    seconds = {"engine": bare_s, "served": served_s, "sampled": sampled_s}
    trials = {way: (trial(took_s),) * n for way, took_s in seconds.items()}
    return Rounds(trials=trials, requests=1, joins=False)


@pytest.mark.parametrize(
    ("bare_s", "sampled_s", "verdict", "code"),
    [(0.995, 1.0, "passed", 0), (0.985, 1.0, "exceeded", 1), (1.0, 1.02, "exceeded", 1)],
)
def test_the_verdict_is_that_of_the_dearer_part(
    bare_s: float, sampled_s: float, verdict: str, code: int
) -> None:
    clock = WallClock()
    found = result(rounds_of(bare_s, sampled_s), subject(FakeEngine(clock), NoBatching(), clock))
    costs = by_name(found)
    assert (found.verdict, found.exit_code) == (verdict, code)
    assert costs["harness"].throughput is not None
    assert costs["harness"].throughput.median == pytest.approx(bare_s / sampled_s)


def test_too_few_pairs_resolve_nothing_and_are_no_failure() -> None:
    clock = WallClock()
    found = result(rounds_of(0.9, 1.0, n=5), subject(FakeEngine(clock), NoBatching(), clock))
    assert (found.verdict, found.exit_code) == ("not resolved", 0)


def test_a_pair_that_made_different_batches_is_left_out() -> None:
    rounds = rounds_of(1.0, 1.0, n=7)
    other = (*rounds.trials["sampled"][:-1], trial(9.0, ((0,), (1,))))
    rounds = msgspec.structs.replace(rounds, trials=rounds.trials | {"sampled": other})
    clock = WallClock()
    found = result(rounds, subject(FakeEngine(clock), NoBatching(), clock))
    costs = by_name(found)
    assert (costs["sampler"].pairs, costs["sampler"].rounds) == (6, 7)
    assert costs["sampler"].throughput is not None
    assert costs["sampler"].throughput.low == 1.0


def test_a_request_that_fails_ends_the_test_with_its_own_error() -> None:
    clock = WallClock()
    engine = FakeEngine(clock, LAW, fail_alone=lambda request: "no such kernel")
    with pytest.raises(RunFailed, match="no such kernel"):
        measure(subject(engine, NoBatching(), clock), draw, pairs=1, seconds=0.05, emit=quiet)


def test_a_stored_result_is_read_back_as_it_was(tmp_path: Path) -> None:
    clock = WallClock()
    found = result(rounds_of(0.999, 1.0), subject(FakeEngine(clock), NoBatching(), clock))
    path = store(found, tmp_path)
    assert path.parent == tmp_path / "selftest"
    assert read(path) == found
    assert found.trials_s["engine"] == [0.999] * 8
    assert found.provenance["packages"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no valid JSON"),
        ("[]", "no schema number"),
        (f'{{"schema": {SCHEMA + 1}}}', "newer than"),
        (f'{{"schema": {SCHEMA}}}', "does not fit"),
    ],
)
def test_what_is_no_stored_result_is_refused_in_a_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultError, match=why):
        read(path)


def test_a_result_that_is_not_there_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="cannot be read"):
        read(tmp_path / "x.json")


def test_the_known_queue_shows_its_known_wait_and_a_slower_server_does_not() -> None:
    found = queueing(4_000)
    assert found.ok
    assert found.theory == pytest.approx(2.0)
    assert found.high - found.low < 0.6
    slower = queueing(4_000, ServiceLaw(prefill_s=1.1))
    assert not slower.ok
    assert slower.low > slower.theory


def test_a_wrong_queue_fails_the_test_whatever_the_harness_costs() -> None:
    clock = WallClock()
    found = result(rounds_of(1.0, 1.0), subject(FakeEngine(clock), NoBatching(), clock))
    wrong = msgspec.structs.replace(found, queueing=queueing(500, ServiceLaw(prefill_s=1.1)))
    assert (wrong.verdict, wrong.exit_code) == ("passed", 1)


def test_every_request_of_the_senders_check_is_sent_and_its_lag_is_of_all_of_them() -> None:
    found = pacing(0.1, 300.0)
    assert found.requests == 30
    assert 0 <= found.lag_p50_ms <= found.lag_p99_ms <= found.lag_max_ms
    assert found.ok == (found.lag_p99_ms <= 1.0)


def test_the_shipped_model_goes_through_the_whole_self_test() -> None:
    written = {
        "name": "selftest",
        "workload": {
            "requests_per_day": 1000,
            "input_tokens": {"kind": "constant", "tokens": 8},
            "output_tokens": {"kind": "constant", "tokens": 4},
        },
        "model": {"id": "tiny", "device": "cpu", "cpu_threads": 1},
        "systems": {
            "first": {
                "precision": "fp32",
                "batching": {"kind": "dynamic", "max_size": 2, "max_wait_ms": 500},
            },
            "second": {"precision": "fp16"},
        },
    }
    phases: list[str] = []

    def note(
        phase: str,
        elapsed_s: float = 0.0,
        total_s: float | None = None,
        detail: str = "",
        done: float | None = None,
        figures: Callable[[], Figures] | None = None,
    ) -> None:
        phases.append(phase)

    found = selftest(assemble_written(written, "selftest.toml"), pairs=2, seconds=0.05, emit=note)
    costs = by_name(found)
    assert phases == ["load", "prepare", "pairs", "pairs", "clockwork"]
    assert found.subject["system"] == "first"
    assert found.bare == "stock generate"
    assert found.sampler["meters"] == ["host"]
    assert costs["harness"].throughput is not None
    assert 0.2 < costs["harness"].throughput.median < 2
    assert found.queueing.ok
