"""Whether somebody else is on the GPU: then its energy, memory and latency are not the system's alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.errors import NotAvailable

EMPTY_GB = 0.105
"""An idle GPU holds a few MB by itself; above this (100 MiB) somebody's memory is on it."""


def refuse_shared(facts: Mapping[str, Any], *, allow: bool) -> list[str]:
    """Raise NotAvailable where other processes compute on the GPU, unless `allow`; return the doubts.

    `facts` are a GPU meter's at opening, before this process has loaded anything. Memory in use that no
    process answers for (a display, another container, a crashed process) is a doubt and no refusal: it need
    not compute. Whether it can be told depends on the driver: an old one counts its own reserve as used.
    """
    others = facts.get("other_processes")
    doubts = []
    if others:
        pids = ", ".join(str(process["pid"]) for process in others)
        if not allow:
            raise NotAvailable(
                f"the GPU is in use by other processes (pid {pids}): end them, choose another GPU with "
                "CUDA_VISIBLE_DEVICES, or set protocol.allow_shared_gpu = true and get doubtful figures"
            )
        doubts.append(
            f"other processes were on the GPU (pid {pids}): its energy and memory are not ours alone"
        )
    elif others is None:
        reason = (facts.get("unavailable") or {}).get("other_processes", "no reason is known")
        doubts.append(f"whether other processes were on the GPU is not known ({reason})")
    used_gb = facts.get("memory_used_gb")
    explained = bool(others) or bool(facts.get("own_pid_listed")) or facts.get("memory_api") != "v2"
    if used_gb is not None and used_gb > EMPTY_GB and not explained:
        doubts.append(f"{used_gb:.2f} GB of the GPU were in use before loading, by no process that is listed")
    return doubts
