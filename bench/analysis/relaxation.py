"""How long a queue remembers, against how long it was watched: whether a window can show a percentile.

A queue forgets a disturbance within a *relaxation time*, which lasts (I_a + I_s) / (1 - ρ)² requests: ρ is
its utilisation, I_a and I_s the indices of dispersion of what arrives and of what a saturated system answers
(variance of counts over their mean). Run lengths scale with it (W. Whitt, Planning Queueing Simulations,
Management Science 35, 1989). A window of few relaxation times has mostly seen no bad time: its percentile
errs low, in every repeat alike, so that no number of repeats makes an interval from them honest.

All of it is known from the arrivals and the saturated run, not from the latencies: a window that happened to
be quiet would also seem to have forgotten quickly, and pass by luck.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bench.analysis.recorded import scored, window_of
from bench.analysis.stats import Array
from bench.analysis.summary import offline_rps, saturated_dispersion
from bench.analysis.system import SystemRuns

COUNTS = 10
"""Parts of a window in which arrivals are counted."""


class Relaxation(msgspec.Struct, frozen=True, kw_only=True):
    """A system's utilisation at the common rate, and how many relaxation times a window held."""

    utilisation: float
    times: float

    def why(self, needed: float) -> str:
        """Return why a figure that needs `needed` of them is not resolved; empty where it is."""
        if self.times >= needed:
            return ""
        at = f"at {self.utilisation:.0%} of the saturated throughput"
        if self.times <= 0:
            return f"{at} the queue never forgets"
        return (
            f"{at} a window holds {self.times:.2g} of the {needed:.3g} relaxation times that are needed, "
            "which are shorter at a lower load"
        )


def relaxation_of(system: SystemRuns) -> Relaxation | None:
    """Return how many relaxation times the windows of a system held; None where that is not known.

    That is without a common rate, as in a closed loop, and without a saturated run of at least five batches.
    """
    runs = system.measured
    offered = [run.meta.offered_rps for run in runs if run.meta.offered_rps is not None]
    capacity_rps, served = offline_rps(system).value, saturated_dispersion(system)
    if not offered or capacity_rps is None or served is None:
        return None
    counts = np.array(
        [_counts(scored(run).due_s, window_of(run).start_s, window_of(run).end_s) for run in runs]
    )
    utilisation = max(offered) / capacity_rps
    free = max(0.0, 1.0 - utilisation)
    dispersion = _dispersion(counts) + served
    n = float(counts.sum()) / len(runs)
    return Relaxation(utilisation=utilisation, times=n * free**2 / dispersion if dispersion > 0 else math.inf)


def _counts(due_s: Array, start_s: float, end_s: float) -> Array:
    counts: Array = np.histogram(due_s, bins=COUNTS, range=(start_s, end_s))[0]
    return counts


def _dispersion(counts: Array) -> float:
    """Return the index of dispersion of arrivals, counted by repeat and part of the window.

    Among the repeats: a pattern that all of them have, as a day's, is no chance. One has only its parts.
    """
    mean = float(counts.mean())
    if mean == 0:
        return 0.0
    spread = counts.var(axis=0, ddof=1).mean() if len(counts) > 1 else counts.var(ddof=1)
    return float(spread) / mean
