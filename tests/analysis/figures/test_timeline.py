from __future__ import annotations

from typing import Any

import msgspec

from bench.analysis.evaluation import Origin
from bench.analysis.figures.timeline import timeline
from tests.analysis.figures.evaluating import cells, evaluation_of, of_requests, of_runs
from tests.recorded import completion, steady, system_runs, window_run

QUEUE = ("t_s", "waiting", "waiting_most", "running", "running_most")


def test_who_waits_and_who_runs_is_known_at_every_moment() -> None:
    rows = [
        completion(10.0, 4.0, admitted_s=12.0, first_token_s=13.0),
        completion(11.0, 4.0, admitted_s=14.0, first_token_s=14.5),
    ]
    found = cells(timeline(evaluation_of(of_requests(rows))), "queue", *QUEUE)
    assert found[:-1] == [
        (0.0, 1.0, 1, 0.0, 0),
        (1.0, 2.0, 2, 0.0, 0),
        (2.0, 1.0, 1, 1.0, 1),
        (4.0, 0.0, 0, 1.0, 1),
        (5.0, 0.0, 0, 0.0, 0),
    ]
    assert found[-1][1:] == (0.0, 0, 0.0, 0)


def test_a_short_wait_counts_with_its_length_and_as_the_highest() -> None:
    rows = [completion(10.0, 1.0, admitted_s=10.0 + 0.0625 / 4)]
    first = cells(timeline(evaluation_of(of_requests(rows))), "queue", *QUEUE)[0]
    assert first == (0.0, 0.25, 1, 0.75, 1)


def test_who_was_turned_away_never_waited_and_who_was_given_up_waited_to_the_end() -> None:
    nothing: dict[str, Any] = {
        "admitted_s": None,
        "first_token_s": None,
        "queue_s": None,
        "prefill_s": None,
        "decode_s": None,
    }
    rejected = completion(10.0, 2.0, status="rejected", **nothing)
    given_up = completion(15.0, status="timeout", **nothing | {"done_s": None})
    figure = timeline(evaluation_of(of_requests([rejected, given_up])))
    waiting = cells(figure, "queue", "t_s", "waiting_most")
    assert waiting == [(0.0, 0), (5.0, 1), (9.9375, 1)]
    assert cells(figure, "unanswered", "status", "n") == [("rejected", 1), ("timeout", 1)]
    assert figure.datasets["requests"].rows == ()


def test_warm_up_window_and_drain_are_told_apart() -> None:
    rows = [completion(7.0), *steady(), completion(19.9, 5.1)]
    figure = timeline(evaluation_of(of_requests(rows)))
    assert cells(figure, "spans", "part", "start_s", "end_s") == [
        ("warm-up", -3.0, 0.0),
        ("window", 0.0, 10.0),
        ("drain", 10.0, 15.0),
    ]
    assert cells(figure, "requests", "t_s", "latency_ms")[0] == (-3.0, 500.0)
    assert len(cells(figure, "requests", "t_s")) == 12


def test_the_sentence_has_the_mean_queue_of_the_windows() -> None:
    # Each of ten requests waits 0.1 s in a window of 10 s.
    figure = timeline(evaluation_of(of_requests(steady())))
    assert "0.1 (at most 1) with baseline" in figure.reading


def test_the_sentence_knows_no_warm_up_and_the_longest_queue_of_any_repeat() -> None:
    warming = [completion(7.0, 2.9, admitted_s=9.8), completion(7.5, 2.4, admitted_s=9.8)]
    together = [completion(row.due_s, admitted_s=row.due_s + 0.3) for row in steady() for _ in range(2)]
    runs = [
        window_run([*warming, *rows], [], repeat=i, offered_rps=len(rows) / 10.0)
        for i, rows in enumerate((together, steady()), 1)
    ]
    # Twenty requests wait 0.3 s in the one, ten 0.1 s in the other.
    assert "0.35 (at most 2) with baseline" in timeline(evaluation_of(of_runs(*runs))).reading


def test_that_systems_had_the_same_traffic_is_said_of_several_of_one_folder() -> None:
    said = "Repeats of one number had the same traffic in every system."
    two = evaluation_of(system_runs("a"), system_runs("b"))
    assert said in timeline(two).notes
    assert said not in timeline(evaluation_of(system_runs("a"), of_runs(name="b"))).notes
    origin = Origin(folder="one", config_file="", command=(), provenance={}, written={})
    assert said not in timeline(msgspec.structs.replace(two, origins=(origin, origin))).notes


def test_many_requests_are_thinned_with_the_fastest_and_the_slowest() -> None:
    rows = [completion(10.0 + i / 300, 0.3 + (i % 7) / 100) for i in range(3000)]
    rows[1500] = completion(15.0, 4.5)
    rows[1600] = completion(10.0 + 1600 / 300, 0.21)
    figure = timeline(evaluation_of(of_requests(rows)))
    latencies = [ms for (ms,) in cells(figure, "requests", "latency_ms")]
    assert len(latencies) <= 300
    assert {4500.0, 210.0} <= set(latencies)
    assert "the fastest, the median and the slowest" in figure.datasets["requests"].thinned


def test_a_repeat_that_was_ended_early_says_so_and_none_says_why() -> None:
    early = window_run(steady(), [], facts={"stopped_early": "the queue grew"})
    figure = timeline(evaluation_of(of_runs(early)))
    assert "baseline, repeat 1: ended early, as the queue grew." in figure.notes
    assert "no repeat at a common rate was completed" in timeline(evaluation_of(of_runs())).missing
    assert "no request was due" in timeline(evaluation_of(of_requests([]))).missing
