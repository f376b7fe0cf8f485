"""NVIDIA GPUs through NVML, by the official binding (`nvidia-ml-py`, which imports as `pynvml`).

This is the only file that imports it, and only when asked. `probe_nvml` says whether there is anything
to measure with and, if not, why; `open_gpu` gives the meter of one GPU, named by its UUID because
indices differ between NVML and CUDA. A modelled library marks everything read through it `simulated`.
A driver that does not answer is the same as none: neither of the two waits for it for ever.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from functools import partial
from typing import Any

import msgspec

from bench.errors import NotAvailable
from bench.meters.faults import Fault, attempt, refuse_gone, within
from bench.meters.nvml_facts import loaded_library
from bench.meters.nvml_meter import NvmlMeter
from bench.units import to_gb

OPENING_LIMIT_S = 10.0
"""So long may a driver take to be opened: without persistence mode it first has to wake its GPUs."""
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


def probe_nvml(*, limit_s: float = OPENING_LIMIT_S) -> NvmlStatus:
    """Look for NVML and its GPUs; absence is an answer with its reason, never an exception.

    A driver that has not answered after `limit_s` is absent, too.
    """
    try:
        return within(limit_s, _probe, "looking for GPUs")
    except NotAvailable as error:
        return NvmlStatus(available=False, reason=str(error), binding=_binding_version())


def _probe() -> NvmlStatus:
    nvml = _open_library()
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


def open_gpu(uuid: str, *, limit_s: float = OPENING_LIMIT_S) -> NvmlMeter:
    """Open the meter of one GPU by its UUID, with or without the `GPU-` that torch leaves out.

    Raises NotAvailable where NVML or that GPU cannot be had, or has not answered after `limit_s`; GpuLost
    where the GPU wants a reset.
    """
    name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    return within(limit_s, partial(_open, name), f"opening {name}")


def _open(name: str) -> NvmlMeter:
    nvml = _open_library()
    try:
        handle = attempt(nvml, lambda: nvml.nvmlDeviceGetHandleByUUID(name))
        if isinstance(handle, Fault):
            refuse_gone(handle, name)
            known = ", ".join(gpu.uuid for gpu in _enumerate(nvml)[0]) or "none"
            raise NotAvailable(f"GPU {name} cannot be opened ({handle.text}); NVML lists: {known}")
        return NvmlMeter(nvml, handle, name, simulated=_is_modelled(nvml), binding=_binding_version())
    except BaseException:
        attempt(nvml, nvml.nvmlShutdown)
        raise


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
