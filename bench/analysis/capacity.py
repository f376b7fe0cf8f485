"""The capacity search: the highest steady rate at which the objectives hold and the queue is stable.

A state machine over the probes seen so far, without time and without traffic. It starts below the saturated
throughput, and follows the falling curve through all that was seen (see `search`) to where it meets the
objective. While it is not yet near, every rate gets the same draw of requests, so that what differs between
two probes is the rate; once near, each probe is another draw, until the interval is narrow enough.

Bisection asks a probe for a yes or no, which near the boundary is a coin's, and follows it for good. Here
every probe near the boundary adds to one estimate, and none is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from bench.analysis import search
from bench.analysis.answers import answered, highest_stable
from bench.analysis.boundary import boundary, one_draw, points_of, reach
from bench.analysis.processes import widened
from bench.analysis.stats import minimum_count
from bench.analysis.summary import offline_rps, origin
from bench.analysis.system import SystemRuns, missing
from bench.analysis.trials import Binding, Trial, trial
from bench.config import Objectives
from bench.records import Run, Source, Value

START = 0.75
"""The first probe's share of the saturated throughput."""
FACTOR = 2.0
"""The most that a rate is raised or lowered at once …"""
LEAST_FACTOR = 1.08
"""… and the least, while nothing has failed or nothing has passed."""
UNFAILED = 2
"""So many probes may pass without any that fails; from then on the steps grow."""
LOWEST = 1.0 / 64.0
"""The search gives up below this share of the saturated throughput …"""
MIN_REQUESTS = 20
"""… where a probe would hold fewer requests than this …"""
FLAT = 0.05
"""… and where half the rate makes less than this difference: the latency is not that of waiting."""
SAME = 0.01
"""Rates that differ by less are the same: the same draw would only show the same again."""
NOISE = 3.0
"""A latency that falls with the rate by more standard errors than this does so in truth."""
AGAIN = 2
"""So many times a probe is made again whose client was INVALID; then its rate cannot be offered here."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How far to search; `guess_rps` is the saturated throughput, or the best there is in its place.

    `probe_s` is how long a probe's window is meant to be; without it that of the longest one stands in.
    """

    guess_rps: float
    tolerance: float = 0.05
    max_probes: int = 24
    probe_s: float | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """The next probe: its rate, and which draw of the requests it gets (from 1)."""

    rate_rps: float
    repeat: int


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What the probes say together.

    `binds` is what a higher rate would break. `stable_rps` is the highest rate at which the queue was stable,
    whatever the objectives. `highest_passing_rps` and `lowest_failing_rps` are rates that were probed; with
    noise the former may lie above the latter. `monotone` says whether latency rose with the rate but for
    noise, `settled` whether the interval is as narrow as asked. `seconds` are those of all windows, `curve`
    are all probes by their rate, also the `invalid` many whose client was INVALID, which count for nothing.
    """

    capacity: Value
    binds: Binding | None
    stable_rps: Value
    monotone: bool
    highest_passing_rps: float | None
    lowest_failing_rps: float | None
    settled: bool
    seconds: float
    curve: tuple[Trial, ...]
    invalid: int = 0


def next_probe(trials: Sequence[Trial], settings: Settings) -> Ask | None:
    """Return what to probe next; None when the answer is good enough, cannot be had, or takes too long.

    A probe whose client was INVALID is as good as not made, so the same is asked for again.
    """
    if len(trials) >= settings.max_probes:
        return None
    ask = _next([t for t in trials if t.counts], settings)
    if ask is None:
        return None
    failed = [t for t in trials if not t.counts and _is_same(t.rate_rps, ask.rate_rps)]
    return ask if len(failed) <= AGAIN else None


def _next(trials: Sequence[Trial], settings: Settings) -> Ask | None:
    """Return what to probe next by the probes that count."""
    if not trials:
        return Ask(rate_rps=START * settings.guess_rps, repeat=1)
    found = boundary(trials, settings.guess_rps, settings.tolerance)
    if found is not None and found.settled:
        return None
    another = 1 + max(t.repeat for t in trials)
    rate_rps = _lower(trials, settings) if found is None else _within(found.target_rps, trials)
    if rate_rps is None:
        # One draw of the requests may be an unlucky one; two are not.
        return Ask(rate_rps=min(t.rate_rps for t in trials), repeat=another) if another == 2 else None
    near = any(search.is_near(point, rate_rps) for point in points_of(trials)) and not one_draw(trials)
    again = any(_is_same(t.rate_rps, rate_rps) for t in trials)
    return Ask(rate_rps=rate_rps, repeat=another if near or again else 1)


def _is_same(one_rps: float, other_rps: float) -> bool:
    return abs(one_rps / other_rps - 1.0) < SAME


def conclude(trials: Sequence[Trial], settings: Settings, *, source: Source = "measured") -> Conclusion:
    """Return the answer that `trials` hold, with all of them; without an answer its reason."""
    valid = [t for t in trials if t.counts]
    found = boundary(valid, settings.guess_rps, settings.tolerance)
    return Conclusion(
        capacity=answered(trials, found, source, settings.tolerance),
        binds=None if found is None else found.binds,
        stable_rps=highest_stable(trials, source),
        monotone=_monotone(valid),
        highest_passing_rps=max((t.rate_rps for t in valid if t.passed), default=None),
        lowest_failing_rps=min((t.rate_rps for t in valid if not t.passed), default=None),
        settled=found is not None and found.settled,
        seconds=math.fsum(t.seconds for t in trials),
        curve=tuple(sorted(trials, key=lambda t: (t.rate_rps, t.repeat))),
        invalid=len(trials) - len(valid),
    )


def conclusion_of(run: Run, objectives: Objectives) -> Conclusion:
    """Return the conclusion of a recorded search under `objectives`.

    `facts["guess_rps"]` is the guess that it began with; without it the highest rate served stands in.
    """
    trials = [trial(run, probe, objectives) for probe in run.meta.probes]
    written = run.meta.config.get("capacity", {})
    served_rps = max((t.served_rps for t in trials), default=0.0)
    settings = Settings(
        guess_rps=float(run.meta.facts.get("guess_rps") or served_rps or 1.0),
        tolerance=written.get("tolerance", 0.05),
        max_probes=written.get("max_probes", 24),
    )
    return conclude(trials, settings, source=run.meta.source)


def _within(target_rps: float, trials: Sequence[Trial]) -> float:
    """Return the target, kept from leaping beyond what was tried, and inside of what is decided.

    Where probe after probe passes the guess was too low, and steps by it are too short.
    """
    tried = [t.rate_rps for t in trials]
    if len(trials) > UNFAILED and all(t.passed for t in trials):
        target_rps = max(target_rps, max(tried) * LEAST_FACTOR ** (len(trials) - UNFAILED))
    rate_rps = min(max(target_rps, min(tried) / FACTOR), max(tried) * FACTOR)
    passed = max((t.rate_rps for t in trials if t.passed), default=0.0)
    overloaded = min((t.rate_rps for t in trials if not t.stable), default=math.inf)
    if passed < overloaded < rate_rps:
        return (passed + overloaded) / 2.0
    return rate_rps


def _lower(trials: Sequence[Trial], settings: Settings) -> float | None:
    """Return a rate at which the objectives may hold where they never did; None where it is hopeless."""
    ordered = sorted(trials, key=lambda t: t.rate_rps)
    lowest = ordered[0]
    rate_rps = lowest.rate_rps
    rooms = [(t.rate_rps, t.room) for t in ordered if t.stable and t.room is not None]
    most = max((room for at_rps, room in rooms if at_rps < 1.5 * rooms[0][0]), default=0.0)
    above = next((room for at_rps, room in rooms if at_rps > 1.5 * rooms[0][0]), None)
    if above is not None and most < (1.0 + FLAT) * above:
        return None
    wanted_rps = 0.0
    if not lowest.stable:
        wanted_rps = START * lowest.served_rps
    elif lowest.room is not None:
        most_rps = reach(trials, settings.guess_rps)
        wanted_rps = most_rps - (most_rps - rate_rps) / lowest.room
    lower_rps = min(max(wanted_rps, rate_rps / FACTOR), rate_rps / LEAST_FACTOR)
    window_s = settings.probe_s or max(t.seconds for t in trials)
    enough = lower_rps * window_s >= MIN_REQUESTS
    return lower_rps if enough and lower_rps >= LOWEST * settings.guess_rps else None


def _monotone(trials: Sequence[Trial]) -> bool:
    points = points_of(trials)
    if len(points) < 2:
        return True
    noise = max([point.error or 0.0 for point in points] + [FLAT])
    return search.rising_by(points) <= NOISE * noise


def searched(system: SystemRuns, objectives: Objectives) -> Conclusion | None:
    """Return what the system's capacity search found; None where none was made, or none came to its end."""
    run = system.capacity
    if run is None or run.meta.status != "complete" or not run.meta.probes:
        return None
    return conclusion_of(run, objectives)


def kind(system: SystemRuns) -> Literal["capacity", "saturated"] | None:
    """Return which of two things the row `throughput` is; None where there is none.

    They are not comparable: a capacity holds the objectives, the saturated throughput knows of none.
    """
    if system.capacity is not None or _is_asked_for(system):
        run = system.capacity
        complete = run is not None and run.meta.status == "complete" and bool(run.meta.probes)
        return "capacity" if complete else None
    return "saturated" if offline_rps(system).value is not None else None


def _is_asked_for(system: SystemRuns) -> bool:
    """Say whether the experiment is one whose capacities are searched; older ones knew of no search."""
    runs = [run for run in (system.offline, *system.windows) if run is not None]
    return any(run.meta.config.get("capacity", {}).get("search", False) for run in runs)


def capacity(system: SystemRuns, objectives: Objectives) -> Value:
    """Return the highest steady rate at which `objectives` hold and the queue is stable."""
    run, found = system.capacity, searched(system, objectives)
    if run is None:
        return missing(f"no capacity search was made{', though asked for' if _is_asked_for(system) else ''}")
    if found is None:
        return missing(f"the capacity search did not complete: {run.meta.error or run.meta.status}")
    limits = [f"at most {objectives.max_error_rate:.3g} of the requests fail"]
    if objectives.p95_latency_ms is not None:
        limits.insert(0, f"p95 latency <= {objectives.p95_latency_ms:g} ms")
    return _from(run, found.capacity, f"; objectives: {', '.join(limits)}")


def stable_rps(system: SystemRuns, objectives: Objectives) -> Value:
    """Return the highest rate probed at which the queue was stable, whatever the objectives."""
    run, found = system.capacity, searched(system, objectives)
    if run is None or found is None:
        return missing(capacity(system, objectives).note)
    return _from(run, found.stable_rps)


def throughput(system: SystemRuns, objectives: Objectives) -> Value:
    """Return the capacity; where no search was asked for, the saturated throughput, which says so.

    A search that failed, or found no rate at which the objectives hold, leaves no throughput to speak of: the
    saturated one would be another thing under the same name. Its interval has what processes differ by, where
    the repeats show it.
    """
    if system.capacity is None and not _is_asked_for(system):
        return widened(system, offline_rps(system))
    return widened(system, capacity(system, objectives))


def baseline_rate(system: SystemRuns, objectives: Objectives) -> Value:
    """Return the rate of which a common load is a fraction: the first that there is of three.

    The capacity; where the objectives hold at no rate, the highest stable one; the saturated throughput.
    """
    found = [read(system, objectives) for read in (capacity, stable_rps)]
    return next((value for value in found if value.value is not None), offline_rps(system))


def doubtful_search(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt a search that ended unsure, whose curve is not one, or whose client failed."""
    run = system.capacity
    if run is None:
        return None
    found = searched(system, msgspec.convert(run.meta.config.get("objectives", {}), Objectives))
    if found is None or not found.curve:
        return None
    doubts = [doubt for doubt in (_invalid_client(found), _unsure(found)) if doubt is not None]
    return (
        ("; ".join(text for text, _ in doubts), "; ".join(remedy for _, remedy in doubts)) if doubts else None
    )


def _invalid_client(found: Conclusion) -> tuple[str, str] | None:
    invalid = [t for t in found.curve if not t.counts]
    if not invalid:
        return None
    text = f"{len(invalid)} of {len(found.curve)} probes of the capacity search had an INVALID client"
    return f"{text} and do not count ({invalid[0].faults})", "free CPU cores for the client"


def _unsure(found: Conclusion) -> tuple[str, str] | None:
    if not found.monotone:
        text = "latency fell as the rate rose in the capacity search: something else than the rate changed"
        return text, "look at the curve; lengthen protocol.warmup_s; quiet the machine"
    if found.capacity.value is not None and not found.settled:
        text = f"the capacity search ended unsure after {len(found.curve)} probes"
        return text, "lengthen capacity.probe_s, or raise capacity.max_probes"
    fewest = min((t.n for t in found.curve if t.counts and t.stable), default=minimum_count(0.95))
    if fewest < minimum_count(0.95):
        text = f"a probe of the capacity search held only {fewest} requests, too few for p95"
        return text, f"make capacity.probe_s {minimum_count(0.95) / max(fewest, 1):.1f} times as long"
    return None


def _from(run: Run, value: Value, more: str = "") -> Value:
    if value.value is None:
        return value
    return msgspec.structs.replace(value, note=f"{origin(run)}; {value.note}{more}")
