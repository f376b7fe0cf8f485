"""Pairs, overview, figures by source and doubts as the page shows them. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.analysis.comparison import Comparison, Row
from bench.analysis.decide import Decision
from bench.analysis.evaluation import Evaluation, Judged
from bench.analysis.gate import Outcome
from bench.analysis.metrics import METRICS, REQUIRED
from bench.analysis.numbers import shown
from bench.analysis.system import MetricSet
from bench.records import Value
from bench.report import cells
from bench.report.overview import COLUMNS, reasons_in_words
from bench.report.page.view import (
    Day,
    DoubtView,
    Figured,
    Judgement,
    Line,
    Listing,
    Measured,
    Overview,
    OverviewRow,
    PairView,
    System,
)
from bench.report.quality import quality_grids
from bench.report.sections import sections

SIGNS: dict[Decision, tuple[str, str]] = {
    "adopt": ("good", "✓"),
    "adopt with guardrails": ("good", "✓"),
    "hold": ("open", "‖"),
    "reject": ("bad", "✕"),
    "not enough evidence": ("open", "?"),
}
"""How a verdict is shown: its tone, and a sign beside the word."""
TONES: dict[Outcome, str] = {
    "pass": "good",
    "fail": "bad",
    "unclear": "open",
    "not measured": "open",
    "assumed": "none",
    "waived": "none",
}
FATES = {"confirmed": "good", "refuted": "bad", "inconclusive": "open", "not measured": "none"}
_ELSEWHERE = ("Guardrails", "Doubts", "Not measured")
"""Lists that have a place of their own on the page."""
_INVALID = "INVALID"
NOT_MEASURED = "not measured"
_OVERVIEW = dict.fromkeys([*COLUMNS, *REQUIRED])


def pair_view(judged: Judged, systems: Mapping[str, System]) -> PairView:
    """Return a comparison and its verdict in texts."""
    comparison, verdict = judged.comparison, judged.verdict
    tone, sign = SIGNS[verdict.decision]
    headline = [row.name for row in cells.shown_rows(comparison, every=False)]
    rows = {row.name: _line(row, comparison) for row in cells.shown_rows(comparison, every=True)}
    decision = verdict.decision.capitalize()
    return PairView(
        baseline=systems[comparison.baseline.name],
        system=systems[comparison.optimized.name],
        decision=f"{decision}{cells.basis(verdict)}",
        tone=tone,
        sign=sign,
        binding=verdict.binding,
        lead=tuple(cells.lead(verdict)),
        guardrails=verdict.guardrails,
        scale=tuple(cells.scale(verdict)),
        headline=tuple(rows[name] for name in headline),
        further=tuple(line for name, line in rows.items() if name not in headline),
        throughput=cells.throughput_note(comparison),
        gates=tuple(
            Judgement(what=gate.name, outcome=gate.outcome, tone=TONES[gate.outcome], because=gate.text)
            for gate in verdict.gates
        ),
        quality=tuple(quality_grids(comparison, verdict)),
        expected=cells.expected_when(verdict),
        expectations=tuple(
            Judgement(what=one.statement, outcome=one.fate, tone=FATES[one.fate], because=one.text)
            for one in verdict.expectations
        ),
        listings=tuple(
            Listing(title=title, lines=tuple(lines))
            for title, lines in sections(comparison, verdict)
            if title not in _ELSEWHERE
        ),
        day=Day(
            requests=f"{comparison.requests_per_day:,.0f}",
            rows=tuple(cells.day_rows(comparison)),
            notes=tuple(cells.day_notes(comparison)),
        ),
    )


def overview(evaluation: Evaluation, systems: Mapping[str, System]) -> Overview:
    """Return every system in one table; an INVALID run has no verdict in it."""
    names = [
        name
        for name in _OVERVIEW
        if any(
            (value := metrics.values.get(name)) is not None and value.value is not None
            for metrics in evaluation.sets.values()
        )
    ]
    verdicts = {pair.comparison.optimized.name: pair.verdict for pair in evaluation.pairs}
    rows = []
    for name, metrics in evaluation.sets.items():
        verdict = verdicts.get(name)
        word, tone = (
            ("baseline", "none") if verdict is None else (verdict.decision, SIGNS[verdict.decision][0])
        )
        if _level(metrics) == _INVALID:
            word, tone = _INVALID, "bad"
        figured = tuple(_figured(key, metrics.values.get(key)) for key in names)
        rows.append(OverviewRow(system=systems[name], cells=figured, verdict=word, tone=tone))
    counted: dict[str, int] = {}
    for row in rows:
        if row.verdict != "baseline":
            counted[row.verdict] = counted.get(row.verdict, 0) + 1
    return Overview(
        tone=_together([row.tone for row in rows if row.verdict != "baseline"]),
        headings=tuple(_title(name) for name in names),
        rows=tuple(rows),
        reasons=tuple(reasons_in_words(evaluation.sets, verdicts)),
        counts=", ".join(f"{number} {word}" for word, number in counted.items()).capitalize(),
    )


def invalid_lines(sets: Mapping[str, MetricSet]) -> tuple[str, ...]:
    """Return a line for each system whose client or device was not what it should be."""
    return tuple(
        f"{name}: {metrics.client.reasons}; {metrics.client.recommendation}"
        for name, metrics in sets.items()
        if metrics.client is not None and metrics.client.level == _INVALID
    )


def sources(sets: Mapping[str, MetricSet]) -> tuple[Measured, ...]:
    """Return where each figure comes from, and why one is missing, metric by metric.

    Systems of which the very same is to be said stand together.
    """
    found: dict[tuple[str, str, str, str, str, str], list[str]] = {}
    for name in dict.fromkeys(name for metrics in sets.values() for name in metrics.values):
        for system, metrics in sets.items():
            if name in metrics.values:
                found.setdefault(_measured(name, metrics.values[name]), []).append(system)
    return tuple(
        Measured(
            metric=metric,
            systems="all" if len(systems) == len(sets) > 1 else ", ".join(systems),
            value=value,
            interval=interval,
            n=n,
            source=source,
            note=note,
        )
        for (metric, value, interval, n, source, note), systems in found.items()
    )


def doubts(evaluation: Evaluation) -> tuple[DoubtView, ...]:
    """Return every doubt once, with the systems that it is about."""
    found: dict[tuple[str, str], list[str]] = {(text, ""): [] for text in evaluation.doubts}
    for pair in evaluation.pairs:
        for doubt in pair.comparison.doubts:
            found.setdefault((doubt.text, doubt.remedy), []).append(pair.comparison.optimized.name)
    if not evaluation.pairs:
        for metrics in evaluation.sets.values():
            found |= {(doubt.text, doubt.remedy): [] for doubt in metrics.doubts}
    return tuple(
        DoubtView(text=text, remedy=remedy, systems=_about(text, names, len(evaluation.pairs)))
        for (text, remedy), names in found.items()
    )


def _about(text: str, names: Sequence[str], every: int) -> str:
    """Return the systems that a doubt is about, where that are not all and it does not say so itself."""
    named = all(text.startswith(f"{name}: ") for name in names)
    return "" if named or len(names) == every else ", ".join(names)


def _together(tones: Sequence[str]) -> str:
    """Return the tone of several verdicts: good where any is, bad where all are."""
    return "good" if "good" in tones else "bad" if set(tones) == {"bad"} else "open"


def _line(row: Row, comparison: Comparison) -> Line:
    digits = METRICS[row.name].digits if row.known else 4
    change, direction = cells.change(row), row.change.direction
    said = "" if direction in ("not comparable", "not judged") else direction
    return Line(
        title=row.title,
        baseline=_stated(row.baseline, digits),
        optimized=_stated(row.optimized, digits),
        change="" if change == "-" else change.removesuffix(f" {said}"),
        direction=said,
        interval=cells.interval(row),
        source=cells.source(row, comparison),
    )


def _figured(name: str, value: Value | None) -> Figured:
    if value is None:
        return Figured(text=NOT_MEASURED, why="this system has no such figure")
    return _stated(value, METRICS[name].digits)


def _stated(value: Value, digits: int) -> Figured:
    text = cells.figure(value, digits, lack=NOT_MEASURED)
    return Figured(text=text, why=value.note if value.value is None else "")


def _measured(name: str, value: Value) -> tuple[str, str, str, str, str, str]:
    """Return title, figure, interval, n, source and note."""
    digits = METRICS[name].digits if name in METRICS else 4
    ends: Sequence[float | None] = (value.low, value.high)
    return (
        _title(name),
        "" if value.value is None else shown(value.value, digits),
        "" if None in ends else " to ".join(shown(end, digits) for end in ends),
        "" if value.n is None else str(value.n),
        value.source,
        value.note,
    )


def _title(name: str) -> str:
    if name not in METRICS:
        return name
    metric = METRICS[name]
    return f"{metric.label}, {metric.unit}" if metric.unit else metric.label


def _level(metrics: MetricSet) -> str:
    return "VALID" if metrics.client is None else metrics.client.level
