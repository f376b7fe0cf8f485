"""How near each system comes to what the device can do at all, as shares of the physical limit.

MBU is the share of the memory bandwidth that decode steps used, MFU the share of the peak rate of products
that passes with a prefill used. The floors say the same of a request's times: the least time of a step or a
prefill over what a request waited for. The rest is batching, overhead, queueing: what there is to gain.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.thinning import seen
from bench.analysis.metrics import METRICS
from bench.analysis.numbers import shown
from bench.analysis.system import MetricSet
from bench.records import Value
from bench.units import PERCENT

SHARES = {"decode_mbu": "MBU: memory bandwidth, decode", "prefill_mfu": "MFU: peak of products, prefill"}
FLOORS = {
    "decode floor / TPOT": ("decode_floor_ms", "tpot_p50_ms"),
    "prefill floor / TTFT": ("prefill_floor_ms", "ttft_p50_ms"),
}
"""The least time over the measured median of it."""


def limits(evaluation: Evaluation) -> Figure:
    """Return the shares of the limit of every system that has one."""
    names = tuple(evaluation.systems)
    shares = [row for name in SHARES for row in _shares(evaluation, name)]
    floors = [row for name in FLOORS for row in _floors(evaluation, name)]
    rows = [{**row, "place": place} for place, row in enumerate([*shares, *floors])]
    if not rows:
        return Figure(kind="limits", title="Physical limits", systems=names, missing=_why_none(evaluation))
    columns = (
        Column("system", "System"),
        Column("what", "Share of the limit"),
        Column("pct", "Share (%)", 3),
        Column("low_pct", "95 % from (%)", 3),
        Column("high_pct", "95 % to (%)", 3),
        Column("floor_ms", "Floor (ms)"),
        Column("measured_ms", "Measured (ms)"),
        Column("by", "How"),
    )
    return Figure(
        kind="limits",
        title="Share of the physical limit",
        systems=names,
        reading=_reading(rows),
        datasets={"limits": Dataset(columns=columns, rows=tuple(rows))},
        notes=(
            "100 % is what the device can do at all; what it is, stands with each number.",
            "A time to first token holds the wait in the queue as well, so its share falls with the load.",
            *dict.fromkeys(_lacking(evaluation)),
        ),
    )


def _shares(evaluation: Evaluation, name: str) -> Iterator[dict[str, Cell]]:
    for system, metrics in evaluation.sets.items():
        value = metrics.values.get(name)
        if value is not None and value.value is not None:
            yield {
                "system": system,
                "what": SHARES[name],
                "pct": seen(value.value * PERCENT),
                "low_pct": None if value.low is None else seen(value.low * PERCENT),
                "high_pct": None if value.high is None else seen(value.high * PERCENT),
                "by": value.note,
            }


def _floors(evaluation: Evaluation, what: str) -> Iterator[dict[str, Cell]]:
    for system, metrics in evaluation.sets.items():
        floor, measured = (_figure(metrics, name) for name in FLOORS[what])
        if floor is None or measured is None or not measured.value or floor.value is None:
            continue
        yield {
            "system": system,
            "what": what,
            "pct": seen(floor.value / measured.value * PERCENT),
            "low_pct": None,
            "high_pct": None,
            "floor_ms": seen(floor.value),
            "measured_ms": seen(measured.value),
            "by": f"{shown(floor.value, 3)} ms of {shown(measured.value, 3)} ms; floor {floor.note}",
        }


def _figure(metrics: MetricSet, name: str) -> Value | None:
    value = metrics.values.get(name)
    return None if value is None or value.value is None else value


def _reading(rows: list[dict[str, Cell]]) -> str:
    """Return the range of each share over the systems, the first two in words."""
    told = []
    for what in dict.fromkeys(str(row["what"]) for row in rows):
        found = {str(row["system"]): float(row["pct"] or 0.0) for row in rows if row["what"] == what}
        low, high = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
        span = f"{shown(found[low], 3)} % ({low})"
        if low != high:
            span += f" to {shown(found[high], 3)} % ({high})"
        told.append(f"{what} {span}")
    return f"Of what the device can do at all: {'; '.join(told[:2])}."


def _lacking(evaluation: Evaluation) -> Iterator[str]:
    for name in SHARES:
        for system, metrics in evaluation.sets.items():
            value = metrics.values.get(name)
            if value is not None and value.value is None:
                yield f"{METRICS[name].label} of {system} is not known: {value.note}."


def _why_none(evaluation: Evaluation) -> str:
    whys = [
        value.note for own in evaluation.sets.values() for name in SHARES if (value := own.values.get(name))
    ]
    return "; ".join(dict.fromkeys(whys)) or "no system has a share of the limit among its metrics"
