"""The gates of the verdict: what must hold whatever the benefits.

Each gate passes, fails, is unclear (an interval straddles its limit), was not measured, was not measured and
is waived by name, or, with bare CSVs, is assumed. The service level is judged by the upper end of the p95
interval: the doubt counts against the optimization.
"""

from __future__ import annotations

import msgspec

from bench.analysis.comparability import circumstances
from bench.analysis.comparison import Comparison
from bench.analysis.gate import (
    ON_THRESHOLD,
    Gate,
    absent,
    at_most,
    not_measured,
    repeats_to_settle,
    state,
)
from bench.analysis.longer import longer_windows
from bench.analysis.numbers import shown
from bench.analysis.proportions import trials_to_settle
from bench.analysis.quality_gate import output_quality
from bench.analysis.stats import level_interval
from bench.analysis.system import Jobs
from bench.config import Objectives, Quality
from bench.records import Value
from bench.units import PERCENT

CLIENT = "client"
"""The name of the gate that binds before all others: what they judge was measured by this client."""
COMPLETENESS = "completeness"
"""The name of the gate that binds next: what has not ended yet may turn all the others."""
UNFINISHED = "unfinished"
DEFAULT_TERMS = "default terms"
"""The keys of doubts that gates look for: an unfinished run, and terms that nobody stated."""

ENERGY_REMEDY = 'measure where energy can be read, or waive it by name (objectives.waive = ["energy"])'


def judge(comparison: Comparison, objectives: Objectives, quality: Quality) -> tuple[Gate, ...]:
    """Return every gate in the order in which it binds."""
    return (
        *client(comparison),
        *completeness(comparison),
        comparability(comparison),
        errors(comparison, objectives),
        load(comparison),
        sla(comparison, objectives),
        output_quality(comparison, quality, waived="quality" in objectives.waive),
        *plausibility(comparison),
        energy(comparison, waived="energy" in objectives.waive),
    )


def client(comparison: Comparison) -> tuple[Gate, ...]:
    """Judge whether client and device were sound in both; no gate where no run says, as with bare CSVs."""
    sides = [side for side in (comparison.baseline, comparison.optimized) if side.client is not None]
    faulty = [side for side in sides if side.client is not None and side.client.level == "INVALID"]
    if faulty:
        text = "; ".join(f"{side.name}: {side.client.reasons}" for side in faulty if side.client)
        settle = "; ".join(dict.fromkeys(side.client.recommendation for side in faulty if side.client))
        whose = " and ".join(dict.fromkeys(side.client.whose for side in faulty if side.client))
        return (Gate(name=CLIENT, outcome="unclear", text=f"the {whose} is INVALID: {text}", settle=settle),)
    text = "; ".join(
        f"{side.name}: {side.client.level}" + (f" ({side.client.reasons})" if side.client.faults else "")
        for side in sides
        if side.client
    )
    return (Gate(name=CLIENT, outcome="pass", text=text),) if sides else ()


def completeness(comparison: Comparison) -> tuple[Gate, ...]:
    """Judge whether all jobs of the run have ended; no gate where they have."""
    found = [doubt for doubt in comparison.doubts if doubt.key == UNFINISHED]
    if not found:
        return ()
    text, settle = (
        "; ".join(dict.fromkeys(said)) for said in zip(*((d.text, d.remedy) for d in found), strict=True)
    )
    return (Gate(name=COMPLETENESS, outcome="unclear", text=text, settle=settle),)


def plausibility(comparison: Comparison) -> tuple[Gate, ...]:
    """Hold stated figures that contradict one another, as a median above its p95; no gate where none do."""
    if not (comparison.baseline.bare or comparison.optimized.bare):
        return ()
    broken = [doubt.text for doubt in comparison.doubts if doubt.key == "order"]
    return (Gate(name="plausibility", outcome="not measured", text="; ".join(broken)),) if broken else ()


def comparability(comparison: Comparison) -> Gate:
    """Judge whether like was compared with like; `compare` has refused everything not allowed."""
    if comparison.allowed:
        text = f"allowed to differ: {'; '.join(comparison.allowed)}"
        return Gate(name="comparability", outcome="pass", text=text)
    if comparison.bare:
        text = "bare CSVs do not say on which GPU, load and prompts they were measured"
        return Gate(name="comparability", outcome="assumed", text=text)
    for side in (comparison.baseline, comparison.optimized):
        if side.context is None:
            text = f"no run of {side.name} was completed, so there is nothing to compare"
            return Gate(name="comparability", outcome="not measured", text=text)
    assert comparison.baseline.context is not None
    assert comparison.optimized.context is not None
    text = circumstances(comparison.baseline.context, comparison.optimized.context)
    return Gate(name="comparability", outcome="pass", text=text)


def errors(comparison: Comparison, objectives: Objectives) -> Gate:
    """Judge whether the optimized system's jobs ended well, and its error rate by its interval's upper end.

    A repeat that failed has no error rate; the rate of the others would be that of the survivors.
    """
    if (crashed := _crashed(comparison.optimized.jobs)) != "":
        return Gate(name="errors", outcome="fail", text=crashed)
    value, limit = comparison.row("error_rate").optimized, objectives.max_error_rate
    if value.value is None:
        return absent(comparison, "errors", {"error_rate"}, f"the error rate is not known: {value.note}")
    text = f"error rate {shown(value.value * PERCENT, 2)} % against at most {limit * PERCENT:g} %"
    if value.value == 0 and value.high is not None and value.high > limit > 0:
        needed = trials_to_settle(0.0, limit, value.confidence)
        most = shown(value.high * PERCENT, 2)
        text += f": none of the requests failed, which shows {most} % at most; {needed} would"
    gate = at_most("errors", value, limit, text)
    if gate.outcome != "unclear":
        return gate
    return msgspec.structs.replace(gate, settle=_failures_to_settle(value, limit))


def load(comparison: Comparison) -> Gate:
    """Judge whether the optimized system carries the common rate at all."""
    if comparison.optimized.bare:
        return Gate(name="load", outcome="assumed", text="bare CSVs do not say")
    if comparison.optimized.jobs.completed == 0:
        text = "no repeat of the optimized system was completed at the common rate"
        return Gate(name="load", outcome="not measured", text=text)
    if not comparison.optimized.saturated:
        grew = [doubt.text for doubt in comparison.doubts if doubt.key == "saturation"]
        ours = [text for text in grew if text.startswith((f"{comparison.optimized.name}: ", "both: "))]
        if ours:
            settle = "lower the load, or lengthen protocol.window_s"
            return Gate(name="load", outcome="unclear", text=ours[0], settle=settle)
        return Gate(name="load", outcome="pass", text="the queue does not grow at the common rate")
    if comparison.baseline.saturated:
        text = "both systems saturate at the common rate, so neither has a latency; lower the load"
        return Gate(name="load", outcome="not measured", text=text)
    note = comparison.row("p95_latency_ms").optimized.note
    text = f"the optimized system cannot carry the common rate ({note})"
    return Gate(name="load", outcome="fail", text=text)


def sla(comparison: Comparison, objectives: Objectives) -> Gate:
    """Judge p95 latency against the objective by the upper end of its interval.

    A p95 without a bound, because too many requests failed or the queue only grew, breaks any objective.
    Where the baseline saturates, too, the load is at fault: its gate then holds the verdict.
    """
    limit = objectives.p95_latency_ms
    if limit is None:
        return Gate(name="SLA", outcome="pass", text="no latency objective is set")
    value = comparison.row("p95_latency_ms").optimized
    if value.value is None:
        unbounded = comparison.optimized.p95_unbounded
        if unbounded or (comparison.optimized.saturated and not comparison.baseline.saturated):
            return Gate(name="SLA", outcome="fail", text=f"p95 latency has no bound: {value.note}")
        return Gate(name="SLA", outcome="not measured", text=f"p95 latency is not known: {value.note}")
    interval = ""
    if value.low is not None and value.high is not None:
        interval = f" (95 % interval {shown(value.low)} to {shown(value.high)})"
    text = f"p95 latency {shown(value.value)} ms{interval} against at most {limit:g} ms"
    if any(doubt.key == DEFAULT_TERMS and "--p95-latency-ms" in doubt.remedy for doubt in comparison.doubts):
        text += " (a default)"
    return at_most("SLA", value, limit, text, longer=longer_windows(comparison.window_s))


def energy(comparison: Comparison, *, waived: bool = False) -> Gate:
    """Judge whether energy was measured at all: an adoption that ignores it is not decided."""
    row = comparison.row("estimated_energy_kwh_per_1k_requests")
    for value in (row.baseline, row.optimized):
        if value.value is None:
            settle = state(row.name) if comparison.bare else ENERGY_REMEDY
            return not_measured("energy", f"not measured: {value.note}", waived=waived, settle=settle)
    return Gate(name="energy", outcome="pass", text="energy is known for both")


def _failures_to_settle(value: Value, limit: float) -> str:
    """Return what settles an error rate: repeats where they differ, requests where they are few."""
    assert value.value is not None
    repeats = list((value.repeats or {}).values())
    found = level_interval(repeats, value.confidence) if len(repeats) > 1 else None
    if found is None or found.low is None or found.high is None or found.low <= limit < found.high:
        scattered = value if found is None else msgspec.structs.replace(value, low=found.low, high=found.high)
        return repeats_to_settle(scattered, limit)
    needed = trials_to_settle(value.value, limit, value.confidence)
    return ON_THRESHOLD if needed is None else f"about {needed} requests in all would settle it"


def _crashed(jobs: Jobs) -> str:
    """Return which jobs failed, with the first error; '' where none did."""
    parts = []
    if jobs.offline_error is not None:
        parts.append(f"the saturated run failed: {jobs.offline_error}")
    if jobs.failed:
        parts.append(f"{jobs.failed} of {jobs.repeats} repeats failed, the first with: {jobs.error}")
    return "; ".join(parts)
