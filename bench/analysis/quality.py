"""Output quality from the teacher-forced pass over held-out text.

Perplexity says how well the model predicts the text; the KL divergence of its next-token distributions
from the reference's, and how often both pick the same token, say how far a system drifted from the
baseline. Neighbouring positions are correlated, so intervals come from blocks of consecutive positions.
"""

from __future__ import annotations

import math

import numpy as np

from bench.analysis.numbers import shown
from bench.analysis.recorded import column
from bench.analysis.stats import block_interval
from bench.analysis.summary import origin
from bench.analysis.system import SystemRuns, missing
from bench.records import Source, Value


def perplexity(system: SystemRuns) -> Value:
    """Return exp(mean negative log-likelihood) over the scored positions.

    No interval: across texts it would be far wider than that of the ratio of two systems on one text.
    """
    nll = _column(system, "nll")
    if isinstance(nll, Value):
        return nll
    note = f"{_origin(system)}; {len(nll)} positions of held-out text, teacher-forced"
    return Value(value=math.exp(float(nll.mean())), source=_source(system), note=note)


def mean_kl(system: SystemRuns) -> Value:
    """Return the mean KL(baseline ‖ system) per position, in nats."""
    return _against_baseline(system, "kl")


def top1_agreement(system: SystemRuns) -> Value:
    """Return the share of positions at which system and baseline pick the same token."""
    return _against_baseline(system, "agree")


def _against_baseline(system: SystemRuns, name: str) -> Value:
    values = _column(system, name)
    if isinstance(values, Value):
        return values
    estimate = block_interval(values)
    note = f"{_origin(system)}; against the baseline on {len(values)} positions"
    if estimate.low is not None:
        ends = f"{shown(estimate.low)} to {shown(estimate.high)}"
        note += f"; 95 % interval {ends} from {estimate.n} blocks"
    return Value(
        value=estimate.mean,
        source=_source(system),
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        note=note,
    )


def _column(system: SystemRuns, name: str) -> Value | np.ndarray:
    run = system.offline
    if run is None or run.meta.status != "complete":
        return missing("the run that measures quality did not complete")
    if run.quality is None:
        return missing(run.meta.missing.get("quality", "quality was not measured"))
    values = column(run.quality, name)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        default = "no reference: this system is the one that others are compared with"
        return missing(run.meta.missing.get(name, default))
    return values


def _source(system: SystemRuns) -> Source:
    assert system.offline is not None
    return system.offline.meta.source


def _origin(system: SystemRuns) -> str:
    assert system.offline is not None
    return origin(system.offline)
