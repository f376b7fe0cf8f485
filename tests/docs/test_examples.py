"""Every fenced block of the documentation is executed: commands run, TOML is checked, Python and YAML too."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from bench.run.assemble import assemble_written
from tests.docs.pages import Block, blocks, inline_code, pages
from tests.docs.sandbox import Sandbox, sandbox
from tests.docs.shell import NOT_RUN, Shell
from tests.reference.commands import commands, options

__all__ = ["sandbox"]
pytestmark = pytest.mark.timeout(600)  # the first one measures, and the machine may be busy

MINIMAL: dict[str, Any] = {
    "name": "example",
    "workload": {
        "requests_per_day": 1000,
        "input_tokens": {"kind": "constant", "tokens": 8},
        "output_tokens": {"kind": "constant", "tokens": 5},
    },
    "model": {"id": "tiny"},
    "systems": {"baseline": {}},
}
"""An experiment that every TOML block is merged into."""
OUTPUTS = [
    (block, after)
    for block, after in pairwise(blocks())
    if (block.language, after.language) == ("sh", "text") and block.is_followed_by(after)
]
"""Blocks of commands, and the block of text that shows what they print."""


@pytest.mark.parametrize("block", blocks("sh"), ids=lambda block: block.name)
def test_the_commands_of_a_block_run_as_they_are_written(block: Block, sandbox: Sandbox) -> None:
    Shell(sandbox).run(block.text)


@pytest.mark.parametrize(("block", "shown"), OUTPUTS, ids=lambda block: block.name)
def test_what_a_page_shows_is_what_its_commands_print(block: Block, shown: Block, sandbox: Sandbox) -> None:
    shell = Shell(sandbox)
    shell.run(block.text)
    printed = without_figures(shell.printed)
    for line in shown.text.splitlines():
        if line.strip("… "):
            assert without_figures(line.strip("… ")) in printed, line


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.name)
def test_a_piece_of_an_experiment_is_accepted_in_an_experiment(block: Block, sandbox: Sandbox) -> None:
    assemble_written(merged(MINIMAL, tomllib.loads(block.text)), "configs/example.toml")


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.name)
def test_a_piece_of_python_runs(block: Block, sandbox: Sandbox) -> None:
    exec(compile(block.text, block.name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.name)
def test_the_commands_of_a_workflow_run(block: Block, sandbox: Sandbox) -> None:
    for job in yaml.safe_load(block.text)["jobs"].values():
        shell = Shell(sandbox)
        shell.run("bench run configs/mine.toml")
        shell.run('bench gate "$(ls -d results/runs/mine/* | tail -1)" --accept "somebody does it once"')
        for step in job["steps"]:
            shell.run(step.get("run", ""))


def test_every_command_in_a_sentence_exists_and_takes_the_options_that_it_is_given() -> None:
    known = {name: options(command) for name, command in commands().items()}
    found = [
        code for page in pages() for code in inline_code(page) if re.match(r"(?:\S*/)?bench [a-z]", code)
    ]
    assert len(found) > 20
    for code in found:
        name = code.split()[1]
        assert name in known, code
        assert set(re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", code)) <= known[name], code


def test_what_is_not_run_is_still_on_a_page_and_says_why() -> None:
    lines = [
        line.strip().removeprefix(".venv/bin/") for block in blocks("sh") for line in block.text.splitlines()
    ]
    for start, reason in NOT_RUN.items():
        assert reason
        assert any(line.startswith(start) for line in lines), (
            f"{start!r} is on no page: drop it from the list"
        )


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return tables put together, key by key; a plug-in's table takes the place of another's."""
    both = dict(one)
    for key, value in other.items():
        inside = both.get(key)
        tables = isinstance(inside, dict) and isinstance(value, dict) and "kind" not in value
        both[key] = merged(inside, value) if tables and inside is not None else value
    return both


def without_figures(text: str) -> str:
    """Return text with every number and stamp the same, and white space and frames as one space."""
    plain = re.sub(r"[─│╭╮╰╯\s]+", " ", text)
    return re.sub(r"\d{8}T\d{6}Z-\w+|[-+]?\d+(?:[.,]\d+)*(?:e-?\d+)?", "#", plain)
