"""What the GPU draws without a request, and what is left for the requests when that is taken off.

*Cold* is before the model is loaded, *resident* with the model in memory and nothing to do; both as polled,
for reading the sensors keeps a GPU awake. Net energy is what the requests added to the resident idle:
E - P · T over the same span. It is never clamped: where the idle draws nearly as much as the load it was
none, or the load hardly was one, and net is missing. Gross stays the headline, because whoever serves pays
for the idle time as well.
"""

from __future__ import annotations

from collections.abc import Collection

from bench.analysis.energy import devices_of, kwh_per_1k, mean_power_w, power_over
from bench.analysis.metered import metered
from bench.analysis.recorded import idle_spans, length_s, on_gpu, series, served_between
from bench.analysis.summary import origin
from bench.analysis.system import Reading, SystemRuns, missing
from bench.records import Interval, Run, Value
from bench.units import PER_1K, PERCENT, joules_to_kwh

MAX_OF_LOAD = 0.8
"""An idle power above this share of that under load was none, or the load was hardly one."""
MAX_DRIFT = 0.10
"""Idle power before and after that differs by more than this is not one figure."""
MAX_BUSY_PERCENT = 5.0
"""An idle GPU on which kernels run for more of the time than this is somebody's."""
SETTLED_S = 1.0
"""A reading of utilisation looks back over up to a second, and so to before an idle span began."""
RESIDENT = ("resident", "resident_after")


def cold_w(run: Run) -> Reading:
    """Read the mean power before the model was loaded."""
    return _idle_w(run, "cold")


def cold(system: SystemRuns) -> Value:
    """Return the mean power before the model was loaded: measured once, in the saturated run."""
    run = system.offline
    if run is None or run.meta.status != "complete":
        return missing("the cold device is measured in the saturated run, of which there is none")
    reading = cold_w(run)
    if reading.value is None:
        return missing(reading.why)
    note = "; ".join(part for part in (origin(run), reading.how) if part)
    return Value(value=reading.value, source=run.meta.source, low=reading.low, high=reading.high, note=note)


def resident_w(run: Run) -> Reading:
    """Read the mean power with the model in memory and no request; of before and after, where both are."""
    before, after = _idle_w(run, "resident"), _idle_w(run, "resident_after")
    if before.value is None or after.value is None:
        return before if after.value is None else after
    bounds = [
        None if one is None or two is None else (one + two) / 2.0
        for one, two in ((before.low, after.low), (before.high, after.high))
    ]
    how = f"mean of before and after; {before.how}"
    return Reading(value=(before.value + after.value) / 2.0, low=bounds[0], high=bounds[1], how=how)


def why_no_idle(run: Run) -> str | None:
    """Return why the resident idle power cannot be taken off; None where it can, or was not measured.

    The GPU was busy, or the idle power lies above 80 % of that under load, or before and after differ by
    more than 10 %, or it was another meter's than that under load.
    """
    if (why := busy(run, RESIDENT)) is not None:
        return why
    before, after = _idle_w(run, "resident").value, _idle_w(run, "resident_after").value
    if before is not None and after is not None and abs(after / before - 1.0) > MAX_DRIFT:
        return f"idle was not idle: {before:.0f} W before and {after:.0f} W after (limit 10 %)"
    idle, load = resident_w(run).value, mean_power_w(run).value
    if idle is not None and load is not None and idle > MAX_OF_LOAD * load:
        share = idle / load * PERCENT
        return (
            f"idle was not idle: {idle:.0f} W are {share:.0f} % of the {load:.0f} W under load (limit 80 %)"
        )
    return _other_scope(run)


def busy(run: Run, names: Collection[str]) -> str | None:
    """Return that kernels ran on a GPU in one of these idle spans; None where none did, or it is unknown."""
    for name, span in idle_spans(run).items():
        settled = Interval(start_s=span.start_s + SETTLED_S, end_s=span.end_s)
        for samples in series(run, "utilization_percent").values() if name in names else ():
            values = samples.within(settled).values
            if len(values) and values.mean() > MAX_BUSY_PERCENT:
                return (
                    f"idle was not idle: kernels ran on the GPU for {values.mean():.0f} % of the "
                    f"{name.replace('_', ' ')} idle span (limit {MAX_BUSY_PERCENT:g} %)"
                )
    return None


def _other_scope(run: Run) -> str | None:
    """Return that idle and load were not of the same thing: a GPU's power and a whole module's."""
    load = {device.scope for device in devices_of(run)}
    for span in (span for name, span in idle_spans(run).items() if name in RESIDENT):
        devices = metered(run, span)
        if not isinstance(devices, str) and load and (idle := {d.scope for d in devices}) != load:
            return f"the idle power is of the {'/'.join(idle)}, that under load of the {'/'.join(load)}"
    return None


def net_kwh_per_1k(run: Run) -> Reading:
    """Read kWh per 1,000 requests above the resident idle: (E - P · T) ÷ requests, never clamped."""
    gross, idle = kwh_per_1k(run), resident_w(run)
    if gross.value is None or idle.value is None:
        return Reading(value=None, why=gross.why if gross.value is None else idle.why)
    if (why := why_no_idle(run)) is not None:
        return Reading(value=None, why=why)
    per_watt = _kwh_per_1k_and_watt(run)
    low = idle.value if idle.low is None else idle.low
    high = idle.value if idle.high is None else idle.high
    return Reading(
        value=gross.value - idle.value * per_watt,
        low=None if gross.low is None else gross.low - high * per_watt,
        high=None if gross.high is None else gross.high - low * per_watt,
        n=gross.n,
        how="net of the idle power with the model resident",
    )


def active_share(run: Run) -> Reading:
    """Read the share of the energy that the requests added to the idle: 1 - P · T / E."""
    gross, net = kwh_per_1k(run), net_kwh_per_1k(run)
    if gross.value is None or net.value is None:
        return Reading(value=None, why=net.why)
    bounds = [None if bound is None else bound / gross.value for bound in (net.low, net.high)]
    return Reading(value=net.value / gross.value, low=bounds[0], high=bounds[1])


def _kwh_per_1k_and_watt(run: Run) -> float:
    """Return what a watt of idle power over the metered span is per 1,000 requests.

    With several devices each has its own span; they differ by a tick, so their mean stands for all.
    """
    devices = metered(run)
    assert not isinstance(devices, str)
    shares = [
        length_s(device.span) / served_between(run, device.span.start_s, device.span.end_s)
        for device in devices
    ]
    return joules_to_kwh(sum(shares) / len(shares)) * PER_1K


def _idle_w(run: Run, which: str) -> Reading:
    span = idle_spans(run).get(which)
    if span is None:
        why = f"no {which.replace('_', ' ')} idle span was recorded"
        if not on_gpu(run):
            why = "idle power is measured on a GPU only"
        return Reading(value=None, why=run.meta.missing.get(f"idle_{which}", why))
    return power_over(run, span)
