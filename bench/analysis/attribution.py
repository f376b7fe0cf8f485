"""A factorial in sentences: one per metric, with each change's effect and what they do together.

Every sentence is made from the figures. Where the effects depend on one another, a main effect is an average
that may hold nowhere, so the sentence says so and gives what each change does at each level of the other.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.change import Direction
from bench.analysis.factorial import Effect, Factorial, Response
from bench.analysis.metrics import METRICS, REQUIRED

SPOKEN_OF = (*REQUIRED, "perplexity")
"""The metrics that are told of unless all are asked for."""


def sentences(factorial: Factorial, *, every: bool = False) -> tuple[str, ...]:
    """Return a sentence per metric, those that have no figure at all together, and the warnings first."""
    lacking: dict[str, list[str]] = {}
    points: dict[str, list[str]] = {}
    told = []
    n = 0
    for response in spoken_of(factorial, every=every):
        n += _intervals(response)
        if response.effects:
            told.append(_sentence(factorial, response))
        elif response.alone:
            told.append(_part(response))
        else:
            lacking.setdefault(response.why, []).append(response.label)
        if response.unresolved:
            points.setdefault(response.unresolved, []).append(response.label)
    told += [f"{', '.join(labels)}: no intervals ({why})." for why, labels in points.items()]
    told += [f"{', '.join(labels)}: no effect can be told ({why})." for why, labels in lacking.items()]
    return (*(f"{line}." for line in factorial.warnings), *told, *([_multiplicity(n)] if n > 1 else []))


def beyond_table(factorial: Factorial, *, every: bool = False, in_full: bool = True) -> tuple[str, ...]:
    """Return what a table of the effects (see `shown_of`) does not say already, the warnings first.

    Which metric has no main effects and why, why there are no intervals, and, `in_full`, what each factor
    does at each level of the others where the effects depend on one another, and how many intervals are told.
    """
    told = []
    lacking: dict[str, list[str]] = {}
    points: dict[str, list[str]] = {}
    n = 0
    for response in spoken_of(factorial, every=every):
        n += _intervals(response)
        if response.unresolved:
            points.setdefault(response.unresolved, []).append(response.label)
        if not response.effects and not (in_full and response.alone):
            lacking.setdefault(response.why, []).append(response.label)
        elif in_full and not response.effects:
            told.append(_part(response))
        elif in_full and _one_at_a_time(response):
            told.append(f"{response.label}: {_averages(response)}")
    told += [f"{', '.join(labels)}: no intervals ({why})." for why, labels in points.items()]
    told += [f"{', '.join(labels)}: no main effects ({why})." for why, labels in lacking.items()]
    many = [_multiplicity(n)] if in_full and n > 1 else []
    return (*(f"{line}." for line in factorial.warnings), *told, *many)


def shown_of(response: Response) -> tuple[Effect, ...]:
    """Return the effects that a table shows: main effects, interactions, and all together."""
    return (*response.effects, *([response.total] if response.total else []))


def spoken_of(factorial: Factorial, *, every: bool = False) -> Iterator[Response]:
    """Yield the responses that are shown: the required metrics whatever they hold, others with effects."""
    for name, response in factorial.responses.items():
        if name in REQUIRED or (response.effects and (every or name in SPOKEN_OF)):
            yield response


def title(factorial: Factorial) -> str:
    """Return the factors with their levels."""
    return " × ".join(factor.title for factor in factorial.factors)


def name_of(factorial: Factorial, effect: Effect) -> str:
    """Return what an effect is of: a factor with its levels, an interaction, or all together."""
    if effect.together:
        return "together"
    if len(effect.of) > 1:
        return f"interaction {' × '.join(effect.of)}"
    return next(factor.title for factor in factorial.factors if factor.group == effect.of[0])


def percent(effect: Effect) -> str:
    """Return an effect's figure: `+412.0 %`."""
    return f"{_signed(effect.pct)} %"


def interval(effect: Effect) -> str:
    """Return its interval: `+380.0 to +450.0 %`; empty where there is none."""
    if effect.low_pct is None or effect.high_pct is None:
        return ""
    return f"{_signed(effect.low_pct)} to {_signed(effect.high_pct)} %"


def _signed(pct: float) -> str:
    """Return percent with a sign and one decimal; without it from a thousand on, where it says nothing."""
    rounded = round(pct, 1) + 0.0  # a zero has no sign of its own
    return f"{rounded:+.1f}" if abs(rounded) < 1000 else f"{rounded:+.0f}"


def _figure(effect: Effect) -> str:
    return f"{percent(effect)} ({interval(effect)})" if interval(effect) else percent(effect)


def _sentence(factorial: Factorial, response: Response) -> str:
    """Return the sentence on a metric of which all corners have the figure."""
    mains = [effect for effect in response.effects if len(effect.of) == 1]
    interactions = [effect for effect in response.effects if len(effect.of) > 1]
    parts = [f"{name_of(factorial, effect)} {_figure(effect)}" for effect in mains]
    text = f"{response.label}: {'; '.join(parts)}"
    if response.total is not None:
        text += f"; together {_figure(response.total)}"
    if len(factorial.factors) == 2:
        text += f", {_as_product(interactions[0])}"
    else:
        text += "".join(f"; {name_of(factorial, effect)} {_figure(effect)}" for effect in interactions)
    text += "."
    if _one_at_a_time(response):
        return f"{text} {_averages(response)}"
    if response.unresolved:
        return text
    if all(effect.extent == "immaterial" for effect in interactions):
        text += " Each does nearly the same whatever the other is."
    else:
        text += " Whether they depend on one another is open."
    return text


def _as_product(interaction: Effect) -> str:
    """Return how what both do together lies to the product of what each does alone."""
    way = "more" if interaction.pct > 0 else "less"
    ends = f", {interval(interaction)}" if interval(interaction) else ""
    return f"{abs(interaction.pct):.1f} % {way} than the product of each alone (interaction{ends})"


def _part(response: Response) -> str:
    """Return the sentence on a metric that some corners lack: what the others still tell."""
    return (
        f"{response.label}: no main effects ({response.why}); between the systems that have it: "
        f"{_alone(response)}."
    )


def _averages(response: Response) -> str:
    """Return what each factor does at each level of the others, and why that is told."""
    if response.unresolved:
        return f"One at a time: {_alone(response)}."
    return f"The effects depend on one another, so each is an average: {_alone(response)}."


def _one_at_a_time(response: Response) -> bool:
    """Say whether it is told what each does at each level of the others: the main effects are not enough."""
    telling = [effect for effect in response.effects if len(effect.of) > 1 or response.unresolved]
    return not response.effects or any(effect.extent == "material" for effect in telling)


def _intervals(response: Response) -> int:
    """Return how many intervals are told of a metric."""
    told = (*shown_of(response), *(response.alone if _one_at_a_time(response) else ()))
    return sum(effect.low_pct is not None for effect in told)


def _alone(response: Response) -> str:
    """Return what each factor does at each level of the others: `batching +480.0 % at precision fp16, …`."""
    by_group: dict[str, list[str]] = {}
    for effect in response.alone:
        by_group.setdefault(effect.of[0], []).append(f"{_figure(effect)} at {' and '.join(effect.at)}")
    return "; ".join(f"{group} {', '.join(texts)}" for group, texts in by_group.items())


def _multiplicity(n: int) -> str:
    """Return what `n` intervals of 95 % each mean together."""
    return (
        f"Each of these {n} effects has a 95 % interval of its own: about one in twenty misses the truth, so "
        "a single one that barely excludes no change is weak evidence."
    )


def directed(response: Response, effect: Effect) -> Direction:
    """Return whether an effect is for the better; an interaction is neither way."""
    if (len(effect.of) > 1 and not effect.together) or effect.low_pct is None or effect.high_pct is None:
        return "not judged"
    if effect.low_pct <= 0.0 <= effect.high_pct:
        return "unclear"
    return "better" if (effect.pct < 0) == (METRICS[response.name].better == "lower") else "worse"
