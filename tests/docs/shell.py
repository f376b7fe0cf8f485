"""A shell for the documentation's examples: bash expands the words, and `bench` is called in this process.

`make TARGET` is asked for its recipe, and what that calls of bench is called likewise.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from tests.docs.pages import ROOT
from tests.docs.sandbox import INTERRUPTED, Done, Sandbox, copied

BENCH = f"{sys.executable} -m bench"

NOT_RUN = {
    "source .venv/bin/activate": "changes the shell; here `bench` is called without one",
    "make test": "this is what runs the tests",
    "python -m tests.readme": "rewrites the README; tests/test_readme.py looks whether it would",
    "bench selftest": "a minute of measuring; tests/run/test_selftest.py runs it",
    "python -m tests.reference": "rewrites the reference; tests/test_reference.py likewise",
}
"""Beginnings of commands that are not run, and why: of bench only the options are read, by its `--help`.

A test fails where one is on no page any more.
"""
MAY_SAY_NO = {"gate", "select", "selftest"}
"""Commands whose exit code 1 is an answer."""
FAIL_ON = "--fail-on"


class Shell:
    """Runs the commands of one block in `sandbox`, in their order; `printed` is all that they printed."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Begin without positional parameters."""
        self.sandbox = sandbox
        self.printed = ""
        self._positional: list[str] = []

    def run(self, script: str) -> None:
        """Run every command of `script`; AssertionError where one fails."""
        for line in re.sub(r"\\\n\s*", "", script).splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if reason := next((why for start, why in NOT_RUN.items() if _plain(line).startswith(start)), ""):
                self.printed += f"({reason})\n"
                if _plain(line).startswith("bench "):
                    self._bench([*self._words(line)[1:], "--help"])
                continue
            line, _, target = line.partition(" > ")
            words = self._words(line)
            before = len(self.printed)
            self._call(words)
            if target:
                (self.sandbox.path / target.split()[0]).write_text(self.printed[before:], encoding="utf-8")

    def _words(self, line: str) -> list[str]:
        """Return a line's words as bash expands them, a comment left out."""
        script = f"set -- {' '.join(map(_quoted, self._positional))}\nprintf '%s\\0' {line}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.sandbox.path, capture_output=True, text=True, check=True
        )
        return done.stdout.split("\0")[:-1]

    def _call(self, words: Sequence[str]) -> None:
        name = Path(words[0]).name
        if name == "set":
            self._positional = list(words[2:])
        elif name == "make":
            for recipe in _recipe(words[1:]):
                self._call(recipe)
        elif name == "bench":
            self._bench(list(words[1:]))
        else:
            raise AssertionError(f"{' '.join(words)}: no command that the documentation may use")

    def _bench(self, words: list[str]) -> None:
        bound = [bind(words[0], word, self.sandbox) for word in words]
        done = self.sandbox.bench(bound)
        self.printed += done.output
        assert may_end_so(words, done), f"bench {' '.join(words)}: exit code {done.exit_code}\n{done.output}"


def may_end_so(words: Sequence[str], done: Done) -> bool:
    """Say whether a command may end with its exit code: 0, or a no that it was asked for."""
    if done.exit_code == 1:
        return words[0] in MAY_SAY_NO or FAIL_ON in words
    # The one run that is really measured may have been disturbed, and all that is made of it.
    return done.exit_code == 0 or (done.exit_code == 3 and "INVALID" in done.output)


def _plain(line: str) -> str:
    return line.strip().removeprefix(".venv/bin/")


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _recipe(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield the commands of bench that a target of the Makefile would run."""
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", f"BENCH={BENCH}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith(BENCH)]
    assert found or words[0] == "help", f"make {' '.join(words)} runs nothing of bench:\n{done.stdout}"
    for line in found:
        script = f"printf '%s\\0' {line.removeprefix(BENCH)}"
        expanded = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        yield ["bench", *expanded.stdout.split("\0")[:-1]]


class Meaning(msgspec.Struct, frozen=True):
    """What a placeholder stands for, in some commands or in all."""

    word: str
    commands: tuple[str, ...]
    of: Callable[[Sandbox], Path]


def _later(sandbox: Sandbox) -> Path:
    """Return the recorded run once more, as if made a day later."""
    target = sandbox.recorded.with_name("20261122T203335Z-234b742")
    if not target.exists():
        copied(sandbox.recorded, target.name, {"2026-11-21T": "2026-11-22T"})
    return target


def _interrupted(sandbox: Sandbox) -> Path:
    """Return the measured run without its last repeat."""
    assert sandbox.donor is not None
    target = sandbox.donor.with_name(INTERRUPTED)
    if not target.exists():
        copied(sandbox.donor, target.name, {})
        for path in sorted((target / "optimized.1").iterdir(), reverse=True):
            path.unlink()
        (target / "optimized.1").rmdir()
    return target


def _replayed(sandbox: Sandbox) -> Path:
    """Return an A/B replay."""
    sandbox.bench(["ab", "configs/cpu-tiny.toml"])
    return sandbox.newest("cpu-tiny")


def _measured(sandbox: Sandbox) -> Path:
    assert sandbox.donor is not None
    return sandbox.donor


MEANINGS = (
    Meaning("RUN", ("capacity",), lambda sandbox: sandbox.searched),
    Meaning("RUN", ("ab",), _replayed),
    Meaning("RUN", ("run",), _interrupted),
    Meaning("RUN", ("quality", "fit", "simulate"), _measured),
    Meaning("RUN", ("select",), lambda sandbox: sandbox.newest("policies-cpu")),
    Meaning("RUN2", (), _later),
    Meaning("RUN", (), lambda sandbox: sandbox.recorded),
)
"""What the pages' placeholders stand for; the first that fits."""


def bind(command: str, word: str, sandbox: Sandbox) -> str:
    """Return a word with its placeholder, alone or as the first part of a path, replaced."""
    first, slash, rest = word.partition("/")
    for meaning in MEANINGS:
        if first == meaning.word and (not meaning.commands or command in meaning.commands):
            return f"{meaning.of(sandbox).relative_to(sandbox.path)}{slash}{rest}"
    return word
