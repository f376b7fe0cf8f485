"""The command that holds a run against the history: the regression gate of continuous integration."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.answer import Unsuccessful, answering
from bench.cli.show import new_console

if TYPE_CHECKING:
    from bench.run.gate import GateReport


def gate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    confirm: Annotated[
        list[Path] | None, typer.Option(help="A run made after RUN, judged with it (repeatable).")
    ] = None,
    history: Annotated[
        Path | None, typer.Option(help="Folder of the history; default: history/ beside runs/.")
    ] = None,
    accept: Annotated[
        str | None,
        typer.Option(
            metavar="REASON", help="Make RUN (of several, the last --confirm) the baseline of later runs."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Judge this metric: a short name (p95) or one from the CSV; repeatable."),
    ] = None,
    material: Annotated[
        float, typer.Option(min=0, max=99.9, metavar="PCT", help="A change below this is none.")
    ] = 5.0,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit file for CI.")] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Judge, and leave the history as it is.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Hold a run against the accepted baseline: did any system become worse, materially and to stay?

    The run goes into the history. One bad run is suspected, two in a row are a regression. Exits with 1 for a
    regression, 2 where nothing was judged (no comparable baseline), 3 where the run is INVALID or unfinished.
    """
    with answering("gate", as_json=as_json) as answer:
        from bench.analysis.shortnames import metric_called
        from bench.errors import ResultError, RunFailed
        from bench.report.document import gate_document
        from bench.report.gate import gate_to_markdown, render_gate, sentence
        from bench.report.junit import gate_to_junit
        from bench.run.gate import GATED, Options
        from bench.run.gate import gate as judge
        from bench.store import write_atomically

        options = Options(
            history=history,
            metrics=tuple(dict.fromkeys(map(metric_called, metric))) if metric else GATED,
            material_pct=material,
            accept=accept,
            read_only=read_only,
        )
        report = judge([run, *(confirm or [])], options)
        if as_json:
            answer |= gate_document(report)
        elif markdown:
            print(gate_to_markdown(report), end="")
        else:
            new_console().print(render_gate(report))
        for system in report.systems:
            for found in system.of("regressed"):
                print(f"bench: {system.system}: {sentence(found, report)}", file=sys.stderr)
        if junit is not None:
            try:
                write_atomically(junit, gate_to_junit(report))
            except OSError as error:
                raise ResultError(
                    f"{junit}: cannot be written ({error.strerror}); name another with --junit"
                ) from error
        if report.exit_code > 1:
            raise Unsuccessful(RunFailed if report.exit_code == 3 else ResultError, _not_judged(report))
        raise typer.Exit(report.exit_code)


def _not_judged(report: GateReport) -> Iterator[str]:
    """Yield why each system that was not judged was not."""
    for system in report.systems:
        if system.is_vacuous and system.accepted is None:
            yield f"{system.system}: {system.text if system.state != 'judged' else 'no figure can be judged'}"
