"""The comparison as a terminal report and as Markdown.

Nothing is computed here: rows, verdict, tradeoffs and doubts come as they are from `analysis`. Names
of systems and models go in as plain text, never as markup. Readable at 80 columns and without colour.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bench.analysis.change import Direction
from bench.analysis.comparison import Comparison
from bench.analysis.decide import Decision, Verdict
from bench.analysis.expectations import Fate
from bench.report import cells
from bench.report.markdown import escaped as _md
from bench.report.quality import quality_to_markdown, render_quality
from bench.report.sections import sections, short_sections

DIRECTION_STYLE: dict[Direction, str] = {
    "better": "green",
    "worse": "red",
    "unclear": "yellow",
    "not resolved": "yellow",
}
DECISION_STYLE: dict[Decision, str] = {
    "adopt": "green",
    "adopt with guardrails": "green",
    "hold": "yellow",
    "reject": "red",
    "not enough evidence": "yellow",
}
FATE_STYLE: dict[Fate, str] = {"confirmed": "green", "refuted": "red", "inconclusive": "yellow"}


def render_comparison(comparison: Comparison, verdict: Verdict, *, every: bool = False) -> Group:
    """Return the report: verdict, table, day, gates, expectations, the sections, and the verdict once more.

    It is short, with the headline metrics, unless `every` asks for all metrics and all that is known of them.
    """
    parts: list[RenderableType] = [
        _verdict(verdict),
        _table(comparison, every=every),
        *([_day(comparison)] if any(cells.day_rows(comparison)) else []),
        _gates(verdict),
        *([render_quality(comparison, verdict)] if every else []),
        *([_expectations(verdict, every=every)] if verdict.expectations else []),
    ]
    for title, lines in (sections if every else short_sections)(comparison, verdict):
        parts.append(_list(title, lines))
    return Group(*parts, _in_a_line(verdict))


def to_markdown(comparison: Comparison, verdict: Verdict, *, every: bool = False) -> str:
    """Return the same as Markdown, for a README or an issue: the verdict first, then all the rest."""
    one, two = _md(comparison.baseline.name), _md(comparison.optimized.name)
    lines = [
        f"**{verdict.decision.capitalize()}{cells.basis(verdict)}**: {_md(verdict.binding)}",
        "",
        " ".join(_md(line) for line in cells.lead(verdict)),
        "",
        f"| metric | {one} | {two} | change | 95 % interval | source |",
        "|---|---:|---:|---:|---|---|",
    ]
    for row in cells.shown_rows(comparison, every=every):
        texts = (
            row.title,
            *cells.values(row),
            cells.change(row),
            cells.interval(row),
            cells.source(row, comparison),
        )
        lines.append("| " + " | ".join(_md(text) for text in texts) + " |")
    if note := cells.throughput_note(comparison):
        lines += ["", _md(note)]
    if days := list(cells.day_rows(comparison)):
        lines += ["", f"| per day | {one} | {two} | saved |", "|---|---:|---:|---:|"]
        lines += ["| " + " | ".join(_md(cell) for cell in day) + " |" for day in days]
        if notes := cells.day_notes(comparison):
            lines += ["", " ".join(_md(note) for note in notes)]
    lines += ["", "| gate | outcome | because |", "|---|---|---|"]
    lines += [f"| {gate.name} | {gate.outcome} | {_md(gate.text)} |" for gate in verdict.gates]
    lines += ["", " ".join(_md(line) for line in cells.scale(verdict))]
    if verdict.expectations:
        lines += ["", f"| {cells.expected_when(verdict)} | outcome | because |", "|---|---|---|"]
        lines += [
            f"| {_md(found.statement)} | {found.fate} | {_md(found.text)} |" for found in verdict.expectations
        ]
    if text := quality_to_markdown(comparison, verdict):
        lines += ["", text.rstrip("\n")]
    for title, items in sections(comparison, verdict):
        lines += ["", f"**{title}**", "", *(f"- {_md(item)}" for item in items)]
    return "\n".join(lines) + "\n"


def _table(comparison: Comparison, *, every: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, expand=False)
    table.caption = Text(cells.throughput_note(comparison))
    table.caption_justify = "left"
    table.add_column("metric", min_width=20)
    table.add_column(Text(comparison.baseline.name), justify="right", max_width=14)
    table.add_column(Text(comparison.optimized.name), justify="right", max_width=14)
    table.add_column("change (95 % interval)", justify="right", min_width=16)
    table.add_column("source", max_width=11)
    for row in cells.shown_rows(comparison, every=every):
        change = Text(cells.change(row), style=DIRECTION_STYLE.get(row.change.direction, ""))
        if interval := cells.interval(row):
            change.append(f"\n({interval})", style="dim")
        texts = [Text(text) for text in (row.title, *cells.values(row))]
        table.add_row(*texts, change, Text(cells.source(row, comparison)))
    return table


def _day(comparison: Comparison) -> Group:
    title = Text(f"At {comparison.requests_per_day:,.0f} requests a day")
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("per day")
    for name in (comparison.baseline.name, comparison.optimized.name):
        table.add_column(Text(name), justify="right", max_width=14)
    table.add_column("saved", justify="right")
    for day in cells.day_rows(comparison):
        table.add_row(*(Text(text) for text in day))
    return Group(table, *(Text(line, style="dim") for line in cells.day_notes(comparison)))


def _verdict(verdict: Verdict) -> Panel:
    body = Text(verdict.binding)
    for line in cells.lead(verdict):
        body.append(f"\n{line}")
    for line in cells.scale(verdict):
        body.append(f"\n{line}", "dim")
    title = Text(_headline(verdict), style="bold")
    style = DECISION_STYLE[verdict.decision]
    return Panel(body, title=title, title_align="left", border_style=style, box=box.ROUNDED)


def _in_a_line(verdict: Verdict) -> Text:
    """Return the verdict with what to do, for whoever sees the end of the report first."""
    return Text.assemble(
        (_headline(verdict), f"bold {DECISION_STYLE[verdict.decision]}"), f". {verdict.advice}"
    )


def _headline(verdict: Verdict) -> str:
    return f"{verdict.decision.upper()}{cells.basis(verdict)}"


def _gates(verdict: Verdict) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("gate")
    table.add_column("outcome")
    table.add_column("because")
    for gate in verdict.gates:
        table.add_row(Text(gate.name), Text(gate.outcome), Text(gate.text))
    return table


def _expectations(verdict: Verdict, *, every: bool) -> Table:
    """Return what became of the expectations; why, is said with `every`, else by the table of figures."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(cells.expected_when(verdict), min_width=18)
    table.add_column("outcome")
    if every:
        table.add_column("because")
    for found in verdict.expectations:
        texts = [Text(found.statement), Text(found.fate, style=FATE_STYLE.get(found.fate, ""))]
        table.add_row(*texts, *([Text(found.text)] if every else []))
    return table


def _list(title: str, lines: Iterable[str]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, show_header=False)
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("-", Text(line))
    return table
