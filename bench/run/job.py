"""The child of a run: one system in this process, from loading to the written run folder.

Whatever ends the job (its last request, an error, Ctrl-C), `run.json` is written with what was
measured until then; only the death of the process itself is left for the parent to record.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from bench import provenance, store
from bench.clock import WallClock
from bench.errors import BenchError, NotAvailable, RunFailed
from bench.meters.host import HostMeter
from bench.meters.nvml import open_gpu, probe_nvml
from bench.meters.sampling import SampleLog, Sampler
from bench.model.device import cuda_uuid, use_cpu_threads
from bench.model.load import LoadedModel, load_model, resolve_device
from bench.model.memory import reset_peaks, torch_memory
from bench.model.scoring import has_logits, held_out_ids, score_heldout
from bench.model.treatment import check_engine, check_treatment
from bench.protocols import Engine, Meter
from bench.records import Event, RunMeta, RunStatus
from bench.run.assemble import Parts, SystemParts, assemble_written
from bench.run.drive import Drive, Subject, drive_offline, drive_window
from bench.run.plan import Job

if TYPE_CHECKING:
    import pyarrow as pa

GPU_FIELDS = ("power_w", "energy_j", "memory_used_gb")
"""Fields whose absence the results must explain."""
_NOTHING_SAMPLED = SampleLog(samples=(), missing={}, facts={}, simulated=False, max_gap_s=0.0, failures=())
REFERENCE_LOGITS = ".baseline-logits.npy"
"""Scratch in the experiment's folder: the baseline's logits on the held-out text."""


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
        try:
            _measure(job, recording, events)
        finally:
            recording.stop_meters()
        status = "complete"
    except KeyboardInterrupt:
        status, problem = "cancelled", ("RunFailed", "interrupted")
    except BenchError as error:
        problem = (type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - a crash of the system under test is a recorded result
        traceback.print_exc()
        problem = ("RunFailed", f"{type(error).__name__}: {_first_line(error)}; see {job.folder}/log.txt")
    _ignore_interrupts()
    recording.write(status, problem[1] if problem else None)
    if problem:
        events.send(problem)
    events.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: an engine thread that was abandoned inside torch would abort the process on its way out.
    os._exit(0 if status == "complete" else 1)


class _Recording:
    """What the job has found so far; can be written at any moment."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.experiment = store.read_experiment(Path(job.experiment_folder))
        self.parts: Parts = assemble_written(self.experiment.written, self.experiment.config_file)
        self.provenance = provenance.collect()
        self.clock = WallClock()
        self.device: Literal["cuda", "cpu"] | None = None
        self.meters: dict[str, Meter] = {}
        self.sampler: Sampler | None = None
        self.log: SampleLog | None = None
        self.drive = Drive(self.clock)
        self.treatment: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.missing: dict[str, str] = {}
        self.quality: pa.Table | None = None

    def stop_meters(self) -> None:
        """End sampling; raise RunFailed when a GPU was lost on the way, which makes the run invalid."""
        if self.sampler is None or self.log is not None:
            return
        self.log = self.sampler.stop()
        for meter in self.meters.values():
            meter.close()
        for failure in self.log.failures:
            if failure.kind == "lost":
                raise RunFailed(f"the {failure.meter} was lost while it was measured: {failure.error}")

    def write(self, status: RunStatus, error: str | None) -> None:
        """Write the run folder."""
        log = self.log or _NOTHING_SAMPLED
        store.write_run(
            self.job.folder,
            self._meta(status, error, log),
            self.drive.completions(),
            log.samples,
            self.quality,
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
            device=self.device,
            offered_rps=self.job.rate_rps,
            window=self.drive.window,
            treatment=self.treatment,
            facts={"meters": log.facts, "sampler_max_gap_s": log.max_gap_s} | self.drive.facts | self.facts,
            missing=log.missing | self.missing,
            doubts=[f"{failure.meter} meter {failure.kind}: {failure.error}" for failure in log.failures],
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
    device = recording.device = resolve_device(experiment.model.device)
    recording.facts["cpu_threads"] = use_cpu_threads(experiment.model.cpu_threads)
    recording.meters = _open_meters(recording, device)
    recording.sampler = Sampler(recording.meters, clock, 1 / experiment.protocol.sample_hz)
    recording.sampler.start()
    loaded = load_model(experiment.model, system.precision, system.attention, device)
    recording.facts |= {"model": loaded.facts, "load_s": loaded.load_s}
    recording.treatment = check_treatment(loaded, system.precision, system.attention)
    recording.facts["weights_bytes"] = recording.treatment["total_bytes"]

    reset_peaks(device)
    engine = _build_engine(recording.parts, system, loaded, clock)

    def check(facts: Mapping[str, Any]) -> None:
        recording.treatment |= check_engine(facts, system.kv_cache, system.compile)

    subject = Subject(
        parts=recording.parts,
        policy=system.policy,
        engine=engine,
        vocabulary=loaded.vocabulary,
        clock=clock,
        on_prepared=check,
    )
    if job.rate_rps is None:
        drive_offline(recording.drive, subject, emit)
    else:
        drive_window(recording.drive, subject, emit, rate_rps=job.rate_rps, repeat=job.repeat)
    check(recording.drive.facts["engine"])
    for name, figure in torch_memory(device).items():
        if figure.value is None:
            recording.missing[name] = figure.note
        else:
            recording.facts[name] = figure.value
    if job.kind == "offline":
        emit("quality")
        try:
            _score(job, recording, loaded)
        except Exception as error:  # noqa: BLE001 - the capacity is measured; quality is missing, with the reason
            traceback.print_exc()
            recording.missing["quality"] = f"the quality pass failed: {_first_line(error)}"


def _build_engine(parts: Parts, system: SystemParts, loaded: LoadedModel, clock: WallClock) -> Engine:
    """Return the system's engine, with room for as many requests as its policy lets run together.

    Its context is the longest that the workload can draw: a cache that is allocated at once would else
    take slots for the model's whole context.
    """
    longest = parts.input_tokens.longest + parts.output_tokens.longest
    return system.engine.build(
        msgspec.structs.replace(loaded, max_context=min(loaded.max_context, longest)),
        clock,
        slots=system.policy.max_batch,
        prefill_chunk=system.policy.prefill_chunk,
        cache=system.kv_cache,
        compile=system.compile,
    )


def _open_meters(recording: _Recording, device: Literal["cuda", "cpu"]) -> dict[str, Meter]:
    """Open the host's meter and that of the GPU in use.

    A modelled NVML library counts as the GPU of a run whose device is "auto": the whole path can then be
    tried on a machine without one, and everything that comes of it is marked simulated.
    """
    meters: dict[str, Meter] = {"host": HostMeter()}
    status = probe_nvml()
    modelled = status.simulated and recording.parts.experiment.model.device == "auto"
    if device == "cpu" and not (modelled and status.gpus):
        why = "the run is on the CPU" if status.available else f"no GPU: {status.reason}"
        recording.missing |= dict.fromkeys(GPU_FIELDS, why)
        return meters
    try:
        gpu = open_gpu(cuda_uuid() if device == "cuda" else status.gpus[0].uuid)
    except NotAvailable as error:  # the run goes on: its latency is worth having without its joules
        recording.missing |= dict.fromkeys(GPU_FIELDS, str(error))
        return meters
    facts = gpu.facts
    recording.facts |= {"gpu_name": facts.get("name"), "gpu_uuid": facts.get("uuid")}
    recording.facts |= {key: facts.get(key) for key in ("driver", "memory_total_gb", "memory_api")}
    return meters | {"gpu": gpu}


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
    if not is_baseline and not has_logits(logits):
        recording.missing |= dict.fromkeys(("kl", "agree"), "the baseline's quality pass left no logits")
    text = held_out_ids(loaded.vocabulary, quality.tokens)
    recording.facts |= {"quality_tokens": len(text.ids), "quality_note": text.note}
    recording.quality = score_heldout(
        loaded,
        text.ids,
        window=quality.window,
        stride=quality.stride,
        reference=logits if not is_baseline and has_logits(logits) else None,
        save_logits=logits if is_baseline else None,
    )


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


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
