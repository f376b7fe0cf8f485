"""Every reason to distrust a system's result, each with what would remove it.

`DOUBTS` is the whole list: one function each, from the recorded runs and the metrics to a doubt or
nothing. A doubt never changes a number; it stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from bench.analysis import comparability, latency
from bench.analysis.conditions import CONDITIONS
from bench.analysis.early_stopping import least_requests
from bench.analysis.longer import DECIDING, longer_windows, window_needed_s
from bench.analysis.percentiles import correlation_of
from bench.analysis.processes import spread
from bench.analysis.recorded import scored
from bench.analysis.stats import MAX_REPEATS, minimum_count, repeats_needed
from bench.analysis.summary import below_offered_rps, is_overloaded
from bench.analysis.system import Doubt, SystemRuns
from bench.analysis.validity import judge_device, judge_validity, worst_validity
from bench.records import Run, Value
from bench.units import BYTES_PER_GB, PERCENT

Values = Mapping[str, Value]
Find = Callable[[SystemRuns, Values], Doubt | None]

MAX_HALF_WIDTH = 0.10
MIN_REPEATS = 3
SMALL_MODEL_BYTES = 0.5 * BYTES_PER_GB
BUSY_SHARE = 0.5
"""Of the cores: beyond it a thread that wakes, for an arrival or a token, finds its core more often taken."""
ONE_SATURATED_RUN = "one saturated run"
"""The key of the doubt about throughput and cost, on which a guardrail depends."""
PERCENTILES = {"p99": 0.99, "p95": 0.95, "p90": 0.90, "p50": 0.50}


def find_doubts(system: SystemRuns, values: Values) -> tuple[Doubt, ...]:
    """Return every doubt about a system's result, those recorded during its runs first."""
    texts = dict.fromkeys(text for run in [*system.runs, *_failed(system)] for text in run.meta.doubts)
    recorded = [_doubt(system, "recorded", text, "see the run's folder") for text in texts]
    found = [find(system, values) for find in DOUBTS.values()]
    return tuple(recorded + [doubt for doubt in found if doubt is not None])


def incomplete(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt a result from which jobs are absent: the worst ones may be those that died."""
    texts = []
    if system.offline is not None and system.offline.meta.status != "complete":
        texts.append(f"the saturated run did not complete: {_ending(system.offline)}")
    if failed := _failed(system):
        count = f"{len(failed)} of {len(system.windows)} repeats did not complete"
        texts.append(f"{count}: {_ending(failed[0])}")
    return _doubt(system, "incomplete", "; ".join(texts), "run the failed jobs again") if texts else None


def mixed_runs(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt a result whose runs were made under different circumstances, as on two machines."""
    text = comparability.mixed_runs(system)
    return (
        None if text is None else _doubt(system, "mixed runs", text, "repeat the experiment on one machine")
    )


def one_saturated_run(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt throughput and cost: one process alone says nothing about how processes vary."""
    throughput = values.get("throughput_requests_per_sec")
    if throughput is None or throughput.value is None:
        return None
    searched = system.capacity is not None and system.capacity.meta.status == "complete"
    what = "search for capacity" if searched else "saturated run"
    text = (
        f"throughput and cost rest on one {what} each, whose interval knows nothing of the variation "
        "between processes"
    )
    if spread(system) is not None:
        text += " but what the time per token of the repeats shows"
    return _doubt(system, ONE_SATURATED_RUN, text, "repeat the experiment")


def few_requests(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt percentiles with fewer than ten requests beyond them, or of too few independent requests."""
    if not system.measured:
        return None
    n = min(scored(run).n for run in system.measured)
    # Of what is not resolved there is a doubt already.
    shares = {name: share for name, share in PERCENTILES.items() if not _unresolved(name, values)}
    thin = [name for name, share in shares.items() if n < minimum_count(share)]
    if not thin:
        return _dependent_requests(system, shares)
    need = minimum_count(PERCENTILES[thin[0]])
    text = f"{n} requests per repeat are too few for {', '.join(thin)} ({thin[0]} needs {need})"
    return _doubt(system, "few requests", text, _to_resolve(system, thin))


def _dependent_requests(system: SystemRuns, shares: Mapping[str, float]) -> Doubt | None:
    """Doubt percentiles whose many requests are worth few: neighbours wait together."""
    worth = correlation_of(system)
    thin = [name for name, share in shares.items() if worth.effective < least_requests(share)]
    if not thin:
        return None
    need = least_requests(PERCENTILES[thin[0]])
    text = (
        f"the {worth.n} requests are worth {worth.effective:.0f} independent ones, too few for "
        f"{', '.join(thin)} ({thin[0]} needs {need})"
    )
    return _doubt(system, "few requests", text, _to_resolve(system, thin))


def not_resolved(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt percentiles whose windows are too short for the queue's memory: no interval can be stated."""
    thin = {name: why for name in reversed(PERCENTILES) if (why := _unresolved(name, values))}
    if not thin:
        return None
    why = next((why for name, why in thin.items() if name in DECIDING), next(iter(thin.values())))
    text = f"{', '.join(thin)} latency is not resolved: {why}"
    return _doubt(system, "not resolved", text, _to_resolve(system, thin))


def _unresolved(name: str, values: Values) -> str:
    value = values.get(f"{name}_latency_ms")
    return "" if value is None else value.unresolved


def _to_resolve(system: SystemRuns, thin: Collection[str]) -> str:
    """Return the remedy: the window by all criteria, where a percentile that decides needs one."""
    window_s = window_needed_s(system)
    if window_s is None and DECIDING.keys().isdisjoint(thin):
        return f"read {', '.join(thin)} as indicative"
    return longer_windows(window_s)


def few_repeats(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt a result with too few repeats for an interval worth the name."""
    n = len(system.measured)
    if n == 0 or n >= MIN_REPEATS:
        return None
    what = "one repeat gives no interval" if n == 1 else f"{n} repeats give a very wide interval"
    return _doubt(system, "few repeats", what, "set protocol.repeats to 5")


def wide_interval(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt a p95 latency that varies much between repeats."""
    p95 = values.get("p95_latency_ms")
    if p95 is None or not p95.value or p95.low is None or p95.high is None:
        return None
    repeats = len(system.measured)
    # The interval is symmetric on the logarithm, and its repeats narrow it there.
    half = math.log(p95.high / p95.low) / 2.0 if p95.low > 0 else (p95.high - p95.low) / 2.0 / p95.value
    if half <= MAX_HALF_WIDTH or repeats == 1:
        return None
    needed = repeats_needed(repeats, half, MAX_HALF_WIDTH, MAX_REPEATS, p95.confidence)
    text = f"the 95 % interval of p95 latency is +/- {half * PERCENT:.0f} % wide"
    remedy = f"about {needed} repeats instead of {repeats} bring it to 10 %"
    if needed is None:
        remedy = (
            f"not even {MAX_REPEATS} repeats bring it to 10 %: lengthen protocol.window_s, quiet the machine"
        )
    return _doubt(system, "wide interval", text, remedy)


def client(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt figures to which the harness's own shortcomings contribute."""
    worst = worst_validity(system.measured, judge_validity)
    if worst is None or worst.level == "VALID":
        return None
    text = f"the client is {worst.level} in its worst repeat: {worst.reasons}"
    return _doubt(system, "client", text, worst.recommendation)


def device(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt figures of a GPU that throttled, was changed, shared or faulty while it was measured."""
    worst = worst_validity(system.runs, judge_device)
    if worst is None or worst.level == "VALID":
        return None
    text = f"the device is {worst.level} in its worst run: {worst.reasons}"
    return _doubt(system, "device", text, worst.recommendation)


def saturation(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt a latency measured while more arrived than the system can answer."""
    remedy = "lower the load, or read throughput instead of latency"
    grown = [latency.growth(run) for run in system.measured if is_overloaded(run)]
    if not grown:
        capacity_rps = below_offered_rps(system)
        if capacity_rps is None:
            return None
        text = f"more requests arrive than the {capacity_rps:.3g}/s that it answers when saturated"
        return _doubt(system, "saturation", text, remedy)
    worst = max(grown, key=lambda g: g.backlog)
    text = (
        f"the queue grew through the window in {len(grown)} of {len(system.measured)} repeats "
        f"({worst.why}): arrivals exceed capacity"
    )
    return _doubt(system, "saturation", text, remedy)


def dirty_checkout(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt a result that no commit can reproduce."""
    if not any(run.meta.provenance.get("dirty") for run in system.runs):
        return None
    text = "the code differed from its commit, so nobody else can repeat this run"
    return _doubt(system, "dirty checkout", text, "commit, then run again")


def random_weights(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt anything about outputs when the weights are random."""
    if not any(run.meta.config.get("model", {}).get("weights") == "random" for run in system.runs):
        return None
    text = "the weights are random: speed, memory and power are real, output quality has no meaning"
    return _doubt(system, "random weights", text, "measure quality with the pretrained weights")


def small_model(system: SystemRuns, values: Values) -> Doubt | None:
    """Doubt conclusions for large models from a small one."""
    sizes = [size for run in system.runs if (size := run.meta.facts.get("weights_bytes")) is not None]
    if not sizes or max(sizes) >= SMALL_MODEL_BYTES:
        return None
    limit_gb = SMALL_MODEL_BYTES / BYTES_PER_GB
    text = f"the model has less than {limit_gb:g} GB of weights: overheads rule, not bandwidth"
    return _doubt(system, "small model", text, "do not carry the result over to a larger model; measure that")


def busy_machine(name: str, provenance: Mapping[str, Any]) -> Doubt | None:
    """Doubt the result `name` where others worked on the machine as the run began.

    The load average is the whole machine's, and is held against all its cores.
    """
    load, cores = provenance.get("load_average_1min"), provenance.get("cpu_count")
    if load is None or not cores or load <= BUSY_SHARE * cores:
        return None
    text = (
        f"{name}: the machine was busy in the minute before the run: load average {load:.1f} on {cores} cores"
    )
    remedy = f"let nothing else run, and begin when `uptime` says less than {BUSY_SHARE * cores:g}"
    return Doubt(key="busy machine", text=text, remedy=remedy)


def _about_conditions(key: str) -> Find:
    """Return the doubt that a condition of the runs raises."""

    def find(system: SystemRuns, values: Values) -> Doubt | None:
        found = CONDITIONS[key](system)
        return None if found is None else _doubt(system, key, *found)

    return find


DOUBTS: dict[str, Find] = {
    "incomplete": incomplete,
    "mixed runs": mixed_runs,
    "saturation": saturation,
    "few requests": few_requests,
    "not resolved": not_resolved,
    "few repeats": few_repeats,
    "wide interval": wide_interval,
    ONE_SATURATED_RUN: one_saturated_run,
    "client": client,
    "device": device,
    "dirty checkout": dirty_checkout,
    "random weights": random_weights,
    "small model": small_model,
    **{key: _about_conditions(key) for key in CONDITIONS},
}


def _doubt(system: SystemRuns, key: str, text: str, remedy: str) -> Doubt:
    return Doubt(key=key, text=f"{system.name}: {text}", remedy=remedy)


def _ending(run: Run) -> str:
    """Return how a job that is not complete ended."""
    return run.meta.error or run.meta.status


def _failed(system: SystemRuns) -> list[Run]:
    return [run for run in system.windows if run.meta.status != "complete"]
