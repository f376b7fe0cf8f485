"""The comparison as a terminal report and as Markdown.

Nothing is computed here: rows, verdict, tradeoffs and doubts come as they are from `analysis`. Names
of systems and models go in as plain text, never as markup. Readable at 80 columns and without colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bench.analysis.change import Direction
from bench.analysis.comparison import Comparison, Row
from bench.analysis.decide import Decision, Verdict
from bench.analysis.expectations import Fate
from bench.analysis.metrics import METRICS, REQUIRED
from bench.analysis.numbers import shown
from bench.report.markdown import escaped as _md
from bench.report.quality import quality_to_markdown, render_quality
from bench.report.sections import sections
from bench.units import PERCENT

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
HEADLINE = {
    *REQUIRED,
    "ttft_p95_ms",
    "tpot_p50_ms",
    "goodput_requests_per_sec",
    "error_rate",
    "weights_gb",
    "mean_batch_size",
    "time_weighted_waste",
    "cost_provisioned_per_1k_requests_usd",
    "perplexity",
    "mean_kl",
    "top1_agreement",
}
"""Metrics that are shown unless all are asked for."""


def render_comparison(comparison: Comparison, verdict: Verdict, *, every: bool = False) -> Group:
    """Return the report: verdict, table, day, gates, expectations, then the sections in their order.

    The table shows the headline metrics; with `every`, all that have a figure.
    """
    parts: list[RenderableType] = [
        _verdict(verdict),
        _table(comparison, every=every),
        *([_day(comparison)] if any(_day_rows(comparison)) else []),
        _gates(verdict),
        render_quality(comparison, verdict),
        *([_expectations(verdict)] if verdict.expectations else []),
    ]
    for title, lines in sections(comparison, verdict):
        parts.append(_list(title, lines))
    return Group(*parts)


def to_markdown(comparison: Comparison, verdict: Verdict, *, every: bool = False) -> str:
    """Return the same as Markdown, for a README or an issue: the verdict first, then all the rest."""
    one, two = _md(comparison.baseline.name), _md(comparison.optimized.name)
    lines = [
        f"**{verdict.decision.capitalize()}{_basis(verdict)}**: {_md(verdict.binding)}",
        *(["", " ".join(_md(line) for line in lead)] if (lead := _lead(verdict)) else []),
        "",
        f"| metric | {one} | {two} | change | 95 % interval | source |",
        "|---|---:|---:|---:|---|---|",
    ]
    for row in _shown_rows(comparison, every=every):
        cells = (row.title, *_values(row), _change(row), _interval(row), _source(row, comparison))
        lines.append("| " + " | ".join(_md(cell) for cell in cells) + " |")
    if days := list(_day_rows(comparison)):
        lines += ["", f"| per day | {one} | {two} | saved |", "|---|---:|---:|---:|"]
        lines += ["| " + " | ".join(_md(cell) for cell in day) + " |" for day in days]
        if notes := _day_notes(comparison):
            lines += ["", " ".join(_md(note) for note in notes)]
    lines += ["", "| gate | outcome | because |", "|---|---|---|"]
    lines += [f"| {gate.name} | {gate.outcome} | {_md(gate.text)} |" for gate in verdict.gates]
    lines += ["", " ".join(_md(line) for line in _scale(verdict))]
    if verdict.expectations:
        lines += ["", f"| {_expected_when(verdict)} | outcome | because |", "|---|---|---|"]
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
    table.add_column("metric", min_width=20)
    table.add_column(Text(comparison.baseline.name), justify="right", max_width=14)
    table.add_column(Text(comparison.optimized.name), justify="right", max_width=14)
    table.add_column("change (95 % interval)", justify="right", min_width=16)
    table.add_column("source", max_width=11)
    for row in _shown_rows(comparison, every=every):
        change = Text(_change(row), style=DIRECTION_STYLE.get(row.change.direction, ""))
        if interval := _interval(row):
            change.append(f"\n({interval})", style="dim")
        cells = [Text(cell) for cell in (row.title, *_values(row))]
        table.add_row(*cells, change, Text(_source(row, comparison)))
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
    for cells in _day_rows(comparison):
        table.add_row(*(Text(cell) for cell in cells))
    return Group(table, *(Text(line, style="dim") for line in _day_notes(comparison)))


def _day_notes(comparison: Comparison) -> list[str]:
    """Return what is in a day's figures and what is not, figures with the same note together."""
    labels: dict[str, list[str]] = {}
    for day in comparison.per_day:
        if day.note and (day.baseline is not None or day.optimized is not None):
            labels.setdefault(day.note, []).append(day.label)
    return [f"{', '.join(named)}: {note}." for note, named in labels.items()]


def _day_rows(comparison: Comparison) -> Iterator[tuple[str, str, str, str]]:
    for day in comparison.per_day:
        if day.baseline is not None or day.optimized is not None:
            label = f"{day.label}, {day.unit}"
            yield label, shown(day.baseline), shown(day.optimized), shown(day.saved)


def _verdict(verdict: Verdict) -> Panel:
    body = Text(verdict.binding)
    for line in _lead(verdict):
        body.append(f"\n{line}")
    for line in _scale(verdict):
        body.append(f"\n{line}", "dim")
    title = Text(f"{verdict.decision.upper()}{_basis(verdict)}", style="bold")
    style = DECISION_STYLE[verdict.decision]
    return Panel(body, title=title, title_align="left", border_style=style, box=box.ROUNDED)


def _lead(verdict: Verdict) -> list[str]:
    """Return what stands right below the binding reason: what would settle it, and what was waived."""
    lines = [f"To settle it: {verdict.settle}."] if verdict.settle else []
    return [*lines, *(f"Waived by name: {gate.name} ({gate.text})." for gate in verdict.waived)]


def _scale(verdict: Verdict) -> list[str]:
    """Return what the verdict was measured by: its thresholds, and the score with its weights."""
    lines = [
        f"A change below {verdict.material_pct:g} % is immaterial; a regression beyond "
        f"{verdict.tolerated_pct:g} % is not tolerated unless an objective bounds it."
    ]
    if verdict.score is not None:
        weights = ", ".join(
            f"{METRICS[name].label} {weight * PERCENT:.0f} %"
            for name, weight in verdict.score.weights.items()
        )
        lines.append(f"Score (secondary): {verdict.score.value:+.1f} %, weights: {weights}.")
    return lines


def _gates(verdict: Verdict) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("gate")
    table.add_column("outcome")
    table.add_column("because")
    for gate in verdict.gates:
        table.add_row(Text(gate.name), Text(gate.outcome), Text(gate.text))
    return table


def _expectations(verdict: Verdict) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(_expected_when(verdict), min_width=18)
    table.add_column("outcome")
    table.add_column("because")
    for found in verdict.expectations:
        style = FATE_STYLE.get(found.fate, "")
        table.add_row(Text(found.statement), Text(found.fate, style=style), Text(found.text))
    return table


def _expected_when(verdict: Verdict) -> str:
    """Say whether the expectations are known to be from before the measurement."""
    return "expected before the run" if verdict.registered else "usually expected"


def _list(title: str, lines: Iterable[str]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, show_header=False)
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("-", Text(line))
    return table


def _shown_rows(comparison: Comparison, *, every: bool) -> list[Row]:
    """Return the headline rows with any figure, and the six required ones whatever they hold."""
    return [
        row
        for name, row in comparison.rows.items()
        if name in REQUIRED
        or (
            (every or name in HEADLINE or not row.known)
            and (row.baseline.value is not None or row.optimized.value is not None)
        )
    ]


def _values(row: Row) -> tuple[str, str]:
    digits = METRICS[row.name].digits if row.known else 4
    return shown(row.baseline.value, digits), shown(row.optimized.value, digits)


def _change(row: Row) -> str:
    change = row.change
    if change.direction in ("not comparable", "not judged"):
        return f"{change.pct_change:+.1f} %" if change.pct_change is not None else "-"
    if change.pct_change is None:
        return f"{change.delta:+.3g} {change.direction}"
    return f"{change.pct_change:+.1f} % {change.direction}"


def _interval(row: Row) -> str:
    change = row.change
    if change.low == change.high or change.direction == "not judged":
        return ""
    if change.low_pct is not None and change.high_pct is not None:
        return f"{change.low_pct:+.1f} to {change.high_pct:+.1f} %"
    if change.low is not None and change.high is not None:
        return f"{change.low:+.3g} to {change.high:+.3g}"
    return ""


def _source(row: Row, comparison: Comparison) -> str:
    """Return where the figures come from; a figure measured on a CPU says so."""
    found: dict[str, None] = {}
    for side, value in ((comparison.baseline, row.baseline), (comparison.optimized, row.optimized)):
        if value.value is not None:
            on_cpu = side.context is not None and side.context.checked.get("device") == "cpu"
            found[f"{value.source} on CPU" if on_cpu and value.source == "measured" else value.source] = None
    return "/".join(found) or "missing"


def _basis(verdict: Verdict) -> str:
    return ", on point values" if verdict.on_point_values else ""
