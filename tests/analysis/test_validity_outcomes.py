"""What the system did is no fault of the client; and what an invalid client does to figures and verdicts."""

from __future__ import annotations

import msgspec
import pytest

from bench.analysis.csvfile import render
from bench.analysis.doubts import find_doubts
from bench.analysis.latency import growth
from bench.analysis.metric_set import summarize
from bench.analysis.system import SystemRuns
from bench.analysis.validity import judge_run, judge_validity, worst_validity
from tests.analysis.clients import INVALID, judged, run, sent
from tests.analysis.pairs import FASTER, judge, metrics
from tests.analysis.probing import recorded, steady_probe
from tests.recorded import ASSUMED, CONFIG, OBJECTIVES, START_S, constant_power, offline_run


def test_a_request_that_was_sent_and_never_ended_makes_the_run_invalid() -> None:
    rows = sent()
    rows[7] = msgspec.structs.replace(
        rows[7], done_s=None, first_token_s=None, status="error", error="unfinished 9 s after it was due"
    )
    found = judged(rows)
    assert (found.level, found.unfinished) == ("INVALID", 1)
    assert "requests never came to an end: 1 of 1000 due" in found.reasons
    assert found.in_words.endswith("1 unfinished")


PROTOCOL = CONFIG | {"protocol": {"timeout_s": 120.0}}


@pytest.mark.parametrize("lag_s", [0.0, 0.003, 0.012])
@pytest.mark.parametrize("share", [0.005, 0.05, 1.0])
@pytest.mark.parametrize(
    ("status", "took_s"),
    [
        ("error", 0.5),
        ("error", None),
        ("timeout", 120.0),
        ("timeout", None),
        ("rejected", 0.5),
        ("rejected", 0.012),
    ],
)
def test_what_the_system_did_to_its_requests_is_no_fault_of_the_client(
    status: str, took_s: float | None, share: float, lag_s: float
) -> None:
    every = round(1 / share)
    rows = [
        msgspec.structs.replace(
            row,
            status=status,
            first_token_s=None,
            done_s=None if took_s is None else row.due_s + took_s,
        )
        if i % every == 0
        else row
        for i, row in enumerate(sent(lag_s))
    ]
    found = judged(rows, config=PROTOCOL)
    assert found.level == "VALID", found.reasons
    assert found.unfinished == 0


def test_an_overloaded_system_is_rejected_and_not_its_client_blamed() -> None:
    # Nothing was answered in time, and the requests left 3 ms late: a 40,000th of what users waited.
    rows = [msgspec.structs.replace(row, status="timeout", done_s=None) for row in sent(0.003)]
    found = judge_validity(run(rows, config=PROTOCOL))
    assert found.level == "VALID"
    crowded = FASTER | {"error_rate": (1.0, 1.0, 1.0), "p95_latency_ms": "more than 5 % failed"}
    assert judge(crowded, client=found, p95_unbounded=True).decision == "reject"


def test_a_late_sender_is_not_excused_by_a_few_failures() -> None:
    rows = [
        msgspec.structs.replace(row, status="rejected", done_s=row.sent_s) if i % 20 == 0 else row
        for i, row in enumerate(sent(0.03))
    ]
    found = judged(rows, config=PROTOCOL)
    assert found.level == "INVALID"
    assert "limit 25 ms (1 ms or 5 % of p99 of latency or time to fail)" in found.reasons
    nothing = [msgspec.structs.replace(row, status="timeout", done_s=None) for row in sent(7.0)]
    assert "limit 6e+03 ms (1 ms or 5 % of the timeout" in judged(nothing, config=PROTOCOL).reasons


@pytest.mark.parametrize("done_s", [None, START_S + 200.0])
def test_requests_that_were_given_up_after_their_deadline_count_as_timeouts_everywhere(
    done_s: float | None,
) -> None:
    rows = sent(n=10)
    for i in range(4, 10):
        rows[i] = msgspec.structs.replace(
            rows[i],
            status="timeout",
            error="not done 120 s after it was due",
            **dict.fromkeys(
                (
                    "admitted_s",
                    "first_token_s",
                    "padded_tokens",
                    "padded_prefill_tokens",
                    "batch_id",
                    "batch_size",
                    "queue_s",
                    "prefill_s",
                    "decode_s",
                    "itl_ms",
                )
            ),
            output_tokens=0,
            done_s=done_s,
        )
    given_up = run(rows, offered_rps=1.0, config=PROTOCOL)
    system = SystemRuns(name="baseline", offline=None, windows=[given_up])
    values = summarize(system, ASSUMED, OBJECTIVES)
    assert values["error_rate"].value == pytest.approx(0.6)
    assert "6 timeouts of 10" in values["p95_latency_ms"].note
    assert values["goodput_requests_per_sec"].value == pytest.approx(0.4)
    assert values["padding_share"].n == 1
    assert values["time_weighted_waste"].value is not None
    assert values["mean_batch_size"].value == 1.0
    # Waiting all the while: 4.8 on average in the last third, where the first had 0.55.
    assert growth(given_up).backlog == pytest.approx(4.25)


def test_of_several_repeats_the_worst_one_counts_and_those_that_did_not_complete_do_not() -> None:
    degraded, invalid = run(sent(0.013)), run(sent(0.03))
    crashed = run(sent(0.9), status="failed")
    assert worst_validity([run(sent()), degraded, crashed]) == judge_validity(degraded)
    assert worst_validity([run(sent()), invalid, degraded]) == judge_validity(invalid)
    assert worst_validity([crashed]) is None
    assert worst_validity([]) is None


@pytest.mark.parametrize(("lag_s", "said"), [(0.0, None), (0.013, "DEGRADED"), (0.03, "INVALID")])
def test_a_client_that_is_not_valid_is_doubted(lag_s: float, said: str | None) -> None:
    system = SystemRuns(name="baseline", offline=None, windows=[run(sent()), run(sent(lag_s))])
    found = {doubt.key: doubt for doubt in find_doubts(system, summarize(system, ASSUMED, OBJECTIVES))}
    if said is None:
        assert "client" not in found
    else:
        assert f"the client is {said} in its worst repeat" in found["client"].text
        assert found["client"].remedy


def test_every_figure_of_an_invalid_client_says_so_and_those_of_the_saturated_run_do_not() -> None:
    late = [run(sent(lag_s), constant_power()) for lag_s in (0.0, 0.03)]
    system = SystemRuns(name="baseline", offline=offline_run(), windows=late)
    values = summarize(system, ASSUMED, OBJECTIVES)
    said = "; INVALID client: requests left late"
    warned = {name for name, value in values.items() if value.note.endswith(said)}
    assert {
        "p50_latency_ms",
        "p95_latency_ms",
        "average_memory_gb",
        "estimated_energy_kwh_per_1k_requests",
        "co2e_kg_per_1k_requests",
        "goodput_requests_per_sec",
        "error_rate",
        "time_weighted_waste",
        "dispatch_lag_p99_ms",
    } <= warned
    assert not warned & {"throughput_requests_per_sec", "cost_per_1k_requests_usd", "weights_gb", "load_s"}
    assert said in render(values, "baseline")
    fine = SystemRuns(name="baseline", offline=None, windows=[run(sent(0.013))])
    assert not any("client" in value.note for value in summarize(fine, ASSUMED, OBJECTIVES).values())


@pytest.mark.parametrize("side", ["baseline", "optimized"])
def test_nothing_is_adopted_or_rejected_on_the_word_of_an_invalid_client(side: str) -> None:
    assert judge(FASTER).decision.startswith("adopt")
    if side == "baseline":
        verdict = judge(FASTER, baseline=metrics("baseline", client=INVALID))
    else:
        verdict = judge(FASTER, client=INVALID)
    assert verdict.decision == "not enough evidence"
    assert verdict.binding.startswith(f"the client is INVALID: {side}: requests left late")
    assert verdict.settle == INVALID.recommendation
    too_slow = FASTER | {"p95_latency_ms": (2000.0, 2001.0, 1999.0)}
    assert judge(too_slow).decision == "reject"
    assert judge(too_slow, client=INVALID).decision == "not enough evidence"


def test_a_degraded_client_is_a_doubt_and_no_obstacle() -> None:
    degraded = judge_validity(run(sent(0.013)))
    verdict = judge(FASTER, client=degraded)
    assert verdict.decision.startswith("adopt")
    (gate,) = [gate for gate in verdict.gates if gate.name == "client"]
    assert gate.outcome == "pass"
    assert gate.text.startswith(
        "baseline: VALID; optimized: DEGRADED (requests left late: dispatch lag p99 13 ms"
    )


def test_a_job_without_a_window_has_no_client_to_judge() -> None:
    with pytest.raises(ValueError, match="has no scored window"):
        judge_validity(run(sent(), window=None))


def test_what_a_window_that_was_ended_early_left_behind_is_nobodys_fault() -> None:
    rows = sent()[:900]
    left = [msgspec.structs.replace(r, status="error", error="unfinished", done_s=None) for r in rows[-4:]]
    due = {"due_in_window": 1000}
    assert judged([*rows[:-4], *left], facts=due | {"stopped_early": "the queue grows"}).level == "VALID"
    assert judged([*rows[:-4], *left], facts=due).level == "INVALID"


@pytest.mark.parametrize(("bad", "level"), [(0, "VALID"), (1, "DEGRADED"), (2, "INVALID")])
def test_a_capacity_search_is_as_invalid_as_most_of_its_probes(bad: int, level: str) -> None:
    probes = [steady_probe(100.0 * i, 40.0, 0.5) for i in (1, 2, 3)]
    asked = [
        (msgspec.structs.replace(probe, due=800 if i < bad else 400), rows)
        for i, (probe, rows) in enumerate(probes)
    ]
    search = recorded(asked)
    assert judge_run(search).level == level
    worst = worst_validity([search])
    assert (worst is None) == (bad == 0)
    if worst is not None:
        assert f"probes of the capacity search had an INVALID client: {bad} of 3" in worst.reasons
