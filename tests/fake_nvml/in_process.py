"""The modelled library in this process, behind the real binding: configured, and moved through time."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pynvml

from tests import fake_nvml

NAME = "libmodelled-in-process.so"
"""Not the real name: no later user of NVML in this process shall find it."""


class Modelled:
    """Reads and changes what the library models; on virtual time unless configured otherwise."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.fake_nvml_true_energy_mj.restype = ctypes.c_double
        self.library.fake_nvml_time_s.restype = ctypes.c_double

    def configure(self, **options: Any) -> None:
        """Model another machine; `options` as `fake_nvml.settings`, by default at virtual second 0."""
        for variable in [name for name in os.environ if name.startswith("FAKE_NVML_")]:
            del os.environ[variable]
        options = {"time_s": 0.0} | options
        os.environ.update(fake_nvml.settings(**options))
        self.library.fake_nvml_reset()

    @property
    def time_s(self) -> float:
        """The library's time."""
        return float(self.library.fake_nvml_time_s())

    def set_time_s(self, t_s: float) -> None:
        """Go to second `t_s` of virtual time."""
        self.library.fake_nvml_set_time_s(ctypes.c_double(t_s))

    def true_energy_j(self, gpu: int, from_s: float, to_s: float) -> float:
        """The exact energy between two of the library's times."""
        millijoules = self.library.fake_nvml_true_energy_mj(
            gpu, ctypes.c_double(from_s), ctypes.c_double(to_s)
        )
        return float(millijoules) / 1000

    def release(self) -> None:
        """End the calls that hang."""
        self.library.fake_nvml_release()


@contextmanager
def behind_binding() -> Iterator[Modelled]:
    """Build the library and put it behind `pynvml` until the block ends."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("FAKE_NVML_")}
    library, cache = pynvml.nvmlLib, pynvml._nvmlGetFunctionPointer_cache
    with TemporaryDirectory() as directory:
        modelled = Modelled(fake_nvml.build(Path(directory), NAME))
        pynvml.nvmlLib, pynvml._nvmlGetFunctionPointer_cache = modelled.library, {}
        try:
            modelled.configure()
            yield modelled
        finally:
            modelled.release()
            pynvml.nvmlLib, pynvml._nvmlGetFunctionPointer_cache = library, cache
            for variable in [name for name in os.environ if name.startswith("FAKE_NVML_")]:
                del os.environ[variable]
            os.environ.update(kept)
