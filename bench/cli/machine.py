"""Commands about this machine: what it has, and what the harness itself costs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.answer import answering
from bench.cli.show import new_console


def selftest(
    config: Annotated[Path | None, typer.Argument(help="Experiment file; default: what fits here.")] = None,
    pairs: Annotated[int, typer.Option(min=2, max=1000, help="How many rounds to compare.")] = 12,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Length of each trial.")] = 4.0,
    results: Annotated[Path, typer.Option(help="Where the result goes.")] = Path("results"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but warnings and errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON document instead.")] = False,
) -> None:
    """Measure what the harness itself costs here: sampler on and off, engine bare and through the harness.

    Exits with 1 where that is more than 1 % of throughput.
    """
    with answering("selftest", as_json=as_json) as answer:
        from bench.report.progress import RunProgress
        from bench.report.selftest import render_selftest
        from bench.run.assemble import assemble
        from bench.run.environment import fitting_config
        from bench.run.selftest import selftest as measure
        from bench.run.selftest import store

        parts = assemble(config or Path(fitting_config()))
        console = new_console(stderr=True, quiet=quiet)
        with RunProgress(console, planned_s={"self-test": seconds * pairs}, quiet=quiet) as progress:
            result = measure(parts, pairs=pairs, seconds=seconds, emit=progress.emit_as("self-test"))
        path = store(result, results)
        if as_json:
            answer |= {"path": str(path), "result": result}
        else:
            new_console().print(render_selftest(result))
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(result.exit_code)


def env(
    choose_config: Annotated[
        bool, typer.Option("--choose-config", help="Print only the experiment file that fits this machine.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Show what this machine has: GPU, driver, libraries, each with the remedy where it is missing."""
    with answering("env", as_json=as_json) as answer:
        from bench.report.environment import render_environment
        from bench.run.environment import fitting_config, inspect

        if choose_config and not as_json:
            print(fitting_config())
            return
        parts = inspect()
        if as_json:
            answer |= {"parts": parts, "config": fitting_config()}
        else:
            new_console().print(render_environment(parts))
