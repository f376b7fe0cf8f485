"""What torch computes on: its build, the GPU's identity, the threads of a CPU run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from bench.errors import EngineLost


class TorchBuild(msgspec.Struct, frozen=True, kw_only=True):
    """The installed torch; `version` is None where there is none, `cuda` None in a CPU build."""

    version: str | None
    cuda: str | None
    cuda_available: bool
    why_no_cuda: str


def torch_build() -> TorchBuild:
    """Return what the installed torch can compute on, and why not on CUDA."""
    if importlib.util.find_spec("torch") is None:
        return TorchBuild(version=None, cuda=None, cuda_available=False, why_no_cuda="torch is not installed")
    import torch

    available = torch.cuda.is_available()
    why = ""
    if not available:
        why = (
            "the driver shows torch no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES"
            if torch.version.cuda
            else "runs go to the CPU; for a GPU install torch's CUDA build"
        )
    return TorchBuild(
        version=torch.__version__, cuda=torch.version.cuda, cuda_available=available, why_no_cuda=why
    )


def cuda_uuid() -> str:
    """Return the UUID of torch's current GPU as NVML writes it; indices differ between the two."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"


def use_cpu_threads(threads: int | None) -> int:
    """Let torch compute with `threads` threads on the CPU, and return how many it uses."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return int(torch.get_num_threads())


class DeviceErrors:
    """Sorts what the device raises while an engine computes; one per engine, entered for every step.

    torch.OutOfMemoryError goes up as it came, so that the caller may try a smaller batch, and the next step
    begins by emptying torch's cache; a device that fails for good becomes EngineLost.
    """

    def __init__(self) -> None:
        self._ran_out_of_memory = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Compute inside this."""
        import torch

        if self._ran_out_of_memory:
            # Only now: while the exception was on its way, its traceback held the step's tensors.
            torch.cuda.empty_cache()
            self._ran_out_of_memory = False
        try:
            yield
        except torch.OutOfMemoryError:
            self._ran_out_of_memory = True
            raise
        except torch.AcceleratorError as error:
            reason = str(error).splitlines()[0]
            raise EngineLost(
                f"the GPU failed and cannot be used by this process any more: {reason}"
            ) from error
