"""Which change did what: the effects of every full factorial among the systems, with their intervals.

A main effect is the geometric mean of what a change does over the levels of the others; an interaction says
how much more, or less, two give together than the product of each alone (see `analysis.factorial`).
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.attribution import directed, name_of, sentences, shown_of, spoken_of, title
from bench.analysis.effects import MATERIAL_PCT
from bench.analysis.evaluation import Evaluation
from bench.analysis.factorial import NOT_RESOLVED, Effect, Factorial, Response, factorials
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.thinning import seen

MOST = 6
"""So many factorials are shown; the largest come first."""
NO_FACTORIAL = (
    "no full factorial is among the systems: to tell two changes apart, each is measured alone and both "
    "together (configs/factorial.toml)"
)


def effects(evaluation: Evaluation) -> Figure:
    """Return main effects, interactions and the total of each metric."""
    names = tuple(evaluation.systems)
    found = factorials(evaluation.sets)
    rows = [row for factorial in found[:MOST] for row in _rows(factorial)]
    if not rows:
        why = NO_FACTORIAL if not found else "; ".join(sentences(found[0])[:2])
        return Figure(kind="effects", title="Which change did what", systems=names, missing=why)
    return Figure(
        kind="effects",
        title="Which change did what",
        systems=names,
        reading=_reading(found[0]),
        datasets={
            "effects": Dataset(
                columns=(
                    Column("factors", "Factorial"),
                    Column("metric", "Metric"),
                    Column("of", "Effect of"),
                    Column("pct", "Change (%)"),
                    Column("low_pct", "95 % from (%)"),
                    Column("high_pct", "95 % to (%)"),
                    Column("direction", "Direction"),
                ),
                rows=tuple({**row, "place": place} for place, row in enumerate(rows)),
            ),
            "material": Dataset(
                columns=(Column("low_pct", "Immaterial from (%)"), Column("high_pct", "to (%)")),
                rows=({"low_pct": -MATERIAL_PCT, "high_pct": MATERIAL_PCT},),
                caption="Changes within are no reason for or against",
            ),
        },
        notes=tuple(_notes(found)),
    )


def _rows(factorial: Factorial) -> Iterator[dict[str, Cell]]:
    for response in spoken_of(factorial):
        for effect in shown_of(response):
            yield {
                "factors": title(factorial),
                "metric": response.label,
                "of": name_of(factorial, effect),
                "short": "together" if effect.together else " × ".join(effect.of),
                "pct": seen(effect.pct),
                "low_pct": seen(effect.low_pct),
                "high_pct": seen(effect.high_pct),
                "direction": _direction(response, effect),
            }


def _direction(response: Response, effect: Effect) -> str:
    if response.unresolved.startswith(NOT_RESOLVED):
        return NOT_RESOLVED
    return directed(response, effect)


def _reading(factorial: Factorial) -> str:
    """Return the sentence on the first metric that has effects with intervals, else with any."""
    responses = [response for response in spoken_of(factorial) if response.effects]
    best = next((response for response in responses if not response.unresolved), responses[0])
    told = next(text for text in sentences(factorial) if text.startswith(f"{best.label}: "))
    return f"{told[0].upper()}{told[1:]}"


def _notes(found: tuple[Factorial, ...]) -> Iterator[str]:
    yield (
        "Geometric means over the levels of the others; an interaction is how much more, or less, both "
        "together give than the product of each alone."
    )
    for factorial in found[:MOST]:
        yield f"{title(factorial)}: between the systems {', '.join(factorial.systems)}."
        yield from (f"{title(factorial)}: {warning}." for warning in factorial.warnings)
    if len(found) > MOST:
        yield f"{len(found) - MOST} smaller factorials are not shown; `bench compare` has all."
