"""Commands that judge what was measured, or rebuild its figures; nothing is measured."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.show import invalid_lines, rounds_lines, show_comparisons
from bench.errors import BenchError


class FailOn(StrEnum):
    """The mildest verdict that makes `compare` exit with 1."""

    reject = "reject"
    hold = "hold"
    guardrails = "guardrails"


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


def summarize(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="An experiment's run folder.")],
    out: Annotated[Path | None, typer.Option(help="Where the CSVs go; default: the run folder.")] = None,
) -> None:
    """Rebuild the metrics CSVs of a run from its raw data."""
    from bench.run.results import write_csvs

    for path in write_csvs(folder, out or folder):
        print(path)


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
    from bench.run.judging import Override, judge_experiment, judge_paths
    from bench.run.results import metric_sets

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
    show_comparisons(results, sets, markdown=markdown, every=every)
    for line in [*(rounds_lines(baseline) if optimized is None else []), *invalid_lines(sets or {})]:
        print(f"bench: {line}", file=sys.stderr)
    if fail_on and any(_fails(result.verdict.decision, fail_on) for result in results):
        raise typer.Exit(1)


def _fails(decision: str, fail_on: FailOn) -> bool:
    severity = ["adopt", "adopt with guardrails", "hold", "not enough evidence", "reject"]
    mildest = {"guardrails": 1, "hold": 2, "reject": 4}[fail_on.value]
    return severity.index(decision) >= mildest
