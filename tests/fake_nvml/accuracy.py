"""One seeded window of known energy on the modelled GPU, as bench, zeus and plain polling measure it.

A case draws everything that no user controls: where the window lies against the counter's ticks and the
sensor's updates, the load's phase or seed, and when the sampler really reads. All measure the very same
trace. The figure is joules: bench's over the span that it says (from tick to tick, or the whole window where
there is no counter), the others' over the window that they were asked for, as both report them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np
import pynvml

from bench.analysis.joules import Energy
from bench.analysis.metered import metered
from bench.meters.nvml import open_gpu
from bench.records import Interval
from tests import fake_nvml
from tests.fake_nvml.in_process import Modelled
from tests.fake_nvml.metered import PERIOD_S, Disturbance, Waker, run_of, sampled, spread

Wave = Callable[[np.random.Generator], str]

WAVES: dict[str, Wave] = {
    "square": lambda rng: (
        f"square:60:300:{rng.uniform(0.15, 2.0):.6f}:{rng.uniform(0.3, 0.7):.6f}:{rng.uniform(0, 2):.6f}"
    ),
    "bursty": lambda rng: f"burst:60:600:0.3:0.4:{rng.integers(1_000_000)}",
    "drifting": lambda rng: f"drift:150:450:{rng.uniform(15, 60):.3f}:{rng.integers(1_000_000)}:0.1",
    "locked": lambda rng: f"square:60:300:0.1:0.3:{rng.uniform(0, 0.1):.6f}",
}
"""Square: a batch after the other, of a length of its own in each case; bursty: bursts and pauses of random
length and height; drifting: up and down within 15 to 60 s, with noise; locked: batches exactly as often as
the sensor looks."""

NO_COUNTER = ("191:3", "83:3", "nvmlDeviceGetTotalEnergyConsumption:3")
CAPABILITY = {"A100": "8.0", "H100": "9.0"}
"""With the same sensor; only what `nvmlDeviceGetPowerUsage` returns differs: instant, or the mean of 1 s."""
START_S = 20.0


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn for a seed, and the window."""

    wave: str
    window: Interval
    seed: int
    options: dict[str, Any]

    @property
    def rng(self) -> np.random.Generator:
        """What disturbs a measurement of this case."""
        return np.random.default_rng([self.seed, 1])


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Measured joules against the true ones; `covered` says whether the stated interval holds these."""

    joules: float
    true_j: float
    covered: bool | None = None
    width: float | None = None
    span_s: float | None = None

    @property
    def error(self) -> float:
        """Relative to the truth."""
        return self.joules / self.true_j - 1.0


def case(wave: str, window_s: float, seed: int, gpu: str = "A100") -> Case:
    """Draw the case of `seed`."""
    rng = np.random.default_rng([seed, 0])
    start_s = START_S + float(rng.random())
    tick_ms, update_ms = 100.0, 100.0
    return Case(
        wave=wave,
        window=Interval(start_s=start_s, end_s=start_s + window_s),
        seed=seed,
        options={
            "gpus": 1,
            "power_w": WAVES[wave](rng),
            "sensor": (25.0, update_ms, rng.uniform(0, update_ms)),
            "average": (1000.0, update_ms, rng.uniform(0, update_ms)),
            "tick_ms": tick_ms,
            "tick_phase_ms": rng.uniform(0, tick_ms),
            "capability": CAPABILITY[gpu],
        },
    )


def bench(library: Modelled, drawn: Case, *faults: str) -> Outcome | str:
    """Measure as bench does; `faults` as `fake_nvml.settings`. The reason where bench reports no figure."""
    window = drawn.window
    library.configure(**drawn.options, faults=faults)
    meter = open_gpu(fake_nvml.uuid(0))
    try:
        log = sampled(library, {"gpu": meter}, [window], drawn.rng)
    finally:
        meter.close()
    # As calibration finds it; searching it anew in each case would take most of the time.
    log.facts["gpu"]["calibration"] = {
        "tick_s": drawn.options["tick_ms"] / 1e3,
        "tick_uncertainty_s": 0.001,
        "power_update_s": drawn.options["sensor"][1] / 1e3,
    }
    run = run_of(window, log, spread(window, 5))
    found = metered(run)
    return found if isinstance(found, str) else over_span(library, found[0])


def over_span(library: Modelled, energy: Energy, ahead_s: float = 0.0) -> Outcome:
    """Hold bench's joules against the true ones of its span; the library's time is `ahead_s` of the run's."""
    true_j = library.true_energy_j(0, energy.span.start_s + ahead_s, energy.span.end_s + ahead_s)
    return Outcome(
        joules=energy.joules,
        true_j=true_j,
        covered=energy.low <= true_j <= energy.high,
        width=(energy.high - energy.low) / true_j,
        span_s=energy.span.end_s - energy.span.start_s,
    )


def polling(library: Modelled, drawn: Case) -> Outcome:
    """Poll `nvmlDeviceGetPowerUsage` at 10 Hz; trapezoids from the first to the last reading."""
    library.configure(**drawn.options)
    waker = Waker(Disturbance(), drawn.rng)
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    times_s, watts = [], []
    for due_s in np.arange(drawn.window.start_s, drawn.window.end_s, PERIOD_S).tolist():
        t_s = min(waker.wakes_s(due_s), drawn.window.end_s)
        library.set_time_s(t_s)
        times_s.append(t_s)
        watts.append(pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3)
    pynvml.nvmlShutdown()
    return over_window(library, drawn.window, float(np.trapezoid(watts, times_s)))


def has_zeus() -> bool:
    """Say whether zeus is installed."""
    return find_spec("zeus") is not None


def zeus_monitor() -> Any:
    """Return zeus's monitor of the modelled GPU, by whatever is behind the binding now."""
    from zeus.monitor import ZeusMonitor

    return ZeusMonitor(gpu_indices=[0], cpu_indices=[])


def zeus(library: Modelled, drawn: Case) -> Outcome:
    """Measure by zeus's own `begin_window` and `end_window` on the same binding, library and trace."""
    library.configure(**drawn.options)
    rng, disturbance = drawn.rng, Disturbance()
    monitor = zeus_monitor()
    library.set_time_s(drawn.window.start_s + disturbance.read(rng))
    monitor.begin_window("window", sync_execution=False)
    library.set_time_s(drawn.window.end_s + disturbance.read(rng))
    measured = monitor.end_window("window", sync_execution=False)
    return over_window(library, drawn.window, measured.gpu_energy[0])


def over_window(library: Modelled, window: Interval, joules: float, ahead_s: float = 0.0) -> Outcome:
    """Hold joules against the true ones of the window."""
    return Outcome(
        joules=joules, true_j=library.true_energy_j(0, window.start_s + ahead_s, window.end_s + ahead_s)
    )
