"""The answer of a command for programs (`--json`): exactly one JSON document on stdout, whatever happens.

Every document has `schema`, `command`, `exit_code` and `error`: null where the work was done (0 and 1),
else the kind of the error and its message, which also goes to stderr as ever. Beside these stands what the
command found until then. Only a command line that was not read has no answer, as it is
wrong (exit code 2) or was interrupted in its first tenths of a second (130): stdout is then empty.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import typer

from bench.errors import BenchError, ResultError

SCHEMA = 1
"""Of every document; raised where a key changes its meaning or goes. New keys do not raise it."""
Answer = dict[str, Any]
"""What a command found, by key; filled as it goes."""


class Unsuccessful(typer.Exit):
    """Ends a command that has said already what went wrong; the document has it as an error, too."""

    def __init__(self, kind: type[BenchError], why: Iterable[str]) -> None:
        super().__init__(kind.exit_code)
        self.error = kind("; ".join(why))


@contextmanager
def answering(command: str, *, as_json: bool) -> Iterator[Answer]:
    """Collect a command's answer and print it at its end, or at its error; without `as_json` nothing is.

    Meanwhile what anything else prints goes to stderr. What takes long to import is imported in here, so that
    an interrupt is answered, too.
    """
    answer: Answer = {}
    if not as_json:
        yield answer
        return
    exit_code, error = 0, None
    try:
        with redirect_stdout(sys.stderr):
            yield answer
    except BaseException as problem:
        exit_code, error = _ending(problem)
        raise
    finally:
        print_document(command, answer, exit_code, error)


def print_document(command: str, answer: Answer, exit_code: int, error: dict[str, str] | None) -> None:
    """Print the one document."""
    head = {"schema": SCHEMA, "command": command, "exit_code": exit_code, "error": error}
    print(encode(head | answer))


def encode(document: Mapping[str, Any]) -> str:
    """Return a document as text."""
    import msgspec

    # Strings of a kind of their own, as torch's version is.
    return msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2).decode()


def expected(problem: BaseException) -> BaseException:
    """Return a file that cannot be read or written as the ResultError that it is, else `problem` itself."""
    if isinstance(problem, OSError) and problem.filename is not None:
        return ResultError(f"{problem.filename}: {problem.strerror}")
    return problem


def _ending(problem: BaseException) -> tuple[int, dict[str, str] | None]:
    """Return the exit code that a command ends with, and its error where that is not all there is to say."""
    if isinstance(problem, Unsuccessful):
        problem = problem.error
    if isinstance(problem, typer.Exit):
        return problem.exit_code, None
    if isinstance(problem, KeyboardInterrupt):
        return 130, {"kind": "KeyboardInterrupt", "message": "interrupted"}
    problem = expected(problem)
    message = getattr(problem, "message", str(problem))
    return getattr(problem, "exit_code", 1), {"kind": type(problem).__name__, "message": message}
