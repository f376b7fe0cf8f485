"""The command that writes the evaluation notebook, and executes it to one HTML page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def notebook(
    folder: Annotated[Path, typer.Argument(help="The folder with the two CSVs, or a run folder.")] = Path(
        "results"
    ),
    html: Annotated[bool, typer.Option("--html", help="Execute it to evaluation.html beside it.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where the HTML goes; implies --html.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a notebook that was edited.")] = False,
) -> None:
    """Write the evaluation notebook beside the CSVs; with --html, execute it to one HTML page, too.

    A notebook that you have edited is kept, and executed as it is.
    """
    from bench.report.notebook_file import NAME, find_csvs, is_edited, to_html, write
    from bench.store import write_atomically

    path, page = folder / NAME, out
    if html and page is None:
        page = path.with_suffix(".html")
    if page is None or force or not path.exists() or not is_edited(path):  # an edited one may read others
        find_csvs(folder)
        write(path, force=force)
    if page is None:
        print(path)
        return
    print(f"bench: executing {path}", file=sys.stderr)
    write_atomically(page, to_html(path).encode())
    print(page)
