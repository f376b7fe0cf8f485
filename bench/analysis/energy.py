"""Energy per request from a counter, and what to do when the counter cannot be trusted.

An energy counter advances in ticks, so a window that ignores them is wrong by up to a tick at each end.
Here the span runs from the first tick inside the window to the last, and the requests are counted in
that very span. A counter that went backwards or stood still is discarded and the power samples are
integrated instead, said in the reading. Joules are gross: idle power is part of serving.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bench.analysis.recorded import (
    MIN_COVERAGE,
    Series,
    completions_between,
    coverage,
    length_s,
    on_gpu,
    whole_series,
    why_missing,
    window_of,
)
from bench.analysis.stats import integral
from bench.analysis.system import Reading
from bench.records import Interval, Run
from bench.units import PER_1K, PERCENT, joules_to_kwh

MIN_TICKS = 10
"""Fewer counter ticks than this leave the span's ends too coarse."""


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of one device over the span that was actually metered."""

    joules: float
    span: Interval
    method: str
    ticks: int | None = None

    @property
    def power_w(self) -> float:
        """The mean power over the span."""
        return self.joules / length_s(self.span)


def kwh_per_1k(run: Run) -> Reading:
    """Read gross kWh per 1,000 requests: joules ÷ requests completed in the same span."""
    devices = metered(run)
    if isinstance(devices, str):
        return Reading(value=None, why=devices)
    joules_per_request, fewest = 0.0, math.inf
    for energy in devices:
        n = completions_between(run, energy.span.start_s, energy.span.end_s)
        if n == 0:
            return Reading(value=None, why="no request was completed while energy was metered")
        joules_per_request += energy.joules / n
        fewest = min(fewest, n)
    return Reading(value=joules_to_kwh(joules_per_request) * PER_1K, n=int(fewest), how=_how(devices))


def mean_power_w(run: Run) -> Reading:
    """Read the mean power over the metered span, summed over the devices."""
    devices = metered(run)
    if isinstance(devices, str):
        return Reading(value=None, why=devices)
    return Reading(value=sum(energy.power_w for energy in devices), how=_how(devices))


def metered(run: Run) -> list[Energy] | str:
    """Return each device's energy, or the reason why the run's total is unknown.

    One device that could not be metered makes the total unknown; there are no partial sums.
    """
    if not on_gpu(run):
        host = _host(run)
        return host if isinstance(host, str) else [host]
    counters, powers = whole_series(run, "energy_j"), _powers(run)
    uuids = sorted({*counters, *powers}, key=str)
    if not uuids:
        return _both_missing(run)
    devices: list[Energy] = []
    for uuid in uuids:
        energy = _device(run, counters.get(uuid), powers.get(uuid))
        if isinstance(energy, str):
            return energy
        devices.append(energy)
    return devices


def from_counter(samples: Series, window: Interval) -> Energy | str:
    """Return the energy between the first and last tick inside `window`, or why it is unusable."""
    steps = np.diff(samples.values)
    inside = samples.within(window)
    before = np.count_nonzero(samples.t_s < window.start_s)
    # Also the step into the window's first sample is looked at: a reset there is a reset.
    own = steps[max(before - 1, 0) : before + max(len(inside.t_s) - 1, 0)]
    if np.any(own < 0):
        return "the energy counter went backwards"
    changed = np.flatnonzero(steps > 0) + 1
    ticks = changed[(samples.t_s[changed] >= window.start_s) & (samples.t_s[changed] <= window.end_s)]
    if len(ticks) < 2:
        return "the energy counter did not advance twice inside the window"
    first, last = int(ticks[0]), int(ticks[-1])
    return Energy(
        joules=float(samples.values[last] - samples.values[first]),
        span=Interval(start_s=float(samples.t_s[first]), end_s=float(samples.t_s[last])),
        method="energy counter between ticks",
        ticks=len(ticks),
    )


def from_power(samples: Series, window: Interval) -> Energy | str:
    """Return the integral of the power samples over `window`, or why they do not suffice."""
    covered = coverage(samples, window)
    if covered < MIN_COVERAGE:
        return f"power samples cover only {covered * PERCENT:.0f} % of the window"
    joules = integral(samples.t_s, samples.values, window.start_s, window.end_s)
    return Energy(joules=joules, span=window, method="power samples integrated")


def disagreement(run: Run) -> float | None:
    """Return how far the power samples lie from the counter over the counter's own span, as a share.

    None where either is missing: then there is nothing to check.
    """
    window = window_of(run)
    counters, powers = whole_series(run, "energy_j"), _powers(run)
    worst: float | None = None
    for uuid in counters.keys() & powers.keys():
        counted = from_counter(counters[uuid], window)
        if isinstance(counted, str) or counted.joules <= 0:
            continue
        polled = from_power(powers[uuid], counted.span)
        if not isinstance(polled, str):
            worst = max(worst or 0.0, abs(polled.joules / counted.joules - 1.0))
    return worst


def _device(run: Run, counter: Series | None, power: Series | None) -> Energy | str:
    window = window_of(run)
    counted = why_missing(run, "energy_j") if counter is None else from_counter(counter, window)
    if not isinstance(counted, str):
        return counted
    polled = why_missing(run, "power_w") if power is None else from_power(power, window)
    if isinstance(polled, str):
        return _joined(counted, polled)
    return msgspec.structs.replace(polled, method=f"{polled.method} ({counted})")


def _host(run: Run) -> Energy | str:
    """Return the CPU packages' (and, where counted, the DRAM's) energy."""
    package = whole_series(run, "rapl_package_j").get(None)
    if package is None:
        return f"no GPU in use, and the CPU's energy cannot be read ({why_missing(run, 'rapl_package_j')})"
    energy = from_counter(package, window_of(run))
    if isinstance(energy, str):
        return energy.replace("energy counter", "RAPL package counter")
    dram = whole_series(run, "rapl_dram_j").get(None)
    if dram is None:
        return msgspec.structs.replace(energy, method="RAPL packages, without DRAM; the whole host's")
    ends = np.interp([energy.span.start_s, energy.span.end_s], dram.t_s, dram.values)
    if ends[1] < ends[0]:
        return "the RAPL DRAM counter went backwards"
    joules = energy.joules + float(ends[1] - ends[0])
    return msgspec.structs.replace(energy, joules=joules, method="RAPL packages + DRAM; the whole host's")


def _powers(run: Run) -> dict[str | None, Series]:
    return whole_series(run, "power_w") or whole_series(run, "power_average_w")


def _both_missing(run: Run) -> str:
    return _joined(why_missing(run, "energy_j"), why_missing(run, "power_w"))


def _joined(first: str, second: str) -> str:
    return first if first == second else f"{first}; {second}"


def _how(devices: list[Energy]) -> str:
    return " / ".join(sorted({f"gross, {energy.method}" for energy in devices}))
