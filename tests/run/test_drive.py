"""Traffic through a server whose engine only takes time: capacity and the open loop's window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.clock import WallClock
from bench.config import choose
from bench.errors import ConfigError, RunFailed, TreatmentError
from bench.model.fake import FakeEngine
from bench.records import Figures, ServiceLaw
from bench.run.assemble import assemble_written
from bench.run.drive import Drive, Subject, drive_offline
from bench.run.window import drive_window
from bench.serving.policies import POLICIES
from bench.workload.lengths import LENGTHS
from tests.run.driving import STEP_S, Ids, parts, quiet, subject

HUNG_S = 60.0
"""Longer than any test may wait for the engine."""


def test_a_saturated_run_counts_whole_full_batches_after_the_warm_up() -> None:
    clock = WallClock()
    drive = Drive(clock)
    drive_offline(drive, subject(FakeEngine(clock, ServiceLaw(decode_s=STEP_S)), clock), quiet)
    started_s, ended_s = drive.facts["offline_started_s"], drive.facts["offline_ended_s"]
    assert started_s >= 0.1
    assert ended_s - started_s >= 0.3
    assert {started_s, ended_s} <= {c.done_s for c in drive.completions()}
    inside = [
        c
        for c in drive.completions()
        if c.done_s is not None and started_s < c.done_s <= ended_s and c.status == "ok"
    ]
    assert {c.batch_size for c in inside} == {4}
    assert all(c.admit_reason == "size" for c in inside)


def test_nobody_waits_for_a_saturated_runs_requests_so_no_timeout_or_queue_limit_applies() -> None:
    clock = WallClock()
    drive = Drive(clock)
    slow = FakeEngine(clock, ServiceLaw(decode_s=0.02))
    drive_offline(drive, subject(slow, clock, timeout_s=0.01, queue_limit=1), quiet)
    counted = [c for c in drive.completions() if c.batch_id is not None]
    assert len(counted) >= 8
    assert {c.status for c in counted} == {"ok"}


def test_an_interrupt_does_not_wait_for_the_running_batch() -> None:
    clock = WallClock()
    drive = Drive(clock)

    def interrupt(
        phase: str,
        elapsed_s: float = 0.0,
        total_s: float | None = None,
        detail: str = "",
        done: float | None = None,
        figures: Callable[[], Figures] | None = None,
    ) -> None:
        if elapsed_s > 0.2:
            raise KeyboardInterrupt

    engine = FakeEngine(clock, ServiceLaw(decode_s=HUNG_S))
    with pytest.raises(KeyboardInterrupt):
        drive_window(drive, subject(engine, clock), interrupt, rate_rps=40, repeat=1)
    assert clock.now_s() < HUNG_S


def test_a_saturated_run_never_repeats_a_request() -> None:
    clock = WallClock()
    drive = Drive(clock)
    drive_offline(drive, subject(FakeEngine(clock, ServiceLaw(decode_s=STEP_S)), clock), quiet)
    uids = [c.uid for c in drive.completions()]
    assert len(uids) == len(set(uids))


def test_a_system_that_serves_nothing_is_given_up_with_its_own_error() -> None:
    clock = WallClock()
    engine = FakeEngine(clock, fail_on=lambda batch: ValueError("no such kernel"))
    with pytest.raises(RunFailed, match="no such kernel"):
        drive_offline(Drive(clock), subject(engine, clock), quiet)


def test_a_window_scores_what_was_due_inside_it_and_loses_nothing() -> None:
    clock = WallClock()
    drive = Drive(clock)
    drive_window(
        drive, subject(FakeEngine(clock, ServiceLaw(decode_s=STEP_S)), clock), quiet, rate_rps=40, repeat=1
    )
    window = drive.window
    assert window is not None
    assert window.end_s - window.start_s == pytest.approx(0.5)
    scored = [c for c in drive.completions() if window.start_s <= c.due_s < window.end_s]
    assert len(scored) == 20
    assert all(c.status == "ok" for c in scored)
    assert len({c.uid for c in drive.completions()}) == len(drive.completions())


def test_the_same_repeat_sends_the_same_requests_and_another_repeat_others() -> None:
    def sent(repeat: int) -> list[tuple[int, float]]:
        clock = WallClock()
        drive = Drive(clock)
        drive_window(drive, subject(FakeEngine(clock), clock), quiet, rate_rps=40, repeat=repeat)
        assert drive.window is not None
        start_s = drive.window.start_s
        return [
            (c.uid, round(c.due_s - start_s, 6))
            for c in sorted(drive.completions(), key=lambda c: c.due_s)
            if c.due_s >= start_s
        ][:20]

    assert sent(1) == sent(1)
    assert sent(1) != sent(2)


def test_an_engine_that_dies_ends_the_run_and_keeps_what_was_measured() -> None:
    clock = WallClock()
    drive = Drive(clock)
    calls = []

    def die_later(batch: Sequence[object]) -> BaseException | None:
        calls.append(batch)
        return SystemExit("gone") if len(calls) > 3 else None

    engine = FakeEngine(clock, ServiceLaw(decode_s=STEP_S), fail_on=die_later)
    with pytest.raises(RunFailed, match="SystemExit: gone"):
        drive_window(drive, subject(engine, clock), quiet, rate_rps=40, repeat=1)
    assert [c.status for c in drive.completions()].count("ok") >= 3


def test_a_request_that_is_past_its_deadline_when_the_run_is_given_up_is_a_timeout() -> None:
    clock = WallClock()
    drive = Drive(clock)
    hung = FakeEngine(clock, ServiceLaw(prefill_s=HUNG_S))
    drive_window(drive, subject(hung, clock, timeout_s=0.1), quiet, rate_rps=4, repeat=1)
    assert clock.now_s() < HUNG_S
    late = [c for c in drive.completions() if c.done_s is None]
    assert late
    assert {c.status for c in late} == {"timeout"}


def test_a_request_without_an_outcome_before_its_deadline_is_unfinished() -> None:
    clock = WallClock()
    drive = Drive(clock)

    def interrupt(
        phase: str,
        elapsed_s: float = 0.0,
        total_s: float | None = None,
        detail: str = "",
        done: float | None = None,
        figures: Callable[[], Figures] | None = None,
    ) -> None:
        if elapsed_s > 0.3:
            raise KeyboardInterrupt

    hung = FakeEngine(clock, ServiceLaw(prefill_s=HUNG_S))
    with pytest.raises(KeyboardInterrupt):
        drive_window(drive, subject(hung, clock), interrupt, rate_rps=20, repeat=1)
    running = [c for c in drive.completions() if c.done_s is None]
    assert running
    assert all(c.status == "error" and "unfinished" in (c.error or "") for c in running)


def test_the_shipped_experiments_are_all_well_formed() -> None:
    from bench.run.assemble import assemble

    configs = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
    assert len(configs) >= 2
    for path in configs:
        assert assemble(path).experiment.name == path.stem


@pytest.mark.parametrize(
    "batching",
    [
        {"kind": "bucket", "max_size": 4, "max_wait_ms": 1, "edges": [8, 16, 24]},
        {"kind": "dynamic", "max_size": 4, "max_wait_ms": 1, "look_ahead": 4},
    ],
)
def test_a_saturated_run_keeps_enough_waiting_for_a_policy_that_looks_further(
    batching: dict[str, Any],
) -> None:
    clock = WallClock()
    drive = Drive(clock)
    policy = choose(POLICIES, batching, "test", "batching")
    built = parts()
    lengths = choose(LENGTHS, {"kind": "uniform", "min": 1, "max": 32}, "test", "input_tokens")
    traffic = msgspec.structs.replace(built, input_tokens=lengths)
    engine = FakeEngine(clock, ServiceLaw(decode_s=STEP_S))
    drive_offline(drive, Subject(traffic, policy, engine, Ids(), clock), quiet)
    sizes = [c.batch_size for c in drive.completions() if c.status == "ok" and c.batch_size]
    assert np.mean(sizes) > 3.5


def test_a_saturated_run_whose_requests_begin_to_fail_is_given_up() -> None:
    clock = WallClock()
    drive = Drive(clock)
    calls: list[int] = []

    def fail_later(batch: Sequence[object]) -> BaseException | None:
        calls.append(len(batch))
        return MemoryError("no more memory") if len(calls) > 5 else None

    engine = FakeEngine(clock, ServiceLaw(decode_s=STEP_S), fail_on=fail_later)
    with pytest.raises(RunFailed, match="no more memory"):
        drive_offline(drive, subject(engine, clock, offline_s=30.0), quiet)
    assert len(drive.tickets) < 200


def test_an_engine_that_is_not_what_was_asked_for_is_refused_before_any_traffic() -> None:
    clock = WallClock()
    drive = Drive(clock)

    def refuse(facts: Mapping[str, Any]) -> None:
        raise TreatmentError("another cache")

    tested = replace(subject(FakeEngine(clock), clock), on_prepared=refuse)
    with pytest.raises(TreatmentError, match="another cache"):
        drive_window(drive, tested, quiet, rate_rps=40, repeat=1)
    assert drive.tickets == []


def test_an_engine_whose_blocks_cannot_hold_the_longest_request_is_refused_when_it_is_read() -> None:
    written = parts().written | {
        "systems": {"one": {"engine": {"kind": "transformers-continuous", "num_blocks": 1, "block_size": 4}}}
    }
    with pytest.raises(ConfigError, match=r"drive\.toml: systems\.one\.engine: .*num_blocks"):
        assemble_written(written, "drive.toml")


def test_an_unknown_grid_is_refused_when_the_file_is_read_and_not_after_the_run() -> None:
    written = parts().written | {"assumptions": {"grid": "Germany"}}
    with pytest.raises(ConfigError, match=r"drive\.toml: assumptions\.grid = 'Germany' is unknown"):
        assemble_written(written, "drive.toml")
