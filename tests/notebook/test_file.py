"""The notebook in the repository is made from its script, has no outputs, and holds no logic of its own."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner, Result

from bench.cli import app
from bench.errors import BenchError
from bench.report.notebook_file import NAME, as_written
from tests.notebook.pairs import COMMITTED, IMPROVED, NAMES, ROOT, write_pair

LOGIC = (ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Lambda, ast.comprehension)
CALLS_ONLY = (ast.Assign, ast.Expr, ast.Import, ast.ImportFrom)


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["notebook", *map(str, arguments)])


def edited(path: Path, old: str, new: str) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    for cell in document["cells"]:
        cell["source"] = [line.replace(old, new) for line in cell["source"]]
    path.write_text(json.dumps(document), encoding="utf-8")


def test_the_committed_notebook_is_made_from_its_script() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == as_written(), "run: python -m tests.notebook"


def test_it_is_a_valid_notebook_with_distinct_cell_ids() -> None:
    document = nbformat.reads(as_written(), as_version=nbformat.NO_CONVERT)
    nbformat.validate(document)
    ids = [cell.id for cell in document.cells]
    assert len(ids) == len(set(ids))


def test_it_is_committed_without_outputs_and_execution_counts() -> None:
    cells = json.loads(COMMITTED.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 9
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_its_sections_are_those_of_the_evaluation_in_their_order() -> None:
    cells = json.loads(COMMITTED.read_text(encoding="utf-8"))["cells"]
    headings = [cell["source"][0].strip() for cell in cells if cell["source"][0].startswith("## ")]
    assert [heading.split()[1] for heading in headings] == [str(n) for n in range(1, 10)]


def test_its_cells_assign_import_and_call_and_do_nothing_else() -> None:
    for cell in json.loads(COMMITTED.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            assert all(isinstance(node, CALLS_ONLY) for node in tree.body)
            assert not [
                node for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.IfExp | ast.Lambda)
            ]


def test_it_is_written_beside_the_csvs_and_kept_where_it_stands(tmp_path: Path) -> None:
    folder = write_pair(tmp_path, IMPROVED)
    done = bench(folder)
    assert (done.exit_code, done.stdout) == (0, f"{folder / NAME}\n")
    assert (folder / NAME).read_text(encoding="utf-8") == as_written()
    assert bench(folder).exit_code == 0


def test_an_executed_one_counts_as_the_same_and_is_kept(tmp_path: Path) -> None:
    path = write_pair(tmp_path, IMPROVED) / NAME
    bench(tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    for cell in document["cells"]:
        cell["source"] = "".join(cell["source"])
    document["cells"][1] |= {"execution_count": 7, "outputs": [{"output_type": "stream", "text": "x"}]}
    path.write_text(json.dumps(document), encoding="utf-8")
    before = path.read_bytes()
    assert bench(tmp_path).exit_code == 0
    assert path.read_bytes() == before


def test_an_edited_one_is_overwritten_only_with_force(tmp_path: Path) -> None:
    path = write_pair(tmp_path, IMPROVED) / NAME
    bench(tmp_path)
    edited(path, "P95_LATENCY_MS = None", "P95_LATENCY_MS = 800")
    refused = bench(tmp_path)
    assert isinstance(refused.exception, BenchError)
    assert "is edited; --html executes it as it is, --force writes it anew" in str(refused.exception)
    assert "P95_LATENCY_MS = 800" in path.read_text(encoding="utf-8")
    assert bench(tmp_path, "--force").exit_code == 0
    assert path.read_text(encoding="utf-8") == as_written()


@pytest.mark.parametrize("option", [(), ("--html",)])
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[1]",
        b'{"cells": 3, "nbformat": 4}',
        b'{"cells": [3], "nbformat": 4}',
        b'{"cells": [{"cell_type": "code", "source": null}], "nbformat": 4}',
        b'{"cells": [{"cell_type": "code", "source": "\xff"}], "nbformat": 4}',
    ],
)
def test_a_file_that_is_no_notebook_is_refused_in_one_line(
    tmp_path: Path, raw: bytes, option: tuple[str, ...]
) -> None:
    (write_pair(tmp_path, IMPROVED) / NAME).write_bytes(raw)
    error = bench(tmp_path, *option).exception
    assert isinstance(error, BenchError)
    assert f"{NAME}: is no notebook (" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("variable", "first"),
    [("RUN=results/runs/a/b", "summarize results/runs/a/b --out results"), ("CONFIG=c.toml", "run c.toml")],
)
def test_make_notebook_measures_or_takes_a_run_and_then_executes(variable: str, first: str) -> None:
    done = subprocess.run(
        ["make", "-n", "notebook", variable, "-o", ".venv/.installed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [line.partition(".venv/bin/bench ")[2].strip() for line in done.stdout.splitlines()]
    assert commands[-2:] == [first, "notebook results --html"]


def test_a_missing_csv_is_one_line_that_says_how_to_get_it(tmp_path: Path) -> None:
    write_pair(tmp_path, IMPROVED)
    (tmp_path / NAMES[1]).unlink()
    error = bench(tmp_path).exception
    assert isinstance(error, BenchError)
    assert f"has no {NAMES[1]}; bench run measures them, bench summarize RUN --out" in str(error)
    assert not (tmp_path / NAME).exists()


def test_csvs_that_are_missing_are_found_before_anything_is_executed(tmp_path: Path) -> None:
    bench(write_pair(tmp_path, IMPROVED))
    for name in NAMES:
        (tmp_path / name).unlink()
    done = bench(tmp_path, "--html")
    assert isinstance(done.exception, BenchError)
    assert f"has no {NAMES[0]} and no {NAMES[1]}; bench run measures them" in str(done.exception)
    assert "executing" not in done.output
