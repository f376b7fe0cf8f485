"""Which meter gives a run's joules: the counter, else the polled power, on a CPU the packages' counters.

The counter comes first, between two of its ticks; where it is absent or cannot be believed, the polled
power, and it is said. Neither is taken where its mean power cannot be. One device without energy makes the
total unknown.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bench.analysis.counter import from_counter
from bench.analysis.device import others_on
from bench.analysis.joules import Energy, Refused, Scope
from bench.analysis.polled import PowerSensor, from_power
from bench.analysis.recorded import (
    Series,
    declared_period_s,
    every_gpu,
    gpu_facts,
    idle_spans,
    on_gpu,
    whole_series,
    why_missing,
    window_of,
)
from bench.analysis.remembered import remembered
from bench.records import Interval, Run

RAPL_TICK_S = 0.002
"""RAPL counters advance about every millisecond (Intel, Software Developer's Manual 3B, Power Management);
twice that, as they come late under load."""
MAX_OF_LIMIT = 1.1
"""A mean power above the enforced limit times this cannot be."""
MIN_OF_IDLE = 0.5
"""Nor can one below the power of the idle GPU times this."""
MAX_DISAGREEMENT = 0.05
"""Counter and polled power further apart than this tell different stories."""
DEFAULT_AVERAGE = PowerSensor(window_s=1.0, update_s=0.1)
"""Field 185 is a mean of 1 s (nvml.h) with a new value about every 100 ms (Yang et al., SC24)."""


@remembered
def metered(run: Run, window: Interval | None = None) -> list[Energy] | str:
    """Return each device's energy inside `window` (the run's own), or why the total is unknown.

    One device that could not be metered makes the total unknown; there are no partial sums.
    """
    window = window or window_of(run)
    if not on_gpu(run):
        host = _host(run, window)
        return host.why if isinstance(host, Refused) else [host]
    if (why := not_this_runs(run)) is not None:
        return why
    uuids = sorted({*whole_series(run, "energy_j"), *_polled(run)}, key=str)
    if not uuids:
        return _joined(why_missing(run, "energy_j"), why_missing(run, "power_w"))
    devices: list[Energy] = []
    for uuid in uuids:
        energy = _believable(run, uuid, window)
        if isinstance(energy, Refused):
            return energy.why
        devices.append(energy)
    return devices


def disagreement(run: Run) -> float | None:
    """Return how far the power samples lie from the counter over the counter's own span, as a share.

    None where either is missing, or the counter is a whole module's: then there is nothing to check.
    """
    worst: float | None = None
    for uuid in whole_series(run, "energy_j"):
        counted = _counted(run, uuid, window_of(run))
        if isinstance(counted, Refused) or counted.joules <= 0 or counted.scope != "gpu":
            continue
        polled = _integrated(run, uuid, counted.span)
        if not isinstance(polled, Refused):
            worst = max(worst or 0.0, abs(polled.joules / counted.joules - 1.0))
    return worst


def not_this_runs(run: Run) -> str | None:
    """Return why the GPU's energy is not that of this run alone; None where it is."""
    if not on_gpu(run):
        return None
    if any(facts.get("mig") or (facts.get("after") or {}).get("mig") for facts in every_gpu(run)):
        return "mig: whole-GPU counter only"
    if pids := others_on(run):
        return f"not attributable: other processes were on the GPU (pids {', '.join(map(str, pids))})"
    return None


def _believable(run: Run, uuid: str | None, window: Interval) -> Energy | Refused:
    """Return a device's energy from its counter, else from its power; the first that can be true.

    A counter whose ends are timed too coarsely comes second only to power that is known better.
    """
    counted = _plausible(run, uuid, _counted(run, uuid, window))
    if isinstance(counted, Energy):
        return counted
    polled = _plausible(run, uuid, _integrated(run, uuid, window))
    if isinstance(polled, Energy):
        coarse = counted.coarse and _plausible(run, uuid, counted.coarse)
        if isinstance(coarse, Energy) and coarse.open_share <= polled.open_share:
            return coarse
        return msgspec.structs.replace(polled, instead=counted.why, distrusted=counted.distrusted)
    return Refused(why=_joined(counted.why, polled.why), distrusted=counted.distrusted or polled.distrusted)


def _plausible(run: Run, uuid: str | None, energy: Energy | Refused) -> Energy | Refused:
    if isinstance(energy, Refused):
        return energy
    if energy.joules <= 0:
        return Refused(why=f"{energy.method}: no power was drawn at all", distrusted=True)
    limit_w = _limit_w(run, uuid, energy.scope)
    if limit_w is not None and energy.power_w > MAX_OF_LIMIT * limit_w:
        why = f"{energy.method}: {energy.power_w:.0f} W on average, above the limit of {limit_w:.0f} W"
        return Refused(why=why, distrusted=True)
    idle_w = _idle_w(run, uuid, energy.scope)
    if idle_w is not None and energy.power_w < MIN_OF_IDLE * idle_w:
        why = f"{energy.method}: {energy.power_w:.0f} W on average, below half of the idle {idle_w:.0f} W"
        return Refused(why=why, distrusted=True)
    return energy


def _counted(run: Run, uuid: str | None, window: Interval) -> Energy | Refused:
    counter = whole_series(run, "energy_j").get(uuid)
    if counter is None:
        return Refused(why=why_missing(run, "energy_j"))
    facts = gpu_facts(run, uuid)
    scope: Scope = "module" if facts.get("energy_scope") == "module" else "gpu"
    calibration = facts.get("calibration") or {}
    power = whole_series(run, "power_w").get(uuid) or whole_series(run, "power_average_w").get(uuid)
    found = from_counter(
        counter, window, tick_s=calibration.get("tick_s"), limit_w=_limit_w(run, uuid, scope), power=power
    )
    if isinstance(found, Energy):
        return msgspec.structs.replace(found, scope=scope)
    coarse = found.coarse and msgspec.structs.replace(found.coarse, scope=scope)
    return msgspec.structs.replace(found, coarse=coarse)


def _integrated(run: Run, uuid: str | None, window: Interval) -> Energy | Refused:
    """Integrate the mean of a second where there is one, for it misses nothing; else the instant power."""
    found = Refused(why=why_missing(run, "power_w"))
    is_idle = window in idle_spans(run).values()
    instant = whole_series(run, "power_w").get(uuid)
    for field, sensor in (("power_average_w", DEFAULT_AVERAGE), ("power_w", _sensor(run, uuid))):
        samples = whole_series(run, field).get(uuid)
        if samples is None:
            continue
        energy = from_power(
            samples,
            window,
            sensor,
            period_s=declared_period_s(run, field),
            most_w=_limit_w(run, uuid),
            least_w=None if is_idle else _idle_w(run, uuid) or 0.0,
            seen=None if sensor.averages and field == "power_w" else instant,
        )
        if isinstance(energy, Energy):
            return energy
        found = energy
    return found


def _sensor(run: Run, uuid: str | None) -> PowerSensor:
    """Return what a `power_w` reading shows; the calibrated update period comes before the table's."""
    facts = gpu_facts(run, uuid)
    known = facts.get("sensor") or {}
    update_s = (facts.get("calibration") or {}).get("power_update_s") or known.get("update_s")
    return PowerSensor(window_s=known.get("window_s"), update_s=update_s)


def _limit_w(run: Run, uuid: str | None, scope: Scope = "gpu") -> float | None:
    """Return the GPU's power limit; a module, which has a CPU as well, is not held to it."""
    limit_w: float | None = gpu_facts(run, uuid).get("power_limit_w")
    return limit_w if scope == "gpu" else None


def _idle_w(run: Run, uuid: str | None, scope: Scope = "gpu") -> float | None:
    """Return the job's own idle power: cold where it was measured, else with the model resident."""
    spans = idle_spans(run)
    window = spans.get("cold") or spans.get("resident")
    if window is None:
        return None
    for energy in (_counted(run, uuid, window), _integrated(run, uuid, window)):
        if isinstance(energy, Energy) and energy.scope == scope:
            return energy.power_w
    return None


def _host(run: Run, window: Interval) -> Energy | Refused:
    """Return the CPU packages' (and, where counted, the DRAM's) energy."""
    package = whole_series(run, "rapl_package_j").get(None)
    if package is None:
        lack = why_missing(run, "rapl_package_j")
        return Refused(why=f"no GPU in use, and the CPU's energy cannot be read ({lack})")
    energy = from_counter(package, window, tick_s=RAPL_TICK_S, source="rapl")
    if isinstance(energy, Refused):
        return msgspec.structs.replace(
            energy, why=energy.why.replace("energy counter", "RAPL package counter")
        )
    energy = msgspec.structs.replace(energy, gain=None, scope="host")
    dram = whole_series(run, "rapl_dram_j").get(None)
    if dram is None:
        return msgspec.structs.replace(energy, method="RAPL packages, without DRAM; the whole host's")
    ends = np.interp([energy.span.start_s, energy.span.end_s], dram.t_s, dram.values)
    if ends[1] < ends[0]:
        return Refused(why="the RAPL DRAM counter went backwards", distrusted=True)
    more_j = float(ends[1] - ends[0])
    return msgspec.structs.replace(
        energy,
        joules=energy.joules + more_j,
        low=energy.low + more_j,
        high=energy.high + more_j,
        method="RAPL packages + DRAM; the whole host's",
    )


def _polled(run: Run) -> dict[str | None, Series]:
    return whole_series(run, "power_average_w") | whole_series(run, "power_w")


def _joined(first: str, second: str) -> str:
    return first if first == second else f"{first}; {second}"
