"""The readings of one GPU: for each field the ways to get it, best first.

`QUANTITIES` is the table of what is measured. A way is either an NVML field value (many are fetched in
one call, each with a return code of its own) or a call of its own. At opening each field takes the
first way that works, and keeps it: a run never changes its method, so its samples are comparable.
Identifiers, units and meanings are those of NVIDIA's `nvml.h`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableSequence
from functools import partial
from typing import Any

import msgspec

from bench.meters.faults import ABSENT, Fault, attempt
from bench.units import MJ_PER_J, MW_PER_W, NS_PER_S, to_gb


class FieldValue(msgspec.Struct, frozen=True, kw_only=True):
    """A way: NVML field `id` in `scope`, divided by `per_unit` to reach the field's unit.

    Scope 0 is the GPU; scope 1 the module, i.e. CPU and GPU together on Grace Hopper.
    """

    method: str
    id: int
    per_unit: float
    scope: int = 0


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A way: a call `(nvml, handle) -> value` in the field's unit."""

    method: str
    value: Callable[[Any, Any], float]


Way = FieldValue | Call


def _memory_v2(nvml: Any, handle: Any) -> Any:
    return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)


QUANTITIES: dict[str, tuple[Way, ...]] = {
    "power_w": (
        FieldValue(method="field 186 (instant)", id=186, per_unit=MW_PER_W),
        Call(method="nvmlDeviceGetPowerUsage", value=lambda n, h: n.nvmlDeviceGetPowerUsage(h) / MW_PER_W),
    ),
    "power_average_w": (FieldValue(method="field 185 (mean of 1 s)", id=185, per_unit=MW_PER_W),),
    "energy_j": (
        FieldValue(method="field 191", id=191, per_unit=MJ_PER_J),
        FieldValue(method="field 191 (module scope)", id=191, scope=1, per_unit=MJ_PER_J),
        FieldValue(method="field 83", id=83, per_unit=MJ_PER_J),
        Call(
            method="nvmlDeviceGetTotalEnergyConsumption",
            value=lambda n, h: n.nvmlDeviceGetTotalEnergyConsumption(h) / MJ_PER_J,
        ),
    ),
    "memory_used_gb": (
        Call(method="v2", value=lambda n, h: to_gb(_memory_v2(n, h).used)),
        # v1 counts the driver's reserved memory (0.4 to 0.9 GB) as used; facts["memory_api"] says so.
        Call(method="v1", value=lambda n, h: to_gb(n.nvmlDeviceGetMemoryInfo(h).used)),
    ),
    "memory_reserved_gb": (Call(method="v2", value=lambda n, h: to_gb(_memory_v2(n, h).reserved)),),
    "temperature_c": (
        Call(method="nvmlDeviceGetTemperatureV", value=lambda n, h: n.nvmlDeviceGetTemperatureV(h, 0)),
        Call(method="nvmlDeviceGetTemperature", value=lambda n, h: n.nvmlDeviceGetTemperature(h, 0)),
    ),
    "sm_clock_mhz": (
        Call(
            method="nvmlDeviceGetClockInfo", value=lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM)
        ),
    ),
    "memory_clock_mhz": (
        Call(
            method="nvmlDeviceGetClockInfo", value=lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM)
        ),
    ),
    "throttle_sw_power_s": (FieldValue(method="field 74", id=74, per_unit=NS_PER_S),),
    "throttle_sw_thermal_s": (FieldValue(method="field 269", id=269, per_unit=NS_PER_S),),
    "throttle_hw_thermal_s": (FieldValue(method="field 270", id=270, per_unit=NS_PER_S),),
    "throttle_hw_power_brake_s": (FieldValue(method="field 271", id=271, per_unit=NS_PER_S),),
    "throttle_reasons": (
        Call(
            method="nvmlDeviceGetCurrentClocksEventReasons",
            value=lambda n, h: n.nvmlDeviceGetCurrentClocksEventReasons(h),
        ),
        Call(
            method="nvmlDeviceGetCurrentClocksThrottleReasons",
            value=lambda n, h: n.nvmlDeviceGetCurrentClocksThrottleReasons(h),
        ),
    ),
    "utilization_percent": (
        Call(
            method="nvmlDeviceGetUtilizationRates", value=lambda n, h: n.nvmlDeviceGetUtilizationRates(h).gpu
        ),
    ),
}
"""Field name (the telemetry's contract) to its ways. `energy_j` and the `throttle_*_s` are cumulative
counters; `throttle_reasons` is NVML's bit mask of why clocks are held down now, for drivers without these
counters; `utilization_percent` is the share of time with any kernel running, not occupancy."""

SHORTEST_PERIOD_S = {
    "memory_used_gb": 0.2,
    "memory_reserved_gb": 1.0,
    "temperature_c": 1.0,
    "sm_clock_mhz": 1.0,
    "memory_clock_mhz": 1.0,
    "throttle_reasons": 1.0,
    "utilization_percent": 1.0,
}
"""Fields that change slowly, or whose reading holds the driver's lock for long: not more often than this."""

WHOLE_GPU_ONLY = frozenset({"power_w", "power_average_w", "energy_j"})
"""Readings that NVML offers for the whole GPU only, which under MIG is not what the run used."""

THERMAL_COUNTERS = frozenset({"throttle_sw_thermal_s", "throttle_hw_thermal_s", "throttle_hw_power_brake_s"})
"""What older drivers do not count."""

_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
"""`nvmlValueType_t` to the union's member."""


def choose_way(nvml: Any, handle: Any, field: str) -> Way | Fault:
    """Try the field's ways once each; return the first that works, or why none does.

    Only a method that does not exist here is replaced by the next one: after any other fault the next
    method might answer with another meaning.
    """
    texts = []
    fault = Fault(code=3, text="no method")
    for way in QUANTITIES[field]:
        outcome = take(nvml, handle, {field: way})[field]
        if not isinstance(outcome, Fault):
            return way
        fault = outcome
        texts.append(f"{way.method}: {outcome.text}")
        if outcome.code not in ABSENT:
            break
    return Fault(code=fault.code, text="; ".join(texts))


def take(
    nvml: Any, handle: Any, ways: Mapping[str, Way], latencies_us: MutableSequence[int] | None = None
) -> dict[str, float | Fault]:
    """Read every field of `ways` now; each is a number or its own fault. Never raises an NVML error.

    To `latencies_us` is added what NVML itself says that the field values took, where it says so.
    """
    together = {field: way for field, way in ways.items() if isinstance(way, FieldValue)}
    outcomes = _field_values(nvml, handle, together, [] if latencies_us is None else latencies_us)
    for field, way in ways.items():
        if isinstance(way, Call):
            outcome = attempt(nvml, partial(way.value, nvml, handle))
            outcomes[field] = outcome if isinstance(outcome, Fault) else float(outcome)
    return outcomes


def _field_values(
    nvml: Any, handle: Any, ways: Mapping[str, FieldValue], latencies_us: MutableSequence[int]
) -> dict[str, float | Fault]:
    if not ways:
        return {}
    answer = attempt(
        nvml, lambda: nvml.nvmlDeviceGetFieldValues(handle, [(w.id, w.scope) for w in ways.values()])
    )
    if isinstance(answer, Fault):
        return dict.fromkeys(ways, answer)
    answered_us = [raw.latencyUsec for raw in answer if raw.nvmlReturn == 0]
    if answered_us:
        latencies_us.append(max(answered_us))
    return _decode(nvml, answer, ways)


def _decode(nvml: Any, answer: Iterable[Any], ways: Mapping[str, FieldValue]) -> dict[str, float | Fault]:
    outcomes: dict[str, float | Fault] = {}
    for raw, (field, way) in zip(answer, ways.items(), strict=True):
        # The value is undefined unless the field's own return code is 0: a stale number may stand there.
        if raw.nvmlReturn != 0:
            outcomes[field] = Fault(code=raw.nvmlReturn, text=str(nvml.NVMLError(raw.nvmlReturn)))
        elif raw.valueType not in _MEMBERS:
            outcomes[field] = Fault(code=3, text=f"value type {raw.valueType} is unknown")
        else:
            outcomes[field] = float(getattr(raw.value, _MEMBERS[raw.valueType])) / way.per_unit
    return outcomes
