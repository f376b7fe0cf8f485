"""One gate of the verdict, and how a figure is held against a limit."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

import msgspec

from bench.analysis.comparison import Comparison
from bench.analysis.contrast import beyond_repeats
from bench.analysis.stats import MAX_REPEATS, repeats_needed
from bench.records import Value

Outcome = Literal["pass", "fail", "unclear", "not measured", "assumed", "waived"]
ON_THRESHOLD = "the figure lies on its threshold; more running will hardly settle it"
MORE_THAN_ONE = "more repeats would settle it: one has its blocks alone"
FAR_BEYOND = 1.5
"""A figure without an interval that it deserves fails a limit when it is this many times beyond it."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of a gate that judges several, as the report shows it.

    `limit` is what it was held against, in words, and `outcome` how; both are empty where it is shown only.
    `at_least` and `at_most` are the limit's ends, None where that side is open. `unchanged` is what the
    figure is where nothing changed, None where it is no such measure. `floor` is what rounding alone makes of
    it.
    """

    name: str
    label: str
    value: Value
    limit: str = ""
    outcome: Outcome | Literal["not informative", ""] = ""
    floor: Value | None = None
    within_floor: bool = False
    at_least: float | None = None
    at_most: float | None = None
    unchanged: float | None = None


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One condition and how it came out.

    `settle` says how much more running an unclear one needs, or what one that was not measured asks for.
    `parts` are the figures of a gate that judges several.
    """

    name: str
    outcome: Outcome
    text: str
    settle: str = ""
    parts: tuple[Part, ...] = ()


def repeats_to_settle(value: Value, threshold: float) -> str:
    """Return how many repeats would bring an interval to one side of its threshold.

    More repeats narrow what they scatter by, and not what a meter leaves open of each.
    """
    if value.value is None or value.low is None or value.high is None or value.n is None:
        return ""
    if value.blocks is not None:
        return MORE_THAN_ONE
    if value.value < 0 and threshold < 0:
        return repeats_to_settle(negated(value), -threshold)
    ends = [value.value, value.low, value.high, threshold]
    scatter = value.high - beyond_repeats(value)[1]
    if min(ends) > 0:
        # As the interval of a level was made: symmetric on the logarithm.
        scatter, ends = math.log(scatter), [math.log(end) for end in ends]
    figure, low, high, threshold = ends
    return repeats_for(value.n, scatter - figure, (figure, low, high), threshold, value.confidence)


def repeats_for(
    n: int, half: float, interval: tuple[float, float, float], threshold: float, confidence: float
) -> str:
    """Return how many repeats bring an interval (figure, low, high) to one side of a threshold, in words.

    `half` of it comes from the repeats' scatter, to either side; what is wider no repeat narrows.
    """
    figure, low, high = interval
    left_open = (figure - low if threshold < figure else high - figure) - half
    if left_open < 1e-9 * half:
        left_open = 0.0
    return repeats_in_words(n, half, abs(figure - threshold) - left_open, confidence, left_open)


def repeats_in_words(n: int, half: float, target: float, confidence: float, left_open: float = 0.0) -> str:
    """Return how many repeats bring an interval of `half` to either side at `n` repeats down to `target`.

    `left_open` is what no repeat narrows, already taken off both.
    """
    if target <= 0 < left_open:
        return "more repeats alone will not settle it: the meter leaves more open than the distance"
    needed = repeats_needed(n, half, target, MAX_REPEATS, confidence)
    return ON_THRESHOLD if needed is None else f"about {needed} repeats instead of {n} would settle it"


def at_most(name: str, value: Value, limit: float, text: str, *, longer: str = "") -> Gate:
    """Judge `value <= limit` by its interval, or on the point value where there is none.

    One that is not resolved cannot pass: finite windows under load err low. A rate of failures that were not
    seen even once passes: the doubt left is only that more might have been seen in more requests.
    `longer` is what would resolve it.
    """
    assert value.value is not None
    if value.unresolved:
        return _unresolved(name, value, limit, text, longer)
    low = value.value if value.low is None else value.low
    high = value.value if value.high is None else value.high
    if high <= limit or value.value == 0 <= limit:
        return Gate(name=name, outcome="pass", text=text)
    if low > limit:
        return Gate(name=name, outcome="fail", text=text)
    return Gate(name=name, outcome="unclear", text=text, settle=repeats_to_settle(value, limit))


def _unresolved(name: str, value: Value, limit: float, text: str, longer: str) -> Gate:
    """Fail a figure that is not resolved where it, and every repeat, is far beyond its limit all the same."""
    assert value.value is not None
    said = f"{text}; not resolved: {value.unresolved}"
    every = [value.value, *(value.repeats or {}).values()]
    if limit > 0 and value.value > FAR_BEYOND * limit and min(every) > limit:
        return Gate(name=name, outcome="fail", text=f"{said}, and it is far beyond")
    return Gate(name=name, outcome="unclear", text=said, settle=longer)


def negated(value: Value) -> Value:
    """Turn `at least` into `at most`."""
    flip = [None if x is None else -x for x in (value.value, value.high, value.low)]
    repeats = None if value.repeats is None else {k: -figure for k, figure in value.repeats.items()}
    return msgspec.structs.replace(value, value=flip[0], low=flip[1], high=flip[2], repeats=repeats)


def not_measured(name: str, text: str, *, waived: bool = False, settle: str = "") -> Gate:
    """Return the gate of figures that could have been measured; a person may have waived it by name."""
    if waived:
        return Gate(name=name, outcome="waived", text=text)
    return Gate(name=name, outcome="not measured", text=text, settle=settle)


def state(*rows: str) -> str:
    """Return how a figure that bare CSVs lack is settled."""
    return f"state {' and '.join(rows)} in both CSVs"


def absent(
    comparison: Comparison,
    name: str,
    rows: Collection[str],
    text: str,
    *,
    waived: bool = False,
    settle: str = "",
) -> Gate:
    """Return the gate of figures that are not known.

    CSVs without any of the rows could not have said it. A row that is there and empty says that the
    figure was not measured.
    """
    empty = sorted(row for row in rows if row in comparison.rows)
    if not empty:
        return Gate(name=name, outcome="assumed", text="not part of bare CSVs; assumed by the scenario")
    return not_measured(name, text, waived=waived, settle=state(*empty) if comparison.bare else settle)
