"""Recorded traffic: a CSV of when requests came and how many tokens they had.

It has the columns `timestamp`, `input_tokens`, `output_tokens`, or those of the public Azure LLM inference
traces of 2023 and 2024 (`TIMESTAMP`, `ContextTokens`, `GeneratedTokens`), which are read as they are. A
timestamp is a number of seconds or a date with a time, with or without an offset from UTC; rows are in order
of it. Other columns are ignored. Arrivals, lengths and the rate of one experiment may all come from one
trace; each request then keeps the pair of lengths of its own row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import msgspec
import numpy as np

from bench.config import Experiment
from bench.errors import ConfigError
from bench.units import NS_PER_S

if TYPE_CHECKING:
    import pyarrow as pa

Start = Literal["first", "drawn"]
"""Where a replay begins: at the trace's first row, or at one drawn from the seed."""
Column = Literal["input_tokens", "output_tokens"]
COLUMNS = {
    "timestamp": ("timestamp", "TIMESTAMP"),
    "input_tokens": ("input_tokens", "ContextTokens"),
    "output_tokens": ("output_tokens", "GeneratedTokens"),
}
"""What each column may be called."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A trace's rows; `seconds` counts from the first of them."""

    seconds: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray

    @property
    def n(self) -> int:
        """How many rows there are."""
        return len(self.seconds)

    @property
    def rate_rps(self) -> float:
        """The trace's own mean rate: its gaps over the time between its first row and its last."""
        return (self.n - 1) / float(self.seconds[-1])

    def first_row(self, start: Start, rng: np.random.Generator) -> int:
        """Return the row at which a replay begins; rows drawn from equal generators are equal."""
        return 0 if start == "first" else int(rng.integers(self.n))

    def times_s(self, first: int, n: int) -> np.ndarray:
        """Return when the `n` rows from `first` on came, from 0; after the last row the trace begins anew.

        One round takes as long as the trace and one mean gap, so that the rate of whole rounds is its own.
        """
        first %= self.n
        rounds, rows = np.divmod(first + np.arange(n), self.n)
        times_s: np.ndarray = self.seconds[rows] + rounds * (self.n / self.rate_rps) - self.seconds[first]
        return times_s

    def tokens(self, column: Column, first: int, n: int) -> np.ndarray:
        """Return the lengths of the `n` rows from `first` on; after the last row comes the first one."""
        values: np.ndarray = getattr(self, column)[(first + np.arange(n)) % self.n]
        return values


def read_trace(path: str) -> Trace:
    """Read a trace; ValueError of one line with file, line, column and what to do, where it is none."""
    try:
        state = Path(path).stat()
    except OSError as error:
        raise ValueError(
            f"the trace {path} cannot be read ({error.strerror}); name an existing CSV"
        ) from None
    return _read(path, state.st_mtime_ns, state.st_size)


def line_of(path: str, row: int) -> int:
    """Return the number of the line, from 1, on which a trace's `row`, from 0, ends."""
    return next(line for index, (line, _) in enumerate(_lines(path), start=-1) if index == row)


def with_trace(experiment: Experiment, where: str) -> Experiment:
    """Fill in what tables of kind `trace` leave out, and resolve their paths beside the file `where`.

    Lengths and load without a `path` take that of the arrivals, lengths also their `start`, and their
    `column` by their own key. Raises ConfigError where there is none to take.
    """
    workload = experiment.workload
    arrivals = _resolved(workload.arrivals, where)
    lengths = {
        key: _resolved(getattr(workload, key), where, arrivals, key)
        for key in ("input_tokens", "output_tokens")
    }
    return msgspec.structs.replace(
        experiment,
        workload=msgspec.structs.replace(workload, arrivals=arrivals, **lengths),
        load=_resolved(experiment.load, where, arrivals),
    )


def _resolved(
    choice: str | dict[str, Any],
    where: str,
    arrivals: str | dict[str, Any] | None = None,
    column: str | None = None,
) -> str | dict[str, Any]:
    """Return one table with its path resolved, and filled in from the resolved `arrivals`."""
    table = {"kind": choice} if isinstance(choice, str) else dict(choice)
    if table.get("kind") != "trace":
        return choice
    if isinstance(table.get("path"), str):
        table["path"] = str(Path(where).parent / table["path"])
    elif isinstance(arrivals, Mapping) and arrivals.get("kind") == "trace" and "path" not in table:
        named = ("path", "start") if column else ("path",)
        table = {key: arrivals[key] for key in named if key in arrivals} | table
    elif arrivals is not None and "path" not in table:
        key = f"workload.{column}" if column else "load"
        raise ConfigError(
            f"{where}: {key} is to come from a trace and none is named; give it a path, or use arrivals = "
            '{ kind = "trace", path = "…" }'
        )
    return {"column": column} | table if column else table


@lru_cache(maxsize=2)
def _read(path: str, _modified_ns: int, _size: int) -> Trace:
    """Read a trace once for every state of its file."""
    columns = _columns(path)
    seconds = _seconds(path, *columns["timestamp"])
    tokens = {key: _tokens(path, *columns[key]) for key in ("input_tokens", "output_tokens")}
    back = np.flatnonzero(np.diff(seconds) < 0)
    if len(back):
        name, texts = columns["timestamp"]
        _refuse(path, int(back[0]) + 1, name, texts, "is before the row above it; sort the trace by time")
    if len(seconds) < 2 or seconds[-1] == 0:
        raise ValueError(
            f"the trace {path} has {len(seconds)} row(s) and spans no time, so it has no rate; "
            "it needs two rows at different times"
        )
    return Trace(seconds=seconds, **tokens)


def _columns(path: str) -> dict[str, tuple[str, pa.ChunkedArray]]:
    """Return each column's name in the file and its texts."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    _, header = next(_lines(path), (0, []))
    names = {}
    for key, known in COLUMNS.items():
        found = [name for name in header if name.strip() in known]
        if len(found) != 1:
            raise ValueError(
                f"the trace {path}, line 1: {'no' if not found else 'more than one'} column "
                f"{' or '.join(known)} in its header {', '.join(header) or '(empty)'}; name the columns "
                f"{', '.join(COLUMNS)}"
            )
        names[key] = found[0]
    convert = arrow_csv.ConvertOptions(
        include_columns=list(names.values()), column_types=dict.fromkeys(names.values(), pa.string())
    )
    try:
        table = arrow_csv.read_csv(path, convert_options=convert)
    except pa.ArrowInvalid as error:
        for line, cells in _lines(path):
            if len(cells) != len(header):
                raise ValueError(
                    f"the trace {path}, line {line}: has {len(cells)} columns where the header has "
                    f"{len(header)}; correct or delete the line"
                ) from None
        raise ValueError(f"the trace {path} is no CSV: {' '.join(str(error).split())}") from None
    return {key: (name, table.column(name)) for key, name in names.items()}


def _seconds(path: str, name: str, texts: pa.ChunkedArray) -> np.ndarray:
    """Return timestamps as seconds since the first, whatever they are written in."""
    import pyarrow as pa

    kinds = (pa.float64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
    # The first row tells how they are written: all must be alike.
    kind = next((kind for kind in kinds if _cast(texts.slice(0, 1), kind) is not None), kinds[0])
    what = "is no time; write seconds, or date and time, alike in all rows"
    values = _all(path, name, texts, kind, what)
    if kind != pa.float64():
        ns = values.cast(pa.int64()).to_numpy()
        seconds: np.ndarray = (ns - ns[:1]) / NS_PER_S
        return seconds
    seconds = values.to_numpy()
    endless = np.flatnonzero(~np.isfinite(seconds))
    if len(endless):
        _refuse(path, int(endless[0]), name, texts, what)
    since: np.ndarray = seconds - seconds[:1]
    return since


def _tokens(path: str, name: str, texts: pa.ChunkedArray) -> np.ndarray:
    """Return token counts."""
    import pyarrow as pa

    what = "is no whole number of at least 1; correct or delete the row"
    values: np.ndarray = _all(path, name, texts, pa.int64(), what).to_numpy()
    few = np.flatnonzero(values < 1)
    if len(few):
        _refuse(path, int(few[0]), name, texts, what)
    return values


def _all(path: str, name: str, texts: pa.ChunkedArray, kind: pa.DataType, what: str) -> pa.ChunkedArray:
    """Return all texts as `kind`; ValueError that names the first that is `what`, found by bisection."""
    values = _cast(texts, kind)
    if values is None:
        first, end = 0, len(texts)
        while end - first > 1:
            middle = (first + end) // 2
            if _cast(texts.slice(first, middle - first), kind) is None:
                end = middle
            else:
                first = middle
        _refuse(path, first, name, texts, what)
    return values


def _cast(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """Return texts as `kind`, None where one of them is none."""
    import pyarrow as pa

    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        return None


def _refuse(path: str, row: int, name: str, texts: pa.ChunkedArray, what: str) -> NoReturn:
    raise ValueError(f"the trace {path}, line {line_of(path, row)}: {name} = {texts[row].as_py()!r} {what}")


def _lines(path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of every line that is not empty; the first one is the header."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"the trace {path} cannot be read as CSV ({error}); name a UTF-8 CSV") from None
