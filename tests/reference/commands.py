"""The pages of the command line: every command with its options, and the exit codes.

Commands are read as they are written, as functions with annotated arguments, and not as typer builds them:
what it builds differs from version to version.
"""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import cli, errors
from bench.cli import answer, app
from bench.errors import BenchError
from bench.run.experiment import Interrupted
from tests.reference.words import MADE, doc_of, first_line, table

NAMES = {int: "whole number", float: "number", str: "text", Path: "path"}


def commands() -> dict[str, Callable[..., Any]]:
    """Return every command's function by its name."""
    found = {}
    for info in app.registered_commands:
        assert info.callback is not None
        found[info.name or info.callback.__name__.replace("_", "-")] = info.callback
    return found


def options(command: Callable[..., Any]) -> set[str]:
    """Return the options that a command takes."""
    names = " ".join(row[0] for row in _rows(command))
    return {*re.findall(r"--[a-z][a-z0-9-]*", names), "--help"}


def page() -> str:
    """Return the page of the commands."""
    known = commands()
    lines = [
        "# The command line",
        "",
        MADE,
        "",
        "Results go to stdout, progress and messages to stderr. [Exit codes](exit-codes.md).",
        "",
        *table(
            ("command", "does"),
            ([f"[`bench {name}`](#bench-{name})", first_line(command)] for name, command in known.items()),
        ),
    ]
    lines += ["", "## Answers for programs", "", doc_of(answer)]
    for name, command in known.items():
        lines += ["", f"## `bench {name}`", "", doc_of(command)]
        if rows := _rows(command):
            lines += ["", *table(("argument or option", "value", "default", "means"), rows)]
    return "\n".join(lines) + "\n"


def exit_codes() -> str:
    """Return the page of the exit codes."""
    kinds = [
        kind
        for kind in [*vars(errors).values(), Interrupted]
        if isinstance(kind, type) and issubclass(kind, BenchError) and kind is not BenchError
    ]
    rows = [[f"`{kind.__name__}`", str(kind.exit_code), first_line(kind)] for kind in kinds]
    said = " ".join(doc_of(cli).split("\n\n")[1].split()).partition(". Results")[0]
    codes = re.findall(r"(\d+) ([^;]+)", said)
    lines = [
        "# Exit codes",
        "",
        MADE,
        "",
        *table(("exit code", "means"), codes),
        "",
        "An expected failure is one line on stderr, `bench: …`, that says what, where and what to do. Any",
        "other exception is a defect of bench and keeps its traceback.",
        "",
        *table(("failure", "exit code", "means"), rows),
        "",
        "What each command does with 1 is in its own words on [the command line](command-line.md).",
    ]
    return "\n".join(lines) + "\n"


def _rows(command: Callable[..., Any]) -> list[list[str]]:
    hints = typing.get_type_hints(command, include_extras=True)
    rows = []
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if typing.get_origin(hint) is not typing.Annotated:
            continue  # typer's own context
        kind, said = typing.get_args(hint)[:2]
        rows.append([_name(parameter.name, said), _value(kind, said), _default(parameter), said.help or ""])
    return rows


def _name(name: str, said: Any) -> str:
    if type(said).__name__ == "ArgumentInfo":
        return f"`{said.metavar or name.upper()}`"
    # In an annotation the first name of an option stands where a default would.
    first = [said.default] if isinstance(said.default, str) else []
    names = [*first, *(said.param_decls or [])] or [f"--{name.replace('_', '-')}"]
    return ", ".join(f"`{each}`" for each in names)


def _value(kind: Any, said: Any) -> str:
    """Return what an argument takes, in words; '' for a switch."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is list:
        (kind,) = typing.get_args(kind)
    if kind is bool:
        return ""
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return ", ".join(f"`{choice.value}`" for choice in kind)
    ends = (("≥", said.min), ("≤", said.max))
    bounds = [f"{sign} {end:g}" for sign, end in ends if end is not None]
    return f"{NAMES[kind]} {', '.join(bounds)}".strip()


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    return "" if value is None or value is False else f"`{value}`"
