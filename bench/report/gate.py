"""The regression gate for people: a table a system, and a sentence for everything that is not in line."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.analysis.metrics import METRICS
from bench.analysis.numbers import shown
from bench.analysis.regression import LEVEL_RUNS, MATERIAL_SHARE, PERSISTENT, Judgement
from bench.report.markdown import escaped
from bench.run.evidence import commit_of
from bench.run.gate import SHARES, Finding, GateReport, SystemGate
from bench.units import PERCENT

HEADINGS = ("metric", "level", "this run", "change (95 % interval)", "outcome")
STYLE = {
    "regressed": "bold red",
    "suspected": "yellow",
    "not resolved": "yellow",
    "too uncertain": "yellow",
    "improved": "green",
}
NOT_JUDGED = "not judged"


def render_gate(report: GateReport) -> Group:
    """Return every system's table with its sentences."""
    parts: list[RenderableType] = []
    for system in report.systems:
        if system.findings:
            parts.append(_table(system))
        parts += [Text(f"- {line}") for line in sentences(system, report)]
    return Group(*parts)


def gate_to_markdown(report: GateReport) -> str:
    """Return the same as Markdown, for a job's summary or a comment."""
    lines: list[str] = []
    for system in report.systems:
        if system.findings:
            heading = f"| {' | '.join(HEADINGS)} |"
            lines += [f"**{escaped(system.system)}**", "", heading, "|---|---:|---:|---:|---|"]
            lines += [f"| {' | '.join(map(escaped, cells))} |" for cells in _rows(system)]
            lines.append("")
        lines += [f"- {escaped(line)}" for line in sentences(system, report)]
        lines.append("")
    return "\n".join(lines)


def sentences(system: SystemGate, report: GateReport) -> list[str]:
    """Return what there is to say of one system: regressions first, then doubts, then circumstances."""
    is_explained = system.state == "judged" or system.accepted is not None
    lines = [] if is_explained else [f"{system.system}: {system.text}"]
    order = ("regressed", "suspected", "not resolved", "too uncertain", "improved")
    for outcome in order:
        lines += [f"{system.system}: {sentence(found, report)}" for found in system.of(outcome)]
    unjudged = [found for found in system.findings if found.judgement is None]
    lines += [f"{system.system}: {sentence(found, report)}" for found in unjudged]
    if system.state == "judged":
        lines.append(f"{system.system}: {_against(system)}")
    lines += [f"{system.system}: {note}" for note in system.notes]
    if system.accepted is not None:
        by = system.accepted.by
        lines.append(f"{system.system}: {system.accepted.run} is the baseline from now on, accepted by {by}")
    return lines


def sentence(found: Finding, report: GateReport) -> str:
    """Return one finding in words, with its interval, what it is called and what to do."""
    label = METRICS[found.metric].label
    judgement = found.judgement
    if judgement is None:
        return f"{label} was not judged: {found.why}"
    what = f"{label} {changed(found, '95 % interval ')}"
    runs = len(judgement.group)
    limit = _material(found.metric, report)
    since = f"in {runs} runs in a row, since {judgement.group[0]}" if runs > 1 else "in this run alone"
    beyond = "" if math.isinf(judgement.change) else f", beyond the {limit} that is material"
    match judgement.outcome:
        case "regressed":
            return f"REGRESSED: {what}{beyond}, {since}{_basis(judgement)}"
        case "suspected":
            return (
                f"{what}{beyond}, {since}: suspected, not yet a regression: {PERSISTENT} runs in a row make "
                f"one, so run again{_basis(judgement)}"
            )
        case "not resolved":
            by = "and it has no interval" if judgement.low is None else "not by its interval"
            lucky = ""
            if runs > judgement.clean:
                lucky = "; if nothing changed, the accepted run was a lucky one: accept a later one"
            return f"{what} {since}: more than {limit} by its figure, {by}{_basis(judgement)}{lucky}"
        case "improved":
            return f"improved: {what}, {since}; accept the new level: bench gate RUN --accept REASON"
        case "too uncertain":
            open_ = " and without an interval" if judgement.low is None else _not_excluded(found, report)
            return f"{what}: too uncertain to be judged{open_}{_basis(judgement)}"
        case "in line":
            return f"{what}: in line with the level{_not_excluded(found, report)}{_basis(judgement)}"


def changed(found: Finding, called: str = "") -> str:
    """Return a change with its interval, `called` so, or why it has no bound."""
    judgement = found.judgement
    assert judgement is not None
    if math.isinf(judgement.change):
        return f"has no bound ({found.why or 'in one of the runs'})"
    text = f"{judgement.change:+.1f} {_unit(found.metric)}"
    if judgement.low is None or judgement.high is None:
        return text
    return f"{text} ({called}{judgement.low:+.1f} to {judgement.high:+.1f})"


def _table(system: SystemGate) -> Table:
    table = Table(
        title=Text(system.system, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("metric", "outcome") else "right")
    for cells in _rows(system):
        table.add_row(*(Text(cell) for cell in cells[:-1]), Text(cells[-1], style=STYLE.get(cells[-1], "")))
    return table


def _rows(system: SystemGate) -> Iterator[tuple[str, ...]]:
    for found in system.findings:
        metric = METRICS[found.metric]
        title = f"{metric.label}, {metric.unit}" if metric.unit else metric.label
        value = system.entry.figures.get(found.metric) if system.entry is not None else None
        ours = shown(value.value) if value is not None and value.value is not None else "–"
        if found.judgement is None:
            yield title, "–", ours, "–", NOT_JUDGED
        else:
            change = "no bound" if math.isinf(found.judgement.change) else changed(found)
            yield title, shown(found.judgement.level), ours, change, found.judgement.outcome


def _against(system: SystemGate) -> str:
    assert system.baseline is not None
    assert system.acceptance is not None
    why = f"accepted by {system.acceptance.by} on {system.acceptance.utc[:10]}: {system.acceptance.why}"
    return f"held against {system.baseline.run} ({commit_of(system.baseline)}; {why}); {system.text}"


def _not_excluded(found: Finding, report: GateReport) -> str:
    """Return how much worse a figure in line may still be, where that would be material; else nothing."""
    judgement = found.judgement
    assert judgement is not None
    lower = METRICS[found.metric].better == "lower"
    end = judgement.high if lower else judgement.low
    limit = MATERIAL_SHARE * PERCENT if found.metric in SHARES else report.material_pct
    if end is None or abs(end) <= limit or (end > 0) != lower:
        return ""
    return f", though {end:+.1f} {_unit(found.metric)} is not excluded"


def _basis(judgement: Judgement) -> str:
    """Return what the interval rests on; nothing where there is no bound to it."""
    if math.isinf(judgement.change):
        return ""
    runs = f"{judgement.clean} earlier run{'s' if judgement.clean > 1 else ''}"
    if judgement.between:
        level = f"the first {LEVEL_RUNS} of {runs}" if judgement.clean > LEVEL_RUNS else runs
        return f"; the level is that of {level}, whose variation makes the interval"
    few = f"; the level is that of {runs}, too few to tell how runs vary"
    if judgement.low is None:
        return f"{few}, and the repeats of a run do not tell, either"
    return f"{few}: the interval has the scatter of the repeats alone"


def _unit(metric: str) -> str:
    return "points" if metric in SHARES else "%"


def _material(metric: str, report: GateReport) -> str:
    if metric in SHARES:
        return f"{MATERIAL_SHARE * PERCENT:g} point"
    return f"{report.material_pct:g} %"
