"""What a run must say about its GPU: read once at opening, each fact on its own.

Any of them may be unsupported or forbidden; it is then None, and `unavailable` says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.meters.faults import FUNCTION_NOT_FOUND, Fault, attempt
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


def _other_processes(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    """List the compute processes other than this one; their memory is None where it is not told.

    In a container the ids may be the host's, and then this process may count among the others.
    """
    listed = attempt(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))
    if isinstance(listed, Fault):
        if listed.code != FUNCTION_NOT_FOUND:
            raise nvml.NVMLError(listed.code)
        listed = nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)
    return [
        {"pid": p.pid, "memory_gb": None if p.usedGpuMemory is None else to_gb(p.usedGpuMemory)}
        for p in listed
        if p.pid != os.getpid()
    ]


FACTS: dict[str, Callable[[Any, Any], Any]] = {
    "name": lambda n, h: n.nvmlDeviceGetName(h),
    "uuid": lambda n, h: n.nvmlDeviceGetUUID(h),
    "architecture": _architecture,
    "compute_capability": _compute_capability,
    "driver": lambda n, h: n.nvmlSystemGetDriverVersion(),
    "nvml": lambda n, h: n.nvmlSystemGetNVMLVersion(),
    "memory_total_gb": lambda n, h: to_gb(n.nvmlDeviceGetMemoryInfo(h).total),
    "power_limit_w": lambda n, h: n.nvmlDeviceGetEnforcedPowerLimit(h) / MW_PER_W,
    "persistence": lambda n, h: bool(n.nvmlDeviceGetPersistenceMode(h)),
    "ecc": lambda n, h: bool(n.nvmlDeviceGetEccMode(h)[0]),
    "mig": lambda n, h: bool(n.nvmlDeviceGetMigMode(h)[0]),
    "pstate": lambda n, h: n.nvmlDeviceGetPerformanceState(h),
    "other_processes": _other_processes,
}
"""Fact to its reading; `power_limit_w` is the enforced limit, `pstate` 0 is the highest performance."""


def describe(nvml: Any, handle: Any) -> dict[str, Any]:
    """Return every fact of one GPU, None for those that `unavailable` explains."""
    facts: dict[str, Any] = {}
    unavailable: dict[str, str] = {}
    for name, read in FACTS.items():
        fact = attempt(nvml, partial(read, nvml, handle))
        if isinstance(fact, Fault):
            unavailable[name] = f"nvml: {fact.text}"
        facts[name] = None if isinstance(fact, Fault) else fact
    return facts | {"unavailable": unavailable}


def power_window(method: str | None, capability: str | None) -> str | None:
    """Say over which time a `power_w` reading averages; None where nvml.h does not tell.

    `nvmlDeviceGetPowerUsage` is a mean of 1 s on Ampere and newer, except GA100 (compute capability
    8.0), and instantaneous on GA100 and older.
    """
    if method is None or method.startswith("field 186"):
        return method and "instant"
    if capability is None:
        return None
    major, minor = (int(part) for part in capability.split("."))
    return "instant" if (major, minor) <= (8, 0) else "mean of 1 s"


def loaded_library(maps: Path = Path("/proc/self/maps")) -> str | None:
    """Return the path of the NVML library in this process; None where it cannot be told."""
    try:
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.split(maxsplit=5)[5] for line in lines if "libnvidia-ml" in line), None)
