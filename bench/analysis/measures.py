"""How the functions of this package become measures: what the table of metrics asks of a system.

A measure has the system, the assumptions and the objectives, and returns a value with its interval, or why
there is none. Most functions read one run, or one job; these say over what they are taken.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.analysis import capacity, carbon, cost, energy, latency, percentiles, summary
from bench.analysis.recorded import engine_facts
from bench.analysis.system import Assumed, Reading, SystemRuns
from bench.config import Objectives
from bench.records import Run, Value

Measure = Callable[[SystemRuns, Assumed, Objectives], Value]


def of_window(read: latency.Read) -> Measure:
    """Read every repeat's window; the value is that over the repeats."""
    return lambda system, assumed, objectives: summary.over_repeats(system, read)


def of_shares(read: latency.Read) -> Measure:
    """Read a share in every repeat's window; its interval is that of shares."""
    return lambda system, assumed, objectives: summary.over_repeats(system, read, interval=summary.shares)


def of_percentile(sample_of: latency.SampleOf, share: float) -> Measure:
    """Take a percentile of what `sample_of` finds in each repeat."""
    return lambda system, assumed, objectives: percentiles.percentile_over_repeats(system, sample_of, share)


def of_queueing(read: latency.Read) -> Measure:
    """Read a mean that the queue makes, whose requests depend on one another."""
    return lambda system, assumed, objectives: percentiles.mean_over_repeats(system, read)


def of_offline(measure: Callable[[SystemRuns], Value]) -> Measure:
    """Take a figure that needs neither assumptions nor objectives."""
    return lambda system, assumed, objectives: measure(system)


def throughput(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return the capacity: by search, else the saturated throughput."""
    return capacity.throughput(system, objectives)


def saturated(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return the rate of the saturated run."""
    return summary.offline_rps(system)


def stable(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return the highest rate at which the queue did not grow."""
    return capacity.stable_rps(system, objectives)


def sustained_cost(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return the cost of 1000 requests at the capacity."""
    return cost.sustained(throughput(system, assumed, objectives), assumed)


def provisioned_cost(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return the cost of 1000 requests with the replicas that the day needs."""
    return cost.provisioned(throughput(system, assumed, objectives), assumed)


def replicas(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return how many replicas the day needs."""
    return cost.replicas(throughput(system, assumed, objectives), assumed)


def fleet_utilisation(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return which share of what the replicas could serve is asked of them."""
    return cost.fleet_utilisation(throughput(system, assumed, objectives), assumed)


def gross_energy(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return the energy of 1000 requests."""
    return energy.per_1k(system)


def operational_carbon(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return the CO2e of the energy of 1000 requests."""
    return carbon.operational(gross_energy(system, assumed, objectives), assumed)


def sci(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return the CO2e of 1000 requests with that of making the hardware."""
    served = throughput(system, assumed, objectives)
    return carbon.sci(gross_energy(system, assumed, objectives), served, assumed)


def goodput(system: SystemRuns, assumed: Assumed, objectives: Objectives) -> Value:
    """Return the rate of requests answered within the objectives."""
    return summary.over_repeats(system, lambda run: latency.goodput_rps(run, objectives))


def shortest_of(read: latency.Read) -> Measure:
    """Return the lowest that any job read."""
    return lambda system, assumed, objectives: summary.shortest(system, read)


def highest_of(read: latency.Read) -> Measure:
    """Return the highest that any job read."""
    return lambda system, assumed, objectives: summary.highest(system, read)


def load_s(run: Run) -> Reading:
    """Return how long the model took to load."""
    seconds = run.meta.facts.get("load_s")
    if seconds is None:
        return Reading(value=None, why=run.meta.missing.get("load_s", "load_s was not recorded"))
    return Reading(value=float(seconds))


def compile_s(run: Run) -> Reading:
    """Return how long the decode step took to compile."""
    seconds = engine_facts(run).get("compile_s")
    if seconds is None:
        return Reading(value=None, why="nothing was compiled")
    return Reading(value=float(seconds))
