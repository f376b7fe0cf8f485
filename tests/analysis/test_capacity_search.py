"""The search's moves and its answers, on servers whose curve is a formula."""

from __future__ import annotations

import msgspec
import pytest

from bench.analysis.capacity import Settings, conclude, next_probe
from bench.analysis.trials import Trial
from tests.analysis.probing import Curve, probed, queueing, search
from tests.recorded import number


def test_it_begins_below_the_saturated_throughput_and_gives_up_after_so_many_probes() -> None:
    settings = Settings(guess_rps=100.0, max_probes=2)
    first = next_probe([], settings)
    assert first is not None
    assert (first.rate_rps, first.repeat) == (75.0, 1)
    assert next_probe([probed(75.0), probed(80.0)], settings) is None


@pytest.mark.parametrize("guess_rps", [70.0, 98.0, 150.0, 400.0])
def test_the_rate_at_which_p95_meets_its_limit_is_found_whatever_the_guess(guess_rps: float) -> None:
    # 200 ms / (1 - rate / 100) is 1000 ms at 80/s.
    found, trials = search(queueing(100.0, 200.0), guess_rps)
    assert number(found.capacity) == pytest.approx(80.0, rel=0.01)
    assert found.settled
    assert found.binds == "p95"
    assert found.monotone
    assert len(trials) <= 10


def test_noise_is_met_with_other_draws_and_an_interval_that_is_narrow_enough() -> None:
    hits = 0
    for seed in range(20):
        found, trials = search(queueing(100.0, 200.0), 98.0, noise=0.15, seed=seed)
        assert found.capacity.low is not None
        assert found.capacity.high is not None
        hits += found.capacity.low <= 80.0 <= found.capacity.high
        assert number(found.capacity) == pytest.approx(80.0, rel=0.07)
        assert len({t.repeat for t in trials}) >= 4
        if found.settled:
            assert found.capacity.high - found.capacity.low <= 2 * 0.05 * number(found.capacity) * 1.001
    assert hits >= 17


def bend(rate: float) -> float | None:
    """Return 885 ms at no load, 1000 ms at 70/s, and a queue that grows from 100/s on."""
    return None if rate >= 100.0 else 885.0 + 2000.0 * (rate / 100.0) ** 8


@pytest.mark.parametrize("guess_rps", [30.0, 70.0, 98.0, 200.0])
@pytest.mark.parametrize(
    ("curve", "rate_rps"),
    [(bend, 70.0), (queueing(100.0, 677.0), 32.3), (lambda rate: 870.0 if rate < 90.0 else None, 90.0)],
    ids=["bend", "little room", "flat until it grows"],
)
def test_a_curve_that_is_no_line_takes_longer_and_is_found_too(
    curve: Curve, rate_rps: float, guess_rps: float
) -> None:
    found, trials = search(curve, guess_rps, most_rps=90.0 if rate_rps == 90.0 else 100.0)
    assert number(found.capacity) == pytest.approx(rate_rps, rel=0.051)
    assert found.settled
    assert len(trials) <= 22


def test_far_from_the_limit_every_rate_gets_the_same_draw() -> None:
    # p95 jumps from a tenth of the limit to ten times: no probe is near.
    found, trials = search(lambda rate: 100.0 if rate < 60.0 else 10_000.0, 98.0)
    assert [t.repeat for t in trials[:3]] == [1, 1, 1]
    assert number(found.capacity) == pytest.approx(60.0, rel=0.05)
    assert found.capacity.low is not None
    assert found.capacity.low <= 60.0


def test_without_an_objective_the_queue_binds_and_what_an_overloaded_system_serves_is_the_answer() -> None:
    found, trials = search(lambda rate: None if rate > 100.0 else 10.0, 90.0, limit_ms=None)
    assert number(found.capacity) == pytest.approx(100.0, rel=0.03)
    assert found.binds == "queue"
    assert found.settled
    assert len(trials) <= 5
    assert number(found.stable_rps) == pytest.approx(97.5, rel=0.03)
    assert "a queue that grows without end binds" in found.capacity.note


def test_a_limit_that_holds_until_the_queue_grows_leaves_the_queue_to_bind() -> None:
    found, _ = search(lambda rate: None if rate > 100.0 else 10.0, 98.0)
    assert number(found.capacity) == pytest.approx(100.0, rel=0.05)
    assert found.binds == "queue"


def test_a_limit_that_no_rate_meets_is_told_with_the_lowest_rate_and_soon() -> None:
    found, trials = search(lambda rate: 2000.0 if rate < 100 else None, 98.0)
    assert found.capacity.value is None
    assert "even at" in found.capacity.note
    assert "p95 latency is 2000 ms" in found.capacity.note
    assert len(trials) <= 4
    assert number(found.stable_rps) == 73.5


def test_a_limit_that_needs_a_much_lower_rate_is_still_found() -> None:
    # Met at 5/s only.
    found, _ = search(lambda rate: 200.0 * rate, 98.0)
    assert number(found.capacity) == pytest.approx(5.0, rel=0.05)


def test_errors_that_come_with_the_rate_bind() -> None:
    settings = Settings(guess_rps=98.0)
    trials = [probed(70.0), probed(80.0, 2, p95_ms=900.0), probed(84.0, 3, p95_ms=950.0, errors=0.2)]
    trials += [probed(81.0, draw, p95_ms=990.0) for draw in (4, 5)]
    found = conclude(trials, settings)
    assert found.binds == "errors"
    assert 75.0 < number(found.capacity) < 84.0


def test_an_objective_that_fails_by_errors_everywhere_says_so() -> None:
    found = conclude([probed(70.0, errors=0.5)], Settings(guess_rps=98.0))
    assert "even at 70 requests/s 50.0% of the requests failed" in found.capacity.note


def test_a_latency_that_falls_with_the_rate_is_no_curve() -> None:
    odd = [probed(70.0, p95_ms=900.0), probed(80.0, p95_ms=450.0), probed(90.0, p95_ms=1100.0)]
    assert not conclude(odd, Settings(guess_rps=98.0)).monotone
    even = [probed(70.0, p95_ms=450.0), probed(80.0, p95_ms=440.0), probed(90.0, p95_ms=1100.0)]
    assert conclude(even, Settings(guess_rps=98.0)).monotone


def invalid(trial: Trial) -> Trial:
    return msgspec.structs.replace(trial, client="INVALID", faults="requests left late: 9 ms")


def test_a_probe_with_an_invalid_client_is_asked_for_again_twice_and_counts_for_nothing() -> None:
    settings = Settings(guess_rps=100.0)
    valid = [probed(75.0, p95_ms=800.0), probed(85.0, p95_ms=1300.0)]
    ask = next_probe(valid, settings)
    assert ask is not None
    trials = [*valid]
    for _ in range(3):
        assert next_probe(trials, settings) == ask
        trials.append(invalid(probed(ask.rate_rps, ask.repeat, p95_ms=99_000.0)))
    assert next_probe(trials, settings) is None
    found, alone = conclude(trials, settings), conclude(valid, settings)
    assert (found.capacity.value, found.invalid) == (alone.capacity.value, 3)
    assert "5 probes of 10 s, 3 of which had an INVALID client and do not count" in found.capacity.note
    assert len(found.curve) == 5


def test_where_no_client_was_valid_there_is_no_capacity_and_the_reason_is_told() -> None:
    settings = Settings(guess_rps=100.0)
    trials = [invalid(probed(75.0)) for _ in range(3)]
    assert next_probe(trials[:2], settings) == next_probe([], settings)
    assert next_probe(trials, settings) is None
    found = conclude(trials, settings)
    assert found.capacity.value is None
    assert "the client was INVALID in all 3 probes" in found.capacity.note
    assert "at 75 requests/s: requests left late: 9 ms" in found.capacity.note


def test_a_second_draw_is_tried_before_no_rate_is_said_to_hold() -> None:
    settings = Settings(guess_rps=98.0)
    trials: list[Trial] = []
    while len(trials) < 24 and (ask := next_probe(trials, settings)) is not None:
        unlucky = ask.repeat == 1
        trials.append(probed(ask.rate_rps, ask.repeat, p95_ms=2000.0 if unlucky else 10.0 * ask.rate_rps))
    assert any(t.passed for t in trials)
    assert conclude(trials, settings).capacity.value is not None


def test_a_short_probe_of_an_overloaded_system_does_not_end_the_search_below_it() -> None:
    # 5 s of 3.4/s are fewer than 20 requests; 60 s are not.
    short = msgspec.structs.replace(probed(10.0, p95_ms=None, served_rps=4.5), seconds=5.0)
    ask = next_probe([short], Settings(guess_rps=10.0, probe_s=60.0))
    assert ask is not None
    assert ask.rate_rps == pytest.approx(5.0)


def test_a_queue_whose_upper_end_is_far_away_is_not_settled_and_is_looked_at_from_above() -> None:
    settings = Settings(guess_rps=100.0)
    overloaded = msgspec.structs.replace(
        probed(150.0, p95_ms=None, limit_ms=None, served_rps=100.0), served_error=8.0
    )
    trials = [probed(96.0, limit_ms=None), overloaded]
    assert not conclude(trials, settings).settled
    ask = next_probe(trials, settings)
    assert ask is not None
    assert ask.rate_rps == pytest.approx(104.5)
    trials.append(probed(ask.rate_rps, p95_ms=None, limit_ms=None, served_rps=100.0))
    found = conclude(trials, settings)
    assert found.settled
    assert found.capacity.high == pytest.approx(105.0)  # 104.5 failed once: no closer than the tolerance


def test_draws_that_are_all_the_same_give_no_interval_of_a_mean_and_say_so() -> None:
    curve, settings = queueing(100.0, 200.0), Settings(guess_rps=98.0)
    trials: list[Trial] = []
    while (ask := next_probe(trials, settings)) is not None:
        p95_ms = curve(ask.rate_rps)
        trials.append(msgspec.structs.replace(probed(ask.rate_rps, ask.repeat, p95_ms=p95_ms), draw="same"))
    found = conclude(trials, settings).capacity
    assert len(trials) <= 8
    assert found.n is None
    assert "as every draw of the requests was the same" in found.note
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 80.0 <= found.high
    assert found.high - found.low <= 0.1 * number(found) * 1.001


def test_what_fails_below_what_passes_bounds_the_answer_from_below() -> None:
    trials = [probed(60.0, p95_ms=9000.0, error=None), probed(80.0, p95_ms=100.0, error=None)]
    found = conclude(trials, Settings(guess_rps=98.0))
    assert (found.capacity.low, found.capacity.high) == (60.0, 80.0)
    assert not found.settled


def test_a_search_without_any_probe_has_its_reason() -> None:
    found = conclude([], Settings(guess_rps=98.0))
    assert found.capacity.note == "no probe of the capacity search was made"
    assert found.curve == ()


def test_the_whole_curve_is_kept_by_rate() -> None:
    found, trials = search(queueing(100.0, 200.0), 98.0, noise=0.1)
    assert sorted(trials, key=lambda t: (t.rate_rps, t.repeat)) == list(found.curve)
    assert found.seconds == pytest.approx(10.0 * len(trials))
    assert found.highest_passing_rps in [t.rate_rps for t in trials]


def test_the_same_probes_ask_for_the_same_next_one() -> None:
    _, trials = search(queueing(100.0, 200.0), 98.0, noise=0.1)
    settings = Settings(guess_rps=98.0)
    for n in range(1, len(trials)):
        asked = next_probe(trials[:n], settings)
        assert asked is not None
        assert (asked.rate_rps, asked.repeat) == (trials[n].rate_rps, trials[n].repeat)


def test_single_probes_that_fail_and_pass_at_one_rate_bound_nothing_closer_than_the_tolerance() -> None:
    overloaded = probed(100.0, 2, p95_ms=None, limit_ms=None, served_rps=100.0)
    trials = [probed(100.0, limit_ms=None), overloaded]
    found = conclude(trials, Settings(guess_rps=100.0, tolerance=0.05)).capacity
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 0.95 * found.value
    assert found.high >= 1.05 * found.value
