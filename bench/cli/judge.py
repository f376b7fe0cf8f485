"""Commands that judge what was measured, or rebuild its figures; nothing is measured."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.answer import Unsuccessful, answering
from bench.cli.show import invalid_lines, rounds_lines, show_comparisons, unsound_lines
from bench.errors import BenchError, RunFailed


class FailOn(StrEnum):
    """The mildest verdict that makes `compare` exit with 1."""

    reject = "reject"
    hold = "hold"
    guardrails = "guardrails"


def check(
    configs: Annotated[list[Path], typer.Argument(help="Experiment files (TOML).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Validate experiment files without loading weights."""
    with answering("check", as_json=as_json) as answer:
        from bench.run.assemble import assemble
        from bench.run.preflight import warnings

        problems = []
        files = answer["files"] = []
        for path in configs:
            try:
                parts = assemble(path)
            except BenchError as error:
                problems.append(error)
                files.append({"path": str(path), "well_formed": False, "why": str(error)})
                print(f"bench: {error}", file=sys.stderr)
                continue
            found = warnings(parts)
            files.append(
                {
                    "path": str(path),
                    "well_formed": True,
                    "model": parts.experiment.model.id,
                    "systems": list(parts.systems),
                    "warnings": found,
                }
            )
            if not as_json:
                print(f"{path}: well formed ({parts.experiment.model.id}; {', '.join(parts.systems)})")
            for line in found:
                print(f"bench: {path}: {line}", file=sys.stderr)
        if problems:
            raise Unsuccessful(type(problems[0]), map(str, problems))


def summarize(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="An experiment's run folder.")],
    out: Annotated[Path | None, typer.Option(help="Where the CSVs go; default: the run folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Rebuild the metrics CSVs of a run from its raw data."""
    with answering("summarize", as_json=as_json) as answer:
        from bench.report.document import systems_document
        from bench.run.results import metric_sets, write_csvs

        written = write_csvs(folder, out or folder)
        if as_json:
            answer |= {"run_folder": str(folder), "csvs": [str(path) for path in written]}
            answer["systems"] = systems_document(metric_sets(folder))
            return
        for path in written:
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
    usd_per_gpu_hour: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="Price of a GPU, or of a machine without one.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Show every metric, not the headline only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Compare two results: changes, cost, energy and CO2e a day, tradeoffs, verdict.

    An INVALID or unfinished run is said to be so and gets no verdict: with --fail-on the exit code is then 3.
    Without --fail-on it is 0.

    Volume, grid, price and objective are a run's own unless they are stated; bare CSVs take the defaults.
    """
    with answering("compare", as_json=as_json) as answer:
        from bench.report.document import comparisons_document, systems_document
        from bench.run.judging import Override, judge_experiment, judge_paths
        from bench.run.results import metric_sets

        override = Override(
            requests_per_day=requests_per_day,
            kg_co2e_per_kwh=kg_co2e_per_kwh,
            p95_latency_ms=p95_latency_ms,
            usd_per_gpu_hour=usd_per_gpu_hour,
        )
        allowed = allow_different or []
        sets: dict[str, Any] | None = None
        if optimized is None:
            results = judge_experiment(baseline, override, allowed)
            sets = metric_sets(baseline)
        else:
            results = [judge_paths(baseline, optimized, override, allowed)]
        invalid, rounds = invalid_lines(sets or {}), rounds_lines(baseline) if optimized is None else []
        answer |= {"run_folder": None if sets is None else str(baseline), "invalid": invalid}
        answer |= {"rounds": rounds, "comparisons": comparisons_document(results)}
        answer["systems"] = None if sets is None else systems_document(sets)
        unsound = unsound_lines(results)
        for line in dict.fromkeys([*invalid, *unsound, *rounds]):
            print(f"bench: {line}", file=sys.stderr)
        if not as_json:
            folder = baseline if optimized is None else None
            show_comparisons(results, sets, markdown=markdown, every=every, folder=folder)
        if fail_on and unsound:
            raise Unsuccessful(RunFailed, unsound)
        if fail_on and any(_fails(result.verdict.decision, fail_on) for result in results):
            raise typer.Exit(1)


def _fails(decision: str, fail_on: FailOn) -> bool:
    severity = ["adopt", "adopt with guardrails", "hold", "not enough evidence", "reject"]
    mildest = {"guardrails": 1, "hold": 2, "reject": 4}[fail_on.value]
    return severity.index(decision) >= mildest
