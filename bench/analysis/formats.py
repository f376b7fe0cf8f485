"""Format checks: does an answer still have the form that a program behind it relies on?

Each check is a yes or no for a prompt that asks for it, so two systems are compared by McNemar's test on the
prompts on which they disagree. A check that the baseline itself hardly passes cannot show a loss: it is said
to be not informative, which is neither a pass nor a failure. So a base model, which was never taught to
answer, says nothing here, and a chat model does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from bench.analysis.drift import Pair
from bench.analysis.output_quality import Check
from bench.analysis.proportions import mcnemar, paired_drop, wilson
from bench.analysis.stats import Estimate
from bench.analysis.system import missing
from bench.records import Value
from bench.units import PERCENT

MIN_PASSED = 0.1
"""A check that the reference passes more rarely is not informative: no drop of some points would be seen."""
WELL_FORMED = "well_formed"
_FENCE = re.compile(r"^```[^\n`]*\n.*?^```[ \t]*$", re.DOTALL | re.MULTILINE)
_NOTHING = object()


def has_json(pair: Pair, text: str) -> bool:
    """Say whether the first object that the text begins parses."""
    return _first_object(text) is not _NOTHING


def has_keys(pair: Pair, text: str) -> bool:
    """Say whether that object has every key that was asked for."""
    found = _first_object(text)
    return isinstance(found, dict) and all(key in found for key in pair.keys)


def has_fence(pair: Pair, text: str) -> bool:
    """Say whether the text holds a code block that is opened and closed on lines of their own."""
    return _FENCE.search(text) is not None


def has_digits(pair: Pair, text: str) -> bool:
    """Say whether every number that the prompt names stands in the text, digit by digit."""
    return all(re.search(rf"(?<!\d){re.escape(number)}(?!\d)", text) for number in pair.digits)


CHECKS: dict[str, tuple[str, tuple[str, ...], Callable[[Pair, str], bool]]] = {
    "json": ("JSON parses", ("json",), has_json),
    "keys": ("required keys", ("json",), has_keys),
    "fence": ("code fence closed", ("fence",), has_fence),
    "digits": ("digits copied", ("json", "fence", "reply"), has_digits),
}
"""Each check: its label, the kinds of prompt that it applies to, and the check of one answer."""

Passed = dict[str, tuple[bool, bool]]
"""Of one prompt, by check: whether the reference and the other passed."""


def check_formats(pairs: Sequence[Pair]) -> tuple[Check, ...]:
    """Return every check that some prompt asked for, and last whether all informative ones passed at once."""
    passed = [_passed(pair) for pair in pairs]
    single = []
    for name, (label, _, _) in CHECKS.items():
        if found := [by_check[name] for by_check in passed if name in by_check]:
            single.append(_check(name, label, found))
    informative = {check.name for check in single if check.informative}
    whole = [
        (all(one for one, _ in chosen), all(two for _, two in chosen))
        for by_check in passed
        if (chosen := [both for name, both in by_check.items() if name in informative])
    ]
    return (*single, *([_check(WELL_FORMED, "all of these", whole)] if whole else ()))


def format_drop(checks: Sequence[Check]) -> Value:
    """Return by how much more rarely an answer passes all informative checks of its prompt."""
    if not checks:
        return missing("no prompt asked for a format")
    whole = next((check for check in checks if check.name == WELL_FORMED), None)
    if whole is None or not whole.informative:
        share = f"{MIN_PASSED * PERCENT:.0f} %"
        return missing(f"not informative: the baseline passes no check in {share} of its prompts")
    return whole.drop


def _passed(pair: Pair) -> Passed:
    one, two = (pair.opening + answer.text for answer in (pair.reference, pair.own))
    return {
        name: (holds(pair, one), holds(pair, two))
        for name, (_, kinds, holds) in CHECKS.items()
        if pair.kind in kinds
    }


def _check(name: str, label: str, found: Sequence[tuple[bool, bool]]) -> Check:
    n, lost, won = len(found), found.count((True, False)), found.count((False, True))
    reference, own = (wilson(sum(both[i] for both in found), n) for i in (0, 1))
    p = mcnemar(lost, won)
    note = f"{n} prompts; only the baseline passed {lost}, only the system {won}; McNemar p = {p:.3g}"
    return Check(
        name=name,
        label=label,
        reference=_value(reference, f"{n} prompts"),
        own=_value(own, f"{n} prompts"),
        lost=lost,
        won=won,
        p=p,
        drop=_value(paired_drop(lost, won, n), note),
        informative=reference.mean >= MIN_PASSED,
    )


def _value(estimate: Estimate, note: str) -> Value:
    return Value(
        value=estimate.mean, source="derived", note=note, low=estimate.low, high=estimate.high, n=estimate.n
    )


def _first_object(text: str) -> object:
    """Return what the first brace of `text` begins, parsed; `_NOTHING` where that is no JSON."""
    begin = text.find("{")
    if begin < 0:
        return _NOTHING
    try:
        found: object = json.JSONDecoder().raw_decode(text, begin)[0]
    except ValueError:
        return _NOTHING
    return found
