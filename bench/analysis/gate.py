"""One gate of the verdict, and how a figure is held against a limit."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec

from bench.analysis.comparison import Comparison
from bench.analysis.stats import MAX_REPEATS, repeats_needed
from bench.records import Value

Outcome = Literal["pass", "fail", "unclear", "not measured", "assumed", "waived"]
ON_THRESHOLD = "the figure lies on its threshold; more running will hardly settle it"


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One condition and how it came out. `settle` says how much more running an unclear one needs."""

    name: str
    outcome: Outcome
    text: str
    settle: str = ""


def repeats_to_settle(value: Value, threshold: float) -> str:
    """Return how many repeats would bring an interval to one side of its threshold."""
    if value.value is None or value.low is None or value.high is None or value.n is None:
        return ""
    arm = value.value - value.low if threshold < value.value else value.high - value.value
    needed = repeats_needed(value.n, arm, abs(value.value - threshold), MAX_REPEATS)
    if needed is None:
        return ON_THRESHOLD
    return f"about {needed} repeats instead of {value.n} would settle it"


def at_most(name: str, value: Value, limit: float, text: str) -> Gate:
    """Judge `value <= limit` by its interval, or on the point value where there is none."""
    assert value.value is not None
    low = value.value if value.low is None else value.low
    high = value.value if value.high is None else value.high
    if high <= limit:
        return Gate(name=name, outcome="pass", text=text)
    if low > limit:
        return Gate(name=name, outcome="fail", text=text)
    return Gate(name=name, outcome="unclear", text=text, settle=repeats_to_settle(value, limit))


def negated(value: Value) -> Value:
    """Turn `at least` into `at most`."""
    flip = [None if x is None else -x for x in (value.value, value.high, value.low)]
    return msgspec.structs.replace(value, value=flip[0], low=flip[1], high=flip[2])


def absent(comparison: Comparison, name: str, rows: Collection[str], text: str) -> Gate:
    """Return the gate of figures that are not known.

    CSVs without any of the rows could not have said it. A row that is there and empty says that the
    figure was not measured.
    """
    if not any(row in comparison.rows for row in rows):
        return Gate(name=name, outcome="assumed", text="not part of bare CSVs; assumed by the scenario")
    return Gate(name=name, outcome="not measured", text=text)
