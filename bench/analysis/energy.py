"""Energy per request: joules over a span, and the requests that were served in that very span.

Each request counts by the share of its service inside (`recorded.served_between`). Joules are gross: idle
power is part of serving (`idle` takes it off). What a run shared with others, or what MIG hides, has no
energy here: it would be somebody else's. Whose joules they are, and from which meter, is `metered`'s.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bench.analysis.joules import SENSOR_GAIN, Energy
from bench.analysis.metered import disagreement, metered, not_this_runs
from bench.analysis.recorded import length_s, served_between, whole_series, why_missing, window_of
from bench.analysis.summary import over_repeats
from bench.analysis.system import Reading, SystemRuns
from bench.records import Interval, Run, Value
from bench.units import PER_1K, PERCENT, joules_to_kwh, to_ms


def per_1k(system: SystemRuns) -> Value:
    """Return gross kWh per 1,000 requests over the repeats; its note says how it was metered."""
    value = over_repeats(system, kwh_per_1k)
    if value.value is None:
        return value
    return msgspec.structs.replace(value, note=f"{value.note}; {in_words(system)}")


def kwh_per_1k(run: Run) -> Reading:
    """Read gross kWh per 1,000 requests: joules ÷ requests served in the same span."""
    devices = metered(run)
    if isinstance(devices, str):
        return Reading(value=None, why=devices)
    total = np.zeros(3)
    fewest = np.inf
    for energy in devices:
        n = served_between(run, energy.span.start_s, energy.span.end_s)
        if n == 0:
            return Reading(value=None, why="no answered request was served while energy was metered")
        total += np.array([energy.joules, energy.low, energy.high]) / n
        fewest = min(fewest, n)
    value, low, high = (joules_to_kwh(float(joules)) * PER_1K for joules in total)
    return Reading(value=value, low=low, high=high, n=round(fewest), how=_how(devices))


def mean_power_w(run: Run) -> Reading:
    """Read the mean power over the metered span, summed over the devices."""
    return power_over(run, window_of(run))


def power_over(run: Run, window: Interval) -> Reading:
    """Read the mean power over a span of the run in which the sampler ran, summed over the devices."""
    devices = metered(run, window)
    if isinstance(devices, str):
        return Reading(value=None, why=devices)
    value = sum(energy.power_w for energy in devices)
    low = sum(energy.low / length_s(energy.span) for energy in devices)
    high = sum(energy.high / length_s(energy.span) for energy in devices)
    return Reading(value=value, low=low, high=high, how=_how(devices))


def peak_power_w(run: Run) -> Reading:
    """Read the highest power sample inside the window, summed over the devices: a lower bound of the peak."""
    if (why := not_this_runs(run)) is not None:
        return Reading(value=None, why=why)
    window = window_of(run)
    for field, what in (("power_w", "power sample"), ("power_average_w", "mean of a second")):
        inside = [samples.within(window).values for samples in whole_series(run, field).values()]
        if inside and all(len(values) for values in inside):
            how = f"highest {what} inside the window: a lower bound"
            return Reading(value=sum(float(values.max()) for values in inside), how=how)
    return Reading(value=None, why=why_missing(run, "power_w"))


def open_percent(run: Run) -> Reading:
    """Read half of what sampling leaves open of the joules, in %; the sensor's gain is not in it."""
    devices = metered(run)
    if isinstance(devices, str):
        return Reading(value=None, why=devices)
    open_j = sum((energy.high - energy.low) / 2.0 for energy in devices)
    return Reading(value=open_j / sum(energy.joules for energy in devices) * PERCENT)


def disagreement_percent(run: Run) -> Reading:
    """Read how far the polled power lies from the counter, in %, over the counter's span."""
    share = disagreement(run)
    if share is None:
        return Reading(value=None, why="counter and power were not both there to be held against each other")
    return Reading(value=share * PERCENT)


def sources(system: SystemRuns) -> set[str]:
    """Return the meters from which the energy of a system's repeats came (`joules.EnergySource`)."""
    return {device.source for run in system.measured for device in devices_of(run)}


def devices_of(run: Run) -> list[Energy]:
    """Return each device's energy over the run's window; none where the total is unknown."""
    devices = metered(run)
    return [] if isinstance(devices, str) else devices


def in_words(system: SystemRuns) -> str:
    """Return how a system's repeats were metered: source, scope, spans, ticks and what remains open."""
    found = [device for run in system.measured for device in devices_of(run)]
    if not found:
        return ""
    came_from = " / ".join(dict.fromkeys(device.source for device in found))
    scopes = " / ".join(dict.fromkeys(device.scope for device in found if device.scope != "host"))
    spans = sorted(length_s(device.span) for device in found)
    parts = [f"source {came_from}", f"scope {scopes}" if scopes else ""]
    parts.append(f"span {spans[0]:.4g} s" + ("" if len(spans) == 1 else f" to {spans[-1]:.4g} s"))
    timed_s = [device.timed_s for device in found if device.timed_s is not None]
    ticks_s = [device.tick_s for device in found if device.tick_s]
    if timed_s and ticks_s:
        how = "aligned" if all(device.aligned for device in found) else "not aligned"
        parts.append(f"tick {to_ms(max(ticks_s)):.3g} ms timed to {to_ms(max(timed_s)):.2g} ms ({how})")
    widest = max(device.open_share for device in found)
    parts.append(f"sampling leaves +/- {widest * PERCENT:.2g} % open")
    if any(device.gain for device in found):
        parts.append(f"the sensor's gain +/- {SENSOR_GAIN * PERCENT:g} % is the same in every run on a card")
    return ", ".join(part for part in parts if part)


def _how(devices: list[Energy]) -> str:
    return " / ".join(
        sorted({f"gross, {d.method}" + (f" ({d.instead})" if d.instead else "") for d in devices})
    )
