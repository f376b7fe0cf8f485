"""From one figure per repeat to one value with its interval and an honest note.

Repeats are independent runs, each in a process of its own, so the interval comes from them. A figure
that one repeat could not give is missing as a whole: an average over the repeats that happened to work
would favour the system that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from bench.analysis.latency import Read, growth
from bench.analysis.numbers import shown
from bench.analysis.proportions import wilson
from bench.analysis.recorded import column, is_ok
from bench.analysis.stats import (
    CONFIDENCE,
    Array,
    Estimate,
    level_interval,
    rate_dispersion,
    rate_interval,
)
from bench.analysis.system import Reading, SystemRuns, missing
from bench.records import Run, Value

ONE_RUN = "one run, so no interval"


Interval = Callable[[Sequence[Reading], float], Estimate]
"""How readings and a confidence become a mean with its interval."""


def levels(readings: Sequence[Reading], confidence: float) -> Estimate:
    """Return the mean of readings of a level, wider by what their meters leave open."""
    return _widened(level_interval(_figures(readings), confidence), readings)


def shares(readings: Sequence[Reading], confidence: float) -> Estimate:
    """Return the mean of shares of `n` requests each, within 0 and 1.

    Its interval covers that of all their requests (Wilson): repeats without a failure show no zero.
    """
    found = level_interval(_figures(readings), confidence)
    if found.low is None or found.high is None:
        return found
    counts = [reading.n or 0 for reading in readings]
    counted = sum(round(x * n) for x, n in zip(_figures(readings), counts, strict=True))
    pooled = wilson(counted, sum(counts), confidence)
    assert pooled.low is not None
    assert pooled.high is not None
    return Estimate(found.mean, min(found.low, pooled.low), min(1.0, max(found.high, pooled.high)), found.n)


def over_repeats(
    system: SystemRuns, read: Read, *, unresolved: str = "", interval: Interval = levels
) -> Value:
    """Return the mean over the repeats of what `read` gives for each, with its 95 % interval.

    Where every repeat was a look at the comparison, the interval is as much wider as all looks together need.
    With `unresolved`, the reason why it would be too narrow all the same, there is none.
    """
    runs = system.measured
    if not runs:
        return missing(why_no_window(system))
    readings = [read(run) for run in runs]
    if (lack := _lack(readings)) is not None:
        return lack
    return _combined(system, readings, unresolved, interval)


def shortest(system: SystemRuns, read: Read) -> Value:
    """Return the shortest of every completed run: a time that a first download may have lengthened once."""
    if not system.runs:
        return missing(why_no_window(system))
    readings = [read(run) for run in system.runs]
    if (lack := _lack(readings)) is not None:
        return lack
    value = min(reading.value for reading in readings if reading.value is not None)
    note = f"{origin(system.runs[0])}; shortest of {len(readings)} processes"
    return Value(value=value, source=system.runs[0].meta.source, note=note)


def highest(system: SystemRuns, read: Read) -> Value:
    """Return the highest over every completed run: for sizes that do not vary, and for peaks."""
    if not system.runs:
        return missing(why_no_window(system))
    readings = [read(run) for run in system.runs]
    if (lack := _lack(readings)) is not None:
        return lack
    best = max(readings, key=lambda reading: reading.value or 0.0)
    note = "; ".join(part for part in (origin(system.runs[0]), best.how) if part)
    return Value(value=best.value, source=system.runs[0].meta.source, note=note)


def offline_rps(system: SystemRuns) -> Value:
    """Return the saturated throughput in requests/s: answered after the warm-up ÷ the time they took.

    Its interval comes from blocks within the one run, and so knows nothing of the variation between
    processes.
    """
    return _offline(system, _each_one, "offline (saturated) throughput")


def saturated_dispersion(system: SystemRuns) -> float | None:
    """Return the index of dispersion of the saturated run's answers; None of fewer than five batches."""
    if system.offline is None:
        return None
    work = _saturated_work(system.offline, _each_one)
    return None if isinstance(work, str) else rate_dispersion(work.ends_s, work.amounts, work.started_s)


def offline_tokens_per_s(system: SystemRuns) -> Value:
    """Return the saturated throughput in output tokens/s."""
    return _offline(system, lambda run: column(run.requests, "output_tokens"), "offline (saturated)")


def why_saturated(system: SystemRuns) -> str | None:
    """Return why a system cannot carry the common rate; None where it can, or was not seen at it.

    Its queue grew through the window in most repeats, or so fast that the window was ended early. Or, which a
    short window cannot show, more is offered than it answers when saturated.
    """
    if queue_grew(system):
        return "the queue grew through the window"
    capacity_rps = below_offered_rps(system)
    return None if capacity_rps is None else f"it answers at most {capacity_rps:.3g} when saturated"


def queue_grew(system: SystemRuns) -> bool:
    """Say whether the queue grew in most repeats; not where there are none."""
    return 2 * sum(is_overloaded(run) for run in system.measured) > len(system.measured)


def is_overloaded(run: Run) -> bool:
    """Say whether a repeat's queue grew through its window, or so fast that the window was ended early."""
    return bool(run.meta.facts.get("stopped_early")) or growth(run).saturated


def below_offered_rps(system: SystemRuns) -> float | None:
    """Return the saturated throughput (its interval's upper end) where the repeats offered more; or None."""
    offered = [run.meta.offered_rps for run in system.measured if run.meta.offered_rps is not None]
    capacity = offline_rps(system)
    most_rps = capacity.value if capacity.high is None else capacity.high
    return most_rps if offered and most_rps is not None and most_rps < max(offered) else None


def why_no_window(system: SystemRuns) -> str:
    """Return why no repeat can be used: the first error, or that none was made."""
    errors = [run.meta.error for run in system.windows if run.meta.error]
    if errors:
        return f"no repeat was completed: {errors[0]}"
    if system.windows:
        return "no repeat was completed"
    why = "no run at the common rate was made"
    failed = system.jobs.offline_error
    return why if failed is None else f"{why}, for the saturated run failed: {failed}"


def origin(run: Run) -> str:
    """Return where the figures come from, in words."""
    if run.meta.source == "simulated":
        on_virtual_time = run.meta.facts.get("virtual_time", False)
        return "simulated on virtual time" if on_virtual_time else "simulated on a modelled GPU"
    if run.meta.source == "replayed":
        return "replayed from a recording"
    if run.meta.device == "cpu":
        return "measured on CPU"
    return f"measured on {run.meta.facts.get('gpu_name') or 'an unnamed GPU'}"


def _combined(system: SystemRuns, readings: list[Reading], unresolved: str, interval: Interval) -> Value:
    """Return the mean of readings of which none is missing."""
    runs, confidence = system.measured, system.confidence
    figures, estimate = _figures(readings), interval(readings, confidence)
    hows = list(dict.fromkeys(reading.how for reading in readings if reading.how))
    counted = [reading.n for reading in readings if reading.n is not None]
    count = f"n = {sum(counted)} in {_repeats(len(runs))}" if counted else _repeats(len(runs))
    parts = [
        origin(runs[0]),
        _load(runs),
        " / ".join(hows),
        count,
        _certainty(estimate, confidence, unresolved),
    ]
    return Value(
        value=estimate.mean,
        source=runs[0].meta.source,
        low=None if unresolved else estimate.low,
        high=None if unresolved else estimate.high,
        n=estimate.n,
        note="; ".join(part for part in parts if part),
        repeats={run.meta.repeat: figure for run, figure in zip(runs, figures, strict=True)},
        confidence=confidence,
        unresolved=unresolved,
    )


def _figures(readings: Sequence[Reading]) -> list[float]:
    return [reading.value for reading in readings if reading.value is not None]


def _certainty(estimate: Estimate, confidence: float, unresolved: str) -> str:
    """Return the interval in words, or why there is none."""
    if unresolved:
        return f"not resolved: {unresolved}"
    if estimate.low is None:
        return ONE_RUN
    looks = ", whichever repeat was the last" if confidence > CONFIDENCE else ""
    return f"95 % interval {shown(estimate.low)} to {shown(estimate.high)}{looks}"


def _widened(estimate: Estimate, readings: Sequence[Reading]) -> Estimate:
    """Return the interval of the repeats, wider by what their meters leave open of each on average.

    Added in full and not in quadrature: a meter that errs may err the same way in every repeat.
    """
    if estimate.low is None or estimate.high is None:
        return estimate
    below = [r.value - r.low for r in readings if r.value is not None and r.low is not None]
    above = [r.high - r.value for r in readings if r.value is not None and r.high is not None]
    low, high = sum(below) / len(readings), sum(above) / len(readings)
    return Estimate(estimate.mean, estimate.low - low, estimate.high + high, estimate.n)


def _lack(readings: list[Reading]) -> Value | None:
    """Return the missing value when any reading is missing."""
    lacking = [reading for reading in readings if reading.value is None]
    if not lacking:
        return None
    where = f" (in {len(lacking)} of {len(readings)} runs)" if 1 < len(readings) != len(lacking) else ""
    return missing(lacking[0].why + where)


def _offline(system: SystemRuns, amount: Callable[[Run], Array], what: str) -> Value:
    """Return the rate of `amount`, given per request, over the batches of the saturated run.

    A batch is one piece of work: it ends with its last answer, and counts if that lies after the start
    (the end of the last warm-up batch) and not after the end.
    """
    run = system.offline
    work = (
        "no saturated run was made, so capacity is unknown" if run is None else _saturated_work(run, amount)
    )
    if run is None or isinstance(work, str):
        return missing(str(work))
    n = int(work.answered.sum())
    estimate = rate_interval(work.ends_s, work.amounts, work.started_s)
    within = ONE_RUN
    if estimate.low is not None:
        ends = f"{shown(estimate.low)} to {shown(estimate.high)}"
        within = f"95 % interval {ends} from {estimate.n} blocks of one run"
    span_s = float(work.ends_s[-1]) - work.started_s
    return Value(
        value=estimate.mean,
        source=run.meta.source,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        note=f"{origin(run)}; {what}; n = {n} in {span_s:.3g} s; {within}",
    )


class _Work(msgspec.Struct, frozen=True):
    """The batches that count of a saturated run: when each ended, its amount and its answers."""

    started_s: float
    ends_s: Array
    amounts: Array
    answered: Array


def _saturated_work(run: Run, amount: Callable[[Run], Array]) -> _Work | str:
    """Return the batches that count of a saturated run, or why there are none."""
    if run.meta.status != "complete":
        return f"the saturated run did not complete: {run.meta.error or run.meta.status}"
    started_s, ended_s = run.meta.facts.get("offline_started_s"), run.meta.facts.get("offline_ended_s")
    if started_s is None or ended_s is None:
        return "the saturated run did not record when it started and ended"
    ends_s, (amounts, answered) = _batches(run, amount(run), np.ones(run.requests.num_rows))
    counted = (ends_s > started_s) & (ends_s <= ended_s)
    if answered[counted].sum() == 0:
        return "the saturated run answered no request"
    return _Work(started_s, ends_s[counted], amounts[counted], answered[counted])


def _batches(run: Run, *amounts: Array) -> tuple[Array, list[Array]]:
    """Return when each batch gave its last answer, ascending, and its answered requests' sums of `amounts`.

    A batch that failed took its time, too: it ends with nothing. Where requests join others that run,
    batches overlap, and what is answered at one moment is the piece of work.
    """
    batch, done_s = column(run.requests, "batch_id"), column(run.requests, "done_s")
    served = np.isfinite(batch) & np.isfinite(done_s)
    if _overlap(batch[served], column(run.requests, "admitted_s")[served], done_s[served]):
        batch = done_s
    ids, piece = np.unique(batch[served], return_inverse=True)
    ends_s = np.full(len(ids), -np.inf)
    np.maximum.at(ends_s, piece, done_s[served])
    order = np.argsort(ends_s)
    ok = is_ok(run.requests)[served]
    sums = [
        np.bincount(piece, weights=np.where(ok, amount[served], 0.0), minlength=len(ids))[order]
        for amount in amounts
    ]
    return ends_s[order], sums


def _overlap(batch: Array, admitted_s: Array, done_s: Array) -> bool:
    """Say whether a batch was admitted while another one ran."""
    order = np.argsort(admitted_s, kind="stable")
    changes = np.diff(batch[order]) != 0
    latest_s = np.maximum.accumulate(done_s[order])[:-1]
    return bool((changes & (admitted_s[order][1:] < latest_s)).any())


def _each_one(run: Run) -> Array:
    return np.ones(run.requests.num_rows)


def _load(runs: Sequence[Run]) -> str:
    rate = runs[0].meta.offered_rps
    return "" if rate is None else f"{rate:.3g} requests/s offered"


def _repeats(n: int) -> str:
    return f"{n} repeat{'s' if n > 1 else ''}"
