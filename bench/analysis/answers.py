"""What a capacity search has found, as values with their notes; without an answer, why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.analysis.boundary import Boundary
from bench.analysis.numbers import shown
from bench.analysis.system import missing
from bench.analysis.trials import Binding, Trial
from bench.records import Source, Value

WORDS: dict[Binding, str] = {
    "p95": "the p95 objective",
    "errors": "the error rate",
    "queue": "a queue that grows without end",
}
"""What binds, as a sentence calls it."""
CALLED = "capacity: "
"""How a note begins, which in a CSV stands beside other metrics."""


def answered(trials: Sequence[Trial], found: Boundary | None, source: Source, tolerance: float) -> Value:
    """Return the answer as a value, or why there is none; probes whose client was INVALID do not count.

    Without draws near the answer its bounds are rates that passed and failed once each. By chance these can
    lie close together or the wrong way round, so such bounds are never given closer than the `tolerance`.
    """
    if not trials:
        return missing("no probe of the capacity search was made")
    valid = [t for t in trials if t.counts]
    if not valid:
        worst = trials[-1]
        return missing(
            f"the client was INVALID in all {len(trials)} probes of the capacity search, so the load was not "
            f"the one asked for (at {shown(worst.rate_rps)} requests/s: {worst.faults})"
        )
    probes = f"{len(trials)} probes of {max(t.seconds for t in valid):.3g} s"
    if len(valid) < len(trials):
        probes += f", {len(trials) - len(valid)} of which had an INVALID client and do not count"
    if found is None:
        # Of those at the lowest rate the one that came closest: it failed, too.
        lowest = min(valid, key=lambda t: (t.rate_rps, -(t.room or 0.0)))
        return missing(f"no rate that was probed is sustained: {_why_failed(lowest)} ({probes})")
    sure, low_rps, high_rps = "no interval", found.low_rps, found.high_rps
    if low_rps is not None and high_rps is not None:
        if not found.draws:
            low_rps = min(low_rps, found.rate_rps * (1.0 - tolerance))
            high_rps = max(high_rps, found.rate_rps * (1.0 + tolerance))
        low, high = shown(low_rps), shown(high_rps)
        sure = (
            f"95 % interval {low} to {high} from {found.draws} draws"
            if found.draws
            else f"between {low} and {high}, as single probes bound it, no closer than the tolerance"
        )
    if found.one_draw:
        sure += ", as every draw of the requests was the same: others may differ by more"
    parts = [
        f"{CALLED}highest steady rate at which the objectives hold and the queue is stable",
        f"{WORDS[found.binds]} binds",
        probes,
        sure,
    ]
    if not found.settled:
        parts.append("the search ended before it was as sure as asked")
    return Value(
        value=found.rate_rps,
        source=source,
        low=low_rps,
        high=high_rps,
        n=found.draws or None,
        note="; ".join(parts),
    )


def _why_failed(lowest: Trial) -> str:
    at = f"at {shown(lowest.rate_rps)} requests/s"
    if lowest.binds == "queue":
        return f"even {at} the queue grows"
    if lowest.binds == "errors":
        share = "all" if lowest.error_rate is None else f"{lowest.error_rate:.1%}"
        return f"even {at} {share} of the requests failed"
    p95 = "p95 latency is unbounded" if lowest.p95_ms is None else f"p95 latency is {shown(lowest.p95_ms)} ms"
    return f"even {at} {p95}"


def highest_stable(trials: Sequence[Trial], source: Source) -> Value:
    """Return the highest rate at which the queue was stable, below the lowest at which it was not."""
    valid = [t for t in trials if t.counts]
    overloaded = [t for t in valid if not t.stable]
    least_rps = min((t.rate_rps for t in overloaded), default=math.inf)
    stable = [t.rate_rps for t in valid if t.stable and t.rate_rps < least_rps]
    if not stable:
        return missing("the queue was stable at no rate that was probed")
    above = f"it grew at {shown(least_rps)}/s" if overloaded else "it never grew, so this is a lower bound"
    return Value(
        value=max(stable),
        source=source,
        low=max(stable),
        high=None if not overloaded else least_rps,
        n=len(valid),
        note=f"highest rate probed at which the queue was stable; {above}",
    )
