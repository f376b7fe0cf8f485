"""The search's moves and its answers, on servers whose curve is a formula."""

from __future__ import annotations

import pytest

from bench.analysis.capacity import Settings, conclude, next_probe
from tests.analysis.conftest import number
from tests.analysis.probing import Curve, probed, queueing, search


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
