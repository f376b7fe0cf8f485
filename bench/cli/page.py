"""The command that writes the result page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bench.run.judging import Override

PAGE = "report.html"


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders made alike.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write; default: report.html in the one folder, else here."),
    ] = None,
    allow_different: Annotated[
        list[str] | None, typer.Option(help="Put on one page although this differs, e.g. load (repeatable).")
    ] = None,
    requests_per_day: Annotated[
        float | None, typer.Option(min=1, max=1e15, help="Daily volume instead of the run's own.")
    ] = None,
    kg_co2e_per_kwh: Annotated[
        float | None, typer.Option(min=0, max=10, help="Grid instead of the run's own.")
    ] = None,
    p95_latency_ms: Annotated[
        float | None, typer.Option(min=0.001, max=1e9, help="Objective instead of the run's own.")
    ] = None,
    usd_per_gpu_hour: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="Price of a GPU, or of a machine without one.")
    ] = None,
) -> None:
    """Write the result page: verdict, tables, charts and provenance in one file that needs no network."""
    from bench.run.judging import Override

    override = Override(
        requests_per_day=requests_per_day,
        kg_co2e_per_kwh=kg_co2e_per_kwh,
        p95_latency_ms=p95_latency_ms,
        usd_per_gpu_hour=usd_per_gpu_hour,
    )
    to = out or (folders[0] / PAGE if len(folders) == 1 else Path(PAGE))
    print(write_page(folders, [to], override, allow_different or [])[0])


def write_page(
    folders: Sequence[Path],
    to: Sequence[Path],
    override: Override | None = None,
    allow_different: Sequence[str] = (),
) -> list[Path]:
    """Write the page of `folders` to each of the files, and return these.

    Raises ResultError where the folders have no page, or a file cannot be written.
    """
    from bench.errors import ResultError
    from bench.report.page.page import render_page
    from bench.run.evaluation import read_evaluation

    text = render_page(read_evaluation(folders, override, allow_different))
    for path in to:
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ResultError(
                f"{path}: cannot be written ({error.strerror}); name another with --out"
            ) from error
    return list(to)


def page_of_run(folder: Path, results: Path | None) -> list[Path]:
    """Write the page of a run that has ended into its folder, and into `results` beside the CSVs.

    Whatever goes wrong is said, and no more: what was measured is kept, and so is the exit code.
    """
    to = [folder / PAGE] if results is None else [folder / PAGE, results / PAGE]
    try:
        return write_page([folder], to)
    except Exception as error:  # noqa: BLE001 - a defect in drawing must not make a finished run look failed
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        print(f"bench: no result page ({why}); try again with: bench report {folder}", file=sys.stderr)
        return []
