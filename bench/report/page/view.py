"""What the page's templates read: texts, already rounded and worded, in the order in which they stand.

A template decides nothing; what is not in here is not on the page. Systems are told apart by their `index`,
never by name, wherever the page's script has to find them.
"""

from __future__ import annotations

import msgspec

from bench.report.quality import Grid


class System(msgspec.Struct, frozen=True, kw_only=True):
    """A system with the look that it has in every chart. `role` is empty for what is no baseline."""

    index: int
    name: str
    role: str
    colour: str
    shape: str
    dash: str


class Figured(msgspec.Struct, frozen=True, kw_only=True):
    """A figure in a cell; one that is not stated is so in two words, and `why` is the reason."""

    text: str
    why: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A metric in both systems: figures, change and its interval; `direction` is how to read the change."""

    title: str
    baseline: Figured
    optimized: Figured
    change: str
    direction: str
    interval: str
    source: str


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome with its reason, as gates and expectations have one; `tone` is good, bad, open or none."""

    what: str
    outcome: str
    tone: str
    because: str


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Sentences under a title."""

    title: str
    lines: tuple[str, ...]


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What a day costs: label, both figures and what is saved, and notes on what is in them."""

    requests: str
    rows: tuple[tuple[str, str, str, str], ...]
    notes: tuple[str, ...]


class PairView(msgspec.Struct, frozen=True, kw_only=True):
    """A system against its baseline: the verdict and everything that it rests on.

    `throughput` says what the row of that name is.
    """

    baseline: System
    system: System
    decision: str
    tone: str
    sign: str
    binding: str
    lead: tuple[str, ...]
    guardrails: tuple[str, ...]
    scale: tuple[str, ...]
    headline: tuple[Line, ...]
    further: tuple[Line, ...]
    throughput: str
    gates: tuple[Judgement, ...]
    quality: tuple[Grid, ...]
    expected: str
    expectations: tuple[Judgement, ...]
    listings: tuple[Listing, ...]
    day: Day


class DoubtView(msgspec.Struct, frozen=True, kw_only=True):
    """A doubt, its remedy, and the systems it holds for where these are not all."""

    text: str
    remedy: str
    systems: str


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All systems in one table, and why they are not adopted, a line per reason.

    `counts` says how often each verdict was given, and `tone` is that of all of them together.
    """

    tone: str
    headings: tuple[str, ...]
    rows: tuple[OverviewRow, ...]
    reasons: tuple[str, ...]
    counts: str


class OverviewRow(msgspec.Struct, frozen=True, kw_only=True):
    """A system in the overview."""

    system: System
    cells: tuple[Figured, ...]
    verdict: str
    tone: str


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A figure's dataset: headings with `numeric` beside them, rows of texts each with its system's index."""

    name: str
    caption: str
    thinned: str
    headings: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[int | None, tuple[str, ...]], ...]


class FigureView(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its tables; `drawn` says whether there is a chart of it."""

    kind: str
    title: str
    reading: str
    notes: tuple[str, ...]
    missing: str
    drawn: bool
    tables: tuple[Table, ...]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Where one figure comes from; `systems` are those of which it is so."""

    metric: str
    systems: str
    value: str
    interval: str
    n: str
    source: str
    note: str


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """How a metric is defined."""

    label: str
    name: str
    unit: str
    better: str
    definition: str
    source: str


class OriginView(msgspec.Struct, frozen=True, kw_only=True):
    """A run folder: the command that makes it again, its circumstances, and the experiment as written."""

    folder: str
    command: str
    config_file: str
    facts: tuple[tuple[str, str], ...]
    written: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    title: str
    made: str
    invalid: tuple[str, ...]
    measured: tuple[tuple[str, str], ...]
    systems: tuple[System, ...]
    overview: Overview | None
    pairs: tuple[PairView, ...]
    sources: tuple[Measured, ...]
    figures: tuple[FigureView, ...]
    doubts: tuple[DoubtView, ...]
    assumptions: tuple[tuple[str, str], ...]
    definitions: tuple[Definition, ...]
    origins: tuple[OriginView, ...]
