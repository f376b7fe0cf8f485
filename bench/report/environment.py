"""`bench env` as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rich.markup import escape
from rich.table import Table


class Part(Protocol):
    """One line: a part of the environment, whether it is there, what was found, the remedy."""

    @property
    def name(self) -> str:
        """The part's name."""
        ...

    @property
    def ok(self) -> bool:
        """Whether it can be used."""
        ...

    @property
    def found(self) -> str:
        """Version, or why not."""
        ...

    @property
    def remedy(self) -> str:
        """What to do where it cannot be used."""
        ...


def render_environment(parts: Iterable[Part]) -> Table:
    """Return the table of `parts`."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("part", "", "found", "remedy"):
        table.add_column(heading, overflow="fold")
    for part in parts:
        answer = "[green]yes[/]" if part.ok else "[yellow]no[/]"
        table.add_row(escape(part.name), answer, escape(part.found), escape(part.remedy))
    return table
