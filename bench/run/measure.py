"""One job's path: device, meters, model, treatment, traffic, quality.

Each step leaves what it found in the job's `Recording`, so that whatever comes next may fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import store
from bench.meters.sampling import Sampler
from bench.meters.sharing import refuse_shared
from bench.model.device import use_cpu_threads
from bench.model.load import LoadedModel, load_model, resolve_device
from bench.model.memory import reset_peaks, torch_memory
from bench.model.peaks import measure_peaks
from bench.model.treatment import check_engine, check_treatment
from bench.records import Footprint, Request
from bench.run.assemble import build_engine
from bench.run.capacity import drive_capacity
from bench.run.closed import drive_closed
from bench.run.drive import Emit, Subject, drive_offline
from bench.run.metered import Opened, open_meters
from bench.run.observe import Observer
from bench.run.plan import Job
from bench.run.preflight import hopeless
from bench.run.quality import measure_quality
from bench.run.recording import Recording
from bench.run.window import drive_window
from bench.workload.saved import check_shared, schedule_table

_TAIL_S = 1.5
"""A power reading may be the mean of the second before it: the window's end shows only after that."""
REFERENCE_LOGITS = ".baseline-logits.npy"
"""Scratch in the experiment's folder: the baseline's logits on the held-out text."""


def measure(job: Job, recording: Recording, emit: Emit) -> None:
    """Walk the path; what is found is in `recording` at every moment.

    Raises a BenchError where the job cannot go on.
    """
    experiment = recording.parts.experiment
    system = recording.parts.systems[job.system]
    emit("load")
    device = recording.device = resolve_device(experiment.model.device)
    recording.facts["cpu_threads"] = use_cpu_threads(experiment.model.cpu_threads)
    observer = _observe(job, recording, open_meters(device, experiment.model.device), emit)
    if job.kind == "offline":
        emit("peaks")
        recording.facts["peaks"] = measure_peaks(device, [system.precision.compute_dtype(device)])
    emit("load")
    loaded = load_model(experiment.model, system.precision, system.attention, device)
    recording.facts |= {"model": loaded.facts, "load_s": loaded.load_s}
    recording.treatment = check_treatment(loaded, system.precision, system.attention)
    recording.facts["weights_bytes"] = recording.treatment["total_bytes"]
    _look_ahead(recording, loaded, emit)

    engine = build_engine(recording.parts, system, loaded, recording.clock)

    def check(facts: Mapping[str, Any]) -> None:
        recording.treatment |= check_engine(facts, system.kv_cache, system.compile)

    def prepared(facts: Mapping[str, Any]) -> None:
        check(facts)
        reset_peaks(device)  # what preparing took is gone again, and none of the traffic's

    subject = Subject(
        parts=recording.parts,
        policy=system.policy,
        engine=engine,
        vocabulary=loaded.vocabulary,
        clock=recording.clock,
        on_prepared=prepared,
        on_drawn=lambda name, requests: _share(job, name, requests),
        observer=observer,
    )
    _drive(job, recording, subject, emit)
    recording.facts["clock_step_s"] = observer.clock_step_s
    check(recording.drive.facts["engine"])
    for name, figure in torch_memory(device).items():
        if figure.value is None:
            recording.missing[name] = figure.note
        else:
            recording.facts[name] = figure.value
    if job.kind == "offline":
        logits = Path(job.experiment_folder) / REFERENCE_LOGITS
        measure_quality(job, recording, loaded, system.kv_cache, logits, emit)


def _look_ahead(recording: Recording, loaded: LoadedModel, emit: Emit) -> None:
    """Say so where, by physics alone, no traffic can meet the objective on this GPU."""
    if (told := loaded.facts.get("footprint")) is None:
        return
    shape = msgspec.convert(told, Footprint)
    if why := hopeless(recording.parts, shape, recording.facts.get("gpu_name")):
        recording.doubts.append(why)
        emit("load", detail=why)


def _observe(job: Job, recording: Recording, opened: Opened, emit: Emit) -> Observer:
    """Calibrate and start the meters, and measure the cold device before anything is loaded on it."""
    protocol, clock = recording.parts.experiment.protocol, recording.clock
    recording.meters = opened.meters
    recording.missing |= opened.missing
    recording.facts |= opened.facts
    if (gpu := opened.meters.get("gpu")) is not None:
        recording.doubts += refuse_shared(gpu.facts, allow=protocol.allow_shared_gpu)
    sampler = recording.sampler = Sampler(opened.meters, clock, 1 / protocol.sample_hz)
    emit("calibrate")
    sampler.calibrate()
    sampler.start()
    power_missing = opened.power_missing
    observer = Observer(clock, sampler, tick_s=sampler.tick_s, meters_power=power_missing is None)
    if job.kind != "offline":
        recording.missing["idle_cold"] = "the cold device is measured in the saturated run"
    elif protocol.idle_s > 0 and power_missing is None:
        recording.drive.measure_idle(observer, "cold", protocol.idle_s, emit)
    if power_missing is not None or protocol.idle_s == 0:
        why = "protocol.idle_s = 0" if power_missing is None else power_missing
        recording.missing |= dict.fromkeys(("idle_cold", "idle_resident"), why)
    return observer


def _drive(job: Job, recording: Recording, subject: Subject, emit: Emit) -> None:
    """Send the job's kind of traffic."""
    drive, load = recording.drive, recording.parts.load
    if job.kind == "offline":
        drive_offline(drive, subject, emit)
    elif job.kind == "capacity":
        assert job.rate_rps is not None
        recording.facts["guess_rps"] = job.rate_rps
        drive_capacity(drive, subject, emit, guess_rps=job.rate_rps, view=recording.view)
    elif load.clients is not None:
        drive_closed(drive, subject, emit, clients=load.clients, think_s=load.think_s, repeat=job.repeat)
    else:
        assert job.rate_rps is not None
        drive_window(drive, subject, emit, rate_rps=job.rate_rps, repeat=job.repeat)
    if subject.observe().meters_power and drive.window is not None:
        recording.clock.sleep_until(drive.window.end_s + _TAIL_S)


def _share(job: Job, name: str, requests: Sequence[Request]) -> None:
    """Leave the schedule for the other systems' jobs, or prove that it is the one that they were sent."""
    path = Path(job.experiment_folder) / "schedules" / f"{name}.parquet"
    own = schedule_table(requests)
    if path.exists():
        check_shared(store.read_table(path), own, name)
    else:
        store.write_table(path, own)
