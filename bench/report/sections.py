"""The lists of sentences of a comparison's report: each has a title, and is left out where it is empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.analysis.batching import NOT_HELD
from bench.analysis.comparison import Comparison
from bench.analysis.decide import Verdict
from bench.analysis.system import Doubt
from bench.records import Value
from bench.report.cells import differences
from bench.units import PERCENT

FIRST_DOUBTS = 3
"""So many doubts stand in a short report."""
ADMITTED = {
    "idle": "the engine was free",
    "slot": "a slot was free",
    "size": "the batch was full",
    "budget": "no further request would fit",
    "window": "the time to wait was over",
    "settle": "no more came back",
    "deadline": "the deadline was near",
    "drain": "no more were to come",
}
"""Why a batch was started, by the policy's reason to go."""
WAITED = {
    NOT_HELD: "nothing",
    "busy": "the engine",
    "size": "a full batch",
    "budget": "room for it",
    "window": "company",
    "settle": "those that come back",
}
"""What was waited for, by the policy's reason to wait."""


def short_sections(comparison: Comparison, verdict: Verdict) -> Iterator[tuple[str, list[str]]]:
    """Yield the lists that a decision needs at once, of the doubts the first ones without their remedies."""
    for title, lines in sections(comparison, verdict):
        if title == "Doubts":
            said = [f"{doubt.text}." for doubt in comparison.doubts[:FIRST_DOUBTS]]
            more = len(comparison.doubts) - FIRST_DOUBTS
            yield title, [*said, *([f"and {more} more: --all, or the page."] if more > 0 else [])]
        elif title not in ("Client and device", "Batching", "Not measured"):
            yield title, lines


def sections(comparison: Comparison, verdict: Verdict) -> Iterator[tuple[str, list[str]]]:
    """Yield the non-empty lists of sentences, in reading order."""
    found = (
        ("Guardrails", list(verdict.guardrails)),
        ("Tradeoffs", list(comparison.tradeoffs)),
        ("Which change did what", list(comparison.attribution)),
        ("Findings", list(comparison.findings)),
        ("How far it depends on what is assumed", list(comparison.sensitivity)),
        ("Client and device", _clients(comparison)),
        ("Batching", _batching(comparison)),
        ("The systems differ in", differences(comparison)),
        ("Allowed to differ", list(comparison.allowed)),
        ("Doubts", [_doubt(doubt) for doubt in comparison.doubts]),
        ("Not measured", _missing(comparison)),
    )
    for title, lines in found:
        if lines:
            yield title, lines


def _clients(comparison: Comparison) -> list[str]:
    """Return the verdict on the harness itself, per system: that of its worst repeat."""
    sides = (comparison.baseline, comparison.optimized)
    return [f"{side.name}: {side.client.in_words}" for side in sides if side.client is not None]


def _batching(comparison: Comparison) -> list[str]:
    """Return, per system, the shares of batch sizes and of the reasons to go and to wait."""
    lines = []
    for side in (comparison.baseline, comparison.optimized):
        if side.batching is None:
            continue
        found = side.batching
        lines.append(
            f"{side.name}: size p50 {found.p50_size:g}, p90 {found.p90_size:g}; {_share(found.sizes)}"
        )
        if found.admitted:
            lines.append(f"{side.name}: batches started when {_share(found.admitted, ADMITTED)}")
        if found.waited:
            lines.append(f"{side.name}: waited last for {_share(found.waited, WAITED)}")
    return lines


def _share(shares: Mapping[str, float], words: Mapping[str, str] | None = None) -> str:
    """Return shares as text, names in words: `1: 20 %, 2: 80 %`."""
    known = words or {}
    return ", ".join(f"{known.get(name, name)}: {share * PERCENT:.3g} %" for name, share in shares.items())


def _doubt(doubt: Doubt) -> str:
    return f"{doubt.text}. Remedy: {doubt.remedy}." if doubt.remedy else f"{doubt.text}."


def _missing(comparison: Comparison) -> list[str]:
    """Return what could not be measured, metrics with the same reason together."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in comparison.rows.values():
        lacking: list[tuple[str, Value]] = [
            (side.name, value)
            for side, value in ((comparison.baseline, row.baseline), (comparison.optimized, row.optimized))
            if value.value is None
        ]
        if len(lacking) == 2 and lacking[0][1].note == lacking[1][1].note:
            lacking = [("both", lacking[0][1])]
        for who, value in lacking:
            reasons.setdefault((who, value.note), []).append(row.label)
    return [f"{who}: {'; '.join(labels)}: {note}" for (who, note), labels in reasons.items()]
