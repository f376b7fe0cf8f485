"""The answer of a command for programs (`--json`): exactly one JSON document on stdout, whatever happens.

Every document has `schema`, `command`, `exit_code` and `error`: null, or the kind of the error and its
message, which also goes to stderr as ever. Beside these stands what the command found until then. Only a
command line that cannot be read has no answer: stdout is then empty and the exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import typer

Answer = dict[str, Any]
"""What a command found, by key; filled as it goes."""


@contextmanager
def answering(command: str, *, as_json: bool) -> Iterator[Answer]:
    """Collect a command's answer and print it at its end, or at its error; without `as_json` nothing is.

    Meanwhile what anything else prints goes to stderr.
    """
    answer: Answer = {}
    if not as_json:
        yield answer
        return
    exit_code, error = 0, None
    try:
        with redirect_stdout(sys.stderr):
            yield answer
    except typer.Exit as end:
        exit_code = end.exit_code
        raise
    except KeyboardInterrupt:
        exit_code, error = 130, {"kind": "KeyboardInterrupt", "message": "interrupted"}
        raise
    except Exception as problem:
        exit_code = getattr(problem, "exit_code", 1)
        error = {"kind": type(problem).__name__, "message": getattr(problem, "message", str(problem))}
        raise
    finally:
        print_document(command, answer, exit_code, error)


def print_document(command: str, answer: Answer, exit_code: int, error: dict[str, str] | None) -> None:
    """Print the one document."""
    from bench.report.document import SCHEMA, encode

    head = {"schema": SCHEMA, "command": command, "exit_code": exit_code, "error": error}
    print(encode(head | answer))
