"""The evaluation notebook as a file, made from a script of cells, and executed to one HTML page.

`bench/data/evaluation.py` is the one source: code that is read, linted and diffed as code. A cell starts
with `# %% name`, one of text with `# %% [markdown] name`; the name becomes the cell's id, so the same script
always gives the same bytes. Neither outputs nor execution counts are in it.

What executing needs beside bench (`NEEDED`) is imported by the functions that need it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from bench import store
from bench.errors import NotAvailable, ResultError
from bench.report.notebook_page import TEMPLATE
from bench.run.results import CSV_NAME, write_csvs

NAME = "evaluation.ipynb"
NEEDED = ("ipykernel", "nbclient", "nbconvert", "pandas")
INSTALL = "pip install 'gpu-inference-bench[notebook]'"
CELL = re.compile(r"^# %% (\[markdown\] )?([a-z-]+)$", re.MULTILINE)
TIMEOUT_S = 600
FORMAT = (4, 5)
"""nbformat's version; from 4.5 on cells have ids."""


def as_written() -> str:
    """Return the notebook as the text of an `.ipynb` file: the same bytes every time."""
    document = {
        "cells": _cells((resources.files("bench") / "data" / "evaluation.py").read_text(encoding="utf-8")),
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": FORMAT[0],
        "nbformat_minor": FORMAT[1],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def is_edited(path: Path) -> bool:
    """Say whether a notebook's cells are others than `as_written`; outputs are no edit.

    Raises ResultError where the file is no notebook.
    """
    try:
        return _sources(path.read_bytes()) != _sources(as_written().encode())
    except (OSError, ValueError) as error:
        raise _no_notebook(path, error) from error


def write(path: Path, *, force: bool = False) -> bool:
    """Write the notebook; return whether it was written, or stood there already.

    Raises ResultError where an edited one stands there, unless `force` is given.
    """
    if path.exists() and not force:
        if is_edited(path):
            raise ResultError(f"{path}: is edited; --html executes it as it is, --force writes it anew")
        return False
    path.write_text(as_written(), encoding="utf-8")
    return True


def find_csvs(folder: Path) -> None:
    """Make sure that the two CSVs lie in `folder`; those of a run folder are rebuilt where they do not.

    Raises ResultError where one is missing.
    """
    names = [CSV_NAME.format(system=role) for role in ("baseline", "optimized")]
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking and store.is_experiment(folder):
        write_csvs(folder, folder)
    elif lacking:
        raise ResultError(
            f"{folder}: has no {' and no '.join(lacking)}; bench run measures them, "
            f"bench summarize RUN --out {folder} rebuilds those of a run"
        )


def to_html(path: Path) -> str:
    """Execute a notebook in its folder, with this interpreter, and return one HTML page without any network.

    The notebook itself stays as it is. Raises NotAvailable where a package is missing, and ResultError, in
    one line, where the file is no notebook or a cell fails.
    """
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        raise NotAvailable(f"executing the notebook needs {', '.join(lacking)}: {INSTALL}")
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbconvert import HTMLExporter

    try:
        document = nbformat.read(path, as_version=FORMAT[0])
        nbformat.validate(document, relax_add_props=True)
    except Exception as error:  # nbformat meets what is broken with errors of any kind
        raise _no_notebook(path, error) from error
    at = {"metadata": {"path": str(path.resolve().parent)}}
    with tempfile.TemporaryDirectory(prefix="bench-") as private:
        manager = _kernel_manager(Path(private))
        client = NotebookClient(document, kernel_manager_class=manager, timeout=TIMEOUT_S, resources=at)
        try:
            # A profile of its own: what a person's IPython does at its start is no part of the notebook.
            asyncio.run(client.async_execute(env=os.environ | {"IPYTHONDIR": private}))
        except CellExecutionError as error:
            raise ResultError(f"{path}: {error.evalue}") from error
    exporter = HTMLExporter(template_name="basic", raw_template=TEMPLATE)
    html, _ = exporter.from_notebook_node(document)
    return str(html)


def _kernel_manager(private: Path) -> Any:
    """Return the class of what starts a kernel of this interpreter, whatever kernels are registered here.

    It is spoken to through sockets in the folder `private`, where the system has such, not over TCP.
    """
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]

    connection = {"connection_file": str(private / "kernel.json")}
    if os.name == "posix":
        connection |= {"transport": "ipc", "ip": str(private / "ipc")}

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(argv=command, display_name="Python 3", language="python")

    class Manager(AsyncKernelManager):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs, **connection, kernel_spec_manager=ThisPython())

    return Manager


def _cells(script: str) -> list[dict[str, Any]]:
    """Return the cells of a script."""
    parts = CELL.split(script)[1:]
    return [
        _cell(name, body.strip("\n"), markdown=bool(kind))
        for kind, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]


def _cell(name: str, body: str, *, markdown: bool) -> dict[str, Any]:
    if markdown:
        body = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())
    source = body.splitlines(keepends=True)
    if markdown:
        return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source}
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {"tags": ["parameters"]} if name == "assumptions" else {},
        "outputs": [],
        "source": source,
    }


class _Cell(msgspec.Struct):
    cell_type: str
    source: str | list[str]


class _Notebook(msgspec.Struct):
    """What must be in a file that is a notebook."""

    cells: list[_Cell]
    nbformat: int


def _no_notebook(path: Path, error: Exception) -> ResultError:
    why = str(error).partition("\n")[0] or type(error).__name__
    return ResultError(f"{path}: is no notebook ({why}); --force writes it anew")


def _sources(raw: bytes) -> list[tuple[str, str]]:
    """Return type and text of every cell, as a line each or as one text, as Jupyter writes either."""
    document = msgspec.json.decode(raw, type=_Notebook)
    return [(cell.cell_type, "".join(cell.source)) for cell in document.cells]
