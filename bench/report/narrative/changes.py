"""What changed from the baseline to the optimized system, per request and per day, and what for what."""

from __future__ import annotations

from bench.analysis.change import Direction
from bench.analysis.comparison import PerDay, Row
from bench.analysis.findings import changed, why
from bench.analysis.numbers import shown
from bench.report import cells
from bench.report.narrative.pair import Pair
from bench.report.narrative.prose import bullets, listed, marked
from bench.units import per_day_to_rps

HEADINGS: dict[Direction, str] = {
    "better": "Better",
    "worse": "Worse",
    "same": "Unchanged",
    "unclear": "Open, as the interval includes no change",
    "not resolved": "Not resolved",
}
OPERATIONS = ("load_s", "compile_s")
"""What a change costs whoever runs it, beside the figures that decide."""
OF_DAY = {
    "cost, sustained": "cost_per_1k_requests_usd",
    "cost, provisioned": "cost_provisioned_per_1k_requests_usd",
    "energy": "estimated_energy_kwh_per_1k_requests",
    "CO2e": "estimated_energy_kwh_per_1k_requests",
    "SCI": "sci_kg_per_1k_requests",
}
"""The metric that says whether the change of a day's total is settled."""


def differences(pair: Pair) -> str:
    """Return the changes of the figures that decide, by direction, and what else became worse."""
    rows = pair.deciding
    lines = []
    for direction, heading in HEADINGS.items():
        found = [_brief(row) for row in rows if row.change.direction == direction]
        if found:
            lines.append(marked(heading, f"{'; '.join(found)}."))
    lacking = [f"{row.label} ({why(row)})" for row in rows if row.change.delta is None]
    if lacking:
        lines.append(marked("Not compared", f"{'; '.join(lacking)}."))
    if pair.worse_beside:
        lines.append(marked("Beside these six, worse", f"{'; '.join(map(_brief, pair.worse_beside))}."))
    if not pair.comparison.has_intervals:
        lines += ["", "These are point values without intervals: how far chance moves them is not known."]
    return "\n".join(lines)


def per_day(pair: Pair) -> str:
    """Return what the changes mean for a day at the workload's volume, and what that depends on."""
    comparison = pair.comparison
    volume = f"{comparison.requests_per_day:,.0f} requests a day"
    known = [
        marked(_total(day), f"{_saved(pair, day)}.") for day in comparison.per_day if day.saved is not None
    ]
    lacking: dict[str, list[str]] = {}
    for day in comparison.per_day:
        if day.saved is None:
            lacking.setdefault(_why_no_total(pair, day), []).append(_total(day))
    known += [marked(listed(totals), f"not known ({reason}).") for reason, totals in lacking.items()]
    rate = f"{per_day_to_rps(comparison.requests_per_day):.3g} requests/s on average"
    notes = cells.day_notes(comparison)
    return "\n".join([f"At {volume}, {rate}:", "", *known, *bullets([*notes, *comparison.sensitivity])])


def tradeoffs(pair: Pair) -> str:
    """Return what is gained and what is given for it, a sentence per theme."""
    comparison = pair.comparison
    themes = list(comparison.tradeoffs)
    if pair.worse_beside:
        themes.append(f"Worse beside the six figures: {'; '.join(map(changed, pair.worse_beside))}.")
    moved = [pair.row(name) for name in OPERATIONS if pair.row(name).change.delta]
    if moved:
        themes.append(f"Operation: {'; '.join(changed(row) for row in moved)}.")
    of_one_side = tuple(f"{side.name}: p95 latency" for side in (comparison.baseline, comparison.optimized))
    themes += [text for text in comparison.findings if not text.startswith(of_one_side)]
    return "\n".join(bullets([*themes, *comparison.attribution]))


def _brief(row: Row) -> str:
    """Return a row's change with both figures, and why it is not resolved where it is not."""
    one, two = cells.values(row)
    unit = f" {row.unit}" if row.unit else ""
    if row.change.delta == 0:
        return f"{row.label} stays at {one}{unit}"
    text = f"{changed(row)}, from {one} to {two}{unit}"
    return f"{text}: {row.unresolved}" if row.unresolved else text


def _total(day: PerDay) -> str:
    """Return what a day's total is of: `cost, sustained` is the sustained cost."""
    what, _, which = day.label.partition(", ")
    return f"{which} {what}".strip()


def _why_no_total(pair: Pair, day: PerDay) -> str:
    if day.label == "CO2e" and pair.terms.assumed.kg_co2e_per_kwh is None:
        return "no grid intensity is stated"
    return why(pair.row(OF_DAY[day.label]))


def _saved(pair: Pair, day: PerDay) -> str:
    """Return what a day saves or takes more; where no interval settles that, only the figures."""
    assert day.saved is not None
    figures = f"{shown(day.baseline)} to {shown(day.optimized)} {day.unit}"
    direction = pair.row(OF_DAY[day.label]).change.direction if day.label in OF_DAY else "not judged"
    if direction == "unclear":
        return f"{figures}; the interval leaves open whether that is a change"
    if direction == "not resolved":
        return f"{figures}; whether that is a change is not resolved"
    if day.saved == 0:
        return f"{figures}, the same"
    amount = f"{shown(abs(day.saved))} {day.unit}"
    return f"{figures}, {f'saves {amount}' if day.saved > 0 else f'takes {amount} more'}"
