"""The shortest experiment with the shipped model, and the command line in processes of its own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONFIG = """
name = "short"
seed = 3
[workload]
requests_per_day = 250_000
input_tokens = { kind = "constant", tokens = 24 }
output_tokens = { kind = "constant", tokens = 6 }
prompts = "corpus"
[load]
kind = "rate"
rps = 8
[objectives]
p95_latency_ms = 60_000
[quality]
tokens = 256
window = 128
stride = 64
  prompts = 15
new_tokens = 12
[capacity]
search = false
[protocol]
warmup_s = 0.2
max_warmup_s = 0.3
idle_s = 0.6
window_s = 1.5
repeats = 1
offline_s = 0.5
sample_hz = 20
[model]
id = "tiny"
device = "DEVICE"
cpu_threads = 1
[systems.baseline]
precision = "fp16"
[systems.optimized]
precision = "int8"
batching = { kind = "dynamic", max_size = 4, max_wait_ms = 5 }
"""


def fresh(*args: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m bench` as a person does."""
    command = [sys.executable, "-m", "bench", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=env or dict(os.environ), check=False
    )


def config(tmp_path: Path, device: str = "cpu", **changes: str) -> Path:
    """Write the experiment with changed keys; return the file."""
    text = CONFIG.replace("DEVICE", device)
    for old, new in changes.items():
        assert f"{old} = " in text
        text = "\n".join(
            f"{old} = {new}" if line.startswith(f"{old} = ") else line for line in text.splitlines()
        )
    path = tmp_path / "short.toml"
    path.write_text(text)
    return path


def assert_measured(done: subprocess.CompletedProcess[str]) -> None:
    """Accept a run that ended; on a busy machine its client may be late, which is said and exits with 3."""
    assert done.returncode == 0 or (done.returncode == 3 and "INVALID" in done.stderr), done.stderr


def rows(path: Path) -> dict[str, list[str]]:
    """Return the rows of a CSV by their first cell."""
    with path.open() as file:
        return {row[0]: row[1:] for row in csv.reader(file)}


def run_folder(results: Path) -> Path:
    """Return the one run folder."""
    (folder,) = (results / "runs" / "short").iterdir()
    return folder


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    """Wait until something is so; fail where it does not become so."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)
