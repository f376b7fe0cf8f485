"""From one figure per repeat to one value with its interval and an honest note.

Repeats are independent runs, each in a process of its own, so the interval comes from them. A figure
that one repeat could not give is missing as a whole: an average over the repeats that happened to work
would favour the system that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench.analysis.latency import Read, growth
from bench.analysis.numbers import shown
from bench.analysis.recorded import column, is_ok
from bench.analysis.stats import Array, mean_interval, rate_interval
from bench.analysis.system import Reading, SystemRuns, missing
from bench.records import Run, Value


def over_repeats(system: SystemRuns, read: Read) -> Value:
    """Return the mean over the repeats of what `read` gives for each, with its 95 % interval."""
    runs = system.measured
    if not runs:
        return missing(why_no_window(system))
    return _combined(runs, [read(run) for run in runs], _load(runs))


def latency_over_repeats(system: SystemRuns, read: Read) -> Value:
    """Like `over_repeats`, but a saturated system has no percentile: its latency only grows with time."""
    if saturated(system):
        rates = [run.meta.offered_rps for run in system.measured]
        at = f" at {rates[0]:.3g} requests/s" if rates[0] is not None else ""
        return missing(f"saturated{at}: the queue grew through the window, so a percentile has no meaning")
    return over_repeats(system, read)


def over_runs(system: SystemRuns, read: Read) -> Value:
    """Return the mean over every completed run, the saturated one included (load time)."""
    if not system.runs:
        return missing(why_no_window(system))
    return _combined(system.runs, [read(run) for run in system.runs], "")


def highest(system: SystemRuns, read: Read) -> Value:
    """Return the highest over every completed run: for sizes that do not vary, and for peaks."""
    if not system.runs:
        return missing(why_no_window(system))
    readings = [read(run) for run in system.runs]
    if (lack := _lack(readings)) is not None:
        return lack
    value = max(reading.value for reading in readings if reading.value is not None)
    return Value(value=value, source=system.runs[0].meta.source, note=origin(system.runs[0]))


def offline_rps(system: SystemRuns) -> Value:
    """Return the saturated throughput in requests/s: answered after the warm-up ÷ the time they took.

    Its interval comes from blocks within the one run, and so knows nothing of the variation between
    processes.
    """
    return _offline(
        system, lambda run, counted: np.ones(int(counted.sum())), "offline (saturated) throughput"
    )


def offline_tokens_per_s(system: SystemRuns) -> Value:
    """Return the saturated throughput in output tokens/s."""
    return _offline(
        system,
        lambda run, counted: column(run.requests, "output_tokens")[counted],
        "offline (saturated)",
    )


def saturated(system: SystemRuns) -> bool:
    """Say whether the queue grew through the window in most repeats."""
    runs = system.measured
    return bool(runs) and 2 * sum(growth(run).saturated for run in runs) > len(runs)


def why_no_window(system: SystemRuns) -> str:
    """Return why no repeat can be used: the first error, or that none was made."""
    errors = [run.meta.error for run in system.windows if run.meta.error]
    if errors:
        return f"no repeat was completed: {errors[0]}"
    return "no repeat was completed" if system.windows else "no run at the common rate was made"


def origin(run: Run) -> str:
    """Return where the figures come from, in words."""
    if run.meta.source == "simulated":
        return "simulated on a modelled GPU"
    if run.meta.source == "replayed":
        return "replayed from a recording"
    if run.meta.device == "cpu":
        return "measured on CPU"
    return f"measured on {run.meta.facts.get('gpu_name') or 'an unnamed GPU'}"


def _combined(runs: Sequence[Run], readings: list[Reading], load: str) -> Value:
    if (lack := _lack(readings)) is not None:
        return lack
    estimate = mean_interval([reading.value for reading in readings if reading.value is not None])
    hows = list(dict.fromkeys(reading.how for reading in readings if reading.how))
    counted = [reading.n for reading in readings if reading.n is not None]
    parts = [origin(runs[0]), load, " / ".join(hows)]
    if counted:
        parts.append(f"n = {sum(counted)} in {_repeats(len(runs))}")
    else:
        parts.append(_repeats(len(runs)))
    if estimate.low is None:
        parts.append("one run, so no interval")
    else:
        parts.append(f"95 % interval {shown(estimate.low)} to {shown(estimate.high)}")
    return Value(
        value=estimate.mean,
        source=runs[0].meta.source,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        note="; ".join(part for part in parts if part),
    )


def _lack(readings: list[Reading]) -> Value | None:
    """Return the missing value when any reading is missing."""
    lacking = [reading for reading in readings if reading.value is None]
    if not lacking:
        return None
    where = f" (in {len(lacking)} of {len(readings)} runs)" if 1 < len(readings) != len(lacking) else ""
    return missing(lacking[0].why + where)


def _offline(system: SystemRuns, amount: Callable[[Run, Array], Array], what: str) -> Value:
    run = system.offline
    if run is None:
        return missing("no saturated run was made, so capacity is unknown")
    if run.meta.status != "complete":
        return missing(f"the saturated run did not complete: {run.meta.error or run.meta.status}")
    started_s, ended_s = run.meta.facts.get("offline_started_s"), run.meta.facts.get("offline_ended_s")
    if started_s is None or ended_s is None:
        return missing("the saturated run did not record when it started and ended")
    done_s = column(run.requests, "done_s")
    # What was answered by the start is warm-up, and so is the batch whose end is the start.
    counted = is_ok(run.requests) & (done_s > started_s) & (done_s <= ended_s)
    if not counted.any():
        return missing("the saturated run answered no request")
    # Requests that end together are one piece of work: a batch is either in a block or not.
    ends_s, piece = np.unique(done_s[counted], return_inverse=True)
    estimate = rate_interval(ends_s, np.bincount(piece, weights=amount(run, counted)), started_s)
    within = "one run, so no interval"
    if estimate.low is not None:
        ends = f"{shown(estimate.low)} to {shown(estimate.high)}"
        within = f"95 % interval {ends} from {estimate.n} blocks of one run"
    span_s = float(ends_s[-1]) - started_s
    return Value(
        value=estimate.mean,
        source=run.meta.source,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        note=f"{origin(run)}; {what}; n = {int(counted.sum())} in {span_s:.3g} s; {within}",
    )


def _load(runs: Sequence[Run]) -> str:
    rate = runs[0].meta.offered_rps
    return "" if rate is None else f"{rate:.3g} requests/s offered"


def _repeats(n: int) -> str:
    return f"{n} repeat{'s' if n > 1 else ''}"
