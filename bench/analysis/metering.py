"""Doubts about how a run was metered: its samples, its counter, its idle power, its sensor, its memory.

Each looks at the recorded runs and returns what is doubtful and what would remove it, or None.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.analysis import energy, idle
from bench.analysis.device import ecc_delta, hidden_pids, is_hidden, unknown_throttling
from bench.analysis.metered import MAX_DISAGREEMENT, disagreement
from bench.analysis.phase import PhaseLock, phase_lock, share_observed, step_lock
from bench.analysis.recorded import MIN_COVERAGE, coverage, declared_period_s, every_gpu, series, window_of
from bench.analysis.system import SystemRuns
from bench.records import Run
from bench.units import MS_PER_S, PERCENT, to_ms

Condition = Callable[[SystemRuns], tuple[str, str] | None]

MAX_CLOCK_STEP_S = 0.005
"""The wall clock may move this far against the monotonic one."""
MAX_OPEN = 0.05
"""Joules of which sampling leaves more than this open are an estimate."""


def sampler_gaps(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt memory and power means from samples with holes."""
    lowest, what = 1.0, ""
    for run in system.measured:
        for field in ("memory_used_gb", "rss_gb", *_power_fields(run)):
            for samples in series(run, field).values():
                covered = coverage(samples, window_of(run), declared_period_s(run, field))
                if covered < lowest:
                    lowest, what = covered, field
    if lowest >= MIN_COVERAGE:
        return None
    text = f"the {what} samples cover only {lowest * PERCENT:.0f} % of a window"
    return text, "lower protocol.sample_hz, or free a CPU core"


def _power_fields(run: Run) -> tuple[str, ...]:
    """Return the power readings that were used: the mean of a second only where it was integrated."""
    integrated = any(device.source == "avg_poll" for device in energy.devices_of(run))
    return ("power_w", "power_average_w") if integrated or not series(run, "power_w") else ("power_w",)


def counter_disagrees(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt joules when counter and power samples tell different stories."""
    shares = [share for run in system.measured if (share := disagreement(run)) is not None]
    if not shares or max(shares) <= MAX_DISAGREEMENT:
        return None
    text = f"energy counter and power samples disagree by {max(shares) * PERCENT:.0f} %"
    return text, "lengthen the window; vary the arrivals; check the driver"


def counter_discarded(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt joules that had to come from power samples because the counter could not be believed."""
    for run in system.measured:
        for device in energy.devices_of(run):
            if device.distrusted:
                return f"the energy counter was unusable in some repeat ({device.instead})", (
                    "check the driver; run again"
                )
    return None


def open_energy(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt joules that are hardly known: the interval is then wide as well."""
    shares = [share for run in system.measured if (share := energy.open_percent(run).value) is not None]
    if not shares or max(shares) <= MAX_OPEN * PERCENT:
        return None
    text = f"sampling leaves +/- {max(shares):.0f} % of the energy open"
    return text, "lengthen protocol.window_s, or raise protocol.sample_hz"


def idle_not_idle(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt an idle power that cannot be taken off; net energy is then missing."""
    remedy = "free the GPU, raise the load, or lengthen protocol.idle_s"
    for run in system.measured:
        if (why := idle.why_no_idle(run)) is not None:
            return f"{why}: net energy is unknown", remedy
    for run in system.runs:
        if (why := idle.busy(run, ("cold",))) is not None:
            return why, remedy
    return None


def phase_locked(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt polled power, and a counter fed by the same sensor, where batches keep in step with it."""
    found: list[PhaseLock] = [lock for run in system.measured if (lock := phase_lock(run)) is not None]
    if not found:
        return None
    worst = max(found, key=lambda lock: lock.concentration)
    text = (
        f"batches start in step with the power sensor, which sees {worst.share_observed * PERCENT:.0f} % of "
        f"every {to_ms(worst.period_s):.0f} ms (concentration {worst.concentration:.2f} over {worst.n} "
        "batches): power may be far too high or too low"
    )
    return text, "jitter the arrivals (poisson), or change the batching delay to no multiple of that period"


def steps_locked(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt the same where the decode steps may keep in step with the sensor."""
    for run in system.measured:
        if (lock := step_lock(run)) is not None:
            text = (
                f"a decode step takes {to_ms(lock.step_s):.3g} ms and the power sensor sees "
                f"{lock.share_observed * PERCENT:.0f} % of every {to_ms(lock.period_s):.3g} ms: it may see "
                "the same moment of every step, and power be far too high or too low"
            )
            return text, "vary the lengths of the answers, or compare with another batch size"
    return None


def part_time_sensor(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt energy on a GPU whose power sensor sees a part of the time, from the counter as well."""
    for run in system.measured:
        share = share_observed(run)
        came_from = {device.source for device in energy.devices_of(run)}
        if share is None or not came_from & {"counter", "instant_poll"}:
            continue
        sees = f"the power sensor sees {share * PERCENT:.0f} % of the time"
        if "instant_poll" in came_from:
            text = f"{sees}: the rest is bounded by the idle power and the power limit only"
            return text, "use a driver that offers the energy counter or the mean of a second (field 185)"
        text = (
            f"{sees}; whether the energy counter integrates what lies between its looks is documented "
            "nowhere: the stated interval holds if it does"
        )
        return text, "vary the load, and repeat with another rate; a meter in the supply line would tell"
    return None


def mixed_sources(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt energy whose repeats were metered differently: they then differ by more than the system does."""
    found = energy.sources(system)
    if len(found) < 2:
        return None
    text = f"the energy of the repeats comes from different meters ({', '.join(sorted(found))})"
    return text, "find out why the better one failed, and repeat the experiment"


def throttling_unknown(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt clocks that nobody watched: neither a counter nor the mask of reasons could be read."""
    for run in system.runs:
        if lacking := unknown_throttling(run):
            why = f"{', '.join(lacking)}: {next(iter(lacking.values()))}"
            text = f"whether the GPU throttled is not known ({why})"
            return text, "use a newer driver; compare the clocks of the windows"
    return None


def module_energy(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt energy that is not the GPU's alone."""
    if not any(device.scope == "module" for run in system.measured for device in energy.devices_of(run)):
        return None
    text = "the energy counter covers the whole module (CPU and GPU), not the GPU alone"
    return text, "compare it with results of the same kind of module only"


def hidden_process(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt that nobody else was on a GPU whose list of processes does not know this run's id."""
    pids = [pid for run in system.runs for pid in hidden_pids(run)]
    remedy = "start the container with the host's process ids (--pid=host)"
    if not pids:
        if not any(is_hidden(run) and run.meta.device == "cuda" for run in system.runs):
            return None
        text = "this run computed on the GPU and no process list shows it: other processes cannot be seen"
        return text, remedy
    listed = ", ".join(map(str, dict.fromkeys(pids)))
    text = f"this run's own process is not among those on the GPU (pids {listed}): the container hides its id"
    return text, remedy


def corrected_errors(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt a GPU whose memory had to be corrected."""
    n = sum(ecc_delta(facts, "corrected") for run in system.runs for facts in every_gpu(run))
    if n == 0:
        return None
    return f"the GPU's memory corrected {n} errors during the runs", "watch that GPU; repeat on another one"


def clock_step(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt times of day; durations come from the monotonic clock and do not suffer."""
    steps_s = [abs(run.meta.facts.get("clock_step_s") or 0.0) for run in system.runs]
    if not steps_s or max(steps_s) <= MAX_CLOCK_STEP_S:
        return None
    text = f"the wall clock was set by {max(steps_s) * MS_PER_S:.0f} ms while it ran"
    return text, "durations are not affected; do not match this run with other logs by time of day"


METERING: dict[str, Condition] = {
    "sampler gaps": sampler_gaps,
    "counter disagrees": counter_disagrees,
    "counter discarded": counter_discarded,
    "energy left open": open_energy,
    "idle not idle": idle_not_idle,
    "phase lock": phase_locked,
    "step lock": steps_locked,
    "part-time sensor": part_time_sensor,
    "mixed energy sources": mixed_sources,
    "throttling unknown": throttling_unknown,
    "module energy": module_energy,
    "hidden process": hidden_process,
    "corrected memory errors": corrected_errors,
    "clock step": clock_step,
}
