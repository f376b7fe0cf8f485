"""The child of a run: one system in this process, from loading to the written run folder.

Whatever ends the job (its last request, an error, Ctrl-C), `run.json` is written with what was
measured until then; only the death of the process itself is left for the parent to record.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from bench import provenance, store
from bench.clock import WallClock
from bench.errors import BenchError
from bench.meters.gpu import open_meters
from bench.meters.sampling import Sampler, SampleLog
from bench.model.device import Device, resolve_device
from bench.model.engine import GenerateEngine
from bench.model.load import LoadedModel, load_model
from bench.model.memory import reset_peaks, torch_memory
from bench.model.scoring import held_out_ids, score_heldout
from bench.model.treatment import check_treatment
from bench.records import Event, RunMeta, RunStatus
from bench.run.assemble import Parts, assemble_written
from bench.run.drive import Drive, Subject, drive_offline, drive_window
from bench.run.plan import Job

if TYPE_CHECKING:
    import pyarrow as pa

REFERENCE_LOGITS = ".baseline-logits.f32"
"""Scratch in the experiment's folder: the baseline's log-probabilities on the held-out text."""


def run_job(job: Job, events: Connection) -> None:
    """Measure `job` and write its folder; the entry point of the job's process.

    Sends `Event`s through `events`, and `(exception name, message)` last if the job failed. The
    process exits with 0 when the folder is complete and 1 otherwise.
    """
    _interrupt_once()
    job.folder.mkdir(parents=True, exist_ok=True)
    _send_output_to(job.folder / "log.txt")
    recording = _Recording(job)
    status: RunStatus = "failed"
    problem: tuple[str, str] | None = None
    try:
        _measure(job, recording, events)
        status = "complete"
    except KeyboardInterrupt:
        status, problem = "cancelled", ("RunFailed", "interrupted")
    except BenchError as error:
        problem = (type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - a crash of the system under test is a recorded result
        traceback.print_exc()
        problem = ("RunFailed", f"{type(error).__name__}: {_first_line(error)}; see {job.folder}/log.txt")
    recording.write(status, problem[1] if problem else None)
    if problem:
        events.send(problem)
    events.close()
    sys.exit(0 if status == "complete" else 1)


class _Recording:
    """What the job has found so far; can be written at any moment."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.experiment = store.read_experiment(Path(job.experiment_folder))
        self.parts: Parts = assemble_written(self.experiment.written, self.experiment.config_file)
        self.provenance = provenance.collect()
        self.clock = WallClock()
        self.device: Device | None = None
        self.sampler: Sampler | None = None
        self.drive = Drive()
        self.treatment: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.missing: dict[str, str] = {}
        self.quality: pa.Table | None = None

    def write(self, status: RunStatus, error: str | None) -> None:
        """Write the run folder."""
        log = self.sampler.stop() if self.sampler else SampleLog.empty()
        store.write_run(
            self.job.folder, self._meta(status, error, log), self.drive.completions, log.samples, self.quality
        )

    def _meta(self, status: RunStatus, error: str | None, log: SampleLog) -> RunMeta:
        return RunMeta(
            schema=store.SCHEMA,
            status=status,
            source="simulated" if log.simulated else "measured",
            kind=self.job.kind,
            system=self.job.system,
            repeat=self.job.repeat,
            config=self.experiment.config,
            written=self.experiment.written,
            provenance=self.provenance,
            device=self.device.kind if self.device else None,
            offered_rps=self.job.rate_rps,
            window=self.drive.window,
            treatment=self.treatment,
            facts=log.facts | self.drive.facts | self.facts,
            missing=log.missing | self.missing,
            doubts=list(log.failures),
            error=error,
        )


def _measure(job: Job, recording: _Recording, events: Connection) -> None:
    """Walk the path: device, meters, model, treatment, traffic, quality."""
    experiment = recording.parts.experiment
    system = recording.parts.systems[job.system]
    clock = recording.clock

    def emit(phase: str, elapsed_s: float = 0.0, total_s: float | None = None, detail: str = "") -> None:
        events.send(Event(job=job.name, phase=phase, elapsed_s=elapsed_s, total_s=total_s, detail=detail))

    emit("load")
    device = recording.device = resolve_device(experiment.model)
    recording.facts |= device.facts
    meters = open_meters(device.gpu_uuid, allow_modelled=experiment.model.device == "auto")
    recording.sampler = Sampler(meters, clock, 1 / experiment.protocol.sample_hz)
    recording.sampler.start()
    loaded = load_model(experiment.model, system.precision, system.attention, device)
    recording.facts |= loaded.facts
    recording.treatment = check_treatment(loaded, system.precision, system.attention)
    recording.facts["weights_bytes"] = recording.treatment["resident_bytes"]

    engine = GenerateEngine(loaded, clock)
    reset_peaks(device)
    subject = Subject(
        parts=recording.parts, policy=system.policy, engine=engine, vocabulary=loaded.vocabulary, clock=clock
    )
    if job.rate_rps is None:
        drive_offline(recording.drive, subject, emit)
    else:
        drive_window(recording.drive, subject, emit, rate_rps=job.rate_rps, repeat=job.repeat)
    peaks, absent = torch_memory(device)
    recording.facts |= peaks
    recording.missing |= absent
    if job.kind == "offline":
        emit("quality")
        _score(job, recording, loaded)


def _score(job: Job, recording: _Recording, loaded: LoadedModel) -> None:
    """Score the held-out text; the baseline leaves its logits for the others to be held against."""
    experiment = recording.parts.experiment
    quality = experiment.quality
    if experiment.model.weights == "random":
        recording.missing["quality"] = "the weights are random: there is no output quality to measure"
        return
    if quality.tokens == 0:
        recording.missing["quality"] = "not asked for: quality.tokens = 0"
        return
    logits = Path(job.experiment_folder) / REFERENCE_LOGITS
    is_baseline = job.system == experiment.baseline
    ids = held_out_ids(loaded.vocabulary, quality.tokens)
    recording.facts["quality_tokens"] = len(ids)
    recording.quality = score_heldout(
        loaded,
        ids,
        window=quality.window,
        stride=quality.stride,
        reference=None if is_baseline else logits,
        save_logits=logits if is_baseline else None,
    )


def _interrupt_once() -> None:
    """Let the first Ctrl-C end the measurement and ignore the rest, so that writing is not cut short."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


def _send_output_to(path: Path) -> None:
    """Send what libraries print in this process to the job's log."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
