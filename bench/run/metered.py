"""The meters of a run: which there are here, and what they say before anything is loaded."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bench.errors import NotAvailable
from bench.meters.faults import Hung
from bench.meters.host import HostMeter
from bench.meters.nvml import open_gpu, probe_nvml
from bench.meters.nvml_meter import NvmlMeter
from bench.model.device import cuda_uuid
from bench.protocols import Meter

GPU_FIELDS = ("power_w", "power_average_w", "energy_j", "memory_used_gb")
"""Fields whose absence the results must explain."""
POWER_FIELDS = frozenset({"energy_j", "power_w", "power_average_w", "rapl_package_j"})
"""Any of these tells an idle device from a busy one."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The meters by name, and what `run.json` says of them; `missing` explains what there is none for."""

    meters: dict[str, Meter]
    missing: dict[str, str] = {}
    facts: dict[str, Any] = {}

    @property
    def power_missing(self) -> str | None:
        """Why neither power nor energy of anything can be read here; None where one can."""
        unread: dict[str, str] = dict(self.missing)
        for meter in self.meters.values():
            unread |= meter.missing
        if POWER_FIELDS - unread.keys():
            return None
        return "; ".join(dict.fromkeys(unread[field] for field in sorted(POWER_FIELDS)))


def open_meters(device: Literal["cuda", "cpu"], wanted: str) -> Opened:
    """Open the host's meter and that of the GPU in use; `wanted` is the experiment's `model.device`.

    A modelled NVML library counts as the GPU of a run whose device is "auto": the whole path can then be
    tried on a machine without one, and everything that comes of it is marked simulated.
    """
    meters: dict[str, Meter] = {"host": HostMeter()}
    status = probe_nvml()
    modelled = status.simulated and wanted == "auto" and bool(status.gpus)
    why = None if status.available else f"no GPU: {status.reason}"
    if device == "cpu" and not modelled:
        why = why or "the run is on the CPU"
    if why is not None:
        return Opened(meters=meters, missing=dict.fromkeys(GPU_FIELDS, why))
    try:
        gpu = _open_cuda() if device == "cuda" else open_gpu(status.gpus[0].uuid)
    except NotAvailable as error:  # the run goes on: its latency is worth having without its joules
        return Opened(meters=meters, missing=dict.fromkeys(GPU_FIELDS, str(error)))
    told = gpu.facts
    facts = {"gpu_name": told.get("name"), "gpu_uuid": told.get("uuid")}
    facts |= {key: told.get(key) for key in ("driver", "memory_total_gb", "memory_api")}
    return Opened(meters=meters | {"gpu": gpu}, facts=facts)


def _open_cuda() -> NvmlMeter:
    """Open the GPU that torch uses; under MIG that may be an instance, which has another prefix."""
    uuid = cuda_uuid()
    try:
        return open_gpu(uuid)
    except Hung:
        raise
    except NotAvailable:
        try:
            return open_gpu(f"MIG-{uuid.removeprefix('GPU-')}")
        except NotAvailable:
            return open_gpu(uuid)  # to say what is wrong with the GPU that was asked for
