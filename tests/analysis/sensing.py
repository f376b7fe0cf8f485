"""A GPU on paper: power that is known at every moment, and what a counter and a sensor show of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.analysis.recorded import Series
from bench.analysis.stats import Array
from bench.records import Sample
from tests.recorded import sample

Trace = tuple[Array, Array]
"""Moments, and the watts from each to the next; the last watts are for ever."""


def square(period_s: float, *, low_w: float = 60.0, high_w: float = 300.0, phase_s: float = 0.0) -> Trace:
    """Return half a period high, half a period low, from before 0 s to 100 s."""
    n = int(100.0 / period_s * 2) + 4
    moments_s = phase_s - period_s + np.arange(n) * period_s / 2.0
    return moments_s, np.where(np.arange(n) % 2 == 0, high_w, low_w)


def bursts(seed: int, *, mean_s: float = 0.15, low_w: float = 60.0, high_w: float = 300.0) -> Trace:
    """Return high and low in turn, each for an exponential time."""
    lengths_s = np.random.default_rng(seed).exponential(mean_s, int(220.0 / mean_s))
    moments_s = -1.0 + np.concatenate(([0.0], np.cumsum(lengths_s)))
    return moments_s, np.where(np.arange(len(moments_s)) % 2 == 0, high_w, low_w)


def drift(seed: int) -> Trace:
    """Return a slow rise from 150 W with noise of 10 W every 20 ms."""
    moments_s = np.arange(-1.0, 100.0, 0.02)
    noise_w = np.random.default_rng(seed).normal(0.0, 10.0, len(moments_s))
    return moments_s, 150.0 + 2.0 * moments_s + noise_w


def energy_j(trace: Trace, t_s: Array | float) -> Array:
    """Return the true energy since the trace's start."""
    moments_s, watts = trace
    sums = np.concatenate(([0.0], np.cumsum(watts[:-1] * np.diff(moments_s))))
    at = np.clip(np.searchsorted(moments_s, t_s, side="right") - 1, 0, len(moments_s) - 1)
    found: Array = sums[at] + watts[at] * (np.asarray(t_s) - moments_s[at])
    return found


def true_j(trace: Trace, start_s: float, end_s: float) -> float:
    return float(energy_j(trace, end_s) - energy_j(trace, start_s))


def read_times_s(start_s: float, end_s: float, hz: float, seed: int, edges_s: Sequence[float] = ()) -> Array:
    """Return a sampler's moments: a few ms late at random, and dense for 150 ms after each edge."""
    rng = np.random.default_rng(seed)
    regular = np.arange(start_s, end_s, 1.0 / hz)
    regular = regular + rng.exponential(0.002, len(regular))
    dense = [edge_s + np.cumsum(rng.uniform(0.001, 0.0015, 120)) for edge_s in edges_s]
    moments: Array = np.sort(np.concatenate([regular, *dense]))
    return moments


def counter(trace: Trace, t_s: Array, *, tick_s: float = 0.1, phase_s: float = 0.0) -> Series:
    """Return what a counter shows at `t_s`: the energy as of its last tick, in whole mJ."""
    last_s = np.floor((t_s - phase_s) / tick_s) * tick_s + phase_s
    return Series(t_s, np.floor(energy_j(trace, last_s) * 1000.0) / 1000.0, np.full(len(t_s), 2e-4))


def sensor(
    trace: Trace, t_s: Array, *, window_s: float, update_s: float = 0.1, phase_s: float = 0.0
) -> Series:
    """Return what a sensor shows at `t_s`: the mean of `window_s` before its last update."""
    last_s = np.floor((t_s - phase_s) / update_s) * update_s + phase_s
    watts = (energy_j(trace, last_s) - energy_j(trace, last_s - window_s)) / window_s
    return Series(t_s, watts, np.full(len(t_s), 2e-4))


def as_samples(series: Series, field: str) -> list[Sample]:
    return [sample(float(t), field, float(v)) for t, v in zip(series.t_s, series.values, strict=True)]
