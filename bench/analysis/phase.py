"""Batches in step with the power sensor: a load that a sensor of part of the time sees always the same.

A sensor that shows 25 ms of every 100 is right on average only where the work falls on all its phases
alike. Batches that start every 100 ms do not: in a simulation the joules were then off by up to 67 %, and
by 4 % once the period was jittered. So the batch starts are put on the circle of the sensor's period and
their concentration tested (Rayleigh; Mardia and Jupp, Directional Statistics, ch. 6), also at twice the
frequency, for batches that alternate between two opposite phases cancel on the circle.

The steps inside a batch are a ripple of their own. Nobody records when each began, but their mean length is
known: where that, steady over the requests, is a small multiple or part of the sensor's period, the sensor
may see the same moment of every step. A step that is shorter than what the sensor averages over is seen
whole.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bench.analysis.recorded import column, gpu_facts, length_s, window_of
from bench.analysis.stats import Array
from bench.records import Run

MIN_BATCHES = 20
"""Fewer batches have no phase worth testing."""
MIN_CONCENTRATION = 0.3
"""The mean resultant length from which on the joules can be off by more than a few percent."""
FALSE_ALARM = 1e-4
"""How often traffic without any phase may be doubted."""
HARMONICS = (1, 2)
PERIOD_UNCERTAINTY = 0.005
"""The sensor's period is known to this share; periods within it are tried."""


STEP_OFF = 0.03
"""Steps whose length is within this share of a multiple or a part of the period may be in step with it."""
MAX_MULTIPLE = 4
"""A step over so many periods is looked at often enough."""


class StepLock(msgspec.Struct, frozen=True, kw_only=True):
    """Decode steps of `step_s` beside a sensor that looks every `period_s`, for `share_observed` of it."""

    step_s: float
    period_s: float
    share_observed: float


class PhaseLock(msgspec.Struct, frozen=True, kw_only=True):
    """The concentration (0 to 1) of `n` batch starts on the circle of the sensor's `period_s`."""

    concentration: float
    period_s: float
    share_observed: float
    n: int


def phase_lock(run: Run) -> PhaseLock | None:
    """Return how far the batches of a window were in step with its power sensor; None where they were not.

    Nor where the sensor is not known to see only a part of the time.
    """
    share = share_observed(run)
    if share is None or run.meta.window is None:
        return None
    update_s = _update_s(run)
    starts_s = batch_starts_s(run)
    if not update_s or len(starts_s) < MIN_BATCHES:
        return None
    period_s, concentration = most_concentrated(starts_s, update_s, length_s(window_of(run)))
    if concentration < MIN_CONCENTRATION:
        return None
    return PhaseLock(concentration=concentration, period_s=period_s, share_observed=share, n=len(starts_s))


def step_lock(run: Run) -> StepLock | None:
    """Return the decode steps of a window that may be in step with its power sensor, by their length."""
    share, update_s = share_observed(run), _update_s(run)
    if share is None or not update_s or run.meta.window is None:
        return None
    steps_s = _steps_s(run)
    if len(steps_s) < MIN_BATCHES:
        return None
    early_s, step_s, late_s = np.quantile(steps_s, (0.25, 0.5, 0.75)).tolist()
    if step_s <= 0 or late_s - early_s > 2.0 * STEP_OFF * step_s:
        return None  # of no fixed length
    ratio = max(step_s / update_s, update_s / step_s)
    nearest = round(ratio)
    is_seen_whole = step_s < update_s and nearest * share >= 1.0
    if abs(ratio / nearest - 1.0) > STEP_OFF or nearest > MAX_MULTIPLE or is_seen_whole:
        return None
    return StepLock(step_s=step_s, period_s=update_s, share_observed=share)


def share_observed(run: Run) -> float | None:
    """Return the share of the time that the run's power sensor sees; None where it is all, or not known."""
    share: float | None = (gpu_facts(run).get("sensor") or {}).get("share_observed")
    return None if share is None or share >= 1.0 else share


def _update_s(run: Run) -> float | None:
    """Return the sensor's period, as calibrated where it was."""
    facts = gpu_facts(run)
    calibrated_s: float | None = (facts.get("calibration") or {}).get("power_update_s")
    return calibrated_s or (facts.get("sensor") or {}).get("update_s")


def _steps_s(run: Run) -> Array:
    """Return the mean decode step of each request of the window."""
    window = window_of(run)
    first_s, decode_s = column(run.requests, "first_token_s"), column(run.requests, "decode_s")
    steps = column(run.requests, "output_tokens") - 1.0
    known = (first_s >= window.start_s) & (first_s <= window.end_s) & np.isfinite(decode_s) & (steps >= 1.0)
    return decode_s[known] / steps[known]


def batch_starts_s(run: Run) -> Array:
    """Return when each batch of the window was admitted."""
    window = window_of(run)
    batch, admitted_s = column(run.requests, "batch_id"), column(run.requests, "admitted_s")
    inside = np.isfinite(batch) & (admitted_s >= window.start_s) & (admitted_s <= window.end_s)
    ids, piece = np.unique(batch[inside], return_inverse=True)
    starts_s = np.full(len(ids), np.inf)
    np.minimum.at(starts_s, piece, admitted_s[inside])
    return starts_s


def most_concentrated(starts_s: Array, period_s: float, span_s: float) -> tuple[float, float]:
    """Return the period near `period_s` on whose circle the starts lie closest, and their concentration.

    The concentration is 0 where chance explains it: n R² must exceed ln(m / alpha) for the `m` periods
    and harmonics that are tried.
    """
    frequency = 1.0 / period_s
    # Two frequencies closer than 1 / span cannot be told apart.
    steps = math.ceil(2.0 * PERIOD_UNCERTAINTY * frequency * span_s)
    tried = frequency * (1.0 + PERIOD_UNCERTAINTY * np.linspace(-1.0, 1.0, 2 * steps + 1))
    limit = math.log(len(tried) * len(HARMONICS) / FALSE_ALARM)
    best = (period_s, 0.0)
    for harmonic in HARMONICS:
        angles = 2j * np.pi * harmonic * np.outer(tried, starts_s)
        lengths = np.abs(np.exp(angles).mean(axis=1))
        top = int(np.argmax(lengths))
        if len(starts_s) * lengths[top] ** 2 > limit and lengths[top] > best[1]:
            best = (float(1.0 / tried[top]), float(lengths[top]))
    return best
