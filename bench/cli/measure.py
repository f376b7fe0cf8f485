"""Commands that measure: an experiment, and the search for its systems' capacity."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.show import invalid_lines, new_console, rounds_lines, show_comparisons
from bench.errors import BenchError
from bench.units import MINUTE_S


def run(
    config: Annotated[Path | None, typer.Argument(help="Experiment file (TOML).")] = None,
    model: Annotated[str | None, typer.Option(help="Model id or folder instead of the file's.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Where run folders and the CSVs go; default: results.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this interrupted run folder.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=1e-6, max=1e9, help="Requests/s for latency, instead of [load].")
    ] = None,
    allow_shared: Annotated[
        bool, typer.Option("--allow-shared", help="Measure on a GPU that others use, too.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Show every metric, not the headline only.")] = False,
) -> None:
    """Measure an experiment: run folders, the two CSVs, the comparison and the verdict."""
    from bench.run.assemble import assemble
    from bench.run.experiment import new_folder, reopen

    if (config is None) == (resume is None):
        raise typer.BadParameter("give either an experiment file or --resume FOLDER")
    if resume is not None:
        if model is not None or rate is not None or allow_shared:
            raise typer.BadParameter("a resumed run keeps its model, its load and its GPU; start a new one")
        parts, folder = reopen(resume), resume
        results = results or folder.resolve().parents[2]  # results/runs/CONFIG/STAMP
    else:
        assert config is not None
        results = results or Path("results")
        parts = assemble(config, model_id=model, rate_rps=rate, allow_shared=allow_shared)
        folder = new_folder(parts, results)
    raise typer.Exit(_run(parts, folder, results, quiet=quiet, every=every))


def _run(parts: Any, folder: Path, results: Path, *, quiet: bool, every: bool) -> int:
    """Run what is not complete, write the CSVs, show the comparison; return the exit code."""
    from bench.report.progress import RunProgress
    from bench.run.experiment import planned_s, run_experiment
    from bench.run.judging import judge_experiment
    from bench.run.preflight import warnings
    from bench.run.results import metric_sets, write_csvs

    console = new_console(stderr=True)
    plan_s = planned_s(parts)
    console.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)
    for line in warnings(parts):
        print(f"bench: {line}", file=sys.stderr)
    most = "at most " if parts.experiment.protocol.stop == "decided" else ""
    minutes = sum(plan_s.values()) / MINUTE_S
    console.print(f"{most}{len(plan_s)} jobs, {most}{minutes:.1f} minutes plus loading and drain")
    with RunProgress(console, planned_s=plan_s, quiet=quiet) as progress:
        failures = resumable(lambda: run_experiment(parts, folder, progress.watch), f"run --resume {folder}")
    sets = metric_sets(folder)
    invalid = invalid_lines(sets)
    written = write_csvs(folder, folder)
    if not invalid:  # else the last good pair stays where readers look, and this run's are in its folder
        written = write_csvs(folder, results)
    for path in written:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    show_comparisons(judge_experiment(folder), sets, every=every)
    if len(parts.systems) == 1:
        print(
            "bench: one system only, so there is nothing to compare; its figures are in the CSV",
            file=sys.stderr,
        )
    for line in [*rounds_lines(folder), *_overloaded(sets)]:
        print(f"bench: {line}", file=sys.stderr)
    if failures:
        print(f"bench: go on with: bench run --resume {folder}", file=sys.stderr)
    for line in invalid:
        print(f"bench: {line}", file=sys.stderr)
    if invalid:
        print(f"bench: the CSVs in {results} were left as they were; start a new run", file=sys.stderr)
    return 3 if failures or invalid else 0


def capacity(
    path: Annotated[
        Path | None, typer.Argument(metavar="CONFIG|RUN", help="An experiment file, or a run folder.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model id or folder instead of the file's.")] = None,
    results: Annotated[Path, typer.Option(help="Where the run folder goes.")] = Path("results"),
    resume: Annotated[Path | None, typer.Option(help="Go on with this interrupted search.")] = None,
    allow_shared: Annotated[
        bool, typer.Option("--allow-shared", help="Measure on a GPU that others use, too.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Search the highest steady rate at which the objectives hold and the queue is stable.

    Of a run folder the recorded search is shown again, with the whole curve of latency against rate.
    """
    from bench.report.capacity import capacity_to_markdown, render_capacity
    from bench.run.assemble import assemble
    from bench.run.experiment import new_folder, reopen
    from bench.run.results import capacities

    if (path is None) == (resume is None):
        raise typer.BadParameter("give either an experiment file or run folder, or --resume FOLDER")
    failures: list[str] = []
    folder = resume or path
    assert folder is not None
    if resume is not None:
        failures = _search(reopen(resume), resume, quiet=quiet)
    elif not folder.is_dir():
        parts = assemble(folder, model_id=model, allow_shared=allow_shared, search=True)
        folder = new_folder(parts, results)
        failures = _search(parts, folder, quiet=quiet)
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    try:
        found_by_system = capacities(folder)
    except BenchError:
        if failures:  # they say more than that nothing was found
            raise typer.Exit(3) from None
        raise
    for system, found in found_by_system.items():
        if markdown:
            print(capacity_to_markdown(system, found))
        else:
            new_console().print(render_capacity(system, found))
    if failures:
        print(f"bench: go on with: bench capacity --resume {folder}", file=sys.stderr)
        raise typer.Exit(3)


def _search(parts: Any, folder: Path, *, quiet: bool) -> list[str]:
    """Search every capacity that is not known yet; return a line for each job that failed."""
    from bench.report.progress import RunProgress
    from bench.run.experiment import planned_s, run_experiment
    from bench.run.preflight import warnings

    console = new_console(stderr=True)
    console.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)
    for line in warnings(parts):
        print(f"bench: {line}", file=sys.stderr)
    plan_s = planned_s(parts, capacity_only=True)
    with RunProgress(console, planned_s=plan_s, quiet=quiet) as progress:
        return resumable(
            lambda: run_experiment(parts, folder, progress.watch, capacity_only=True),
            f"capacity --resume {folder}",
        )


def resumable(work: Callable[[], list[str]], command: str) -> list[str]:
    """Do `work`, and say with which command to go on when it is interrupted."""
    from bench.run.experiment import Interrupted

    try:
        return work()
    except Interrupted as error:
        raise Interrupted(f"{error}; go on with: bench {command}") from None


def _overloaded(sets: Mapping[str, Any]) -> list[str]:
    """Return a line for each system that cannot carry the common rate: it has no latency to show."""
    why = {name: system.values["p50_latency_ms"].note for name, system in sets.items() if system.saturated}
    return [f"{name}: {note}; measure at a lower rate (--rate)" for name, note in why.items()]
