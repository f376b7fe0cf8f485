"""Batches in step with a sensor of part of the time are found, and traffic without a phase is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.analysis.phase import PhaseLock, StepLock, phase_lock, step_lock
from bench.analysis.stats import Array
from bench.records import Interval, Run
from tests.recorded import completion, window_run

QUARTER = {"share_observed": 0.25, "update_s": 0.1, "window_s": 0.025}
LENGTH_S = 60.0


def run(
    starts_s: Array,
    *,
    calibrated_s: float | None = None,
    steps_s: Array | None = None,
    **sensor: float | None,
) -> Run:
    """Return batches that begin so, with four steps each, of 75 ms unless told otherwise."""
    lasts_s = np.full(len(starts_s), 0.075) if steps_s is None else steps_s
    rows = [
        completion(float(t) - 0.1, admitted_s=float(t), batch_id=i, uid=i, decode_s=4.0 * float(step_s))
        for i, (t, step_s) in enumerate(zip(starts_s, lasts_s, strict=True))
    ]
    facts = {"meters": {"gpu": {"sensor": QUARTER | sensor, "calibration": {"power_update_s": calibrated_s}}}}
    return window_run(rows, [], window=Interval(start_s=10.0, end_s=10.0 + LENGTH_S), facts=facts)


def poisson(rate: float, seed: int) -> Array:
    gaps_s = np.random.default_rng(seed).exponential(1.0 / rate, int(2 * rate * LENGTH_S) + 10)
    return 10.0 + np.cumsum(gaps_s)


def jittered(period_s: float, share: float, seed: int) -> Array:
    """Return starts every `period_s`, each moved by up to `share` of it."""
    n = int(LENGTH_S / period_s)
    return 10.0 + (np.arange(n) + np.random.default_rng(seed).uniform(-share, share, n)) * period_s


@pytest.mark.parametrize("rate", [1.0, 10.0, 80.0])
def test_poisson_traffic_has_no_phase(rate: float) -> None:
    assert [seed for seed in range(60) if phase_lock(run(poisson(rate, seed))) is not None] == []


@pytest.mark.parametrize("rate", [5.0, 40.0])
def test_batches_that_go_when_the_last_one_ends_have_none_either(rate: float) -> None:
    # An engine whose steps take 3 to 60 ms, at random, is busy all the time.
    for seed in range(20):
        took_s = np.random.default_rng(seed).uniform(0.003, 0.06, int(30 * LENGTH_S))
        assert phase_lock(run(10.0 + np.cumsum(took_s))) is None


@pytest.mark.parametrize("period_s", [0.1, 0.2, 0.5, 0.15, 0.05])
def test_batches_at_multiples_of_the_sensors_period_are_in_step(period_s: float) -> None:
    found = phase_lock(run(jittered(period_s, 0.02, seed=1)))
    assert isinstance(found, PhaseLock)
    assert found.concentration > 0.9
    assert found.period_s == pytest.approx(0.1, rel=0.01)


def test_jitter_undoes_it() -> None:
    assert phase_lock(run(jittered(0.1, 0.5, seed=2))) is None
    assert phase_lock(run(jittered(0.137, 0.3, seed=3))) is None


def test_a_period_that_the_calibration_missed_by_little_is_found() -> None:
    assert phase_lock(run(jittered(0.1, 0.02, seed=4), calibrated_s=0.1003)) is not None
    assert phase_lock(run(jittered(0.1, 0.02, seed=4), calibrated_s=0.0903)) is None


@pytest.mark.parametrize("sensor", [{"share_observed": 1.0}, {"share_observed": None}, {"update_s": None}])
def test_a_sensor_that_sees_all_the_time_or_is_not_known_is_not_doubted(
    sensor: dict[str, Any],
) -> None:
    assert phase_lock(run(jittered(0.1, 0.02, seed=5), **sensor)) is None


def test_a_handful_of_batches_has_no_phase_worth_testing() -> None:
    assert phase_lock(run(10.0 + np.arange(19) * 3.0)) is None
    assert phase_lock(run(10.0 + np.arange(20) * 3.0)) is not None


def steps(step_s: float, *, spread: float = 0.01, n: int = 200, share_observed: float = 0.25) -> Run:
    lasts_s = step_s * np.random.default_rng(1).uniform(1 - spread, 1 + spread, n)
    return run(poisson(3.0, 1)[:n], steps_s=lasts_s, share_observed=share_observed)


@pytest.mark.parametrize("step_s", [0.05, 0.0333, 0.1, 0.102, 0.2, 0.3])
def test_steps_of_a_small_part_or_multiple_of_the_period_may_be_in_step(step_s: float) -> None:
    found = step_lock(steps(step_s))
    assert isinstance(found, StepLock)
    assert found.step_s == pytest.approx(step_s, rel=0.01)
    assert found.period_s == 0.1


@pytest.mark.parametrize("step_s", [0.075, 0.042, 0.12, 0.145, 0.55, 0.025, 0.012])
def test_steps_beside_the_period_or_within_what_the_sensor_sees_are_not(step_s: float) -> None:
    assert step_lock(steps(step_s)) is None


def test_steps_of_no_fixed_length_or_beside_a_sensor_of_all_the_time_are_not() -> None:
    assert step_lock(steps(0.1, spread=0.3)) is None
    assert step_lock(steps(0.1, share_observed=1.0)) is None
    assert step_lock(steps(0.1, n=19)) is None
