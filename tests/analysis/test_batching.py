"""Batch sizes, decode rows and reasons, from recorded requests whose figures are known by hand."""

from __future__ import annotations

import pytest

from bench.analysis.batching import batching_of, mean_batch_size, mean_decode_rows
from bench.analysis.metric_set import metric_set
from bench.analysis.system import SystemRuns
from bench.records import Completion, Run
from tests.recorded import ASSUMED, OBJECTIVES, completion, number, steady, window_run


def decoding(due_s: float, first_s: float, gaps_ms: tuple[float, ...], **changes: object) -> Completion:
    """Return a request whose tokens come at `first_s` and then after each gap."""
    end_s = first_s + sum(gaps_ms) / 1000
    return completion(due_s, end_s - due_s, first_token_s=first_s, itl_ms=gaps_ms, **changes)


def system(*runs: Run) -> SystemRuns:
    return SystemRuns(name="baseline", offline=None, windows=list(runs))


def test_two_requests_that_decode_together_for_half_of_the_time_make_one_and_a_half_rows() -> None:
    run = window_run([decoding(11, 11.5, (500.0, 500.0)), decoding(11, 11.5, (250.0, 250.0))])
    assert number(mean_decode_rows(run)) == pytest.approx(1.5)


def test_time_in_which_nobody_decodes_and_rows_past_their_own_end_do_not_count() -> None:
    # The second is a row of a static batch: its last own token comes at 12.0, its batch ends at 14.0.
    apart = [decoding(11, 11.5, (100.0,)), decoding(11, 11.9, (100.0,), decode_s=2.1), decoding(17, 17.5, ())]
    assert number(mean_decode_rows(window_run(apart))) == pytest.approx(1.0)


def test_decoding_counts_as_far_as_it_lies_inside_the_window_whenever_its_request_was_due() -> None:
    before = decoding(8, 9.0, (2000.0,))  # 9 to 11 s
    across = decoding(10, 10.0, (3000.0,))  # 10 to 13 s
    beyond = decoding(19, 19.5, (9000.0,))  # up to 28.5 s
    # 1 s of two rows, 2 s of one, and half a second of one at the end.
    assert number(mean_decode_rows(window_run([before, across, beyond]))) == pytest.approx(4.5 / 3.5)


def test_a_request_without_tokens_is_in_no_row_and_without_any_the_reason_is_said() -> None:
    failed = completion(12.0, status="error", first_token_s=None, itl_ms=None)
    assert number(mean_decode_rows(window_run([failed, decoding(11, 11.5, (500.0,))]))) == pytest.approx(1.0)
    assert "no decoding" in mean_decode_rows(window_run([failed])).why


def test_under_continuous_batching_the_size_is_how_many_ran_once_a_request_had_joined() -> None:
    joined = [completion(10.0 + i, batch_id=i, batch_size=min(i + 1, 4)) for i in range(6)]
    assert number(mean_batch_size(window_run(joined))) == pytest.approx((1 + 2 + 3 + 4 + 4 + 4) / 6)


def test_sizes_are_shares_of_the_batches_and_reasons_shares_of_the_requests() -> None:
    four = [
        completion(11.0, uid=i, batch_id=0, batch_size=4, admit_reason="size", wait_reason="busy")
        for i in range(4)
    ]
    alone = completion(12.0, batch_id=1, batch_size=1, admit_reason="window", wait_reason="window")
    retried = completion(
        13.0, batch_id=2, batch_size=1, admit_reason="retry after OutOfMemoryError: CUDA", wait_reason=None
    )
    refused = completion(14.0, status="rejected", batch_id=None, batch_size=None, admitted_s=None)
    found = batching_of(system(window_run([*four, alone]), window_run([retried, refused])))
    assert found is not None
    assert found.sizes == {"1": pytest.approx(2 / 3), "4": pytest.approx(1 / 3)}
    assert found.p50_size == 1.0
    assert found.p90_size == pytest.approx(3.4)
    assert found.admitted == {
        "size": pytest.approx(4 / 6),
        "window": pytest.approx(1 / 6),
        "retry": pytest.approx(1 / 6),
    }
    assert list(found.waited) == ["busy", "window", "did not wait"]
    assert sum(found.waited.values()) == pytest.approx(1.0)


def test_many_different_sizes_are_put_together_by_powers_of_two() -> None:
    requests = [completion(10.0 + i / 10, batch_id=i, batch_size=i + 1) for i in range(20)]
    found = batching_of(system(window_run(requests)))
    assert found is not None
    assert list(found.sizes) == ["1", "2", "3-4", "5-8", "9-16", "17-32"]
    assert list(found.sizes.values()) == pytest.approx([1 / 20, 1 / 20, 2 / 20, 4 / 20, 8 / 20, 4 / 20])


def test_runs_that_recorded_no_reason_to_wait_say_nothing_of_it() -> None:
    found = batching_of(system(window_run(steady())))
    assert found is not None
    assert (found.admitted, found.waited) == ({}, {})


def test_without_a_batch_there_is_nothing_to_say() -> None:
    nobody = [completion(11.0, status="rejected", batch_id=None, batch_size=None, admitted_s=None)]
    assert batching_of(system(window_run(nobody))) is None
    assert batching_of(system()) is None
    assert metric_set(system(), ASSUMED, OBJECTIVES, origin="here").batching is None
