"""torch's own account of GPU memory: what its allocator handed out and what it holds in reserve.

It is narrower than the driver's figure (no CUDA context, no other process) and tells weights, cache and
activations from memory that is only cached. On the CPU torch keeps no such account and its functions
return 0 without a word; here that is a missing value with its reason.
"""

from __future__ import annotations

from bench.records import Value
from bench.units import to_gb

FIELDS = ("torch_allocated_gb", "torch_allocated_peak_gb", "torch_reserved_peak_gb")


def torch_memory(device: str) -> dict[str, Value]:
    """Return torch's allocator figures in GB, peaks since `reset_peaks`; typed missing off CUDA."""
    if device != "cuda":
        reason = f"torch keeps no account of memory on the {device.upper()}"
        return {field: Value(value=None, source="missing", note=reason) for field in FIELDS}
    import torch

    figures = {
        "torch_allocated_gb": torch.cuda.memory_allocated(),
        "torch_allocated_peak_gb": torch.cuda.max_memory_allocated(),
        "torch_reserved_peak_gb": torch.cuda.max_memory_reserved(),
    }
    note = "torch.cuda caching allocator, this process"
    return {field: Value(value=to_gb(figures[field]), source="measured", note=note) for field in FIELDS}


def reset_peaks(device: str) -> None:
    """Start the peaks of `torch_memory` anew; nothing to do off CUDA."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
