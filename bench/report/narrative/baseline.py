"""What the baseline's figures say by themselves: objective, tail, load, memory, cost, energy."""

from __future__ import annotations

from bench.analysis.comparison import PerDay
from bench.analysis.cost import replica_count
from bench.analysis.findings import MEMORY_MARGIN, against
from bench.analysis.numbers import shown
from bench.analysis.percentiles import withheld
from bench.analysis.reference import gpus
from bench.records import Value
from bench.report.narrative.pair import Pair
from bench.report.narrative.prose import bullets, count
from bench.units import PERCENT, per_day_to_rps

CONTRADICTIONS = ("implied", "order")
"""Keys of doubts about figures that cannot be true together; the other doubts stand with the conclusion."""


def baseline_findings(pair: Pair) -> str:
    """Return a sentence per theme; a figure that is missing is named with its reason."""
    own = (f"{pair.comparison.baseline.name}: ", "both: ")
    contradictions = [
        doubt.text.split(": ", 1)[1]
        for doubt in pair.comparison.doubts
        if doubt.key.startswith(CONTRADICTIONS) and doubt.text.startswith(own)
    ]
    found = [
        _objective(pair),
        _tail(pair),
        _load(pair),
        _memory(pair),
        _daily(pair, "cost_per_1k_requests_usd", "cost, sustained"),
        _daily(pair, "estimated_energy_kwh_per_1k_requests", "energy"),
        *(f"A contradiction: {text}" for text in contradictions),
    ]
    return "\n".join(bullets(text for text in found if text))


def _of(pair: Pair, name: str) -> Value:
    return pair.row(name).baseline


def _missing(pair: Pair, name: str) -> str:
    lacking = _of(pair, name)
    return f"{pair.row(name).label}: {withheld(lacking) or 'not measured'} ({lacking.note})"


def _objective(pair: Pair) -> str:
    """Return where p95 latency lies against the objective; in doubt where it is not resolved."""
    p95, limit = _of(pair, "p95_latency_ms"), pair.terms.objectives.p95_latency_ms
    if p95.value is None:
        return _missing(pair, "p95_latency_ms")
    if limit is None:
        return f"p95 latency is {shown(p95.value)} ms; no objective is set"
    text = f"p95 latency {shown(p95.value)} ms is {against(p95.value, limit)} the objective of {limit:g} ms"
    if p95.unresolved:
        return f"{text}, and it is not resolved: {p95.unresolved}"
    if p95.low is not None and p95.high is not None and p95.low <= limit < p95.high:
        return f"{text}; its 95 % interval, {shown(p95.low)} to {shown(p95.high)} ms, includes the objective"
    return text


def _tail(pair: Pair) -> str:
    p50, p95 = _of(pair, "p50_latency_ms").value, _of(pair, "p95_latency_ms").value
    if p50 is None:
        return _missing(pair, "p50_latency_ms")
    text = f"The typical request takes {shown(p50)} ms (p50)"
    return text if not p50 or p95 is None else f"{text}; at p95 it is {shown(p95 / p50, 2)} times that"


def _load(pair: Pair) -> str:
    """Return the throughput against the mean demand, and how many replicas that asks for."""
    rps, assumed = _of(pair, "throughput_requests_per_sec").value, pair.terms.assumed
    if rps is None:
        return _missing(pair, "throughput_requests_per_sec")
    demand = per_day_to_rps(assumed.requests_per_day)
    text = f"Throughput is {shown(rps)} requests/s against a mean demand of {demand:.3g}"
    if rps <= 0:
        return f"{text}: nothing is carried"
    replicas = replica_count(assumed, rps)
    return (
        f"{text}, {shown(rps / demand, 2)} times the demand: that takes {count(replicas, 'replica')}, "
        f"loaded to at most {assumed.headroom * PERCENT:.0f} %"
        + (f" at a peak of {assumed.peak_to_mean:g} times the mean" if assumed.peak_to_mean != 1 else "")
    )


def _memory(pair: Pair) -> str:
    """Return which GPU suffices, by the peak where it is known; of a CPU, the host's memory."""
    peak, average = _of(pair, "peak_memory_gb").value, _of(pair, "average_memory_gb").value
    used = average if peak is None else peak
    if used is None:
        return _missing(pair, "average_memory_gb")
    what = "on average; the peak, which decides, is not known" if peak is None else "at the peak"
    context = pair.comparison.baseline.context
    if context is not None and context.checked.get("device") == "cpu" and not context.checked.get("gpu"):
        return f"{shown(used)} GB of the host's memory ({what})"
    text = f"{shown(used)} GB of memory ({what})"
    if context is not None and context.memory_total_gb:
        text += f" are {shown(used / context.memory_total_gb * PERCENT, 2)} % of this GPU's"
    sizes = sorted(gpu.memory_gb for gpu in gpus().values() if used <= gpu.memory_gb * MEMORY_MARGIN)
    if not sizes:
        return f"{text}; no GPU known here has that much with 10 % to spare"
    names = [gpu.label for gpu in gpus().values() if gpu.memory_gb == sizes[0]]
    return f"{text}; the smallest GPU with 10 % to spare has {sizes[0]:g} GB ({', '.join(names)})"


def _daily(pair: Pair, name: str, label: str) -> str:
    """Return a figure per 1,000 requests, and what it comes to in a day."""
    row = pair.row(name)
    if row.baseline.value is None:
        return _missing(pair, name)
    days = {day.label: day for day in pair.comparison.per_day}
    text = f"{row.label} requests: {shown(row.baseline.value)} {row.unit}"
    totals = [
        _total(days[key]) for key in ((label, "CO2e") if label == "energy" else (label,)) if key in days
    ]
    totals = [total for total in totals if total]
    volume = f"{pair.comparison.requests_per_day:,.0f} requests"
    return f"{text}, which is {' and '.join(totals)} a day at {volume}" if totals else text


def _total(day: PerDay) -> str:
    if day.baseline is None:
        return ""
    return f"{shown(day.baseline)} {day.unit}{' CO2e' if day.label == 'CO2e' else ''}"
