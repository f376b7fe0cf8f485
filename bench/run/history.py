"""The history of a system's gated runs: a line of JSON a run or acceptance, appended and never rewritten.

`results/history/<experiment>/<system>.jsonl`. A line holds a run's figures and all that a later run must
share to be held against them: the machine, and the settings of model, traffic and system. The code is not
among them: that it changed between two commits is the point. An accepted baseline is a line of its own, which
says by whom, when and why.

Appends take a lock and are one write, so that several gates may share a file. A line torn by a crash is
sealed by the next append and left out by every reader, who says so; any other damage is an error with file
and line.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.analysis.system import Level
from bench.errors import ResultError
from bench.records import Value

SCHEMA = 1
"""Version of a line. 1: first."""
_DEFAULTS = {
    field.name: field.default
    for field in msgspec.structs.fields(Value)
    if field.default is not msgspec.NODEFAULT
}
_TORN = b"\t# torn\n"
"""What ends a line that a crash cut off."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="run"):
    """One system's figures in one run, and the circumstances under which they may be compared.

    `run` is the run folder's last two names. `utc` is when the run was made. `unbounded` says of figures
    why they are worse than any number. `energy_sources` are the meters that joules came from.
    """

    run: str
    system: str
    utc: str
    commit: str | None
    dirty: bool | None
    packages: dict[str, str | None]
    machine: dict[str, Any]
    settings: dict[str, Any]
    rate_rps: float | None
    level: Level
    figures: dict[str, Value]
    unbounded: dict[str, str] = {}
    energy_sources: tuple[str, ...] = ()
    schema: int = SCHEMA


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="accepted"):
    """Somebody made `run` the baseline of the runs that come after it."""

    run: str
    by: str
    why: str
    utc: str
    schema: int = SCHEMA


Line = Entry | Acceptance


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a file holds, in the order in which it was appended; `torn` are the torn lines."""

    path: Path
    lines: tuple[Line, ...] = ()
    torn: tuple[int, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The runs, each once, at the place of its first line with the figures of its last.

        Gating one again does not make it two; one that was resumed is what it became.
        """
        return tuple({line.run: line for line in self.lines if isinstance(line, Entry)}.values())

    @property
    def acceptances(self) -> tuple[Acceptance, ...]:
        """Who accepted what, in order."""
        return tuple(line for line in self.lines if isinstance(line, Acceptance))

    def with_lines(self, lines: Sequence[Line]) -> History:
        """Return the history as it is after `lines` were appended."""
        return msgspec.structs.replace(self, lines=(*self.lines, *lines))


def path_of(folder: Path, experiment: str, system: str) -> Path:
    """Return where a system's history stands below `folder`."""
    return folder / experiment / f"{system}.jsonl"


def read_history(path: Path) -> History:
    """Read a history, an empty one where there is no file.

    Raises ResultError, with file and line, where a line is damaged or of a newer bench. A last line that a
    crash cut off is left out and told in `torn`.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return History(path=path)
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be read ({error.strerror}); name another with --history"
        ) from error
    lines: list[Line] = []
    torn: list[int] = []
    for number, raw in enumerate(data.splitlines(keepends=True), start=1):
        if raw.endswith(_TORN) or (not raw.endswith(b"\n") and not _is_whole(raw)):
            torn.append(number)
        elif raw.strip():
            lines.append(_decode(raw, f"{path}, line {number}"))
    return History(path=path, lines=tuple(lines), torn=tuple(torn))


def append(path: Path, lines: Sequence[Line]) -> None:
    """Append `lines` in one write under a lock, durably; ResultError where that cannot be."""
    if not lines:
        return
    text = b"".join(_encode(line) + b"\n" for line in lines)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            whole = _seal(handle) + text
            if os.write(handle, whole) != len(whole):
                raise ResultError(f"{path}: the disk is full; the last line is torn and will be left out")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be written ({error.strerror}); name another with --history"
        ) from error


def differences(one: Mapping[str, Any], two: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return in what two tables differ, as `key: one against two`, of all that both know.

    A key that only one of them has is one that the bench which wrote the other did not know yet.
    """
    found: list[str] = []
    for key, left in one.items():
        right = two.get(key, left)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(f"{prefix}{key}: {_short(left)} against {_short(right)}")
    return found


def _encode(line: Line) -> bytes:
    """Return a line as JSON, its figures without what a reader fills in: most of it, over the years."""
    plain = msgspec.to_builtins(line, str_keys=True)
    for figure in plain.get("figures", {}).values():
        for key, default in _DEFAULTS.items():
            if figure[key] == default:
                del figure[key]
    return msgspec.json.encode(plain)


def _seal(handle: int) -> bytes:
    """Return what must come before the next line: the end of one that a crash cut off, if any."""
    size = os.fstat(handle).st_size
    start, tail = size, b""
    while start > 0 and b"\n" not in tail:
        step = min(start, 1 << 16)
        start -= step
        tail = os.pread(handle, step, start) + tail
    rest = tail.rpartition(b"\n")[2]
    if not rest:
        return b""
    return b"\n" if _is_whole(rest) else _TORN


def _is_whole(raw: bytes) -> bool:
    try:
        msgspec.json.decode(raw, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _decode(raw: bytes, where: str) -> Line:
    try:
        data = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ResultError(
            f"{where}: is no valid JSON ({error}); restore the file, or remove this line"
        ) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise ResultError(
            f"{where}: has schema {schema}, newer than the {SCHEMA} that this bench reads; upgrade bench"
        )
    try:
        line: Line = msgspec.convert(data, Line, str_keys=True)
    except msgspec.ValidationError as error:
        raise ResultError(
            f"{where}: is no line of a history ({error}); restore the file, or remove this line"
        ) from error
    return line


def _short(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return str(value.get("kind", "a table"))
