"""The two metric CSVs: `metric,baseline_value,notes` and `metric,optimized_value,notes`.

Their shape is fixed because a notebook reads them; `notes` may be absent. The value column's name says
which side a file is. Numbers are plain; an empty cell means *not measured* and its note says why. Text
that is no number is refused with file and line, so that no NaN ever enters a verdict. How sure a figure is
stands in the notes that bench writes, and is read back from them.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from bench.analysis.metrics import METRICS, REQUIRED
from bench.analysis.numbers import SIGNIFICANT, plain, shown
from bench.analysis.system import Doubt, MetricSet, missing
from bench.errors import ResultError
from bench.records import Value, ValueSource

Role = Literal["baseline", "optimized"]
COLUMNS: dict[str, Role] = {"baseline_value": "baseline", "optimized_value": "optimized"}
SOURCES: dict[str, ValueSource] = {
    "measured": "measured",
    "derived": "derived",
    "simulated": "simulated",
    "replayed": "replayed",
}
"""First words of the notes that bench writes."""
UNRESOLVED = "not resolved: "
_NUMBER = r"-?\d{1,15}(?:\.\d{1,30})?"
_ENDS = rf"(?P<low>{_NUMBER}) to (?P<high>{_NUMBER})"
_INTERVAL = re.compile(
    rf"95 % interval {_ENDS}(?:, which[^;]*)?(?: from (?P<n>\d{{1,9}}) (?:blocks|draws)\b[^;]*)?"
)
_OF_PROCESSES = re.compile(rf"with \S+ % between processes, by TPOT, {_ENDS}")
_OBSERVATIONS = re.compile(r"(?:.* )?(\d{1,9}) (?:repeats|blocks)")
"""How such a note says that a figure is unsure, how far, and of how many observations that was learnt."""
NEVER_ZERO = frozenset(REQUIRED)
"""Metrics that cannot be 0 of anything that ran: a 0 there means *not measured* in other tools."""


def render(values: Mapping[str, Value], role: Role) -> str:
    """Return one side's CSV. The same values give the same bytes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["metric", f"{role}_value", "notes"])
    for name, value in values.items():
        writer.writerow([name, plain(value.value, SIGNIFICANT), value.note])
    return out.getvalue()


def role_of(text: str, where: str) -> Role:
    """Return which side a CSV's header says it is; ResultError when it is no metrics CSV."""
    _, header = next(_rows(text, where), (1, []))
    names = [cell.strip() for cell in header]
    if len(names) < 2 or names[0] != "metric" or names[2:] not in ([], ["notes"]) or names[1] not in COLUMNS:
        raise ResultError(
            f"{where}, line 1: the header is {','.join(names) or 'empty'}; expected "
            "metric,baseline_value,notes or metric,optimized_value,notes"
        )
    return COLUMNS[names[1]]


def parse(text: str, where: str) -> MetricSet:
    """Read one CSV; `where` is its name in messages.

    Raises ResultError, one line per fault, for a wrong header, text, NaN or infinity in a number cell,
    a negative value where none can be, and duplicate metrics. A missing row, an empty cell and an
    unknown metric are kept as such and become doubts.
    """
    role = role_of(text, where)
    table = _Table(where)
    for line, cells in list(_rows(text, where))[1:]:
        table.add(line, cells)
    if table.faults:
        raise ResultError("\n".join(table.faults))
    absent = [name for name in REQUIRED if name not in table.values]
    for name in absent:
        table.doubt("missing row", f"{where} has no row {name}", f"add the row, or measure {name}")
    # The six come first, whatever the file's order, so that two files compare row by row.
    first = {name: table.values.get(name, missing(f"{where} has no such row")) for name in REQUIRED}
    values = first | table.values
    return MetricSet(name=role, origin=where, values=values, bare=True, doubts=tuple(table.doubts))


class _Table:
    """The rows read so far, with what was wrong with them."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.values: dict[str, Value] = {}
        self.faults: list[str] = []
        self.doubts: list[Doubt] = []
        self._lines: dict[str, int] = {}

    def doubt(self, key: str, text: str, remedy: str) -> None:
        self.doubts.append(Doubt(key=key, text=text, remedy=remedy))

    def add(self, line: int, cells: list[str]) -> None:
        at = f"{self.where}, line {line}"
        name = cells[0].strip()
        if len(cells) < 2 or len(cells) > 3:
            self.faults.append(f"{at}: {len(cells)} cells; expected metric, value and perhaps notes (quoted)")
        elif name in self._lines:
            first = self._lines[name]
            self.faults.append(f"{at}: {name} stands already in line {first}; keep one of the two rows")
        else:
            self._lines[name] = line
            self._keep(at, name, cells[1].strip(), cells[2].strip() if len(cells) == 3 else "")

    def _keep(self, at: str, name: str, cell: str, note: str) -> None:
        if name not in METRICS:
            self.doubt("unknown metric", f"{at}: {name!r} is no metric of bench; shown, not judged", "")
        if not cell:
            reason = note or f"the cell in {self.where} is empty and gives no reason"
            self.values[name] = missing(reason)
            return
        number = _number(cell)
        if number is None:
            self.faults.append(
                f"{at}: {name} is {cell!r}, no finite number; leave the cell empty if not measured"
            )
        elif number < 0 and name in METRICS:
            self.faults.append(f"{at}: {name} is {cell}, and it cannot be negative")
        elif number == 0 and name in NEVER_ZERO:
            self.doubt("zero", f"{at}: {name} is 0, which nothing that ran can have", "leave the cell empty")
            self.values[name] = missing(f"{self.where} says 0, which is impossible; taken as not measured")
        else:
            self.values[name] = _noted(Value(value=number, source=_source(note), note=note))


def _rows(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and cells of every row that is not blank."""
    # newline="" leaves line ends to the csv reader, which knows them all; a BOM is no part of a name.
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ResultError(f"{where}, line {reader.line_num}: is no valid CSV ({error})") from error


def _number(cell: str) -> float | None:
    """Return the finite number that `cell` is; underscores and locale commas are not accepted."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in cell else None


def _source(note: str) -> ValueSource:
    """Return what a note written by bench says of its source; any other figure is as stated."""
    word = note.split(maxsplit=1)[0].rstrip(":") if note else ""
    return SOURCES.get(word, "stated")


def _noted(value: Value) -> Value:
    """Return a figure with the interval, or the reason why it has none, that bench wrote into its note.

    An interval that does not hold the figure was not written with it, and counts for nothing.
    """
    if value.source == "stated" or value.value is None:
        return value
    parts = value.note.split("; ")
    if why := next((part for part in parts if part.startswith(UNRESOLVED)), ""):
        return msgspec.structs.replace(value, unresolved=why.removeprefix(UNRESOLVED))
    at, found = next(((i, m) for i, part in enumerate(parts) if (m := _INTERVAL.fullmatch(part))), (0, None))
    if found is None:
        return value
    counted = _OBSERVATIONS.fullmatch(parts[at - 1])
    n = found["n"] or (counted and counted[1])
    wider = next((m for part in parts if (m := _OF_PROCESSES.fullmatch(part))), found)
    low, high = float(wider["low"]), float(wider["high"])
    if n is None or not low <= float(shown(value.value)) <= high:
        return value
    # Its ends have fewer digits than the figure.
    return msgspec.structs.replace(value, low=min(low, value.value), high=max(high, value.value), n=int(n))
