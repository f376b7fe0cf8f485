"""The quality gate: does the system still write what the baseline writes, within the stated tolerance?

Each figure is held against its limit by its interval: it passes with all of it inside, fails with all of it
outside, and is unclear else. The gate is as good as its worst figure. Nothing is subtracted for noise, but
each figure stands beside the noise floor, and one within it is said to be: rounding alone does as much.
A baseline that fails these very limits against itself makes the measurement void.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from bench.analysis.comparison import QUALITY, Comparison
from bench.analysis.formats import WELL_FORMED
from bench.analysis.gate import ON_THRESHOLD, Gate, Part, absent, not_measured
from bench.analysis.numbers import shown
from bench.analysis.output_quality import Check, Held
from bench.analysis.quality import AGAINST_REFERENCE, TEACHER_FORCED
from bench.config import Quality
from bench.records import Value

NAME = "quality"
WAIVE = 'waive it by name (objectives.waive = ["quality"])'
SHOWN: dict[str, tuple[str, float | None]] = {
    "perplexity_ratio": ("perplexity ratio", 1.0),
    "mean_kl": ("mean KL, nats", 0.0),
    "median_kl": ("median KL, nats", 0.0),
    "kl_p99": ("KL p99, nats", 0.0),
    "top1_agreement": ("top-1 agreement", 1.0),
    "probability_rms": ("RMS change of the token's probability", 0.0),
    "identical_outputs": ("identical outputs", 1.0),
    "first_divergence": ("first divergence (median), tokens", None),
    "output_edit_distance": ("edit distance of the tokens", 0.0),
    "output_length_ratio": ("length ratio", 1.0),
    "output_truncated": ("cut off more often", 0.0),
    "output_distinct_2": ("distinct token pairs, change", 0.0),
    "output_longest_repeat": ("longest repeat, change, tokens", 0.0),
    "format_drop": ("format kept less often", 0.0),
    "tone_shift": ("largest tone shift, SD", 0.0),
}
"""Every measure in the report's order: its label, and what it is where nothing changed."""
_DUST = 1e-9
"""What summation in float64 leaves of nothing."""
MOST_TIMES = 50.0
"""More text or prompts than this many times as much are not worth naming."""


class _Limit(msgspec.Struct, frozen=True):
    """What a measure must keep to: at least `low`, at most `high`."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def words(self) -> str:
        if math.isinf(self.low):
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if math.isinf(self.high) else f"{self.low:g} to {self.high:g}"

    @property
    def least(self) -> float | None:
        return None if math.isinf(self.low) else self.low

    @property
    def most(self) -> float | None:
        return None if math.isinf(self.high) else self.high

    def judge(self, value: Value) -> Literal["pass", "fail", "unclear"]:
        low, high = _ends(value)
        if self.low <= low and high <= self.high:
            return "pass"
        return "fail" if high < self.low or low > self.high else "unclear"

    def more(self, value: Value) -> float:
        """Return how many times as much must be measured for the interval to leave the nearer limit."""
        low, high = _ends(value)
        assert value.value is not None
        near = min((self.low, self.high), key=lambda end: abs(end - (value.value or 0.0)))
        arm = high - value.value if near > value.value else value.value - low
        distance = abs(near - value.value)
        return math.inf if distance == 0 else (arm / distance) ** 2


def output_quality(comparison: Comparison, limits: Quality, *, waived: bool = False) -> Gate:
    """Judge the outputs against the baseline's by every measure that has a limit.

    A pair of CSVs without quality rows cannot say: it is assumed by the scenario. A run that could have
    measured it and did not is not measured, or waived where that was said by name.
    """
    values = {name: comparison.row(name).optimized for name in AGAINST_REFERENCE}
    values["perplexity_ratio"] = _ratio(comparison)
    if why := _lacking(comparison, values):
        text = f"output quality was not measured: {why}"
        remedy = f"{'set quality.tokens' if limits.tokens == 0 else 'measure it'}, or {WAIVE}"
        return absent(comparison, NAME, QUALITY, text, waived=waived, settle=remedy)
    found, base = comparison.optimized.quality, comparison.baseline.quality
    held = None if found is None else found.against_baseline
    floor = None if base is None else base.against_itself
    if held is not None:
        values = held.measures | {name: value for name, value in values.items() if value.value is not None}
    if floor is not None:
        broken = [part for part in _parts(floor.measures, floor.checks, limits) if part.outcome == "fail"]
        if broken:
            text = "void: the baseline fails its own limits against itself at another batch size"
            return not_measured(NAME, f"{text}: {'; '.join(map(_said, broken))}", waived=waived)
    return _gate(_parts(values, () if held is None else held.checks, limits, floor), limits)


def _gate(parts: tuple[Part, ...], limits: Quality) -> Gate:
    """Return the gate by its worst part."""
    if failed := [part for part in parts if part.outcome == "fail"]:
        return Gate(name=NAME, outcome="fail", text="; ".join(map(_said, failed)), parts=parts)
    if unclear := [part for part in parts if part.outcome == "unclear"]:
        settle = "; ".join(dict.fromkeys(_settle(part, limits) for part in unclear))
        text = "; ".join(map(_said, unclear))
        return Gate(name=NAME, outcome="unclear", text=text, settle=settle, parts=parts)
    passed = [part for part in parts if part.outcome == "pass"]
    text = "; ".join(map(_said, passed))
    if all(part.within_floor for part in passed):
        text += "; every difference is within the noise floor"
    return Gate(name=NAME, outcome="pass", text=text, parts=parts)


def _lacking(comparison: Comparison, values: Mapping[str, Value]) -> str:
    """Return why the figures that every measurement of quality has are not all there; '' where they are."""
    needed = (values["perplexity_ratio"], values["mean_kl"], values["top1_agreement"])
    if lacking := [value.note for value in needed if value.value is None]:
        return lacking[0]
    return "" if comparison.optimized.quality is None else comparison.optimized.quality.lacking


def _ratio(comparison: Comparison) -> Value:
    """Return the perplexity ratio; where there is none, the perplexity that is missing."""
    found, row = comparison.row("perplexity_ratio").optimized, comparison.row("perplexity")
    if found.value is not None:
        return found
    return next((value for value in (row.baseline, row.optimized) if value.value is None), found)


def _limits(limits: Quality) -> dict[str, _Limit]:
    return {
        "perplexity_ratio": _Limit(high=limits.max_perplexity_ratio),
        "mean_kl": _Limit(high=limits.max_mean_kl),
        "top1_agreement": _Limit(low=limits.min_top1_agreement),
        "output_length_ratio": _Limit(low=limits.min_length_ratio, high=limits.max_length_ratio),
        "format_drop": _Limit(high=limits.max_format_drop),
        "tone_shift": _Limit(high=limits.max_tone_shift),
    }


def _parts(
    values: Mapping[str, Value], checks: Sequence[Check], limits: Quality, floor: Held | None = None
) -> tuple[Part, ...]:
    """Return every measure that there is, judged where it has a limit, and the checks that fail alone."""
    by_name = _limits(limits)
    freely = any(values[name].value is not None for name in AGAINST_REFERENCE if name not in TEACHER_FORCED)
    parts = []
    for name, (label, ideal) in SHOWN.items():
        value, limit = values[name], by_name.get(name)
        least = None if floor is None else floor.measures[name]
        outcome: Literal["pass", "fail", "unclear", "not informative", ""] = "not informative"
        if value.value is not None:
            outcome = "" if limit is None else limit.judge(value)
        elif limit is None or not freely:
            continue
        parts.append(
            Part(
                name=name,
                label=label,
                value=value,
                limit="" if limit is None else limit.words,
                outcome=outcome,
                floor=least,
                within_floor=_within(ideal, value, least),
                at_least=None if limit is None else limit.least,
                at_most=None if limit is None else limit.most,
                unchanged=ideal,
            )
        )
    return (*parts, *_failing_alone(checks, by_name["format_drop"]))


def _failing_alone(checks: Sequence[Check], limit: _Limit) -> list[Part]:
    """Return the checks that are lost beyond the limit, which all prompts together might hide."""
    return [
        Part(name=check.name, label=check.label, value=check.drop, limit=limit.words, outcome="fail")
        for check in checks
        if check.informative and check.name != WELL_FORMED and limit.judge(check.drop) == "fail"
    ]


def _within(ideal: float | None, value: Value, floor: Value | None) -> bool:
    """Say whether a figure is no further from no change than rounding alone may be."""
    if ideal is None or value.value is None or floor is None or floor.value is None:
        return False
    return abs(value.value - ideal) <= max(abs(end - ideal) for end in (floor.value, *_ends(floor)))


def _said(part: Part) -> str:
    """Return a part as the gate's text has it: figure, interval, limit, floor."""
    low, high = _ends(part.value)
    what, _, unit = part.label.partition(", ")
    figure = figure_of(part.name, part.value.value)
    interval = f"{figure_of(part.name, low)} to {figure_of(part.name, high)}, " if low != high else ""
    floor = "" if part.floor is None else f", floor {figure_of(part.name, part.floor.value)}"
    return f"{what} {figure}{unit and f' {unit}'} ({interval}{part.limit}{floor})"


def figure_of(name: str, value: float | None) -> str:
    """Return a measure as text: shares and ratios to four places, all else to two digits."""
    if value is None:
        return "-"
    value = 0.0 if abs(value) < _DUST else value
    return f"{value:.4f}" if SHOWN.get(name, ("", None))[1] == 1.0 else shown(value, 2)


def _settle(part: Part, limits: Quality) -> str:
    """Return how much more would have to be measured."""
    more = _limits(limits)[part.name].more(part.value)
    if more > MOST_TIMES:
        return ON_THRESHOLD
    forced = part.name in TEACHER_FORCED
    what = "more held-out text (quality.tokens" if forced else "more prompts (quality.prompts"
    return f"{what} about {max(more, 1.1):.1f} times as high) would settle it"


def _ends(value: Value) -> tuple[float, float]:
    assert value.value is not None
    return (
        value.value if value.low is None else value.low,
        value.value if value.high is None else value.high,
    )
