"""The report on output quality: one pair in full, or every system of an experiment side by side.

Nothing is computed here. A pair's tables have each figure with its interval, the noise floor beside it, its
limit and how it came out; then the format checks with McNemar's test, and the tone. Over several systems the
figures alone are shown, and all intervals in Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.analysis.comparison import Comparison
from bench.analysis.decide import Verdict
from bench.analysis.gate import Gate, Part
from bench.analysis.numbers import shown
from bench.analysis.output_quality import Check, Held, Shift
from bench.analysis.quality_gate import NAME, SHOWN, figure_of
from bench.records import Value
from bench.report.markdown import escaped
from bench.units import PERCENT

Pair = tuple[Comparison, Verdict]


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """A table as text: the first column is a name, the others are aligned to the right."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def render_quality(comparison: Comparison, verdict: Verdict) -> Group:
    """Return a pair's tables; nothing where the outputs were not compared."""
    return Group(*(_rich(grid) for grid in quality_grids(comparison, verdict)))


def quality_to_markdown(comparison: Comparison, verdict: Verdict) -> str:
    """Return the same as Markdown, '' where there is nothing."""
    return "\n".join(_markdown(grid) for grid in quality_grids(comparison, verdict))


def render_qualities(pairs: Sequence[Pair]) -> Group:
    """Return every system beside its baseline in one table, without the intervals."""
    return Group(*(_rich(grid) for grid in _overview(pairs, intervals=False)))


def qualities_to_markdown(pairs: Sequence[Pair]) -> str:
    """Return the same as Markdown, with the intervals."""
    return "\n".join(_markdown(grid) for grid in _overview(pairs, intervals=True))


def quality_grids(comparison: Comparison, verdict: Verdict) -> Iterator[Grid]:
    """Yield a pair's tables as text; none where the outputs were not compared."""
    gate, quality = _gate(verdict), comparison.optimized.quality
    if gate is None or not gate.parts or quality is None or quality.against_baseline is None:
        return
    floor = comparison.baseline.quality
    how = [f"{quality.how}."]
    if floor is not None and floor.floor:
        how.append(f"Noise floor: the baseline against itself {floor.floor}.")
    yield Grid(
        title="Output quality",
        header=("measure", "value", "95 % interval", "noise floor", "limit", "outcome"),
        rows=tuple(_part(part) for part in gate.parts),
        note=" ".join([*how, *_silent(gate.parts)]),
    )
    held = quality.against_baseline
    if held.checks:
        yield Grid(
            title="Formats kept",
            header=("check", "baseline", "system", "lost, won", "McNemar p", "drop (95 %)"),
            rows=tuple(_check(check) for check in held.checks),
        )
    if any(shift.shift.value is not None for shift in held.tone):
        yield Grid(
            title="Tone",
            header=("statistic", "baseline", "system", "shift, SD (90 %)"),
            rows=tuple(_shift(shift) for shift in held.tone),
        )


def _overview(pairs: Sequence[Pair], *, intervals: bool) -> Iterator[Grid]:
    """Yield the measures of all systems, then their format checks."""
    known = [
        (comparison.optimized.name, gate, comparison.optimized.quality)
        for comparison, verdict in pairs
        if (gate := _gate(verdict)) is not None and comparison.optimized.quality is not None
    ]
    columns = [(name, gate, found.against_baseline) for name, gate, found in known]
    held = [(name, gate, figures) for name, gate, figures in columns if figures is not None]
    if not held:
        return
    baseline = pairs[0][0].baseline
    floor = None if baseline.quality is None else baseline.quality.against_itself
    rows = [
        (
            label,
            "-" if floor is None else _cell(name, floor.measures[name], intervals=intervals),
            *(_cell(name, figures.measures[name], intervals=intervals) for _, _, figures in held),
        )
        for name, (label, _) in SHOWN.items()
    ]
    notes = [f"{known[0][2].how}."]
    if baseline.quality is not None and baseline.quality.floor:
        notes.append(f"{baseline.name} again: against itself {baseline.quality.floor}.")
    yield Grid(
        title=f"Output quality against {baseline.name}",
        header=("measure", f"{baseline.name} again", *(name for name, _, _ in held)),
        rows=(*rows, ("gate", "", *(gate.outcome for _, gate, _ in held))),
        note=" ".join([*notes, *_silent(held[0][1].parts)]),
    )
    if first := held[0][2].checks:
        yield Grid(
            title="Formats kept: share of the prompts, and McNemar's p",
            header=("check", "prompts", baseline.name, *(name for name, _, _ in held)),
            rows=tuple(_kept(check, [figures for _, _, figures in held]) for check in first),
        )


def _kept(check: Check, held: Sequence[Held]) -> tuple[str, ...]:
    """Return a check's row: the baseline's share, and that of every system with its p."""
    cells = []
    for figures in held:
        own = next((one for one in figures.checks if one.name == check.name), None)
        cells.append("-" if own is None else f"{_percent(own.own)} ({_p(own.p)})")
    label = check.label if check.informative else f"{check.label}: not informative"
    return (label, str(check.reference.n), _percent(check.reference), *cells)


def _silent(parts: Sequence[Part]) -> list[str]:
    """Return why measures with a limit say nothing here."""
    return [
        f"{part.label.partition(', ')[0].capitalize()}: {part.value.note}."
        for part in parts
        if part.outcome == "not informative"
    ]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else shown(value, 2)


def _percent(value: Value) -> str:
    assert value.value is not None
    return f"{value.value * PERCENT:.0f} %"


def _part(part: Part) -> tuple[str, ...]:
    floor = "-" if part.floor is None else figure_of(part.name, part.floor.value)
    within = " (within)" if part.within_floor else ""
    return (
        part.label,
        figure_of(part.name, part.value.value),
        _interval(part.name, part.value),
        f"{floor}{within}",
        part.limit or "-",
        part.outcome or "-",
    )


def _check(check: Check) -> tuple[str, ...]:
    drop = check.drop
    assert drop.value is not None
    text = f"{drop.value * PERCENT:+.1f} pp"
    if drop.low is not None and drop.high is not None:
        text += f" ({drop.low * PERCENT:+.1f} to {drop.high * PERCENT:+.1f})"
    return (
        check.label,
        _rate(check.reference),
        _rate(check.own),
        f"{check.lost}, {check.won}",
        _p(check.p),
        text if check.informative else "not informative",
    )


def _shift(shift: Shift) -> tuple[str, ...]:
    value = shift.shift
    if value.value is None:
        return (shift.label, shown(shift.reference, 3), shown(shift.own, 3), value.note)
    ends = "" if value.low is None or value.high is None else f" ({value.low:+.2f} to {value.high:+.2f})"
    return (
        shift.label,
        shown(shift.reference, 3),
        shown(shift.own, 3),
        f"{round(value.value, 2) + 0.0:+.2f}{ends}",
    )


def _rate(value: Value) -> str:
    """Return a share that passed, with its interval and of how many."""
    assert value.low is not None
    assert value.high is not None
    ends = f"{value.low * PERCENT:.0f} to {value.high * PERCENT:.0f}"
    return f"{_percent(value)} ({ends}) of {value.n}"


def _cell(name: str, value: Value, *, intervals: bool) -> str:
    ends = _interval(name, value) if intervals else ""
    return figure_of(name, value.value) + (f" ({ends})" if ends else "")


def _interval(name: str, value: Value) -> str:
    if value.low is None or value.high is None or value.low == value.high:
        return ""
    sure = "" if value.confidence >= 0.95 else f", {value.confidence * PERCENT:.0f} %"
    return f"{figure_of(name, value.low)} to {figure_of(name, value.high)}{sure}"


def _gate(verdict: Verdict) -> Gate | None:
    return next((gate for gate in verdict.gates if gate.name == NAME), None)


def _rich(grid: Grid) -> RenderableType:
    table = Table(
        title=Text(grid.title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=Text(grid.note) if grid.note else None,
        caption_justify="left",
    )
    for place, name in enumerate(grid.header):
        table.add_column(Text(name), justify="right" if place else "left", overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _markdown(grid: Grid) -> str:
    lines = [f"**{escaped(grid.title)}**", "", "| " + " | ".join(map(escaped, grid.header)) + " |"]
    lines.append("|---|" + "---:|" * (len(grid.header) - 1))
    lines += ["| " + " | ".join(map(escaped, row)) + " |" for row in grid.rows]
    if grid.note:
        lines += ["", escaped(grid.note)]
    return "\n".join(lines) + "\n"
