"""What can be said before a run: that the machine is busy, or that physics alone forbids an objective."""

from __future__ import annotations

import os

import numpy as np

from bench.analysis.doubts import busy_machine
from bench.analysis.limits import impossible
from bench.analysis.reference import gpus
from bench.errors import NotAvailable
from bench.meters.nvml import probe_nvml
from bench.records import Footprint
from bench.run.assemble import Parts

_DRAWN = 2000
"""Requests that are drawn to know the workload's lengths."""


def busy() -> list[str]:
    """Return that the machine is busy now, if it is, and what to do about it."""
    doubt = busy_machine("warning", {"load_average_1min": os.getloadavg()[0], "cpu_count": os.cpu_count()})
    return [] if doubt is None else [f"{doubt.text}; {doubt.remedy}"]


def warnings(parts: Parts) -> list[str]:
    """Return why each system's objective cannot be met on this machine's GPU; [] where nothing is known.

    Looks only where all GPUs are of one kind, as which one will be used is not known yet, and at models whose
    configuration lies on this machine: nothing is downloaded.
    """
    status = probe_nvml()
    kinds = {gpu.name for gpu in status.gpus}
    if parts.experiment.model.device == "cpu" or len(kinds) != 1 or status.simulated:
        return []
    from bench.model.footprint import footprint_of

    found = []
    for name, system in parts.systems.items():
        try:
            shape = footprint_of(parts.experiment.model, system.precision)
        except NotAvailable:
            continue  # the job looks again when the model is loaded
        if why := hopeless(parts, shape, status.gpus[0].name):
            found.append(f"{name}: {why}")
    return found


def hopeless(parts: Parts, shape: Footprint, gpu_name: str | None) -> str | None:
    """Return why the latency objective cannot be met with a model of this shape on that GPU; None if it may.

    Outputs that may end by themselves can be one token long.
    """
    rng = np.random.default_rng(parts.experiment.seed)
    inputs = parts.input_tokens.draw(_DRAWN, rng)
    outputs = parts.output_tokens.draw(_DRAWN, rng)
    if parts.experiment.workload.stop == "natural":
        outputs = np.ones_like(outputs)
    return impossible(parts.experiment.objectives, shape, gpus().get(gpu_name or ""), inputs, outputs)
