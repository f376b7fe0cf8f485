"""The parent of a run: one process per job, one folder per job, nothing lost.

A job that crashes, runs out of memory or is killed is a recorded result: its folder says so, the
other jobs go on, and the run ends with exit code 3. Ctrl-C ends the running job, keeps what it has
measured, and the run can be resumed: jobs whose folder is complete are not repeated.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from bench import errors, provenance, store
from bench.analysis.capacity import baseline_rate
from bench.analysis.cost import resolve_price
from bench.analysis.summary import offline_rps
from bench.analysis.system import SystemRuns
from bench.errors import BenchError, ConfigError, NotAvailable, ResultError, RunFailed
from bench.meters.nvml import probe_nvml
from bench.records import Event, RunMeta, RunStatus, Value
from bench.run.assemble import Parts, assemble_written
from bench.run.capacity import USUAL_PROBES
from bench.run.job import run_job
from bench.run.measure import REFERENCE_LOGITS
from bench.run.plan import Job, capacity_job, offline_jobs, window_jobs
from bench.run.results import resume_command
from bench.run.rounds import Look, look_at_verdicts, run_rounds
from bench.units import per_day_to_rps
from bench.workload.load import FractionOfBaselineCapacity

Watch = Callable[[Event], None] | None
"""Is given the events of a run; None where nobody watches, and then no job tells anything."""


class Interrupted(RunFailed):
    """Somebody stopped the run; what was measured is kept and it can be resumed."""

    exit_code = 130


def new_folder(parts: Parts, results: Path) -> Path:
    """Create the experiment's folder with its `experiment.json` and return it.

    Raises ResultError where that cannot be.
    """
    facts = provenance.collect()
    folder = results / "runs" / Path(parts.config_file).stem / provenance.stamp(facts["commit"])
    if folder.exists():
        raise ResultError(f"{folder}: exists already; wait a second and run again")
    meta = store.ExperimentMeta(
        schema=store.SCHEMA,
        name=parts.experiment.name,
        config_file=parts.config_file,
        config=parts.resolved(),
        written=parts.written,
        argv=provenance.command(),
        provenance=facts,
    )
    try:
        store.write_experiment(folder, meta)
    except OSError as error:
        raise ResultError(
            f"{results}: no run folder can be made there ({error.strerror}); name another with --results"
        ) from error
    return folder


def reopen(folder: Path) -> Parts:
    """Return the parts of a run that is to be resumed, as they were when it started."""
    meta = store.read_experiment(folder)
    return assemble_written(meta.written, meta.config_file)


def run_experiment(
    parts: Parts,
    folder: Path,
    watch: Watch,
    *,
    capacity_only: bool = False,
    look: Look = look_at_verdicts,
    most: int | None = None,
) -> list[str]:
    """Run every job of `folder` that is not complete; return one line per job that failed.

    With `capacity_only` the repeats at the common rate are left out; the run can be resumed for them. Under
    `protocol.stop = "decided"` the repeats go on, up to `most` rounds (without it `protocol.repeats`), until
    `look` says that they may end.

    Raises Interrupted on Ctrl-C, RunFailed where the common rate stays unknown, and NotAvailable or
    ConfigError as they are where the very first job finds that the experiment cannot be run here; its
    folder, which holds nothing else, is then removed.
    """
    systems = list(parts.experiment.systems)
    protocol = parts.experiment.protocol
    failures: dict[str, str] = {}
    for job in offline_jobs(folder, systems):
        if failure := _ensure(job, watch):
            failures[job.system] = failure
    _drop_reference_logits(folder)
    lines = list(failures.values())
    if parts.experiment.capacity.search:
        lines += _search_capacities(parts, folder, [name for name in systems if name not in failures], watch)
    if capacity_only:
        return lines
    rate_rps = _common_rate(parts, folder, failures)
    repeats = window_jobs(folder, systems, most or protocol.repeats, protocol.order, rate_rps)
    jobs = [job for job in repeats if job.system not in failures]
    if protocol.stop == "decided":
        return lines + run_rounds(folder, jobs, lambda job: _ensure(job, watch), look, watch)
    return lines + [failure for job in jobs if (failure := _ensure(job, watch))]


def planned_s(parts: Parts, *, capacity_only: bool = False, most: int | None = None) -> dict[str, float]:
    """Return the jobs in their order with their planned seconds; loading and drain come on top.

    How many probes a search for capacity takes is only known afterwards, and how many rounds of repeats under
    `protocol.stop = "decided"`: these are the most.
    """
    protocol, capacity, systems = parts.experiment.protocol, parts.experiment.capacity, list(parts.systems)
    idle_s = protocol.idle_s if probe_nvml().gpus else 0.0
    offline_s = protocol.warmup_s + protocol.offline_s + idle_s
    window_s = protocol.warmup_s + protocol.window_s + idle_s * 4.0 / 3.0
    plan_s = {job.name: offline_s for job in offline_jobs(Path(), systems)}
    if capacity.search:
        probe_s = protocol.warmup_s + (capacity.probe_s or protocol.window_s)
        plan_s |= {capacity_job(Path(), name, 1.0).name: USUAL_PROBES * probe_s for name in systems}
    if capacity_only:
        return plan_s
    windows = window_jobs(Path(), systems, most or protocol.repeats, protocol.order, rate_rps=1.0)
    return plan_s | {job.name: window_s for job in windows}


def _search_capacities(parts: Parts, folder: Path, systems: Sequence[str], watch: Watch) -> list[str]:
    """Search the capacity of each system; return a line for each search that failed.

    A system whose search failed goes on to the common rate; its throughput is then missing.
    """
    lines = []
    for name in systems:
        offline = store.read_run(folder / f"{name}.offline")
        guess = offline_rps(SystemRuns(name=name, offline=offline, windows=[]))
        if guess.value is None:
            lines.append(f"{name}.capacity: no search without a saturated throughput: {guess.note}")
        elif failure := _ensure(capacity_job(folder, name, guess.value), watch):
            lines.append(failure)
    return lines


def _common_rate(parts: Parts, folder: Path, failures: Mapping[str, str]) -> float | None:
    """Return the rate of all window jobs, None in a closed loop; write it and the price into the folder."""
    meta = store.read_experiment(folder)
    closed = parts.load.clients is not None
    if meta.rate_rps is not None or (closed and meta.price is not None):
        return meta.rate_rps
    name = parts.experiment.baseline
    offline = store.read_run(folder / f"{name}.offline")
    searched = folder / f"{name}.capacity"
    runs = SystemRuns(
        name=name,
        offline=offline,
        windows=[],
        capacity=store.read_run(searched) if store.is_complete(searched) else None,
    )
    if isinstance(parts.load, FractionOfBaselineCapacity) and parts.experiment.capacity.search:
        _require_search(runs, folder, failures)
    capacity = baseline_rate(runs, parts.experiment.objectives)
    workload_rps = per_day_to_rps(parts.experiment.workload.requests_per_day)
    try:
        rate_rps = None if closed else parts.load.rate_rps(capacity.value, workload_rps)
    except RunFailed as error:
        raise RunFailed(f"{'; '.join([*failures.values(), str(error)])}; see {folder}") from None
    # The GPU that the job used, by its own record: NVML's first one may be another.
    gpu_name = offline.meta.facts.get("gpu_name")
    price = resolve_price(gpu_name, parts.experiment.assumptions.usd_per_gpu_hour)
    store.write_experiment(
        folder,
        msgspec.structs.replace(
            meta,
            rate_rps=rate_rps,
            rate_note=_rate_note(parts, rate_rps, capacity),
            price=msgspec.to_builtins(price),
        ),
    )
    return rate_rps


def _require_search(baseline: SystemRuns, folder: Path, failures: Mapping[str, str]) -> None:
    """Raise RunFailed where the rate hangs on a search that failed: another base would be another load."""
    if baseline.capacity is None and baseline.name not in failures:
        raise RunFailed(
            f"the search for the baseline's capacity failed, and the common rate is a fraction of it; try "
            f'again: bench {resume_command(folder)}, or fix the rate with load = {{ kind = "rate", rps = … }}'
        )


def _rate_note(parts: Parts, rate_rps: float | None, capacity: Value) -> str:
    """Return where the common rate comes from, for `experiment.json`."""
    if rate_rps is None:
        return f"no rate: {parts.load.clients} clients in a closed loop"
    if not isinstance(parts.load, FractionOfBaselineCapacity):
        return "as asked for in [load], or at the command line"
    return f"{parts.load.fraction:g} of the baseline's {capacity.value} requests/s: {capacity.note}"


def _ensure(job: Job, watch: Watch) -> str | None:
    """Run `job` unless its folder is complete; return a line about its failure, None if it is well."""
    if store.is_complete(job.folder):
        return None
    if job.folder.exists():
        shutil.rmtree(job.folder)
    failure = _execute(job, watch)
    if failure is None:
        _tell(watch, job, "complete")
        return None
    folder = Path(job.experiment_folder)
    only_job = [path for path in folder.iterdir() if path.is_dir()] == [job.folder]
    if only_job and isinstance(failure, (NotAvailable, ConfigError)):
        shutil.rmtree(folder)
        raise failure
    _tell(watch, job, "failed", str(failure))
    return f"{job.name} failed: {failure}"


def _execute(job: Job, watch: Watch) -> BenchError | None:
    """Run one job in a fresh process; return its error, None when its folder is complete."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=run_job, args=(job, sender), kwargs={"watched": watch is not None}, name=job.name
    )
    process.start()
    sender.close()
    try:
        with _terminate_as_interrupt():
            error = _follow(receiver, watch)
            process.join()
    except KeyboardInterrupt:
        _tell(watch, job, "stopping", "writing what was measured")
        _stop(process)
        if not (job.folder / store.RUN_FILE).exists():
            _record_death(job, "interrupted, and ended before it could write what it had", "cancelled")
        raise Interrupted(f"interrupted; what was measured is in {job.experiment_folder}") from None
    if process.exitcode == 0 and error is None:
        return None
    error = error or RunFailed(_death(process.exitcode))
    if not (job.folder / store.RUN_FILE).exists():
        _record_death(job, str(error), "failed")
    return error


def _follow(receiver: Connection, watch: Watch) -> BenchError | None:
    """Pass the job's events on until it closes its end; return the error that it reported."""
    error: BenchError | None = None
    while True:
        try:
            message: Any = receiver.recv()
        except EOFError:
            return error
        if isinstance(message, Event):
            if watch is not None:
                watch(message)
        else:
            kind, text = message
            error = getattr(errors, kind, RunFailed)(text)


def _tell(watch: Watch, job: Job, phase: str, detail: str = "") -> None:
    """Tell what the parent alone knows of a job: how it ended."""
    if watch is not None:
        watch(Event(job=job.name, phase=phase, detail=detail, done=1.0))


def _stop(process: multiprocessing.process.BaseProcess) -> None:
    """Give the job time to write what it has, then end it."""
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGINT)
    process.join(timeout=30)
    if process.is_alive():
        process.kill()
        process.join()


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = " (the system ran out of memory?)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with code {exit_code} and left no result; see log.txt in its folder"


def _record_death(job: Job, message: str, status: RunStatus) -> None:
    """Write the folder of a job whose process could not do so itself."""
    meta = store.read_experiment(Path(job.experiment_folder))
    store.write_run(
        job.folder,
        RunMeta(
            schema=store.SCHEMA,
            status=status,
            source="measured",
            kind=job.kind,
            system=job.system,
            repeat=job.repeat,
            config=meta.config,
            written=meta.written,
            provenance=meta.provenance,
            device=None,
            offered_rps=job.rate_rps,
            error=message,
        ),
        [],
        [],
    )


def _drop_reference_logits(folder: Path) -> None:
    """Remove the baseline's logits, which are large, once no offline job needs them any more."""
    systems = store.read_experiment(folder).config["systems"]
    if all(store.is_complete(folder / f"{name}.offline") for name in systems):
        for path in folder.glob(f"{Path(REFERENCE_LOGITS).stem}*"):
            path.unlink()


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Treat a polite SIGTERM like Ctrl-C, so that a scheduler's stop loses nothing."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
