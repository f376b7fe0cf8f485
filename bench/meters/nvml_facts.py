"""What a run must say about its GPU: what it is, and how it is set, at opening and once more at the end.

Each fact is read on its own: any of them may be unsupported or forbidden; it is then None, and
`unavailable` says why. The list of processes takes milliseconds, so it is read at these two moments only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench.meters.faults import ABSENT, FUNCTION_NOT_FOUND, Fault, attempt
from bench.units import MW_PER_W, to_gb

_ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada",
    9: "Hopper",
    10: "Blackwell",
    13: "Rubin",
}
"""`NVML_DEVICE_ARCH_*` of nvml.h."""


def _architecture(nvml: Any, handle: Any) -> str:
    number = nvml.nvmlDeviceGetArchitecture(handle)
    return _ARCHITECTURES.get(number, f"architecture {number}")


def _compute_capability(nvml: Any, handle: Any) -> str:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return f"{major}.{minor}"


def _processes(nvml: Any, handle: Any) -> list[Any]:
    listed = attempt(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))
    if isinstance(listed, Fault):
        if listed.code != FUNCTION_NOT_FOUND:
            raise nvml.NVMLError(listed.code)
        listed = nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)
    return list(listed)


def _sm_clock_limit_mhz(nvml: Any, handle: Any) -> int:
    """Return the application clock; on a driver that has none, the highest clock that may be set."""
    clock = attempt(nvml, lambda: nvml.nvmlDeviceGetApplicationsClock(handle, nvml.NVML_CLOCK_SM))
    if not isinstance(clock, Fault):
        return int(clock)
    if clock.code not in ABSENT:
        raise nvml.NVMLError(clock.code)
    return int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))


def _ecc_errors(kind: str, nvml: Any, handle: Any) -> int:
    """Count the memory errors since the driver was loaded."""
    return int(nvml.nvmlDeviceGetTotalEccErrors(handle, getattr(nvml, kind), nvml.NVML_VOLATILE_ECC))


Readings = Mapping[str, Callable[[Any, Any], Any]]

IDENTITY: Readings = {
    "name": lambda n, h: n.nvmlDeviceGetName(h),
    "uuid": lambda n, h: n.nvmlDeviceGetUUID(h),
    "architecture": _architecture,
    "compute_capability": _compute_capability,
    "driver": lambda n, h: n.nvmlSystemGetDriverVersion(),
    "nvml": lambda n, h: n.nvmlSystemGetNVMLVersion(),
    "memory_total_gb": lambda n, h: to_gb(n.nvmlDeviceGetMemoryInfo(h).total),
}
"""Fact to its reading: what cannot change while a run lasts."""

SETTINGS: Readings = {
    "power_limit_w": lambda n, h: n.nvmlDeviceGetEnforcedPowerLimit(h) / MW_PER_W,
    "sm_clock_limit_mhz": _sm_clock_limit_mhz,
    "persistence": lambda n, h: bool(n.nvmlDeviceGetPersistenceMode(h)),
    "ecc": lambda n, h: bool(n.nvmlDeviceGetEccMode(h)[0]),
    "ecc_corrected": partial(_ecc_errors, "NVML_MEMORY_ERROR_TYPE_CORRECTED"),
    "ecc_uncorrected": partial(_ecc_errors, "NVML_MEMORY_ERROR_TYPE_UNCORRECTED"),
    "mig": lambda n, h: bool(n.nvmlDeviceGetMigMode(h)[0]),
    "pstate": lambda n, h: n.nvmlDeviceGetPerformanceState(h),
}
"""What may change while a run lasts. `power_limit_w` is the enforced limit, `pstate` 0 the highest
performance, `ecc_*` the errors since the driver was loaded."""


def identity(nvml: Any, handle: Any) -> dict[str, Any]:
    """Return what the GPU is; None for each fact that `unavailable` explains."""
    return _each(nvml, handle, IDENTITY)


def settings(nvml: Any, handle: Any) -> dict[str, Any]:
    """Return how the GPU is set now and who computes on it; None for each fact that `unavailable` explains.

    `other_processes` are all but this one, with their memory where it is told. `own_pid_listed` says whether
    this process is listed under its own id: in a container it may not be, and then it is among the others.
    """
    facts = _each(nvml, handle, SETTINGS)
    listed = attempt(nvml, lambda: _processes(nvml, handle))
    if isinstance(listed, Fault):
        why = dict.fromkeys(("other_processes", "own_pid_listed"), f"nvml: {listed.text}")
        return facts | dict.fromkeys(why) | {"unavailable": facts["unavailable"] | why}
    own = os.getpid()
    others = [
        {"pid": p.pid, "memory_gb": None if p.usedGpuMemory is None else to_gb(p.usedGpuMemory)}
        for p in listed
        if p.pid != own
    ]
    return facts | {"other_processes": others, "own_pid_listed": any(p.pid == own for p in listed)}


def _each(nvml: Any, handle: Any, readings: Readings) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    unavailable: dict[str, str] = {}
    for name, read in readings.items():
        fact = attempt(nvml, partial(read, nvml, handle))
        if isinstance(fact, Fault):
            unavailable[name] = f"nvml: {fact.text}"
        facts[name] = None if isinstance(fact, Fault) else fact
    return facts | {"unavailable": unavailable}


def loaded_library(maps: Path = Path("/proc/self/maps")) -> str | None:
    """Return the path of the NVML library in this process; None where it cannot be told."""
    try:
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.split(maxsplit=5)[5] for line in lines if "libnvidia-ml" in line), None)
