"""What became of the outputs: every measure with its interval, beside the noise floor and the gate's limit.

Measures have units of their own, so each that has a limit is drawn as its distance from *nothing changed*
towards the limit, in shares of the distance that the gate tolerates: 100 % is the limit. The others stand in
the table. The noise floor is what rounding alone does: the baseline against itself at another batch size.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.evaluation import Evaluation, Judged
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.thinning import seen
from bench.analysis.gate import Gate, Part
from bench.analysis.quality_gate import NAME, figure_of
from bench.records import Value
from bench.units import PERCENT


def quality(evaluation: Evaluation) -> Figure:
    """Return every measure of the outputs of every system that was held against its baseline."""
    names = tuple(evaluation.systems)
    judged = [(one, gate) for one in evaluation.pairs if (gate := _gate(one)) is not None and gate.parts]
    if not judged:
        return Figure(kind="quality", title="Output quality", systems=names, missing=_why_none(evaluation))
    # The order of the measures first, so that systems stand side by side under each.
    order = {part.name: place for place, part in enumerate(judged[0][1].parts)}
    found = [
        (part, one.comparison.optimized.name)
        for one, gate in judged
        for part in gate.parts
        if part.value.value is not None
    ]
    found.sort(key=lambda pair: order.get(pair[0].name, len(order)))
    return Figure(
        kind="quality",
        title="Output quality",
        systems=names,
        reading=_reading(judged),
        datasets={
            "quality": Dataset(
                columns=_columns(),
                rows=tuple(_rows(found)),
            ),
            "formats": Dataset(
                columns=(
                    Column("system", "System"),
                    Column("check", "Format"),
                    Column("baseline", "Baseline keeps (%)", 3),
                    Column("own", "System keeps (%)", 3),
                    Column("lost", "Lost"),
                    Column("won", "Won"),
                    Column("p", "McNemar p", 2),
                ),
                rows=tuple(_formats(judged)),
                caption="Formats kept",
            ),
            "tone": Dataset(
                columns=(
                    Column("system", "System"),
                    Column("statistic", "Tone"),
                    Column("shift", "Shift (SD)", 2),
                    Column("low", "90 % from", 2),
                    Column("high", "90 % to", 2),
                ),
                rows=tuple(_tone(judged)),
                caption="Tone of the outputs, against the baseline's",
            ),
        },
        notes=tuple(_notes(evaluation, judged)),
    )


def _columns() -> tuple[Column, ...]:
    return (
        Column("system", "System"),
        Column("measure", "Measure"),
        Column("value", "Value"),
        Column("low", "Interval from"),
        Column("high", "to"),
        Column("floor", "Noise floor"),
        Column("limit", "Limit"),
        Column("outcome", "Outcome"),
    )


def _rows(found: list[tuple[Part, str]]) -> Iterator[dict[str, Cell]]:
    """Yield what has a limit first: it is drawn, the table has all."""
    for place, (part, system) in enumerate(sorted(found, key=lambda pair: not _tolerated(pair[0]))):
        value, by = part.value, _tolerated(part)
        yield {
            "system": system,
            "measure": part.label,
            "place": place,
            "drawn": bool(by),
            "value": seen(value.value),
            "low": seen(value.low),
            "high": seen(value.high),
            "says": figure_of(part.name, value.value),
            "floor": None if part.floor is None else seen(part.floor.value),
            "limit": part.limit or None,
            "held": f"limit {part.limit}",
            "outcome": part.outcome or None,
            "pct": _share(_distance(part, value.value), by),
            **_span(part, value, by),
            "floor_pct": None if part.floor is None else _share(_distance(part, part.floor.value), by),
            "limit_pct": PERCENT if by else None,
        }


def _distance(part: Part, figure: float | None) -> float | None:
    """Return how far a figure is from no change, in the direction that the gate bounds, or whichever way."""
    if figure is None or part.unchanged is None:
        return None
    away = figure - part.unchanged
    both = part.at_least is not None and part.at_most is not None
    return abs(away) if both else max(0.0, away if part.at_least is None else -away)


def _tolerated(part: Part) -> float | None:
    """Return the distance that the gate tolerates, of a range the lesser; None where there is no limit."""
    ends = [_distance(part, end) for end in (part.at_least, part.at_most) if end is not None]
    known = [end for end in ends if end is not None]
    return min(known) if known else None


def _span(part: Part, value: Value, by: float | None) -> dict[str, Cell]:
    """Return the interval of the distance; one that holds no change begins there."""
    if not by:
        return {"low_pct": None, "high_pct": None}
    low, high = _distance(part, value.low), _distance(part, value.high)
    if low is None or high is None or part.unchanged is None:
        return {"low_pct": None, "high_pct": None}
    assert value.low is not None
    assert value.high is not None
    inside = value.low <= part.unchanged <= value.high
    return {"low_pct": 0.0 if inside else _share(min(low, high), by), "high_pct": _share(max(low, high), by)}


def _share(distance: float | None, by: float | None) -> float | None:
    return seen(distance / by * PERCENT) if distance is not None and by else None


def _formats(judged: list[tuple[Judged, Gate]]) -> Iterator[dict[str, Cell]]:
    for one, _ in judged:
        side = one.comparison.optimized
        held = None if side.quality is None else side.quality.against_baseline
        for check in () if held is None else held.checks:
            yield {
                "system": side.name,
                "check": check.label,
                "baseline": _percent(check.reference),
                "own": _percent(check.own),
                "lost": check.lost,
                "won": check.won,
                "p": seen(check.p),
            }


def _tone(judged: list[tuple[Judged, Gate]]) -> Iterator[dict[str, Cell]]:
    for one, _ in judged:
        side = one.comparison.optimized
        held = None if side.quality is None else side.quality.against_baseline
        for shift in () if held is None else held.tone:
            if shift.shift.value is not None:
                yield {
                    "system": side.name,
                    "statistic": shift.label,
                    "shift": seen(shift.shift.value),
                    "low": seen(shift.shift.low),
                    "high": seen(shift.shift.high),
                }


def _percent(value: Value) -> float | None:
    return None if value.value is None else seen(value.value * PERCENT)


def _gate(judged: Judged) -> Gate | None:
    return next((gate for gate in judged.verdict.gates if gate.name == NAME), None)


def _reading(judged: list[tuple[Judged, Gate]]) -> str:
    """Return which systems pass, fail or are open, and by what the first of them fails."""
    by_outcome: dict[str, list[str]] = {}
    for one, gate in judged:
        by_outcome.setdefault(gate.outcome, []).append(one.comparison.optimized.name)
    told = [f"{outcome}: {', '.join(names)}" for outcome, names in by_outcome.items()]
    worst = next((gate for _, gate in judged if gate.outcome == "fail"), judged[0][1])
    return f"The quality gate, {'; '.join(told)}. {worst.text[0].upper()}{worst.text[1:]}."


def _notes(evaluation: Evaluation, judged: list[tuple[Judged, Gate]]) -> Iterator[str]:
    yield (
        "Bars are distances from no change towards the limit, in % of what the gate tolerates; measures "
        "without a limit are in the table alone. A ring is the noise floor: what rounding alone does to the "
        "baseline."
    )
    first = judged[0][0].comparison
    for side in (first.baseline, first.optimized):
        if side.quality is not None and side is first.optimized and side.quality.how:
            yield f"{side.quality.how}."
        if side.quality is not None and side is first.baseline and side.quality.floor:
            yield f"Noise floor: {side.name} against itself {side.quality.floor}."
    known = {one.comparison.optimized.name for one, _ in judged}
    for one in evaluation.pairs:
        name, gate = one.comparison.optimized.name, _gate(one)
        if name not in known and gate is not None:
            yield f"{name}: {gate.text}."


def _why_none(evaluation: Evaluation) -> str:
    if not evaluation.pairs:
        return "there is one system only, and no outputs to hold its own against"
    texts = [gate.text for one in evaluation.pairs if (gate := _gate(one)) is not None]
    return "; ".join(dict.fromkeys(texts)) or "the verdict has no quality gate"
