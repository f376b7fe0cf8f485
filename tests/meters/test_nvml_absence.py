"""No library, no driver, the wrong package: each is an answer with its reason."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pynvml
import pytest

from bench.errors import NotAvailable
from bench.meters.nvml import GpuInfo, open_gpu, probe_nvml
from tests import fake_nvml
from tests.meters.conftest import ModelledNvml


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "CDLL", refuse)
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})


@pytest.mark.usefixtures("no_library")
def test_without_a_library_the_probe_says_so_and_opening_is_refused() -> None:
    status = probe_nvml()
    assert not status.available
    assert status.reason is not None
    assert "libnvidia-ml.so.1" in status.reason
    assert probe_nvml().gpus == ()
    with pytest.raises(NotAvailable, match=r"libnvidia-ml\.so\.1"):
        open_gpu(fake_nvml.uuid(0))


@pytest.mark.parametrize(
    ("code", "words"),
    [(9, "driver is not loaded"), (18, "differ in version"), (4, "denies access"), (3, "Not Supp")],
)
def test_a_library_that_cannot_be_initialised_says_why(nvml: ModelledNvml, code: int, words: str) -> None:
    nvml.configure(faults=[f"nvmlInitWithFlags:{code}"])
    status = probe_nvml()
    assert not status.available
    assert words in str(status.reason)
    with pytest.raises(NotAvailable, match=words):
        open_gpu(fake_nvml.uuid(0))


def test_a_module_pynvml_that_is_not_nvidias_binding_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", types.ModuleType("pynvml"))
    assert "pip install nvidia-ml-py" in str(probe_nvml().reason)
    with pytest.raises(NotAvailable, match="pip uninstall pynvml"):
        open_gpu(fake_nvml.uuid(0))


def test_without_the_package_the_remedy_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert probe_nvml().reason == "the package nvidia-ml-py is not installed: pip install nvidia-ml-py"


def test_an_unknown_uuid_is_answered_with_the_known_ones(nvml: ModelledNvml) -> None:
    with pytest.raises(NotAvailable, match=f"NVML lists: {fake_nvml.uuid(0)}, {fake_nvml.uuid(1)}"):
        open_gpu("GPU-no-such")
    assert nvml.sessions == 0


def test_the_probe_lists_the_gpus_and_marks_a_modelled_library(nvml: ModelledNvml) -> None:
    status = probe_nvml()
    assert status.available
    assert (status.driver, status.nvml, status.simulated) == ("590.00-fake", "13.590.00-fake", True)
    assert status.gpus == tuple(
        GpuInfo(index=i, uuid=fake_nvml.uuid(i), name="Modelled GPU", memory_total_gb=80.0) for i in (0, 1)
    )
    assert nvml.sessions == 0


def test_a_modelled_library_is_known_even_under_a_real_drivers_version(nvml: ModelledNvml) -> None:
    nvml.configure(driver="590.48.01")
    assert probe_nvml().simulated


def test_a_gpu_that_cannot_be_opened_is_named_and_the_others_are_listed(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["*@1:15"])
    status = probe_nvml()
    assert [gpu.index for gpu in status.gpus] == [0]
    assert status.unreadable == ("GPU 1: GPU is lost",)


def test_a_driver_without_gpus_is_not_available(nvml: ModelledNvml) -> None:
    nvml.configure(gpus=0)
    assert probe_nvml().reason == "NVML finds no GPU"


CHILD = """
import json, msgspec
from bench.meters.nvml import open_gpu, probe_nvml
status = probe_nvml()
meter = open_gpu(status.gpus[1].uuid)
readings = {field: value for field, value, _ in meter.read()}
meter.close()
print(json.dumps({"status": msgspec.to_builtins(status), "lib": meter.facts["lib_path"], "now": readings}))
"""


def test_a_child_process_finds_the_modelled_machine_by_the_library_path(nvml_directory: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD],
        env=fake_nvml.environment(nvml_directory, power_w="60;300", time_s=1.0),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    seen = json.loads(answer.stdout)
    assert seen["lib"] == seen["status"]["lib_path"] == str(nvml_directory / "libnvidia-ml.so.1")
    assert seen["status"]["simulated"] is True
    assert (seen["now"]["power_w"], seen["now"]["energy_j"]) == (300.0, 10_300.0)


def test_importing_the_meters_does_not_import_the_binding() -> None:
    code = "import sys, bench.meters.nvml, bench.meters.sampling; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
