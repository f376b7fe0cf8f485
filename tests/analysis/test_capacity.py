"""The saturated run: whole batches in, whole batches out, and what its figure says about the common rate."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from bench.analysis.metric_set import metric_set
from bench.analysis.summary import below_offered_rps, offline_rps, offline_tokens_per_s, why_saturated
from bench.analysis.system import SystemRuns
from bench.records import Completion, Run
from tests.recorded import (
    ASSUMED,
    OBJECTIVES,
    completion,
    number,
    offline_run,
    steady,
    table,
    window_run,
)


def saturated(rows: Sequence[Completion], ended_s: float) -> SystemRuns:
    """Return a system whose saturated run consists of `rows`, measured from 0 s on."""
    run = offline_run(facts={"offline_started_s": 0.0, "offline_ended_s": ended_s})
    requests: pa.Table = table(rows, Completion)
    recorded = Run(folder=run.folder, meta=run.meta, requests=requests, telemetry=run.telemetry)
    return SystemRuns(name="baseline", offline=recorded, windows=[])


def batch(number: int, end_s: float, size: int = 4, **changes: object) -> list[Completion]:
    """Return a batch whose answers come 10 ms apart, as after detokenizing; the last at `end_s`."""
    return [
        completion(
            0.0,
            end_s - 0.01 * (size - 1 - i),
            uid=10 * number + i,
            batch_id=number,
            **({"admitted_s": end_s - 0.4} | changes),
        )
        for i in range(size)
    ]


def test_a_batch_is_one_piece_of_work_although_its_answers_come_one_by_one() -> None:
    # Twenty requests, but five batches only: 4 requests each 0.5 s, exactly 8/s.
    five = saturated([row for i in range(1, 6) for row in batch(i, 0.5 * i)], 2.5)
    value = offline_rps(five)
    assert number(value) == pytest.approx(8.0)
    assert value.n == 5
    assert (value.low, value.high) == pytest.approx((8.0, 8.0)), "no batch is cut, so nothing varies"
    assert number(offline_tokens_per_s(five)) == pytest.approx(40.0)
    assert offline_rps(saturated([row for i in range(1, 5) for row in batch(i, 0.5 * i)], 2.0)).low is None


def test_a_batch_counts_by_its_end_so_that_the_warm_ups_last_one_does_not() -> None:
    # Batch 0 ends at 0 s, where the measurement starts; batch 3 ends after it has ended.
    rows = [*batch(0, 0.0), *batch(1, 0.5), *batch(2, 1.0), *batch(3, 1.5)]
    value = offline_rps(saturated(rows, 1.495))
    assert number(value) == pytest.approx(8.0)
    assert "n = 8 in 1 s" in value.note


def test_a_batch_that_failed_took_its_time() -> None:
    rows = [*batch(1, 0.5), *batch(2, 1.0, status="error"), *batch(3, 1.5), *batch(4, 2.0, status="timeout")]
    assert number(offline_rps(saturated(rows, 2.0))) == pytest.approx(4.0)
    nothing = offline_rps(saturated(batch(1, 0.5, status="error"), 0.5))
    assert nothing.note == "the saturated run answered no request"


def test_where_requests_join_others_each_answer_is_a_piece_of_work() -> None:
    # Forty are admitted at once and end one by one, ten a second; each is followed by one that joins.
    first = [completion(0.0, 0.1 * i, uid=i, batch_id=0, admitted_s=0.0) for i in range(1, 41)]
    later = [completion(0.0, 0.1 * i + 4.0, uid=40 + i, batch_id=i, admitted_s=0.1 * i) for i in range(1, 41)]
    system = saturated([*first, *later], 3.05)
    assert system.offline is not None
    system.offline.meta.facts["offline_started_s"] = 1.0
    value = offline_rps(system)
    assert number(value) == pytest.approx(10.0)
    assert "n = 20 in 2 s" in value.note


def few(rps: float) -> SystemRuns:
    """Return a system with three requests in its window, too few to see a queue grow, at 1 request/s."""
    return SystemRuns(name="baseline", offline=offline_run(rps), windows=[window_run(steady(n=3))])


def test_a_rate_above_its_own_saturated_throughput_saturates_a_system_however_few_requests_show_it() -> None:
    found = metric_set(few(0.8), ASSUMED, OBJECTIVES, origin="here")
    assert found.saturated
    p95 = found.values["p95_latency_ms"]
    assert p95.value is None
    assert p95.note.startswith("saturated at 1 requests/s: it answers at most 0.8 when saturated")
    assert not metric_set(few(1.2), ASSUMED, OBJECTIVES, origin="here").saturated


def test_the_upper_end_of_the_throughputs_interval_counts() -> None:
    # Ten batches of 4, alternating 3 s and 6 s: 0.89 requests/s, give or take 0.25.
    ends_s = [4.5 * i + (0.75 if i % 2 else -0.75) for i in range(1, 11)]
    rows = [row for i, end_s in enumerate(ends_s, 1) for row in batch(i, end_s)]
    unsure = saturated(rows, ends_s[-1])
    value = offline_rps(unsure)
    assert value.high is not None
    assert number(value) < 1.0 < value.high
    system = SystemRuns(name="baseline", offline=unsure.offline, windows=[window_run(steady(n=3))])
    assert below_offered_rps(system) is None
    assert why_saturated(system) is None


def test_without_a_repeat_or_without_capacity_nothing_is_called_saturated() -> None:
    assert why_saturated(SystemRuns(name="baseline", offline=offline_run(0.1), windows=[])) is None
    assert why_saturated(SystemRuns(name="baseline", offline=None, windows=[window_run(steady(n=3))])) is None
