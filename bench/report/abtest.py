"""An A/B replay for people: what to do and why, each metric in pairs, who failed where, what was not counted.

Nothing is computed here.
"""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bench.analysis.abtest import Compared, Decision, Evidence, Plan, Result
from bench.analysis.failures import Failures
from bench.analysis.numbers import shown
from bench.report.markdown import escaped
from bench.units import PERCENT

STYLE: dict[Decision, str] = {"rollout": "green", "extend": "yellow", "hold": "yellow", "reject": "red"}
_FAILURES = ("failed", "of", "only baseline", "only candidate", "both", "p")


def render_ab(plan: Plan, evidence: Evidence, result: Result) -> Group:
    """Return the report for a terminal of 80 columns."""
    body = Text(result.reason)
    if result.needs:
        body.append(f"\nIt needs: {result.needs}.")
    for line in _notes(plan, evidence):
        body.append(f"\n{line}", "dim")
    parts: list[RenderableType] = [
        Panel(
            body,
            title=Text(result.decision.upper(), style="bold"),
            title_align="left",
            border_style=STYLE[result.decision],
            box=box.ROUNDED,
        ),
        _table(_headings(plan), [_metric(row) for row in evidence.rows]),
        _table(_FAILURES, [_failed(found) for found in evidence.failures]),
    ]
    if evidence.dropped:
        parts.append(Text(f"Not counted: {'. '.join(evidence.dropped)}"))
    return Group(*parts)


def ab_to_markdown(plan: Plan, evidence: Evidence, result: Result) -> str:
    """Return the same as Markdown."""
    lines = [f"**{result.decision.capitalize()}**: {escaped(result.reason)}"]
    lines += ["", f"It needs: {escaped(result.needs)}."] if result.needs else []
    lines += ["", *_markdown(_headings(plan), [_metric(row) for row in evidence.rows])]
    lines += ["", *_markdown(_FAILURES, [_failed(found) for found in evidence.failures])]
    lines += ["", escaped(" ".join(_notes(plan, evidence)))]
    if evidence.dropped:
        lines += ["", "**Not counted**", "", *(f"- {escaped(line)}" for line in evidence.dropped)]
    return "\n".join(lines) + "\n"


def _headings(plan: Plan) -> tuple[str, ...]:
    return ("metric", plan.baseline, plan.candidate, "improvement (interval)", "finds")


def _metric(row: Compared) -> tuple[str, ...]:
    """Return the cells of a metric; the primary one is marked."""
    measured = row.measured
    title = f"{measured.label}, {measured.unit}" if measured.unit else measured.label
    change = "-"
    if row.improvement_pct is not None:
        change = f"{_signed(row.improvement_pct)} %"
        if row.low_pct is None or row.high_pct is None:
            change += f" ({row.why})"
        else:
            change += f" ({_signed(row.low_pct)} to {_signed(row.high_pct)})"
    finds = "-" if row.detectable_pct is None else f"{row.detectable_pct:.1f} %"
    return (
        f"{title} *" if row.primary else title,
        shown(measured.baseline.value),
        shown(measured.candidate.value),
        change,
        finds,
    )


def _signed(percent: float) -> str:
    """Return a number with its sign; what rounds to nothing is +0.0."""
    return f"{round(percent, 1) + 0.0:+.1f}"


def _failed(found: Failures) -> tuple[str, ...]:
    counts = (found.compared, found.only_baseline, found.only_candidate, found.both)
    return (found.what, *map(str, counts), shown(found.p, 2))


def _notes(plan: Plan, evidence: Evidence) -> list[str]:
    """Return what the figures are to be read with."""
    looks = (
        f"one look, at {plan.pairs} pairs"
        if plan.pairs == plan.most_pairs
        else f"all looks from {plan.pairs} to {plan.most_pairs} pairs together"
    )
    notes = [
        f"{evidence.pairs} pairs of segments count. Intervals are 95 % for {looks} "
        f"({plan.confidence * PERCENT:.1f} % each).",
        f"* primary: {plan.mde_pct:g} % better was to be found with power {plan.power * PERCENT:.0f} %; "
        f"finds: what {evidence.pairs} pairs find with it. Tolerated: {plan.tolerated_pct:g} % worse.",
    ]
    if lacking := [
        f"{row.measured.label} ({row.why})" for row in evidence.rows if row.improvement_pct is None
    ]:
        notes.append(f"Not compared, and so not guarded: {'; '.join(lacking)}.")
    return notes


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if i == 0 else "right")
    for cells in rows:
        table.add_row(*map(Text, cells))
    return table


def _markdown(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return a Markdown table; what would be markup in a cell is escaped."""
    lines = [f"| {' | '.join(map(escaped, cells))} |" for cells in (headings, *rows)]
    return [lines[0], "|---|" + "---:|" * (len(headings) - 1), *lines[1:]]
