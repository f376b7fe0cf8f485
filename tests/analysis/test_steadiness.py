"""The end of the warm-up, the early stop of an overloaded system, and drift, on simulated queues."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.stats import Array
from bench.analysis.steadiness import cold, converged, drift, drifting, saturating
from bench.analysis.system import SystemRuns
from bench.analysis.trend import trend
from tests.recorded import completion, window_run


def served(load: float, n: int, seed: int, service_s: Array | None = None) -> tuple[Array, Array]:
    """Return when `n` Poisson requests are due and done at one server; service takes 1 s without others."""
    due_s = np.cumsum(np.random.default_rng(seed).standard_exponential(n)) / load
    ends_s = np.cumsum(np.ones(n) if service_s is None else service_s)
    return due_s, np.maximum.accumulate(due_s - np.concatenate(([0.0], ends_s[:-1]))) + ends_s


def watched(load: float, n: int, seed: int, *, warm: int) -> tuple[Array, Array]:
    """Return 240 looks at the number of `n` requests in the system, which had `warm` before them."""
    due_s, done_s = served(load, n + warm, seed)
    start_s = due_s[warm - 1] if warm else 0.0
    looks_s = np.linspace(start_s, due_s[-1], 241)[1:]
    own, ended_s = due_s[warm:], np.sort(done_s[warm:])
    return looks_s - start_s, np.searchsorted(own, looks_s) - np.searchsorted(ended_s, looks_s).astype(float)


def stop_share(load: float, n: int, seed: int, *, warm: int) -> float | None:
    """Return after which share of its window a server is found to be overloaded; None if it is not."""
    t_s, in_flight = watched(load, n, seed, warm=warm)
    for looks in range(1, len(t_s) + 1):
        if saturating(t_s[:looks], in_flight[:looks], rate_rps=load, service_s=1.0):
            return float(t_s[looks - 1] / t_s[-1])
    return None


@pytest.mark.parametrize("n", [400, 1500])
def test_at_nine_tenths_of_its_capacity_a_server_is_stopped_in_at_most_one_of_a_hundred_windows(
    n: int,
) -> None:
    alarms = sum(stop_share(0.9, n, seed, warm=500) is not None for seed in range(200))
    assert alarms <= 2


def test_half_as_much_again_as_it_can_serve_is_seen_within_a_third_of_the_window() -> None:
    shares = [stop_share(1.5, 1000, seed, warm=0) for seed in range(40)]
    assert None not in shares
    assert float(np.median([share for share in shares if share is not None])) < 0.25
    assert sum(share is not None and share < 0.37 for share in shares) >= 32


def test_the_reason_tells_the_slope_and_what_is_served() -> None:
    t_s = np.arange(0.0, 60.0, 0.25)
    why = saturating(t_s, 20.0 * t_s, rate_rps=50.0, service_s=0.5)
    assert why == "the queue grows by 20 requests/s at 50 requests/s offered: the system answers 30/s at most"


def test_a_system_that_only_fills_is_not_saturated() -> None:
    # Each request takes 20 s: for so long nothing ends, and the content grows by all that comes.
    t_s = np.arange(0.0, 60.0, 0.25)
    in_flight = 5.0 * np.minimum(t_s, 20.0)
    for looks in range(1, len(t_s)):
        service_s = 20.0 if t_s[looks] > 20.0 else None
        assert saturating(t_s[:looks], in_flight[:looks], rate_rps=5.0, service_s=service_s) is None


def test_batches_that_end_together_are_no_growth() -> None:
    # A saw of 64 requests: in its later half a look may see but one rising tooth.
    t_s = np.arange(0.0, 45.0, 0.1)
    in_flight = (6.4 * t_s) % 64.0
    for looks in range(1, len(t_s)):
        service_s = 1.0 if t_s[looks] > 10.0 else None
        assert saturating(t_s[:looks], in_flight[:looks], rate_rps=6.4, service_s=service_s) is None


def test_traffic_that_scatters_more_takes_longer_to_be_found_too_much() -> None:
    t_s = np.arange(0.0, 40.0, 0.25)
    assert saturating(t_s, 4.0 * t_s, rate_rps=10.0, service_s=0.1)
    assert saturating(t_s, 4.0 * t_s, rate_rps=10.0, service_s=0.1, dispersion=10.0) is None


@pytest.mark.parametrize("n", [100, 1000])
def test_a_steady_system_has_converged_and_few_requests_cannot_tell(n: int) -> None:
    runs = [served(0.3, n, seed) for seed in range(50)]
    assert sum(converged(done_s, done_s - due_s) for due_s, done_s in runs) >= 42
    assert not converged(np.arange(29.0), np.ones(29))


def test_latencies_that_grow_or_still_fall_have_not_converged() -> None:
    growing = [served(1.3, 600, seed) for seed in range(30)]
    assert sum(converged(done_s, done_s - due_s) for due_s, done_s in growing) <= 1
    n = np.arange(600)
    falling_s = 1.0 + 2.0 * np.exp(-n / 200.0)
    falling = [served(0.3, 600, seed, falling_s) for seed in range(30)]
    assert sum(converged(done_s, done_s - due_s) for due_s, done_s in falling) <= 3


def test_a_slow_start_is_forgotten_once_it_lies_in_the_first_half() -> None:
    due_s = np.arange(400.0)
    latency_s = np.where(due_s < 100, 5.0, 1.0) + 0.01 * np.random.default_rng(1).standard_normal(400)
    assert not converged((due_s + latency_s)[:150], latency_s[:150])
    assert converged(due_s + latency_s, latency_s)


def test_a_throughput_that_still_rises_has_not_converged() -> None:
    ended_s = np.cumsum(1.0 / np.linspace(1.0, 6.0, 400))
    assert not converged(ended_s, np.ones(400))


def test_a_trend_has_its_size_and_neighbours_that_resemble_each_other_show_none() -> None:
    rising = trend(1.0 + 0.1 * np.arange(11.0))
    assert rising.p < 0.001
    assert rising.relative == pytest.approx(1.0 / 1.5)
    rng = np.random.default_rng(5)
    plain, corrected = 0, 0
    for _ in range(200):
        noise, values = rng.standard_normal(40), np.zeros(40)
        for i in range(1, 40):
            values[i] = 0.7 * values[i - 1] + noise[i]
        corrected += trend(values + 20.0).p < 0.05
        plain += trend(rng.standard_normal(40) + 20.0).p < 0.05
    assert plain <= 20
    assert corrected <= 60, "without the correction it is about half of them"
    assert trend(np.ones(10)).p == 1.0
    with pytest.raises(ValueError, match="3 values show no trend"):
        trend(np.ones(3))


def window(slope: float, n: int = 400, seed: int = 1, **changes: object) -> SystemRuns:
    """Return a system with one window whose latency changes by `slope` of itself from end to end."""
    noise = np.random.default_rng(seed).uniform(0.9, 1.1, n)
    rows = [completion(10.0 + 10.0 * i / n, 0.5 * (1.0 + slope * i / n) * noise[i], uid=i) for i in range(n)]
    return SystemRuns(name="baseline", offline=None, windows=[window_run(rows, **changes)])  # type: ignore[arg-type]


def test_a_window_that_drifts_is_doubted_and_one_that_does_not_is_not() -> None:
    found = drifting(window(0.4))
    assert found is not None
    assert "median latency drifts by +3" in found[0]
    assert "in 1 of 1 repeats" in found[0]
    assert drifting(window(0.0)) is None
    assert drifting(window(0.03)) is None, "so little does not matter"
    assert drift(window(0.4, n=60).windows[0]) is None, "too few to tell"


def test_a_steady_window_is_rarely_doubted() -> None:
    assert sum(drifting(window(0.0, seed=seed)) is not None for seed in range(100)) <= 5


def test_a_warm_up_that_had_to_end_is_doubted() -> None:
    late = window(0.0, facts={"warmup": {"converged": False, "took_s": 60.0}})
    found = cold(late)
    assert found is not None
    assert "had not converged after 60 s" in found[0]
    assert cold(window(0.0, facts={"warmup": {"converged": True, "took_s": 20.0}})) is None
    assert cold(window(0.0)) is None
