"""The command line: arguments to one call, one printed result, one exit code.

Exit codes: 0 done; 1 the verdict says no (`compare --fail-on`), or the self-test does; 2 bad input, or
something is not available here; 3 a job failed or a run is invalid (the client did not send as asked, or the
device was not itself), finished results are kept; 130 interrupted, likewise. Results go to stdout, progress
and messages to stderr. Everything heavy is imported by the command that needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.errors import BenchError
from bench.units import MINUTE_S

app = typer.Typer(
    name="bench",
    help="Is this LLM inference optimization worth adopting, on my GPU, for my traffic?",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done; 1 the verdict says no; 2 bad input or not available; "
    "3 a job failed or a run is invalid, finished results are kept; 130 interrupted, likewise.",
)


class FailOn(StrEnum):
    """The mildest verdict that makes `compare` exit with 1."""

    reject = "reject"
    hold = "hold"
    guardrails = "guardrails"


def main() -> None:
    """Run the command line; every expected failure is one line and its exit code."""
    try:
        app(standalone_mode=True)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


@app.command()
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
    from bench.run.preflight import warnings
    from bench.run.results import judge_experiment, metric_sets, write_csvs

    console = _console(stderr=True)
    plan_s = planned_s(parts)
    console.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)
    for line in warnings(parts):
        print(f"bench: {line}", file=sys.stderr)
    console.print(f"{len(plan_s)} jobs, {sum(plan_s.values()) / MINUTE_S:.1f} minutes plus loading and drain")
    with RunProgress(console, planned_s=plan_s, quiet=quiet) as progress:
        failures = _resumable(lambda: run_experiment(parts, folder, progress.watch), f"run --resume {folder}")
    sets = metric_sets(folder)
    invalid = _invalid(sets)
    written = write_csvs(folder, folder)
    if not invalid:  # else the last good pair stays where readers look, and this run's are in its folder
        written = write_csvs(folder, results)
    for path in written:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    _show(judge_experiment(folder), sets, every=every)
    if len(parts.systems) == 1:
        print(
            "bench: one system only, so there is nothing to compare; its figures are in the CSV",
            file=sys.stderr,
        )
    for line in _overloaded(sets):
        print(f"bench: {line}", file=sys.stderr)
    if failures:
        print(f"bench: go on with: bench run --resume {folder}", file=sys.stderr)
    for line in invalid:
        print(f"bench: {line}", file=sys.stderr)
    if invalid:
        print(f"bench: the CSVs in {results} were left as they were; start a new run", file=sys.stderr)
    return 3 if failures or invalid else 0


@app.command()
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
            _console().print(render_capacity(system, found))
    if failures:
        print(f"bench: go on with: bench capacity --resume {folder}", file=sys.stderr)
        raise typer.Exit(3)


def _search(parts: Any, folder: Path, *, quiet: bool) -> list[str]:
    """Search every capacity that is not known yet; return a line for each job that failed."""
    from bench.report.progress import RunProgress
    from bench.run.experiment import planned_s, run_experiment
    from bench.run.preflight import warnings

    console = _console(stderr=True)
    console.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)
    for line in warnings(parts):
        print(f"bench: {line}", file=sys.stderr)
    plan_s = planned_s(parts, capacity_only=True)
    with RunProgress(console, planned_s=plan_s, quiet=quiet) as progress:
        return _resumable(
            lambda: run_experiment(parts, folder, progress.watch, capacity_only=True),
            f"capacity --resume {folder}",
        )


@app.command()
def check(
    configs: Annotated[list[Path], typer.Argument(help="Experiment files (TOML).")],
) -> None:
    """Validate experiment files without loading weights."""
    from bench.run.assemble import assemble
    from bench.run.preflight import warnings

    problems = []
    for path in configs:
        try:
            parts = assemble(path)
        except BenchError as error:
            problems.append(error)
            print(f"bench: {error}", file=sys.stderr)
        else:
            systems = ", ".join(parts.systems)
            print(f"{path}: well formed ({parts.experiment.model.id}; {systems})")
            for line in warnings(parts):
                print(f"bench: {path}: {line}", file=sys.stderr)
    if problems:
        raise typer.Exit(max(error.exit_code for error in problems))


@app.command()
def summarize(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="An experiment's run folder.")],
    out: Annotated[Path | None, typer.Option(help="Where the CSVs go; default: the run folder.")] = None,
) -> None:
    """Rebuild the metrics CSVs of a run from its raw data."""
    from bench.run.results import write_csvs

    for path in write_csvs(folder, out or folder):
        print(path)


@app.command()
def compare(
    baseline: Annotated[Path, typer.Argument(help="A metrics CSV or a run folder.")],
    optimized: Annotated[Path | None, typer.Argument(help="Likewise; not needed for a run folder.")] = None,
    fail_on: Annotated[
        FailOn | None, typer.Option(help="Exit with 1 at this verdict or a worse one.")
    ] = None,
    allow_different: Annotated[
        list[str] | None, typer.Option(help="Compare although this differs, e.g. gpu (repeatable).")
    ] = None,
    requests_per_day: Annotated[
        float | None, typer.Option(min=1, max=1e15, help="Daily volume (else 250,000).")
    ] = None,
    kg_co2e_per_kwh: Annotated[float | None, typer.Option(min=0, max=10, help="Grid (else 0.40).")] = None,
    p95_latency_ms: Annotated[
        float | None, typer.Option(min=0.001, max=1e9, help="Objective (else 1200).")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Show every metric, not the headline only.")] = False,
) -> None:
    """Compare two results: changes, cost, energy and CO2e a day, tradeoffs, verdict.

    An INVALID run is said to be so and gets no verdict; the exit code is 0 unless --fail-on says more.

    Volume, grid and objective are a run's own unless they are stated; bare CSVs take the defaults.
    """
    from bench.run.results import Override, judge_experiment, judge_paths, metric_sets

    override = Override(
        requests_per_day=requests_per_day, kg_co2e_per_kwh=kg_co2e_per_kwh, p95_latency_ms=p95_latency_ms
    )
    allowed = allow_different or []
    sets = None
    if optimized is None:
        results = judge_experiment(baseline, override, allowed)
        sets = metric_sets(baseline)
    else:
        results = [judge_paths(baseline, optimized, override, allowed)]
    _show(results, sets, markdown=markdown, every=every)
    for line in _invalid(sets or {}):
        print(f"bench: {line}", file=sys.stderr)
    if fail_on and any(_fails(result.verdict.decision, fail_on) for result in results):
        raise typer.Exit(1)


@app.command()
def fit(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or FOLDER/SYSTEM.")],
) -> None:
    """Fit how long a measured system's prefill and decode take: the law that `simulate` serves by."""
    from bench.report.simulation import render_fit
    from bench.run.simulate import fit as fit_laws

    _console().print(render_fit(fit_laws(path)))


@app.command()
def simulate(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or FOLDER/SYSTEM.")],
    rate: Annotated[float | None, typer.Option(min=1e-6, max=1e9, help="Requests/s.")] = None,
    batching: Annotated[
        str | None, typer.Option(help="Another policy, as in an experiment file: '{ kind = … }'.")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="How many are scored per draw.")] = None,
    seconds: Annotated[float | None, typer.Option(min=1e-3, help="Or for how long.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the drawn requests.")] = None,
) -> None:
    """Predict a measured system at another rate or under another policy, by its own loop on virtual time.

    Without options the recorded requests are served again: how far to trust the law.
    """
    from bench.report.simulation import render_prediction
    from bench.run.simulate import predict

    predictions = predict(
        path, rate_rps=rate, batching=batching, requests=requests, seconds=seconds, seed=seed
    )
    _console().print(render_prediction(predictions))


@app.command()
def selftest(
    config: Annotated[Path | None, typer.Argument(help="Experiment file; default: what fits here.")] = None,
    pairs: Annotated[int, typer.Option(min=2, max=1000, help="How many rounds to compare.")] = 12,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Length of each trial.")] = 4.0,
    results: Annotated[Path, typer.Option(help="Where the result goes.")] = Path("results"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Measure what the harness itself costs here: sampler on and off, engine bare and through the harness.

    Exits with 1 where that is more than 1 % of throughput.
    """
    from bench.report.progress import PhaseProgress
    from bench.report.selftest import render_selftest
    from bench.run.assemble import assemble
    from bench.run.environment import fitting_config
    from bench.run.selftest import selftest as measure
    from bench.run.selftest import store

    parts = assemble(config or Path(fitting_config()))
    with PhaseProgress(_console(stderr=True), quiet=quiet) as progress:
        result = measure(parts, pairs=pairs, seconds=seconds, emit=progress.emit)
    path = store(result, results)
    _console().print(render_selftest(result))
    _console(stderr=True).print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(result.exit_code)


@app.command()
def env(
    choose_config: Annotated[
        bool, typer.Option("--choose-config", help="Print only the experiment file that fits this machine.")
    ] = False,
) -> None:
    """Show what this machine has: GPU, driver, libraries, each with the remedy where it is missing."""
    from bench.report.environment import render_environment
    from bench.run.environment import fitting_config, inspect

    if choose_config:
        print(fitting_config())
        return
    _console().print(render_environment(inspect()))


def _resumable(work: Callable[[], list[str]], command: str) -> list[str]:
    """Do `work`, and say with which command to go on when it is interrupted."""
    from bench.run.experiment import Interrupted

    try:
        return work()
    except Interrupted as error:
        raise Interrupted(f"{error}; go on with: bench {command}") from None


def _fails(decision: str, fail_on: FailOn) -> bool:
    severity = ["adopt", "adopt with guardrails", "hold", "not enough evidence", "reject"]
    mildest = {"guardrails": 1, "hold": 2, "reject": 4}[fail_on.value]
    return severity.index(decision) >= mildest


def _invalid(sets: Mapping[str, Any]) -> list[str]:
    """Return a line for each system whose client or device was not what it should be."""
    return [
        f"{name}: the run is INVALID: {system.client.reasons}; {system.client.recommendation}"
        for name, system in sets.items()
        if system.client is not None and system.client.level == "INVALID"
    ]


def _overloaded(sets: Mapping[str, Any]) -> list[str]:
    """Return a line for each system that cannot carry the common rate: it has no latency to show."""
    why = {name: system.values["p50_latency_ms"].note for name, system in sets.items() if system.saturated}
    return [f"{name}: {note}; measure at a lower rate (--rate)" for name, note in why.items()]


def _show(
    results: list[Any], sets: Mapping[str, Any] | None = None, *, markdown: bool = False, every: bool
) -> None:
    """Print each comparison; of more than two systems `sets` in one table instead, unless `every`."""
    from bench.report.overview import overview_to_markdown, render_overview
    from bench.report.tables import render_comparison, to_markdown

    if sets is not None and len(results) > 1:
        decisions = {result.comparison.optimized.name: result.verdict.decision for result in results}
        if markdown:
            print(overview_to_markdown(sets, decisions), end="" if not every else "\n")
        else:
            _console().print(render_overview(sets, decisions))
        if not every:
            print("bench: each pair in full: --all, or bench compare RUN/SYSTEM RUN/SYSTEM", file=sys.stderr)
            return
    for result in results:
        if markdown:
            print(to_markdown(result.comparison, result.verdict, every=every), end="")
        else:
            _console().print(render_comparison(result.comparison, result.verdict, every=every))


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr)
