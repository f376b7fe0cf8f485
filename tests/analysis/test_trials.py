"""A probe is judged by its own requests, as a window is; and what a search of probes means for a system."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bench.analysis.capacity import (
    baseline_rate,
    capacity,
    doubtful_search,
    kind,
    searched,
    stable_rps,
    throughput,
)
from bench.analysis.metric_set import summarize
from bench.analysis.probes import view_of
from bench.analysis.system import SystemRuns
from bench.analysis.trials import trial
from bench.config import Objectives
from bench.records import Completion, Probe, Run
from tests.analysis.probing import recorded, steady_probe
from tests.recorded import ASSUMED, CONFIG, completion, number, offline_run, window_run

LIMIT = Objectives(p95_latency_ms=1000)
CALM = steady_probe(100.0, 40.0, 0.5)
SLOW = steady_probe(200.0, 50.0, 1.25)
GROWS = steady_probe(300.0, 80.0, 0.5, growth_s=0.5)


def system(*probes: tuple[Probe, list[Completion]], **meta: object) -> SystemRuns:
    """Return a system whose search made `probes`, and whose saturated throughput is 60/s."""
    facts = {"guess_rps": 60.0}
    return SystemRuns(
        name="baseline", offline=offline_run(60.0), windows=[], capacity=recorded(probes, facts=facts, **meta)
    )


def test_a_calm_probe_passes_with_its_margin_its_content_and_littles_law() -> None:
    run = recorded([CALM])
    found = trial(run, CALM[0], LIMIT)
    assert (found.stable, found.passed, found.binds) == (True, True, None)
    assert found.margin == pytest.approx(-0.5)
    assert found.room == pytest.approx(2.0)
    assert (found.n, found.seconds, found.repeat) == (400, 10.0, 1)
    assert found.p95_ms == pytest.approx(500.0)
    assert found.served_rps == pytest.approx(38.1)  # the last half second's answers come outside
    assert found.in_system == pytest.approx(19.5, rel=0.01)
    assert found.little == pytest.approx(1.0, rel=0.03)


def test_a_slow_probe_fails_by_p95_and_a_growing_one_by_its_queue_whatever_its_p95() -> None:
    run = recorded([CALM, SLOW, GROWS])
    assert trial(run, SLOW[0], LIMIT).binds == "p95"
    overloaded = trial(run, GROWS[0], Objectives(p95_latency_ms=60_000))
    assert (overloaded.stable, overloaded.passed, overloaded.binds) == (False, False, "queue")
    assert overloaded.little is not None
    assert overloaded.little > 1.3
    assert overloaded.served_rps == pytest.approx(50.7, rel=0.01)


def test_errors_bind_before_p95_and_without_a_limit_there_is_no_margin() -> None:
    probe, rows = SLOW
    failing = (
        probe,
        [msgspec.structs.replace(row, status="error" if i % 10 == 0 else "ok") for i, row in enumerate(rows)],
    )
    found = trial(recorded([failing]), probe, LIMIT)
    assert found.binds == "errors"
    assert found.margin is None, "one in ten is infinitely slow"
    free = trial(recorded([SLOW]), probe, Objectives())
    assert free.passed
    assert free.margin is None
    assert free.goodput_rps is None


def test_a_probe_that_was_stopped_early_is_unstable_even_if_its_short_window_looks_well() -> None:
    probe = msgspec.structs.replace(CALM[0], stopped="the queue grows")
    found = trial(recorded([(probe, CALM[1])]), probe, LIMIT)
    assert (found.stable, found.binds, found.stopped) == (False, "queue", "the queue grows")


def test_what_another_probe_left_behind_belongs_to_that_one() -> None:
    left = [completion(109.0, uid=7, done_s=None, first_token_s=None, admitted_s=None, status="timeout")]
    run = recorded([(CALM[0], [*CALM[1], *left]), SLOW])
    alone = recorded([SLOW])
    assert trial(run, SLOW[0], LIMIT) == trial(alone, SLOW[0], LIMIT)
    assert view_of(run, SLOW[0]).requests.num_rows == len(SLOW[1])


def test_the_warm_up_of_a_probe_belongs_to_it() -> None:
    probe = msgspec.structs.replace(SLOW[0], warmup_s=5.0)
    warm = [completion(196.0 + 0.1 * i, uid=i) for i in range(30)]
    run = recorded([CALM, (probe, [*warm, *SLOW[1]])])
    assert view_of(run, probe).requests.num_rows == len(SLOW[1]) + 30
    unknown = msgspec.structs.replace(probe, warmup_s=None)
    assert view_of(recorded([CALM, (unknown, [*warm, *SLOW[1]])]), unknown).requests.num_rows >= 530


def test_a_search_gives_throughput_and_the_note_says_what_holds_there() -> None:
    searched_system = system(CALM, SLOW, GROWS)
    value = throughput(searched_system, LIMIT)
    assert 40.0 < number(value) < 50.0
    assert value == capacity(searched_system, LIMIT) == baseline_rate(searched_system, LIMIT)
    for words in (
        "measured on NVIDIA H200; capacity: highest steady rate at which the objectives hold",
        "the p95 objective binds",
        "3 probes of 10 s",
        "objectives: p95 latency <= 1000 ms, at most 0.01 of the requests fail",
    ):
        assert words in value.note
    values = summarize(searched_system, ASSUMED, LIMIT)
    assert values["throughput_requests_per_sec"] == value
    assert number(values["saturated_requests_per_sec"]) == pytest.approx(60.0)
    assert number(values["stable_requests_per_sec"]) == 50.0


def test_under_other_objectives_the_same_probes_give_another_answer() -> None:
    probes = system(CALM, SLOW, GROWS)
    assert number(capacity(probes, Objectives())) == pytest.approx(50.7, rel=0.01)
    assert capacity(probes, Objectives(p95_latency_ms=100)).value is None


def test_where_no_rate_meets_the_objectives_there_is_no_throughput_but_a_stable_rate_to_load_with() -> None:
    hopeless, limit = system(CALM, SLOW, GROWS), Objectives(p95_latency_ms=100)
    value = throughput(hopeless, limit)
    assert value.value is None
    assert "even at 40 requests/s p95 latency is 500 ms" in value.note
    assert baseline_rate(hopeless, limit) == stable_rps(hopeless, limit)
    assert number(baseline_rate(hopeless, limit)) == 50.0


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_search_that_did_not_come_to_its_end_leaves_no_throughput_as_the_saturated_one_is_another_thing(
    status: str,
) -> None:
    ended = system(CALM, status=status, error="out of memory" if status == "failed" else None)
    asked = offline_run(60.0, config=CONFIG | {"capacity": {"search": True}})
    unmade = SystemRuns(name="baseline", offline=asked, windows=[])
    for without in (ended, unmade):
        assert searched(without, LIMIT) is None
        assert throughput(without, LIMIT).value is None
        assert stable_rps(without, LIMIT).value is None
        assert number(baseline_rate(without, LIMIT)) == pytest.approx(60.0)
        assert kind(without) is None
    assert throughput(ended, LIMIT).note.startswith("the capacity search did not complete: ")
    assert throughput(unmade, LIMIT).note == "no capacity search was made, though asked for"


def test_where_no_search_was_asked_for_the_saturated_throughput_stands_in_and_says_so() -> None:
    none = SystemRuns(name="baseline", offline=offline_run(60.0), windows=[])
    assert "offline (saturated) throughput" in throughput(none, LIMIT).note
    assert capacity(none, LIMIT).note == "no capacity search was made"
    assert kind(none) == "saturated"
    assert kind(system(CALM)) == "capacity"
    assert kind(SystemRuns(name="baseline", offline=None, windows=[])) is None


def test_a_probe_is_judged_by_the_facts_of_its_own_sender() -> None:
    probe = msgspec.structs.replace(CALM[0], due=400, pacer={"run_queue_s": 0.5})
    facts = {"due_in_window": 7, "pacer": {"run_queue_s": 9.0}, "guess_rps": 60.0}
    run = recorded([(probe, CALM[1]), SLOW], facts=facts)
    seen = view_of(run, probe).meta.facts
    assert (seen["due_in_window"], seen["pacer"]["run_queue_s"], seen["guess_rps"]) == (400, 0.5, 60.0)
    assert "due_in_window" not in view_of(run, SLOW[0]).meta.facts, "that of another probe"
    assert trial(run, probe, LIMIT).client == "VALID"


def test_a_probe_that_was_not_sent_as_asked_counts_for_nothing_and_is_told() -> None:
    unsent = (msgspec.structs.replace(SLOW[0], due=1000), SLOW[1])
    found = trial(recorded([unsent]), unsent[0], LIMIT)
    assert (found.client, found.counts) == ("INVALID", False)
    assert "requests were never sent: 500 of 1000 due" in found.faults
    value = throughput(system(CALM, unsent, GROWS), LIMIT)
    assert value.value == throughput(system(CALM, GROWS), LIMIT).value
    assert "3 probes of 10 s, 1 of which had an INVALID client and do not count" in value.note
    assert stable_rps(system(unsent, GROWS), LIMIT).value is None
    doubted = doubtful_search(system(CALM, unsent, GROWS))
    assert doubted is not None
    assert "1 of 3 probes of the capacity search had an INVALID client" in doubted[0]


def test_what_a_probe_that_was_ended_early_left_behind_is_not_its_clients_fault() -> None:
    probe = msgspec.structs.replace(GROWS[0], stopped="the queue grows", due=800)
    left = [msgspec.structs.replace(row, status="error", error="unfinished", done_s=None) for row in GROWS[1]]
    found = trial(recorded([(probe, [*GROWS[1][:400], *left[400:700]])]), probe, LIMIT)
    assert found.client == "VALID"
    assert found.error_rate is None


def test_a_draw_is_known_again_at_another_rate_and_under_another_number() -> None:
    def drawn(seed: int, start_s: float, rate_rps: float, repeat: int) -> str | None:
        gaps = np.random.default_rng(seed).exponential(1.0 / rate_rps, round(10.0 * rate_rps))
        rows = [completion(start_s + due_s, uid=i) for i, due_s in enumerate(np.cumsum(gaps) - gaps[0])]
        probe = steady_probe(start_s, rate_rps, 0.5, repeat=repeat)[0]
        return trial(recorded([(probe, rows)]), probe, LIMIT).draw

    first = drawn(1, 100.0, 40.0, 1)
    assert first is not None
    assert drawn(1, 3300.0, 57.3, 2) == first
    assert drawn(2, 100.0, 40.0, 2) != first


def test_a_window_that_was_ended_early_is_saturated() -> None:
    run: Run = window_run(config=CONFIG, facts={"stopped_early": "the queue grows"})
    value = summarize(SystemRuns(name="baseline", offline=None, windows=[run]), ASSUMED, LIMIT)[
        "p95_latency_ms"
    ]
    assert value.value is None
    assert value.note.startswith("saturated at 1 requests/s")
