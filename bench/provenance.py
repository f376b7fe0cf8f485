"""Where a result came from: machine, driver, library versions, commit, command.

Nothing heavy is imported: versions come from the installed metadata. `inspect` also serves
`bench env`, which prints each part with yes or no and the remedy.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "gpu-inference-bench",
    "torch",
    "transformers",
    "bitsandbytes",
    "accelerate",
    "tokenizers",
    "safetensors",
    "nvidia-ml-py",
    "numpy",
    "pyarrow",
    "msgspec",
    "scipy",
)
_ROOT = Path(__file__).resolve().parent.parent


def collect() -> dict[str, Any]:
    """Return everything that belongs in a run's `provenance` and can be had without torch."""
    return {
        "utc": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average_1min": os.getloadavg()[0],
        "packages": {name: version(name) for name in PACKAGES},
        **commit(),
    }


def version(package: str) -> str | None:
    """Return the installed version of `package`, None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> dict[str, Any]:
    """Return the checkout's commit and whether the code differs from it, new files included.

    Both are None when bench does not run from a git checkout. The experiment's own file does not count:
    its text is in the run.
    """
    sha = _git("rev-parse", "HEAD")
    if sha is None:
        return {"commit": None, "dirty": None}
    changes = _git("status", "--porcelain", "--", "bench", "pyproject.toml", "constraints.txt")
    return {"commit": sha, "dirty": bool(changes)}


def stamp(commit_sha: str | None) -> str:
    """Return a new run folder's name: `<UTC stamp>-<commit>`."""
    now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{now}-{commit_sha[:7] if commit_sha else 'nocommit'}"


def command() -> list[str]:
    """Return the command line as one would type it again."""
    return ["bench", *sys.argv[1:]]


def cpu_model() -> str:
    """Return the processor's name, as the kernel gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(*args: str) -> str | None:
    if not (_ROOT / ".git").exists():  # installed as a package: another project's commit is not ours
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *args], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
