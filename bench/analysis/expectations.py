"""What was expected before the measurement, and what became of it.

An expectation is written down with the experiment and recorded with its runs, so nobody can fit it to the
figures afterwards. Each is held against the change with its whole interval: *confirmed* or *refuted* where
both ends say so, *inconclusive* where they disagree, *not measured* where there is no change to look at.
`lower` and `higher` are about the direction alone, however little. `may rise` and `may fall` are permissions:
to rise or fall as far as a regression is tolerated, and to stay. `unchanged` is within the material
threshold. `small loss` is for `quality`: within the tolerance of its gate. None of them decides the verdict.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from bench.analysis.change import Change
from bench.analysis.comparison import Comparison, Row
from bench.analysis.findings import changed, why
from bench.analysis.gate import Gate
from bench.analysis.metrics import METRICS
from bench.config import Expected
from bench.errors import ConfigError

Fate = Literal["confirmed", "refuted", "inconclusive", "not measured"]

QUALITY = "quality"
_FATES: dict[str, Fate] = {"pass": "confirmed", "fail": "refuted", "unclear": "inconclusive"}


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """One expectation and its fate; `text` is the change, with the interval, that says so."""

    name: str
    label: str
    expected: Expected
    fate: Fate
    text: str

    @property
    def statement(self) -> str:
        """What was expected, in words."""
        return f"{self.label}: {self.expected}"


def check_expectations(expected: Mapping[str, Expected]) -> None:
    """Raise ConfigError for an expectation of something that is never measured."""
    known = [QUALITY, *METRICS]
    for name, what in expected.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"expectations.{name} is no metric of the CSVs, and not 'quality'{hint}")
        if (name == QUALITY) != (what == "small loss"):
            fit = "'small loss'" if name == QUALITY else "a direction; 'small loss' is for quality"
            raise ConfigError(f"expectations.{name} is {what!r}; expected {fit}")


def judge_expectations(
    comparison: Comparison,
    gates: Sequence[Gate],
    expected: Mapping[str, Expected],
    *,
    material_pct: float,
    tolerated_pct: float,
) -> tuple[Expectation, ...]:
    """Return the fate of every expectation, in the order in which they were stated."""
    return tuple(
        _of_quality(gates)
        if name == QUALITY
        else _of_row(_named(comparison.row(name)), what, material_pct, tolerated_pct)
        for name, what in expected.items()
    )


def _of_quality(gates: Sequence[Gate]) -> Expectation:
    """Return the fate of a small loss of quality: that of its gate."""
    gate = next((gate for gate in gates if gate.name == QUALITY), None)
    fate: Fate = "not measured" if gate is None else _FATES.get(gate.outcome, "not measured")
    return Expectation(
        name=QUALITY,
        label="output quality",
        expected="small loss",
        fate=fate,
        text="nothing says" if gate is None else gate.text,
    )


def _of_row(row: Row, expected: Expected, material_pct: float, tolerated_pct: float) -> Expectation:
    def found(fate: Fate, text: str) -> Expectation:
        return Expectation(name=row.name, label=row.label, expected=expected, fate=fate, text=text)

    change = row.change
    if change.delta is None:
        return found("not measured", why(row))
    if row.unresolved:
        return found("inconclusive", f"{changed(row)}: {row.unresolved}")
    text = changed(row) if change.low is not None else f"{changed(row)}, on point values"
    low, high = _percentages(change)
    limits = {"unchanged": material_pct, "may rise": tolerated_pct, "may fall": tolerated_pct}
    if (limit := limits.get(expected)) is not None:
        text += f"; allowed is {limit:g} %"
    return found(_fate(expected, low, high, material_pct, tolerated_pct), text)


def _percentages(change: Change) -> tuple[float, float]:
    """Return the ends of a change in percent: both its figure where it has no interval, endless from zero."""
    assert change.delta is not None
    if change.pct_change is None:
        ends = (change.delta, change.delta) if change.low is None else (change.low, change.high or 0.0)
        low, high = (0.0 if end == 0 else math.copysign(math.inf, end) for end in ends)
        return low, high
    if change.low_pct is None or change.high_pct is None:
        return change.pct_change, change.pct_change
    return change.low_pct, change.high_pct


def _fate(expected: Expected, low: float, high: float, material_pct: float, tolerated_pct: float) -> Fate:
    """Return where an interval of a change in percent lies against what was expected of it."""
    match expected:
        case "lower":
            confirmed, refuted = high < 0, low >= 0
        case "higher":
            confirmed, refuted = low > 0, high <= 0
        case "may rise":
            confirmed, refuted = high <= tolerated_pct, low > tolerated_pct
        case "may fall":
            confirmed, refuted = low >= -tolerated_pct, high < -tolerated_pct
        case _:
            confirmed = -material_pct <= low and high <= material_pct
            refuted = low > material_pct or high < -material_pct
    return "confirmed" if confirmed else "refuted" if refuted else "inconclusive"


def _named(row: Row) -> Row:
    """Return a row by its metric's own label, also where neither side has it."""
    return msgspec.structs.replace(row, label=METRICS[row.name].label) if row.name in METRICS else row
