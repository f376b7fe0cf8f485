"""What goes wrong with a GPU and its readings, and what a result says then: from the library to the verdict.

Every test models one failure, meters a run on it through the real binding, the real meter and the real
sampler, and asks the analysis what an experiment would be told. Time is virtual (`tests.fake_nvml.metered`),
except where a call hangs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bench.meters.nvml import open_gpu
from bench.records import Interval, Run
from tests import fake_nvml
from tests.fake_nvml.in_process import Modelled, behind_binding
from tests.fake_nvml.metered import PUNCTUAL, Disturbance, run_of, sampled, spread
from tests.meters.faults.asking import WINDOW, Measure


@pytest.fixture(scope="module")
def library() -> Iterator[Modelled]:
    if fake_nvml.compiler() is None:
        pytest.skip("no C compiler to build the modelled NVML library with")
    with behind_binding() as modelled:
        yield modelled


@pytest.fixture
def measure(library: Modelled) -> Iterator[Measure]:
    """Meters a window of ten seconds at 200 W, unless told otherwise, and returns the run."""

    def measured(
        *,
        gpus: int = 1,
        disturbance: Disturbance = PUNCTUAL,
        window: Interval = WINDOW,
        idle_spans: dict[str, Interval] | None = None,
        meta: dict[str, Any] | None = None,
        jitter: float = 0.5,
        step_s: float = 0.0425,
        **options: Any,
    ) -> Run:
        spans = [*(idle_spans or {}).values(), window]
        library.configure(**{"gpus": gpus, "power_w": "200", "pids": "self:1000000000", **options})
        meters = {("gpu", "gpu 1")[i]: open_gpu(fake_nvml.uuid(i)) for i in range(gpus)}
        try:
            log = sampled(
                library, meters, spans, np.random.default_rng(1), disturbance=disturbance, calibrate_s=0.8
            )
        finally:
            for meter in meters.values():
                meter.close()
        facts = {
            "idle": {name: {"start_s": s.start_s, "end_s": s.end_s} for name, s in (idle_spans or {}).items()}
        }
        requests = spread(window, 5, jitter, latency_s=step_s * 4)
        return run_of(window, log, requests, facts=facts, **(meta or {}))

    yield measured
    library.release()
    library.configure()
