"""A modelled NVML library for tests: built from C, loaded through the real binding.

`build(directory)` compiles `libnvidia-ml.so.1` there; `environment(directory, ...)` is what a child
process needs to find it first and to model the wanted machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY = "libnvidia-ml.so.1"

OLD_DRIVER = (
    "nvmlDeviceGetMemoryInfo_v2:13",
    "nvmlDeviceGetTemperatureV:13",
    "nvmlDeviceGetComputeRunningProcesses_v3:13",
    "nvmlDeviceGetCurrentClocksEventReasons:13",
    "185:2",
    "186:2",
    "191:2",
    "269:2",
    "270:2",
    "271:2",
)
"""Faults of a driver without the newer functions and field ids."""

THROTTLES = {"sw_power": 74, "sw_thermal": 269, "hw_thermal": 270, "hw_power_brake": 271}
"""Reason to the field that counts its time."""

SENSORS = {
    "instant": ((0.0, 0.0), (1000.0, 0.0)),
    "A100": ((25.0, 100.0), (1000.0, 100.0)),
    "V100": ((10.0, 20.0), (1000.0, 100.0)),
    "RTX 3090": ((100.0, 100.0), (1000.0, 100.0)),
}
"""What the `sensor` and the `average` of a GPU see, as (window, update) in ms: exact, A100 and H100, V100,
consumer Ampere; as measured in arXiv 2312.02741."""


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
    subprocess.run([cc, *flags, "-o", str(library), str(SOURCE), "-lm"], check=True)
    return library


def settings(
    *,
    gpus: int = 2,
    power_w: str = "60",
    faults: Sequence[str] = (),
    sensor: tuple[float, ...] = SENSORS["instant"][0],
    average: tuple[float, ...] = SENSORS["instant"][1],
    gain: tuple[float, float] = (1.0, 1.0),
    counter: str = "power",
    tick_ms: float = 100.0,
    tick_phase_ms: float = 0.0,
    reset_at_s: float | None = None,
    frozen_s: tuple[float, ...] = (),
    jump: tuple[float, float] | None = None,
    limit_w: str = "700",
    clock_mhz: str = "1755",
    clock_limit_mhz: str = "1980",
    utilization: str = "87",
    time_s: float | None = None,
    memory_bytes: tuple[int, int, int] = (80_000_000_000, 500_000_000, 1_200_000_000),
    used_bytes: str | None = None,
    pids: str = "",
    mig: bool = False,
    module_scope: bool = False,
    throttle_share: float = 0.0,
    throttle: Mapping[str, str] | None = None,
    ecc: tuple[str, str] = ("0", "0"),
    capability: str = "9.0",
    driver: str = "590.00-fake",
) -> dict[str, str]:
    """The library's variables, as the head of `fake_nvml.c` explains them.

    A text of figures is a trace, which may change with time: `"700,400@5"`, `"square:60:300:0.5:0.5"`.
    `sensor` and `average` are window, update and, if wanted, phase in ms; `gain` is of power and counter;
    `counter` is what the energy counter adds up, the true "power" or the sensor's "readings";
    `frozen_s` from and, if it ends, until; `jump` when and by how many joules; `throttle` is the throttled
    share of time by reason (`THROTTLES`), `throttle_share` that of `sw_power`; `ecc` counts the corrected and
    uncorrected errors; `memory_bytes` is total, reserved, used, and `used_bytes` a trace for the last;
    `time_s` starts on virtual time.
    """
    throttled = {"sw_power": str(throttle_share)} | dict(throttle or {})
    variables = {
        "FAKE_NVML_GPUS": str(gpus),
        "FAKE_NVML_POWER_W": power_w,
        "FAKE_NVML_FAULTS": ",".join(faults),
        "FAKE_NVML_SENSOR": _numbers(sensor),
        "FAKE_NVML_AVERAGE": _numbers(average),
        "FAKE_NVML_GAIN": _numbers(gain),
        "FAKE_NVML_COUNTER": counter,
        "FAKE_NVML_TICK_MS": _numbers((tick_ms, tick_phase_ms)),
        "FAKE_NVML_FROZEN_S": _numbers(frozen_s),
        "FAKE_NVML_JUMP": _numbers(jump or ()),
        "FAKE_NVML_LIMIT_W": limit_w,
        "FAKE_NVML_CLOCK_MHZ": clock_mhz,
        "FAKE_NVML_CLOCK_LIMIT_MHZ": clock_limit_mhz,
        "FAKE_NVML_UTILIZATION": utilization,
        "FAKE_NVML_MEMORY": ",".join(map(str, memory_bytes)),
        "FAKE_NVML_PIDS": pids,
        "FAKE_NVML_MIG": str(int(mig)),
        "FAKE_NVML_MODULE": str(int(module_scope)),
        "FAKE_NVML_ECC_CORRECTED": ecc[0],
        "FAKE_NVML_ECC_UNCORRECTED": ecc[1],
        "FAKE_NVML_CAPABILITY": capability,
        "FAKE_NVML_DRIVER": driver,
    }
    variables |= {f"FAKE_NVML_THROTTLE_{THROTTLES[reason]}": share for reason, share in throttled.items()}
    if used_bytes is not None:
        variables["FAKE_NVML_USED_B"] = used_bytes
    if reset_at_s is not None:
        variables["FAKE_NVML_RESET_AT_S"] = str(reset_at_s)
    if time_s is not None:
        variables["FAKE_NVML_TIME_S"] = str(time_s)
    return variables


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:.12g}" for value in values)


def environment(directory: Path, **options: Any) -> dict[str, str]:
    """The whole environment of a child process that sees the modelled machine; `options` as `settings`."""
    paths = [str(directory), os.environ.get("LD_LIBRARY_PATH", "")]
    found_first = {"LD_LIBRARY_PATH": os.pathsep.join(path for path in paths if path)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAKE_NVML_")}
    return inherited | found_first | settings(**options)
