"""A case measured on the real clock by bench's own sampler, with zeus and plain polling beside it."""

from __future__ import annotations

import time

import numpy as np
import pynvml

from bench.analysis.metered import metered
from bench.clock import WallClock
from bench.meters.nvml import open_gpu
from bench.meters.sampling import Sampler
from bench.records import Interval
from tests import fake_nvml
from tests.fake_nvml.accuracy import Case, Outcome, has_zeus, over_span, over_window, zeus_monitor
from tests.fake_nvml.in_process import Modelled
from tests.fake_nvml.metered import PERIOD_S, TAIL_S, run_of, spread


def side_by_side(library: Modelled, drawn: Case) -> dict[str, Outcome]:
    """Measure `drawn` in all ways at once; takes as long as its window and some seconds.

    Where the others read, the sampler reads, too: each waits for the interpreter as it would under load.
    """
    library.configure(**drawn.options | {"time_s": None})
    clock = WallClock()
    ahead_s = library.time_s - clock.now_s()
    length_s = drawn.window.end_s - drawn.window.start_s
    meter = open_gpu(fake_nvml.uuid(0))
    sampler = Sampler({"gpu": meter}, clock, PERIOD_S)
    monitor = zeus_monitor() if has_zeus() else None
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    try:
        sampler.calibrate(1.0)
        sampler.start()
        time.sleep(TAIL_S)
        window = Interval(start_s=clock.now_s(), end_s=clock.now_s() + length_s)
        if monitor is not None:
            monitor.begin_window("window", sync_execution=False)
        sampler.sharpen(window.start_s + 0.5)
        times_s, watts, sharpened = [], [], False
        while clock.now_s() < window.end_s:
            times_s.append(clock.now_s())
            watts.append(pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3)
            if not sharpened and clock.now_s() > window.end_s - 0.3:
                sampler.sharpen(window.end_s + 0.3)
                sharpened = True
            clock.sleep_until(min(times_s[-1] + PERIOD_S, window.end_s))
        theirs = None if monitor is None else monitor.end_window("window", sync_execution=False)
        time.sleep(TAIL_S)
        log = sampler.stop()
    finally:
        meter.close()
    run = run_of(window, log, spread(window, 5))
    energies = metered(run)
    if isinstance(energies, str):
        raise AssertionError(f"bench gives no figure in real time: {energies}")
    ours = energies[0]
    found = {
        "bench, counter": over_span(library, ours, ahead_s),
        "polling, A100": over_window(library, window, float(np.trapezoid(watts, times_s)), ahead_s),
    }
    if theirs is not None:
        found["zeus"] = over_window(library, window, theirs.gpu_energy[0], ahead_s)
    return found
