"""Sentences that are made from the numbers, so that they cannot contradict them.

*Findings* say where figures lie: against the objective, in the GPU's memory, across grids. *Tradeoffs*
say what is gained and what is given for it, with the interval where there is one.
"""

from __future__ import annotations

from bench.analysis.comparison import QUALITY, Comparison, PerDay, Row, Side
from bench.analysis.numbers import percent, shown
from bench.analysis.reference import gpus, grids
from bench.config import Objectives
from bench.records import Value
from bench.units import PERCENT

MEMORY_MARGIN = 0.9
"""A GPU is said to suffice when the peak fills at most this share of its memory."""


def find(comparison: Comparison, objectives: Objectives) -> tuple[str, ...]:
    """Return the findings."""
    found = [
        *(_objective(comparison, side, objectives) for side in ("baseline", "optimized")),
        _tier(comparison),
        _replicas(comparison),
        _grids(comparison),
    ]
    return tuple(text for text in found if text)


def tradeoffs(comparison: Comparison) -> tuple[str, ...]:
    """Return what is gained and given, one sentence per theme that can be compared."""
    themes = [_latency(comparison)]
    for name, gain, loss in (
        ("throughput_requests_per_sec", "more load fits on one replica", "one replica carries less load"),
        (
            "average_memory_gb",
            _room(comparison),
            "less room is left",
        ),
        ("cost_per_1k_requests_usd", "each request costs less", "each request costs more"),
        ("estimated_energy_kwh_per_1k_requests", "each request takes less energy", "each takes more energy"),
    ):
        row = comparison.row(name)
        match row.change.direction:
            case "better":
                themes.append(f"{changed(row)}: {gain}.")
            case "worse":
                themes.append(f"{changed(row)}: {loss}.")
            case "not resolved":
                themes.append(f"{changed(row)}: {row.unresolved}.")
            case "unclear":
                themes.append(f"{changed(row)}: the interval leaves open whether it changed.")
            case "same":
                themes.append(f"{row.label}: unchanged.")
            case _:
                themes.append(f"{row.label}: not comparable ({why(row)}).")
    themes.append(_quality(comparison))
    return tuple(text for text in themes if text)


def _room(comparison: Comparison) -> str:
    """Say what saved memory is good for: of a GPU, or of a CPU's host."""
    if _on_cpu(comparison.optimized):
        return "more of the host's memory is left"
    return "room for a larger batch, a longer context or a smaller GPU"


def changed(row: Row) -> str:
    """Return a row's change in words: label, percent or absolute change, its interval or that it has none."""
    change = row.change
    if change.delta == 0:
        text = f"{row.label} is unchanged"
    elif change.pct_change is None:
        text = f"{row.label} changes by {change.delta:+.4g}"
    else:
        verb = "rises" if change.pct_change > 0 else "falls"
        text = f"{row.label} {verb} by {percent(change.pct_change)[1:]} %"
    if row.unresolved:
        return f"{text} (not resolved)"
    if change.low_pct is not None and change.high_pct is not None:
        text += f" (95 % interval {change.low_pct:+.1f} to {change.high_pct:+.1f} %)"
    return text


def against(figure: float, limit: float) -> str:
    """Return where a figure lies against a limit: `25 % below`; never all of it below."""
    margin = (1.0 - figure / limit) * PERCENT
    if margin == 0:
        return "exactly at"
    most = 99.9
    size = f"more than {most:g}" if most < margin < PERCENT else shown(abs(margin), 3)
    return f"{size} % {'below' if margin > 0 else 'above'}"


def why(row: Row) -> str:
    """Return why a row has no change."""
    lacks = [f"{side} {value.note}" for side, value in _sides(row) if value.value is None]
    if len(lacks) == 2 and row.baseline.note == row.optimized.note:
        return f"both: {row.baseline.note}"
    return "; ".join(lacks) or "no reason was recorded"


def _sides(row: Row) -> tuple[tuple[str, Value], tuple[str, Value]]:
    return ("baseline:", row.baseline), ("optimized:", row.optimized)


def _objective(comparison: Comparison, side: str, objectives: Objectives) -> str:
    limit = objectives.p95_latency_ms
    value: Value = getattr(comparison.row("p95_latency_ms"), side)
    if limit is None or value.value is None:
        return ""
    name = getattr(comparison, side).name
    place = against(value.value, limit)
    return f"{name}: p95 latency {shown(value.value)} ms is {place} the objective of {limit:g} ms."


def _tier(comparison: Comparison) -> str:
    """Return which smaller GPUs the optimized system would newly fit; by the peak, if it is known."""
    row = comparison.row("peak_memory_gb")
    what = "peak"
    if row.baseline.value is None or row.optimized.value is None:
        row, what = comparison.row("average_memory_gb"), "average; the peak, which decides, is unknown"
    if row.baseline.value is None or row.optimized.value is None or _on_cpu(comparison.optimized):
        return ""
    before, after = row.baseline.value, row.optimized.value
    sizes = sorted({gpu.memory_gb for gpu in gpus().values()})
    newly = [size for size in sizes if after <= size * MEMORY_MARGIN and before > size * MEMORY_MARGIN]
    if not newly:
        return ""
    names = [gpu.label for gpu in gpus().values() if gpu.memory_gb == newly[0]]
    text = f"{shown(before)} to {shown(after)} GB ({what}) lets it fit a GPU of {newly[0]:g} GB"
    return f"Memory: {text} ({', '.join(names)}), with 10 % to spare."


def _on_cpu(side: Side) -> bool:
    """Say whether memory is the host's: on a CPU, unless a modelled GPU was metered under it."""
    if side.context is None:
        return False
    return side.context.checked.get("device") == "cpu" and side.context.checked.get("gpu") is None


def _replicas(comparison: Comparison) -> str:
    """Say when the sustained saving does not reach the bill, because whole GPUs are rented."""
    sustained = comparison.row("cost_per_1k_requests_usd").change
    provisioned = comparison.row("cost_provisioned_per_1k_requests_usd").change
    if sustained.direction != "better" or provisioned.direction != "same":
        return ""
    volume = f"{comparison.requests_per_day:,.0f} requests a day"
    return f"Cost: at {volume} both systems need as many GPUs, so the bill for rented GPUs stays the same."


def _grids(comparison: Comparison) -> str:
    """Say what the change of energy means in carbon, where it is settled that energy changed."""
    direction = comparison.row("estimated_energy_kwh_per_1k_requests").change.direction
    energy = next((day for day in comparison.per_day if day.label == "energy"), None)
    if energy is None or not energy.saved or direction not in ("better", "worse"):
        return ""
    ordered = sorted(grids().values(), key=lambda grid: grid.kg_co2e_per_kwh)
    low, high = ordered[0], ordered[-1]
    return (
        f"CO2e depends on the grid: {'saves' if energy.saved > 0 else 'adds'} "
        f"{_kg(energy, low.kg_co2e_per_kwh)} kg a day in {low.name} ({low.kg_co2e_per_kwh:g} kg/kWh), "
        f"{_kg(energy, high.kg_co2e_per_kwh)} kg in {high.name} ({high.kg_co2e_per_kwh:g}), without a PUE."
    )


def _kg(day: PerDay, factor: float) -> str:
    return f"{abs(day.saved or 0.0) * factor:.3g}"


def _latency(comparison: Comparison) -> str:
    p50, p95 = comparison.row("p50_latency_ms"), comparison.row("p95_latency_ms")
    known = [row for row in (p50, p95) if row.change.delta is not None]
    if not known:
        return f"{p95.label}: not comparable ({why(p95)})."
    text = "; ".join(changed(row) for row in known)
    match (p50.change.direction, p95.change.direction):
        case ("worse", "better"):
            return f"{text}: the typical request waits longer, the slow tail is shorter."
        case ("better", "worse"):
            return f"{text}: the typical request is faster, the slow tail is longer."
        case ("better", "better"):
            return f"{text}: faster throughout."
        case ("worse", "worse"):
            return f"{text}: slower throughout."
        case _:
            return f"{text}."


def _quality(comparison: Comparison) -> str:
    if not QUALITY & comparison.rows.keys():
        return "Output quality: not part of the files; the scenario assumes that it holds."
    kl, agree = comparison.row("mean_kl").optimized, comparison.row("top1_agreement").optimized
    ppl = comparison.row("perplexity")
    parts = []
    if ppl.change.pct_change is not None:
        parts.append(f"perplexity {ppl.change.pct_change:+.2f} %")
    if kl.value is not None:
        parts.append(f"mean KL {kl.value:.2g} nats")
    if agree.value is not None:
        parts.append(f"same top token at {agree.value * PERCENT:.1f} % of positions")
    return f"Output quality: {', '.join(parts)}." if parts else f"Output quality: not measured ({kl.note})."
