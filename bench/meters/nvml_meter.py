"""The readings of one GPU as a meter: which are taken, what becomes of one that fails, how it is left."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from bench.meters.faults import (
    GONE,
    MAX_CONSECUTIVE_GAPS,
    TRANSIENT,
    Fault,
    Hung,
    attempt,
    refuse_gone,
    within,
)
from bench.meters.nvml_facts import identity, loaded_library, settings
from bench.meters.nvml_readings import (
    QUANTITIES,
    SHORTEST_PERIOD_S,
    THERMAL_COUNTERS,
    WHOLE_GPU_ONLY,
    Way,
    choose_way,
    take,
)
from bench.meters.sensors import sensor_facts

LEVELS = ("memory_used_gb", "temperature_c")
"""Readings that also stand among the facts, as they were before the model was loaded and after the end."""
_CLOSING_LIMIT_S = 0.5
_LATENCIES_KEPT = 4096


class NvmlMeter:
    """The readings of one GPU (`protocols.PacedMeter`); made by `nvml.open_gpu`.

    A field that fails while sampling moves to `missing`: at once, or after the fourth transient fault
    in a row. Fields and units are those of `nvml_readings.QUANTITIES`.
    """

    def __init__(self, nvml: Any, handle: Any, uuid: str, *, simulated: bool, binding: str | None) -> None:
        """Probe every field once; raises GpuLost."""
        self._nvml, self._handle, self._uuid = nvml, handle, uuid
        self._gaps: dict[str, int] = {}
        self._transient: dict[str, int] = {}
        self._ways: dict[str, Way] = {}
        self._missing: dict[str, str] = {}
        self._latencies_us: deque[int] = deque(maxlen=_LATENCIES_KEPT)
        self._state = "open"
        self._simulated = simulated
        what, how = identity(nvml, handle), settings(nvml, handle)
        unavailable = what.pop("unavailable") | how.pop("unavailable")
        self._probe(mig=bool(how["mig"]) or uuid.startswith("MIG-"))
        self._facts = {
            **what,
            **how,
            **self._levels(),
            **self._methods(what["compute_capability"]),
            "unavailable": unavailable,
            "lib_path": loaded_library(),
            "binding": binding,
            "uuid": uuid,
        }

    def _probe(self, *, mig: bool) -> None:
        for field in QUANTITIES:
            if mig and field in WHOLE_GPU_ONLY:
                self._missing[field] = "mig: whole-GPU counter only"
                continue
            way = choose_way(self._nvml, self._handle, field)
            if isinstance(way, Fault):
                refuse_gone(way, self._uuid)
                self._missing[field] = f"nvml: {way.text}"
            else:
                self._ways[field] = way

    def _methods(self, capability: str | None) -> dict[str, Any]:
        method = {field: way.method for field, way in self._ways.items()}
        energy = self._ways.get("energy_j")
        power = method.get("power_w") or method.get("power_average_w")
        return {
            "power_method": method.get("power_w"),
            "sensor": sensor_facts(power, capability),
            "energy_method": method.get("energy_j"),
            "energy_scope": energy and ("module" if getattr(energy, "scope", 0) else "gpu"),
            "memory_api": method.get("memory_used_gb"),
        }

    def _levels(self) -> dict[str, float | None]:
        ways = {field: way for field, way in self._ways.items() if field in LEVELS}
        outcomes = take(self._nvml, self._handle, ways)
        found = {field: value for field, value in outcomes.items() if not isinstance(value, Fault)}
        return {field: found.get(field) for field in LEVELS}

    @property
    def missing(self) -> dict[str, str]:
        """Field to reason; grows when a field fails while sampling."""
        return dict(self._missing)

    @property
    def facts(self) -> dict[str, Any]:
        """The GPU, its settings at opening, the methods behind its readings, and how reading goes.

        `transient_faults` counts the passing faults by field; `read_latency_us` is the median of what NVML
        itself says that its field values took.
        """
        latencies_us = list(self._latencies_us)
        return self._facts | {
            "transient_faults": dict(self._transient),
            "read_latency_us": statistics.median(latencies_us) if latencies_us else None,
        }

    @property
    def simulated(self) -> bool:
        """Whether the library behind the readings is a modelled one."""
        return self._simulated

    @property
    def periods_s(self) -> dict[str, float]:
        """Every field that can be read, and the shortest period at which reading it pays; 0 for any.

        The mask of throttle reasons is of use between its samples only where the counters are missing.
        """
        periods_s = {field: SHORTEST_PERIOD_S.get(field, 0.0) for field in list(self._ways)}
        if "throttle_reasons" in periods_s and not periods_s.keys() >= THERMAL_COUNTERS:
            periods_s["throttle_reasons"] = 0.0
        return periods_s

    def read(self, fields: Collection[str] | None = None) -> list[tuple[str, float, str | None]]:
        """Return every one of `fields` that answers now; raises GpuLost once, and is empty from then on."""
        ways = {field: way for field, way in self._ways.items() if fields is None or field in fields}
        if self._state != "open" or not ways:
            return []
        with self._calling():
            outcomes = take(self._nvml, self._handle, ways, self._latencies_us)
        readings: list[tuple[str, float, str | None]] = []
        for field, outcome in outcomes.items():
            if isinstance(outcome, Fault):
                self._note(field, outcome)
            else:
                self._gaps[field] = 0
                readings.append((field, outcome, self._uuid))
        return readings

    def _note(self, field: str, fault: Fault) -> None:
        if fault.code in GONE:
            self._state = "lost"
            self._missing |= dict.fromkeys(self._ways, f"nvml: {fault.text}")
            refuse_gone(fault, self._uuid)
        gaps = self._gaps[field] = self._gaps.get(field, 0) + 1
        if fault.code in TRANSIENT:
            self._transient[field] = self._transient.get(field, 0) + 1
            if gaps <= MAX_CONSECUTIVE_GAPS:
                return
        times = f" {gaps} times in a row" if gaps > 1 else ""
        self._missing[field] = f"nvml: failed while sampling: {fault.text}{times}"
        del self._ways[field]

    def after(self) -> Mapping[str, Any]:
        """Return the settings, the processes and the levels again; nothing once the GPU is lost or closed."""
        if self._state != "open":
            return {}
        with self._calling():
            return settings(self._nvml, self._handle) | self._levels()

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Mark that the driver is being called, for `close`."""
        self._state = "calling"
        try:
            yield
        finally:
            if self._state == "calling":  # else it was closed while the call hung
                self._state = "open"

    def close(self) -> None:
        """Leave NVML; never raises, nor waits for long. After a call that hangs it is left open."""
        hung, was_closed = self._state == "calling", self._state == "closed"
        self._state = "closed"
        if not hung and not was_closed:
            with suppress(Hung):
                within(_CLOSING_LIMIT_S, lambda: attempt(self._nvml, self._nvml.nvmlShutdown), "closing NVML")
