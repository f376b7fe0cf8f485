"""Commands that measure: an experiment, and the search for its systems' capacity."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.answer import Answer, Unsuccessful, answering
from bench.cli.page import page_of_run
from bench.cli.show import invalid_lines, new_console, rounds_lines, say_plan, show_comparisons
from bench.errors import BenchError, RunFailed


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
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but warnings and errors.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Show every metric, not the headline only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON document instead.")] = False,
) -> None:
    """Measure an experiment: run folders, the two CSVs, the comparison and the verdict."""
    with answering("run", as_json=as_json) as answer:
        from bench.run.ab import refuse_replay
        from bench.run.assemble import assemble
        from bench.run.experiment import new_folder, reopen

        if (config is None) == (resume is None):
            raise typer.BadParameter("give either an experiment file or --resume FOLDER")
        if resume is not None:
            if model is not None or rate is not None or allow_shared:
                raise typer.BadParameter(
                    "a resumed run keeps its model, its load and its GPU; start a new one"
                )
            refuse_replay(resume)
            parts, folder = reopen(resume), resume
            results = results or folder.resolve().parents[2]  # results/runs/CONFIG/STAMP
        else:
            assert config is not None
            results = results or Path("results")
            parts = assemble(config, model_id=model, rate_rps=rate, allow_shared=allow_shared)
            folder = new_folder(parts, results)
        answer["run_folder"] = str(folder)
        wrong = _run(parts, folder, results, answer, quiet=quiet, every=every, table=not as_json)
        if wrong:
            raise Unsuccessful(RunFailed, wrong)


def _run(
    parts: Any, folder: Path, results: Path, answer: Answer, *, quiet: bool, every: bool, table: bool
) -> list[str]:
    """Run what is not complete, write the CSVs, show the comparison; return what failed or is invalid."""
    from bench.report.document import comparisons_document, systems_document
    from bench.report.progress import RunProgress
    from bench.run.experiment import planned_s, run_experiment
    from bench.run.judging import judge_experiment
    from bench.run.preflight import busy, warnings
    from bench.run.results import metric_sets, write_csvs

    console = new_console(stderr=True, quiet=quiet)
    plan_s, at_most = planned_s(parts), parts.experiment.protocol.stop == "decided"
    say_plan(console, folder, plan_s, at_most=at_most)
    for line in [*busy(), *warnings(parts)]:
        _say(line)
    with RunProgress(console, planned_s=plan_s, quiet=quiet, at_most=at_most) as progress:
        failures = resumable(
            lambda: run_experiment(parts, folder, progress.watcher), f"run --resume {folder}"
        )
    sets, judged = metric_sets(folder), judge_experiment(folder)
    invalid, overloaded = invalid_lines(sets), _overloaded(sets)
    written = write_csvs(folder, folder)
    if not invalid:  # else the last good pair stays where readers look, and this run's are in its folder
        written = write_csvs(folder, results)
    pages = page_of_run(folder, None if invalid else results)
    for path in [*written, *pages]:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    answer |= {"csvs": [str(path) for path in written], "failures": failures, "invalid": invalid}
    answer |= {"pages": [str(path) for path in pages], "overloaded": overloaded}
    rounds = rounds_lines(folder)
    answer["rounds"] = rounds
    answer |= {"systems": systems_document(sets), "comparisons": comparisons_document(judged)}
    for line in [*failures, *rounds, *overloaded]:
        _say(line)
    if table:
        show_comparisons(judged, sets, every=every, quiet=quiet, folder=folder)
    lines: list[str] = []
    if len(parts.systems) == 1:
        lines.append("one system only, so there is nothing to compare; its figures are in the CSV")
    if failures:
        lines.append(f"go on with: bench run --resume {folder}")
    lines += _outdated(results, invalid)
    for line in lines:
        _say(line)
    return [*failures, *invalid]


def _outdated(results: Path, invalid: list[str]) -> list[str]:
    """Return what in `results` does not show the run that has ended."""
    if invalid:
        return [*invalid, f"the CSVs in {results} were left as they were; start a new run"]
    old = results / "evaluation.html"
    return [f"{old} shows an earlier run; now: bench notebook {results} --html"] if old.is_file() else []


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
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but warnings and errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON document instead.")] = False,
) -> None:
    """Search the highest steady rate at which the objectives hold and the queue is stable.

    Of a run folder the recorded search is shown again, with the whole curve of latency against rate.
    """
    with answering("capacity", as_json=as_json) as answer:
        from bench.report.document import capacities_document
        from bench.run.ab import refuse_replay
        from bench.run.assemble import assemble
        from bench.run.experiment import new_folder, reopen
        from bench.run.results import capacities

        if (path is None) == (resume is None):
            raise typer.BadParameter("give either an experiment file or run folder, or --resume FOLDER")
        failures: list[str] = []
        folder = resume or path
        assert folder is not None
        if resume is not None:
            refuse_replay(resume)
            failures = _search(reopen(resume), resume, answer, quiet=quiet)
        elif not folder.is_dir():
            parts = assemble(folder, model_id=model, allow_shared=allow_shared, search=True)
            folder = new_folder(parts, results)
            failures = _search(parts, folder, answer, quiet=quiet)
        answer |= {"run_folder": str(folder), "failures": failures}
        for failure in failures:
            _say(failure)
        try:
            found = capacities(folder)
        except BenchError:
            if failures:  # they say more than that nothing was found
                raise Unsuccessful(RunFailed, failures) from None
            raise
        answer["systems"] = capacities_document(found)
        if not as_json:
            _show_capacities(found, markdown=markdown)
        if failures:
            _say(f"go on with: bench capacity --resume {folder}")
            raise Unsuccessful(RunFailed, failures)


def _search(parts: Any, folder: Path, answer: Answer, *, quiet: bool) -> list[str]:
    """Search every capacity that is not known yet; return a line for each job that failed."""
    from bench.report.progress import RunProgress
    from bench.run.experiment import planned_s, run_experiment
    from bench.run.preflight import busy, warnings

    answer["run_folder"] = str(folder)
    console = new_console(stderr=True, quiet=quiet)
    plan_s = planned_s(parts, capacity_only=True)
    say_plan(console, folder, plan_s)
    for line in [*busy(), *warnings(parts)]:
        _say(line)
    with RunProgress(console, planned_s=plan_s, quiet=quiet) as progress:
        return resumable(
            lambda: run_experiment(parts, folder, progress.watcher, capacity_only=True),
            f"capacity --resume {folder}",
        )


def _show_capacities(found: Mapping[str, Any], *, markdown: bool) -> None:
    from bench.report.capacity import capacity_to_markdown, render_capacity

    for system, each in found.items():
        if markdown:
            print(capacity_to_markdown(system, each))
        else:
            new_console().print(render_capacity(system, each))


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


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr)
