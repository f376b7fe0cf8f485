"""NVIDIA GPUs through NVML, by the official binding (`nvidia-ml-py`, which imports as `pynvml`).

This is the only file that imports it, and only when asked. `probe_nvml` says whether there is anything
to measure with and, if not, why; `open_gpu` gives the meter of one GPU, named by its UUID because
indices differ between NVML and CUDA. A modelled library marks everything read through it `simulated`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from functools import partial
from typing import Any

import msgspec

from bench.errors import NotAvailable
from bench.meters.faults import GONE, MAX_CONSECUTIVE_GAPS, TRANSIENT, Fault, GpuLost, attempt
from bench.meters.nvml_facts import describe, loaded_library, power_window
from bench.meters.nvml_readings import QUANTITIES, WHOLE_GPU_ONLY, Way, choose_way, take
from bench.units import to_gb

_PACKAGE = "nvidia-ml-py"
_INIT_REASONS = {
    4: "NVML denies access: give this user or container access to /dev/nvidia*",
    9: "the NVIDIA driver is not loaded: load it, or start the container with GPU access",
    12: "no NVML library (libnvidia-ml.so.1): install the driver, or start the container with GPU access",
    18: "the NVML library and the kernel driver differ in version: reboot after the driver's update",
}


class GpuInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU as NVML lists it; its memory is None where NVML does not tell it."""

    index: int
    uuid: str
    name: str
    memory_total_gb: float | None


class NvmlStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether NVML can be used here; `reason` says why not, with the remedy.

    `unreadable` names the GPUs that NVML counts and cannot open.
    """

    available: bool
    reason: str | None = None
    driver: str | None = None
    nvml: str | None = None
    lib_path: str | None = None
    binding: str | None = None
    simulated: bool = False
    gpus: tuple[GpuInfo, ...] = ()
    unreadable: tuple[str, ...] = ()


def probe_nvml() -> NvmlStatus:
    """Look for NVML and its GPUs; absence is an answer with its reason, never an exception."""
    try:
        nvml = _open_library()
    except NotAvailable as error:
        return NvmlStatus(available=False, reason=str(error), binding=_binding_version())
    try:
        gpus, unreadable = _enumerate(nvml)
        return NvmlStatus(
            available=bool(gpus),
            reason=None if gpus else "; ".join(unreadable) or "NVML finds no GPU",
            driver=_text(attempt(nvml, nvml.nvmlSystemGetDriverVersion)),
            nvml=_text(attempt(nvml, nvml.nvmlSystemGetNVMLVersion)),
            lib_path=loaded_library(),
            binding=_binding_version(),
            simulated=_is_modelled(nvml),
            gpus=gpus,
            unreadable=unreadable,
        )
    finally:
        attempt(nvml, nvml.nvmlShutdown)


def open_gpu(uuid: str) -> NvmlMeter:
    """Open the meter of one GPU by its UUID, with or without the `GPU-` that torch leaves out.

    Raises NotAvailable where NVML or that GPU cannot be had, GpuLost where the GPU wants a reset.
    """
    nvml = _open_library()
    name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    try:
        handle = attempt(nvml, lambda: nvml.nvmlDeviceGetHandleByUUID(name))
        if isinstance(handle, Fault):
            _refuse_gone(handle, name)
            known = ", ".join(gpu.uuid for gpu in _enumerate(nvml)[0]) or "none"
            raise NotAvailable(f"GPU {name} cannot be opened ({handle.text}); NVML lists: {known}")
        return NvmlMeter(nvml, handle, name)
    except BaseException:
        attempt(nvml, nvml.nvmlShutdown)
        raise


class NvmlMeter:
    """The readings of one GPU (`protocols.Meter`); made by `open_gpu`.

    A field that fails while sampling moves to `missing`: at once, or after the fourth transient fault
    in a row. Fields and units are those of `nvml_readings.QUANTITIES`.
    """

    def __init__(self, nvml: Any, handle: Any, uuid: str) -> None:
        """Probe every field once; raises GpuLost."""
        self._nvml, self._handle, self._uuid = nvml, handle, uuid
        self._gaps: dict[str, int] = {}
        self._ways: dict[str, Way] = {}
        self._missing: dict[str, str] = {}
        self._state = "open"
        self._simulated = _is_modelled(nvml)
        described = describe(nvml, handle)
        self._probe(mig=bool(described["mig"]) or uuid.startswith("MIG-"))
        self._facts = described | self._methods(described) | {"uuid": uuid}

    def _probe(self, *, mig: bool) -> None:
        for field in QUANTITIES:
            if mig and field in WHOLE_GPU_ONLY:
                self._missing[field] = "mig: whole-GPU counter only"
                continue
            way = choose_way(self._nvml, self._handle, field)
            if isinstance(way, Fault):
                _refuse_gone(way, self._uuid)
                self._missing[field] = f"nvml: {way.text}"
            else:
                self._ways[field] = way

    def _methods(self, described: dict[str, Any]) -> dict[str, Any]:
        method = {field: way.method for field, way in self._ways.items()}
        energy = self._ways.get("energy_j")
        return {
            "power_method": method.get("power_w"),
            "power_window": power_window(method.get("power_w"), described["compute_capability"]),
            "energy_method": method.get("energy_j"),
            "energy_scope": energy and ("module" if getattr(energy, "scope", 0) else "gpu"),
            "memory_api": method.get("memory_used_gb"),
            "lib_path": loaded_library(),
            "binding": _binding_version(),
        }

    @property
    def missing(self) -> dict[str, str]:
        """Field to reason; grows when a field fails while sampling."""
        return dict(self._missing)

    @property
    def facts(self) -> dict[str, Any]:
        """The GPU, its settings at opening, and the method behind power, energy and memory."""
        return dict(self._facts)

    @property
    def simulated(self) -> bool:
        """Whether the library behind the readings is a modelled one."""
        return self._simulated

    def read(self) -> list[tuple[str, float, str | None]]:
        """Return every field that answers now; raises GpuLost once, and is empty from then on."""
        if self._state != "open":
            return []
        self._state = "reading"
        try:
            outcomes = take(self._nvml, self._handle, self._ways)
        finally:
            if self._state == "reading":  # else it was closed while the read hung
                self._state = "open"
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
            _refuse_gone(fault, self._uuid)
        gaps = self._gaps[field] = self._gaps.get(field, 0) + 1
        if fault.code in TRANSIENT and gaps <= MAX_CONSECUTIVE_GAPS:
            return
        times = f" {gaps} times in a row" if gaps > 1 else ""
        self._missing[field] = f"nvml: failed while sampling: {fault.text}{times}"
        del self._ways[field]

    def close(self) -> None:
        """Leave NVML; never raises. A read that hangs keeps NVML open, as a shutdown could hang with it."""
        hung, was_closed = self._state == "reading", self._state == "closed"
        self._state = "closed"
        if not hung and not was_closed:
            attempt(self._nvml, self._nvml.nvmlShutdown)


def _refuse_gone(fault: Fault, uuid: str) -> None:
    if fault.code in GONE:
        raise GpuLost(f"{uuid}: {fault.text}; reset the GPU or reboot, then run again")


def _open_library() -> Any:
    """Import the binding and initialise NVML; NotAvailable with the remedy where that fails."""
    nvml = _import_binding()
    fault = attempt(nvml, nvml.nvmlInit)
    if isinstance(fault, Fault):
        raise NotAvailable(_INIT_REASONS.get(fault.code, f"NVML cannot be initialised: {fault.text}"))
    return nvml


def _import_binding() -> Any:
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        raise NotAvailable(f"the package {_PACKAGE} is not installed: pip install {_PACKAGE}") from error
    if not hasattr(nvml, "_nvmlGetFunctionPointer"):
        raise NotAvailable(
            f"the module pynvml is not NVIDIA's binding: pip uninstall pynvml, then pip install {_PACKAGE}"
        )
    return nvml


def _binding_version() -> str | None:
    try:
        return importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_modelled(nvml: Any) -> bool:
    driver = _text(attempt(nvml, nvml.nvmlSystemGetDriverVersion)) or ""
    return "fake" in driver or hasattr(nvml.nvmlLib, "fake_nvml_true_energy_mj")


def _text(outcome: Any) -> str | None:
    return None if isinstance(outcome, Fault) else str(outcome)


def _enumerate(nvml: Any) -> tuple[tuple[GpuInfo, ...], tuple[str, ...]]:
    count = attempt(nvml, nvml.nvmlDeviceGetCount)
    if isinstance(count, Fault):
        return (), (f"the GPUs cannot be counted: {count.text}",)
    gpus, unreadable = [], []
    for index in range(count):
        info = attempt(nvml, partial(_info, nvml, index))
        if isinstance(info, Fault):
            unreadable.append(f"GPU {index}: {info.text}")
        else:
            gpus.append(info)
    return tuple(gpus), tuple(unreadable)


def _info(nvml: Any, index: int) -> GpuInfo:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = attempt(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    return GpuInfo(
        index=index,
        uuid=nvml.nvmlDeviceGetUUID(handle),
        name=nvml.nvmlDeviceGetName(handle),
        memory_total_gb=None if isinstance(memory, Fault) else to_gb(memory.total),
    )
