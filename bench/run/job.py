"""The child of a run: one system in this process, from loading to the written run folder.

Whatever ends the job (its last request, an error, Ctrl-C), `run.json` is written with what was
measured until then; only the death of the process itself is left for the parent to record.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from bench.errors import BenchError
from bench.records import RunStatus
from bench.run.measure import measure
from bench.run.plan import Job
from bench.run.recording import Recording, first_line
from bench.run.telling import Teller, without_waiting


def run_job(job: Job, events: Connection, *, watched: bool = True) -> None:
    """Measure `job` and write its folder; the entry point of the job's process.

    Sends `Event`s through `events` where it is `watched`, and `(exception name, message)` last if the job
    failed. The process exits with 0 when the folder is complete and 1 otherwise.
    """
    _interrupt_once()
    job.folder.mkdir(parents=True, exist_ok=True)
    _send_output_to(job.folder / "log.txt")
    recording = Recording(job)
    status: RunStatus = "failed"
    problem: tuple[str, str] | None = None
    try:
        try:
            send = without_waiting(events) if watched else None
            measure(job, recording, Teller(job.name, send, lambda: recording.sampler))
        finally:
            recording.stop_meters()
        status = "complete"
    except KeyboardInterrupt:
        status, problem = "cancelled", ("RunFailed", "interrupted")
    except BenchError as error:
        problem = (type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - a crash of the system under test is a recorded result
        traceback.print_exc()
        problem = ("RunFailed", f"{type(error).__name__}: {first_line(error)}; see {job.folder}/log.txt")
    _ignore_interrupts()
    recording.write(status, problem[1] if problem else None)
    with suppress(OSError):  # nobody reads any more; the folder says it, too
        if problem:
            events.send(problem)
        events.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: an engine thread that was abandoned inside torch would abort the process on its way out.
    os._exit(0 if status == "complete" else 1)


def _interrupt_once() -> None:
    """Let the first Ctrl-C end the measurement and ignore the rest, so that writing is not cut short."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        _ignore_interrupts()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _send_output_to(path: Path) -> None:
    """Send what libraries print in this process to the job's log."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
