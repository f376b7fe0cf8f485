"""`bench` forked from a process that has imported torch and all: the command line without the wait for it.

A person's `bench run` starts a fresh process for every job, and each imports for seconds. Where that is not
what a test is about, `run` and `start` fork the command from multiprocessing's fork server, which has
imported once, and the command forks its jobs in turn. All else is as ever: arguments, streams, signals, exit
codes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import msgspec

_IMPORTED = [
    "bitsandbytes",
    "pyarrow.parquet",
    "scipy.stats",
    "torch",
    "transformers.generation.continuous_batching",
    "transformers.models.llama.modeling_llama",
    "bench.run.experiment",
    "tests.run.warm",
]
_HUNG_S = 240.0


class Started(msgspec.Struct, frozen=True):
    """A command that goes on beside the test, and the files that its two streams go to."""

    process: ForkServerProcess
    stdout: Path
    stderr: Path

    @property
    def pid(self) -> int:
        """The process to send signals to."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return not self.process.is_alive()

    def result(self, within_s: float = _HUNG_S) -> subprocess.CompletedProcess[str]:
        """Wait for its end; kill it where that does not come."""
        self.process.join(within_s)
        if not self.ended:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"not ended after {within_s} s: {self.stderr.read_text(encoding='utf-8')}")
        code = self.process.exitcode
        assert code is not None
        return subprocess.CompletedProcess(
            ["bench"], code, self.stdout.read_text(encoding="utf-8"), self.stderr.read_text(encoding="utf-8")
        )


def start(streams: Path, *args: object) -> Started:
    """Start `bench` with these arguments; what it prints goes to files in the folder `streams`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    number = sum(1 for _ in streams.glob("stdout.*"))
    stdout, stderr = (streams / f"{name}.{number}" for name in ("stdout", "stderr"))
    for path in (stdout, stderr):
        path.touch()
    process = context.Process(target=_bench, args=([str(arg) for arg in args], stdout, stderr))
    process.start()
    return Started(process, stdout, stderr)


def run(streams: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """Run `bench` with these arguments to its end."""
    return start(streams, *args).result()


def _bench(args: list[str], stdout: Path, stderr: Path) -> None:
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fork = multiprocessing.get_context("fork")

    def of_jobs(method: str | None = None) -> Any:
        return fork

    multiprocessing.get_context = of_jobs
    sys.argv = ["bench", *args]
    from bench.__main__ import main

    main()
