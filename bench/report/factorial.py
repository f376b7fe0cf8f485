"""Which change did what: each factorial of an experiment as a table, and in words what that leaves out."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.analysis.attribution import (
    beyond_table,
    directed,
    interval,
    name_of,
    percent,
    shown_of,
    spoken_of,
    title,
)
from bench.analysis.change import Direction
from bench.analysis.factorial import NOT_RESOLVED, Factorial
from bench.report.markdown import escaped
from bench.report.tables import DIRECTION_STYLE

_HEADING = "Which change did what"
_HOW = (
    "Geometric means over the levels of the others; in brackets the 95 % interval. An interaction is how "
    "much more, or less, both together give than the product of each alone; together: last corner over first."
)


def render_factorial(factorial: Factorial, *, every: bool = False, in_words: bool = True) -> Group:
    """Return the effects on each metric and what the table leaves out, briefly without `in_words`."""
    table = Table(
        title=Text(f"{_HEADING}: {title(factorial)}", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=_HOW,
        caption_justify="left",
    )
    table.add_column("metric", max_width=18)
    table.add_column("effect of", overflow="fold")
    table.add_column("change (95 % interval)", justify="right", no_wrap=True)
    for metric, of, change, ends, direction in _rows(factorial, every=every):
        cell = Text(change, style=DIRECTION_STYLE.get(direction, ""))
        if ends:
            cell.append(f" ({ends})", style="dim")
        table.add_row(Text(metric), Text(of), cell)
    parts: list[RenderableType] = [table] if table.row_count else [Text(f"{_HEADING}: {title(factorial)}")]
    words = Table(box=None, show_header=False)
    words.add_column(width=1)
    words.add_column(overflow="fold")
    for line in beyond_table(factorial, every=every, in_full=in_words or not table.row_count):
        words.add_row("-", Text(line))
    if words.row_count:
        parts.append(words)
    return Group(*parts)


def factorial_to_markdown(factorial: Factorial, *, every: bool = False, in_words: bool = True) -> str:
    """Return the same as Markdown."""
    lines = [f"**{_HEADING}**: {escaped(title(factorial))}"]
    rows = list(_rows(factorial, every=every))
    if rows:
        lines += ["", "| metric | effect of | change | 95 % interval |", "|---|---|---:|---|"]
        lines += [f"| {' | '.join(escaped(cell) for cell in row[:4])} |" for row in rows]
        lines += ["", _HOW]
    if told := beyond_table(factorial, every=every, in_full=in_words or not rows):
        lines += ["", *(f"- {escaped(line)}" for line in told)]
    return "\n".join(lines) + "\n"


def _rows(factorial: Factorial, *, every: bool) -> Iterator[tuple[str, str, str, str, Direction]]:
    """Yield metric (once), effect, change, interval and direction."""
    for response in spoken_of(factorial, every=every):
        lacking = NOT_RESOLVED if response.unresolved.startswith(NOT_RESOLVED) else ""
        for i, effect in enumerate(shown_of(response)):
            yield (
                response.label if i == 0 else "",
                name_of(factorial, effect),
                percent(effect),
                interval(effect) or lacking,
                directed(response, effect),
            )
