"""A figure before it is drawn: its numbers as tables, and what they show in a sentence.

A figure says nothing about marks or colours. Its chart (`report.charts`) and the table that stands beside the
chart are made of the same rows, so a reader of either sees the same numbers.
"""

from __future__ import annotations

import msgspec

Cell = float | int | str | bool | None


class Column(msgspec.Struct, frozen=True):
    """A column of a dataset: the rows' key, its heading with the unit, and significant digits."""

    name: str
    heading: str
    digits: int = 4


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one shape. `thinned` says by which rule rows were left out, where they were.

    Rows of one system carry its name under `system`: a chart hides them by it.
    """

    columns: tuple[Column, ...]
    rows: tuple[dict[str, Cell], ...]
    caption: str = ""
    thinned: str = ""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: `kind` is its name at the command line, `reading` what its numbers show, in a sentence.

    `missing` says why there is nothing to draw; it is empty where there is. `notes` say what to mind in
    reading it. `systems` are all systems of the evaluation in their order, also those without rows, so that
    one system has one colour everywhere.
    """

    kind: str
    title: str
    systems: tuple[str, ...]
    reading: str = ""
    datasets: dict[str, Dataset] = {}
    notes: tuple[str, ...] = ()
    missing: str = ""
