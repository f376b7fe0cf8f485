"""Energy, cost and carbon of each system, per 1,000 requests and per day, each with what it assumes.

Energy is measured; dollars and CO2e depend on a price and a grid that are assumed, and stand with their
source and date. A band is what the figure becomes at the ends of what those may be (`analysis.sensitivity`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from bench.analysis.carbon import in_words
from bench.analysis.comparison import PerDay
from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.thinning import seen
from bench.analysis.numbers import shown
from bench.analysis.sensitivity import intensities
from bench.analysis.system import Assumed
from bench.records import Value

COLUMNS = (
    Column("figure", "Figure"),
    Column("system", "System"),
    Column("value", "Value"),
    Column("unit", "Unit"),
    Column("low", "95 % from"),
    Column("high", "95 % to"),
    Column("band_low", "Assumption's low end"),
    Column("band_high", "Assumption's high end"),
    Column("by", "Assumed"),
)


LINES = 3
"""So many lines of assumptions stand under a figure."""
MEASURED = "measured at the common rate; nothing is assumed"


class _Scaled(msgspec.Struct, frozen=True):
    """What a figure assumes: in lines, and by how much its ends multiply it; None where no range is known."""

    by: tuple[str, ...]
    low: float | None = None
    high: float | None = None


def _nothing(assumed: Assumed) -> _Scaled:
    return _Scaled((MEASURED,))


def _price(assumed: Assumed) -> _Scaled:
    return _priced(assumed, f"{assumed.gpus} GPU kept busy at the throughput")


def _fleet(assumed: Assumed) -> _Scaled:
    spare = f", {assumed.spare_replicas} spare" if assumed.spare_replicas else ""
    demand = (
        f"whole GPUs for {assumed.requests_per_day:,.0f} requests a day, peak {assumed.peak_to_mean:g} x "
        f"mean, headroom {assumed.headroom:g}, at least {assumed.min_replicas}{spare}"
    )
    return _priced(assumed, demand)


def _priced(assumed: Assumed, what: str) -> _Scaled:
    price, span = assumed.usd_per_gpu_hour, assumed.usd_per_gpu_hour_range
    if price.value is None or span is None:
        return _Scaled((price.note, what))
    band = f"band: {span[0]:g} to {span[1]:g} USD per GPU-hour"
    return _Scaled((price.note, what, band), span[0] / price.value, span[1] / price.value)


def _grid(assumed: Assumed) -> _Scaled:
    stated = assumed.kg_co2e_per_kwh
    if stated is None:
        return _Scaled(("no grid",))
    (low, high), where = intensities(assumed)
    by = (in_words(assumed), f"band: {low:g} to {high:g} kg CO2e/kWh ({where})")
    return _Scaled(by) if stated <= 0 else _Scaled(by, low / stated, high / stated)


def _making(assumed: Assumed) -> _Scaled:
    if assumed.embodied is None or assumed.kg_co2e_per_kwh is None:
        return _Scaled(("no figure for the making",))
    made = f"{assumed.embodied.kg_co2e_per_gpu:g} kg per GPU over {assumed.embodied.life_years:g} years"
    return _Scaled((in_words(assumed), made))


PER_1K: dict[str, tuple[str, str, Callable[[Assumed], _Scaled]]] = {
    "estimated_energy_kwh_per_1k_requests": ("energy per 1k requests", "kWh", _nothing),
    "cost_per_1k_requests_usd": ("cost per 1k requests, sustained", "USD", _price),
    "cost_provisioned_per_1k_requests_usd": ("cost per 1k requests, provisioned", "USD", _fleet),
    "co2e_kg_per_1k_requests": ("CO2e per 1k requests", "kg", _grid),
    "sci_kg_per_1k_requests": ("SCI per 1k requests", "kg", _making),
}
PER_DAY: dict[str, Callable[[Assumed], _Scaled]] = {
    "cost, sustained": _price,
    "cost, provisioned": _fleet,
    "energy": _nothing,
    "CO2e": _grid,
    "SCI": _making,
}


def costs(evaluation: Evaluation) -> Figure:
    """Return energy, cost and carbon per 1,000 requests and per day."""
    names = tuple(evaluation.systems)
    rows = _placed([*_per_1k(evaluation), *_per_day(evaluation)])
    lacking = tuple(_lacking(evaluation))
    if not rows:
        whys: dict[str, list[str]] = {}
        for row in lacking:
            whys.setdefault(str(row["why"]), []).append(str(row["figure"]))
        told = [f"{', '.join(dict.fromkeys(figures))}: {why}" for why, figures in whys.items()]
        return Figure(kind="costs", title="Energy, cost and carbon", systems=names, missing="; ".join(told))
    assumed = evaluation.assumed
    return Figure(
        kind="costs",
        title="Energy, cost and carbon",
        systems=names,
        reading=_reading(rows),
        datasets={
            "costs": Dataset(columns=COLUMNS, rows=tuple(rows)),
            "missing": Dataset(
                columns=(Column("figure", "Figure"), Column("system", "System"), Column("why", "Why not")),
                rows=lacking,
                caption="What is not known",
            ),
        },
        notes=(
            f"A day has {assumed.requests_per_day:,.0f} requests.",
            "A thin line is the 95 % interval of what was measured, a broad one what other prices or grids "
            "make of it; a bar is comparable with those under the same heading alone.",
            *(f"{row['figure']} of {row['system']} is not known: {row['why']}." for row in lacking),
            *dict.fromkeys(text for judged in evaluation.pairs for text in judged.comparison.sensitivity),
        ),
    )


def _per_1k(evaluation: Evaluation) -> Iterator[dict[str, Cell]]:
    for name, (figure, unit, scaled) in PER_1K.items():
        for system, metrics in evaluation.sets.items():
            value = metrics.values.get(name)
            if value is not None and value.value is not None:
                yield _row(f"{figure}, {unit}", unit, system, value, scaled(evaluation.assumed))


def _per_day(evaluation: Evaluation) -> Iterator[dict[str, Cell]]:
    """Yield the day's totals: the baseline's as in its first pair."""
    for label, scaled in PER_DAY.items():
        told: set[str] = set()
        for judged in evaluation.pairs:
            comparison = judged.comparison
            day = next((one for one in comparison.per_day if one.label == label), None)
            if day is None:
                continue
            for system, total in (
                (comparison.baseline.name, day.baseline),
                (comparison.optimized.name, day.optimized),
            ):
                if total is not None and system not in told:
                    told.add(system)
                    yield _day_row(day, system, total, scaled(evaluation.assumed))


def _day_row(day: PerDay, system: str, total: float, scaled: _Scaled) -> dict[str, Cell]:
    value = Value(value=total, source="derived", note=day.note)
    by = tuple(text for text in (day.note, *scaled.by) if text and text != MEASURED)
    title = f"{day.label} per day, {day.unit}"
    return _row(title, day.unit, system, value, msgspec.structs.replace(scaled, by=by))


def _row(figure: str, unit: str, system: str, value: Value, scaled: _Scaled) -> dict[str, Cell]:
    assert value.value is not None
    return {
        "figure": figure,
        "system": system,
        "value": seen(value.value),
        "unit": unit,
        "low": seen(value.low),
        "high": seen(value.high),
        "band_low": None if scaled.low is None else seen(value.value * scaled.low),
        "band_high": None if scaled.high is None else seen(value.value * scaled.high),
        "by": "; ".join(scaled.by),
        **{f"by_{i + 1}": text for i, text in enumerate(scaled.by[:LINES])},
    }


def _placed(rows: list[dict[str, Cell]]) -> list[dict[str, Cell]]:
    """Return the rows with their place, and each end as a share of the group's largest."""
    largest: dict[Cell, float] = {}
    for row in rows:
        known = [float(row[key] or 0.0) for key in ("value", "high", "band_high")]
        largest[row["figure"]] = max(largest.get(row["figure"], 0.0), *known)
    for place, row in enumerate(rows):
        row["place"] = place
        for key in ("value", "low", "high", "band_low", "band_high"):
            end, most = row[key], largest[row["figure"]]
            row[f"{key}_share"] = None if end is None else seen(max(0.0, float(end)) / most) if most else 0.0
    return rows


def _lacking(evaluation: Evaluation) -> Iterator[dict[str, Cell]]:
    for name, (figure, _, _) in PER_1K.items():
        for system, metrics in evaluation.sets.items():
            value = metrics.values.get(name)
            if value is None or value.value is None:
                why = "not among its metrics" if value is None else value.note
                yield {"figure": figure, "system": system, "why": why}


def _reading(rows: list[dict[str, Cell]]) -> str:
    """Return what the first of energy, cost and carbon is of each system, at most of three."""
    told: list[str] = []
    for figure in list(dict.fromkeys(row["figure"] for row in rows))[:2]:
        own = [row for row in rows if row["figure"] == figure]
        values = [f"{shown(_number(row['value']), 3)} with {row['system']}" for row in own[:3]]
        more = f" and {len(own) - 3} more" if len(own) > 3 else ""
        text = f"{figure}: {', '.join(values)}{more}"
        told.append(f"{text[0].upper()}{text[1:]}" if not told else text)
    return f"{'; '.join(told)}."


def _number(cell: Cell) -> float | None:
    return float(cell) if isinstance(cell, int | float) else None
