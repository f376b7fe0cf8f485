"""A modelled NVML library for tests: built from C, loaded through the real binding.

`build(directory)` compiles `libnvidia-ml.so.1` there; `environment(directory, ...)` is what a child
process needs to find it first and to model the wanted machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY = "libnvidia-ml.so.1"

OLD_DRIVER = (
    "nvmlDeviceGetMemoryInfo_v2:13",
    "nvmlDeviceGetTemperatureV:13",
    "nvmlDeviceGetComputeRunningProcesses_v3:13",
    "185:2",
    "186:2",
    "191:2",
    "269:2",
    "270:2",
    "271:2",
)
"""Faults of a driver without the newer functions and field ids."""


def uuid(index: int) -> str:
    """The UUID of a modelled GPU."""
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def compiler() -> str | None:
    """The C compiler, None where there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(directory: Path, name: str = LIBRARY) -> Path:
    """Compile the library into `directory` and return its path; raises FileNotFoundError without `cc`.

    A process that loads it under the real name finds it under that name from then on; `name` avoids that.
    """
    cc = compiler()
    if cc is None:
        raise FileNotFoundError("no C compiler")
    library = directory / name
    flags = ["-O2", "-Wall", "-Wextra", "-shared", "-fPIC", f"-Wl,-soname,{name}"]
    subprocess.run([cc, *flags, "-o", str(library), str(SOURCE)], check=True)
    return library


def settings(
    *,
    gpus: int = 2,
    power_w: str = "60",
    faults: Sequence[str] = (),
    tick_ms: float = 100.0,
    reset_at_s: float | None = None,
    time_s: float | None = None,
    memory_bytes: tuple[int, int, int] = (80_000_000_000, 500_000_000, 1_200_000_000),
    pids: str = "",
    mig: bool = False,
    module_scope: bool = False,
    throttle_share: float = 0.0,
    capability: str = "9.0",
    driver: str = "590.00-fake",
) -> dict[str, str]:
    """The library's variables, as the head of `fake_nvml.c` explains them.

    `memory_bytes` is total, reserved, used; `time_s` starts on virtual time.
    """
    variables = {
        "FAKE_NVML_GPUS": str(gpus),
        "FAKE_NVML_POWER_W": power_w,
        "FAKE_NVML_FAULTS": ",".join(faults),
        "FAKE_NVML_TICK_MS": str(tick_ms),
        "FAKE_NVML_MEMORY": ",".join(map(str, memory_bytes)),
        "FAKE_NVML_PIDS": pids,
        "FAKE_NVML_MIG": str(int(mig)),
        "FAKE_NVML_MODULE": str(int(module_scope)),
        "FAKE_NVML_THROTTLE": str(throttle_share),
        "FAKE_NVML_CAPABILITY": capability,
        "FAKE_NVML_DRIVER": driver,
    }
    if reset_at_s is not None:
        variables["FAKE_NVML_RESET_AT_S"] = str(reset_at_s)
    if time_s is not None:
        variables["FAKE_NVML_TIME_S"] = str(time_s)
    return variables


def environment(directory: Path, **options: Any) -> dict[str, str]:
    """The whole environment of a child process that sees the modelled machine; `options` as `settings`."""
    paths = [str(directory), os.environ.get("LD_LIBRARY_PATH", "")]
    found_first = {"LD_LIBRARY_PATH": os.pathsep.join(path for path in paths if path)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAKE_NVML_")}
    return inherited | found_first | settings(**options)
