"""What follows: the whole in a few sentences, then the recommendation with its guardrails and doubts."""

from __future__ import annotations

import re
from pathlib import Path

from bench.analysis.change import Direction
from bench.analysis.comparison import Comparison
from bench.analysis.decide import unsound
from bench.report import cells
from bench.report.markdown import escaped
from bench.report.narrative.pair import Pair
from bench.report.narrative.prose import bullets, count, listed, sentence

STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)T\d{6}Z-")
"""How the name of a run folder begins."""
SAID_BEFORE = frozenset({"default terms"})
"""Doubts that the table of assumptions says already."""
IN_WORDS: dict[Direction, str] = {
    "better": "became better",
    "worse": "became worse",
    "same": "did not change",
    "unclear": "left open by the interval",
    "not resolved": "not resolved",
    "not comparable": "not compared, for the reasons in section 6",
    "not judged": "not judged",
}


def analysis(pair: Pair) -> str:
    """Return how the figures moved, what became of the expectations, and how the gates came out."""
    verdict = pair.verdict
    lines = [escaped(_tally(pair))]
    if void := unsound(verdict.gates):
        why = escaped("; ".join(gate.text for gate in void))
        lines += ["", f"**None of these figures is to be weighed: {why}.**"]
    if verdict.expectations:
        lines += ["", f"| {cells.expected_when(verdict)} | outcome | because |", "|:---|:---|:---|"]
        lines += [_row(found.statement, found.fate, found.text) for found in verdict.expectations]
    lines += ["", "| gate | outcome | because |", "|:---|:---|:---|"]
    return "\n".join([*lines, *(_row(gate.name, gate.outcome, gate.text) for gate in verdict.gates)])


def in_short(pair: Pair) -> str:
    """Return the verdict, its reason, what to do, and which runs were read; for whoever reads no further."""
    sides = (pair.comparison.baseline, pair.comparison.optimized)
    read = " and ".join(escaped(Path(side.origin).name if side.bare else side.origin) for side in sides)
    day = measured_on(sides[1].origin)
    return "\n\n".join(
        [
            f"{_verdict(pair)} {escaped(pair.verdict.advice)} Guardrails and doubts: section 9.",
            f"Read from {read}{f', measured on {day}' if day else ''}.",
        ]
    )


def measured_on(origin: str) -> str:
    """Return the day in a run folder's name; empty where that is none."""
    found = STAMP.match(origin)
    return "-".join(found.groups()) if found else ""


def recommendation(pair: Pair) -> str:
    """Return the verdict with its reason, the guardrails, and the doubts with their remedies."""
    verdict = pair.verdict
    lines = [_verdict(pair), "", *(escaped(line) for line in cells.lead(verdict))]
    if worse := _worse_beside(pair):
        lines += ["", f"**Beside the six figures, {escaped(worse)} became worse: section 6.**"]
    for title, items in (("Guardrails", verdict.guardrails), ("Doubts", _doubts(pair.comparison))):
        if items:
            lines += ["", f"**{title}**", "", *bullets(items)]
    return "\n".join([*lines, "", *(escaped(line) for line in cells.scale(verdict))])


def _verdict(pair: Pair) -> str:
    verdict = pair.verdict
    head = f"**{verdict.decision.capitalize()}{cells.basis(verdict)}.**"
    return f"{head} {escaped(sentence(verdict.binding))}"


def _row(*texts: str) -> str:
    return f"| {' | '.join(escaped(text) for text in texts)} |"


def _tally(pair: Pair) -> str:
    """Return which of the figures that decide moved which way, and which say nothing."""
    groups: dict[str, list[str]] = {word: [] for word in IN_WORDS.values()}
    for row in pair.deciding:
        groups[IN_WORDS[row.change.direction]].append(row.label)
    said = [f"{len(labels)} {word} ({listed(labels)})" for word, labels in groups.items() if labels]
    worse = _worse_beside(pair)
    beside = f" Beside them, {worse} became worse." if worse else ""
    doubts = len(_doubts(pair.comparison))
    doubted = f" {count(doubts, 'doubt')} with remedies: section 9." if doubts else ""
    return f"Of the six figures that decide, {listed(said)}.{beside}{doubted}"


def _worse_beside(pair: Pair) -> str:
    """Return the names of the other headline figures that became worse; empty where none did."""
    labels = [row.label for row in pair.worse_beside]
    return listed(labels) if labels else ""


def _doubts(comparison: Comparison) -> list[str]:
    """Return the doubts with their remedies."""
    return [
        f"{doubt.text}. Remedy: {doubt.remedy}." if doubt.remedy else f"{doubt.text}."
        for doubt in comparison.doubts
        if doubt.key not in SAID_BEFORE
    ]
