"""What this device reaches at best: a copy and a matrix product, measured before a model is loaded.

A specification is a promise about the board; throttling, a power limit, a slow memory module or a virtual
machine's neighbours are not in it. So shares of the limit are given of a measured copy and product as well,
and on a CPU, for which there is no specification, of these alone. Each figure is the median of several trials
after a warm-up; a copy counts the bytes read and written. Everything allocated is freed again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.units import BYTES_PER_GB, MS_PER_S

DTYPES = ("float16", "bfloat16", "float32")
TRIALS = 5
"""A median needs a few; more come as long as there is time."""
COPY_BYTES = 1 << 30
CPU_COPY_BYTES = 1 << 28
CACHE_MULTIPLE = 4
"""A buffer of this many times the last cache does not live in it."""
PRODUCT_SIZE = 8192
CPU_FIRST_SIZE, CPU_LAST_SIZE = 128, 4096
CPU_PRODUCT_S = 0.02
"""On a CPU a product is doubled until it takes this long: small ones measure the call."""
_CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_TERA = 1e12


def measure_peaks(device: str, dtypes: Sequence[str] = DTYPES, seconds: float = 0.3) -> dict[str, Any]:
    """Return what a copy and products of `dtypes` (torch's names) reach, each measured for about `seconds`.

    The keys: `copy_gb_per_s` (read and written), `copy_bytes` of the buffer, `matmul_tflops` and
    `matmul_size` by dtype, `cache_bytes` of the last cache (None where unknown); `why` has the reason for
    what is not there. Never raises for what the device or torch cannot do.
    """
    import torch

    found: dict[str, Any] = {"cache_bytes": _cache_bytes(device), "matmul_tflops": {}, "matmul_size": {}}
    why: dict[str, str] = {}
    try:
        found |= _copy(device, found["cache_bytes"] or 0, seconds)
    except RuntimeError as error:
        why["copy"] = _first_line(error)
    for dtype in dict.fromkeys(dtypes):
        if not getattr(torch, dtype).is_floating_point:
            why[dtype] = f"torch has no public product of {dtype} matrices"
            continue
        try:
            size, rate = _product(device, dtype, seconds)
        except RuntimeError as error:
            why[dtype] = _first_line(error)
            continue
        found["matmul_tflops"][dtype] = rate / _TERA
        found["matmul_size"][dtype] = size
    if device == "cuda":
        torch.cuda.empty_cache()
    return found | {"why": why}


def _copy(device: str, cache_bytes: int, seconds: float) -> dict[str, Any]:
    """Measure the copy of a buffer that no cache holds, if memory allows for one so large."""
    import torch

    most = COPY_BYTES if device == "cuda" else CPU_COPY_BYTES
    n = min(max(most // 4, CACHE_MULTIPLE * cache_bytes), most)
    source = torch.ones(n, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    took_s = _median_s(device, lambda: target.copy_(source), seconds)
    return {"copy_gb_per_s": 2 * n / took_s / BYTES_PER_GB, "copy_bytes": n}


def _product(device: str, dtype: str, seconds: float) -> tuple[int, float]:
    """Return the size of the square matrices and the operations/s of their product."""
    import torch

    def draw(size: int) -> Any:
        # Not zeros: these draw less power, and a GPU then clocks higher than any model lets it.
        generator = torch.Generator(device).manual_seed(0)
        drawn = torch.empty(size, size, dtype=torch.float32, device=device)
        return drawn.normal_(generator=generator).to(getattr(torch, dtype))

    size = PRODUCT_SIZE if device == "cuda" else CPU_FIRST_SIZE
    while True:
        a, b = draw(size), draw(size)
        product = torch.empty_like(a)
        # A function of its own would hold the matrices of the size before.
        once_s = 0.0
        if device != "cuda":
            torch.matmul(a, b, out=product)
            started = time.perf_counter()
            torch.matmul(a, b, out=product)
            once_s = time.perf_counter() - started
        if device == "cuda" or once_s >= CPU_PRODUCT_S or size >= CPU_LAST_SIZE:
            break
        size *= 2
    took_s = _median_s(device, lambda: torch.matmul(a, b, out=product), seconds)
    return size, 2.0 * size**3 / took_s


def _median_s(device: str, work: Callable[[], object], seconds: float) -> float:
    """Return the median time of `work`, tried for `seconds` but `TRIALS` times at least."""
    timed = _timed_on_gpu if device == "cuda" else _timed
    timed(work)
    until = time.perf_counter() + seconds
    trials: list[float] = []
    while len(trials) < TRIALS or time.perf_counter() < until:
        trials.append(timed(work))
    return statistics.median(trials)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _timed_on_gpu(work: Callable[[], object]) -> float:
    """Time `work` by the GPU's own clock: the host only queues it."""
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / MS_PER_S


def _cache_bytes(device: str) -> int | None:
    """Return the size of the last cache before memory, None where it cannot be read."""
    if device == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return int(getattr(properties, "L2_cache_size", 0)) or None
    sizes = []
    for entry in _CPU_CACHES.glob("index*/size"):
        try:
            written = entry.read_text(encoding="utf-8").strip()
            sizes.append(int(written[:-1]) * _UNITS[written[-1]])
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return max(sizes, default=None)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
