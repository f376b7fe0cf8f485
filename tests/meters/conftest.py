"""The modelled NVML library, in this process (`nvml`) and for child processes (`nvml_directory`)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml
import pytest

from bench.clock import VirtualClock
from bench.meters.nvml import open_gpu
from bench.meters.nvml_meter import NvmlMeter
from tests import fake_nvml


class ModelledNvml:
    """The library loaded in this process, behind the real binding."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.fake_nvml_true_energy_mj.restype = ctypes.c_double
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(pynvml, "nvmlLib", self._library)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    def configure(self, **options: Any) -> None:
        """Model another machine; `options` as `fake_nvml.settings`, on virtual time unless told else."""
        for variable in [name for name in os.environ if name.startswith("FAKE_NVML_")]:
            self._monkeypatch.delenv(variable)
        for variable, value in fake_nvml.settings(**({"time_s": 0.0} | options)).items():
            self._monkeypatch.setenv(variable, value)
        self._library.fake_nvml_reset()

    def set_time_s(self, t_s: float) -> None:
        self._library.fake_nvml_set_time_s(ctypes.c_double(t_s))

    def true_energy_j(self, gpu: int, from_s: float, to_s: float) -> float:
        millijoules = self._library.fake_nvml_true_energy_mj(
            gpu, ctypes.c_double(from_s), ctypes.c_double(to_s)
        )
        return float(millijoules) / 1000

    def release(self) -> None:
        """End the calls that hang."""
        self._library.fake_nvml_release()

    def sizeof(self, struct: str) -> int:
        return int(self._library.fake_nvml_sizeof(struct.encode()))

    @property
    def calls(self) -> int:
        return int(self._library.fake_nvml_calls())

    @property
    def sessions(self) -> int:
        return int(self._library.fake_nvml_sessions())


class ModelledClock(VirtualClock):
    """A clock that takes the modelled machine along, so that sleeping is instant for both."""

    def __init__(self, nvml: ModelledNvml) -> None:
        super().__init__()
        self._nvml = nvml

    def sleep_until(self, t_s: float) -> None:
        super().sleep_until(t_s)
        self._nvml.set_time_s(self.now_s())


@contextmanager
def opened(uuid: str = fake_nvml.uuid(0)) -> Iterator[NvmlMeter]:
    meter = open_gpu(uuid)
    try:
        yield meter
    finally:
        meter.close()


def values(meter: NvmlMeter) -> dict[str, float]:
    return {field: value for field, value, _ in meter.read()}


@pytest.fixture(scope="session")
def nvml_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose libnvidia-ml.so.1 a child process loads."""
    if fake_nvml.compiler() is None:
        pytest.skip("no C compiler to build the modelled NVML library with")
    directory = tmp_path_factory.mktemp("nvml")
    fake_nvml.build(directory)
    return directory


@pytest.fixture(scope="session")
def nvml_in_process(nvml_directory: Path) -> Path:
    """The same library under a name of its own, so that no later test finds a GPU in this process."""
    return fake_nvml.build(nvml_directory, "libmodelled-in-process.so")


@pytest.fixture
def nvml(nvml_in_process: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelledNvml]:
    """Two GPUs of 60 W on virtual time, until configured otherwise."""
    modelled = ModelledNvml(nvml_in_process, monkeypatch)
    modelled.configure()
    sessions = modelled.sessions
    yield modelled
    modelled.release()
    assert modelled.sessions == sessions, "a test left NVML initialised"
