"""The command that chooses among measured systems."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.cli.answer import answering
from bench.cli.show import new_console

if TYPE_CHECKING:
    from bench.analysis.selection import Constraint


def select(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders made alike.")],
    at_most: Annotated[
        list[str] | None, typer.Option("--max", help="METRIC=VALUE that must not be exceeded (repeatable).")
    ] = None,
    at_least: Annotated[
        list[str] | None, typer.Option("--min", help="METRIC=VALUE that must be reached (repeatable).")
    ] = None,
    by: Annotated[str | None, typer.Option(help="What is best: METRIC (else cost, or throughput).")] = None,
    pareto: Annotated[str | None, typer.Option(help="Axes of the Pareto set: METRIC,METRIC:higher,…")] = None,
    material: Annotated[float, typer.Option(min=0, max=100, help="Percent that do not matter.")] = 5.0,
    allow_different: Annotated[
        list[str] | None, typer.Option(help="Compare although this differs, e.g. load (repeatable).")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Choose among the systems of one or more runs: their Pareto set, and the best that fits.

    METRIC is short (p95, throughput, memory, cost, energy, kl, …) or a row's full name. The experiment's own
    p95 objective and error rate hold unless --max states another. Exits with 1 where nothing fits.
    """
    with answering("select", as_json=as_json) as answer:
        from bench.analysis.pareto import pareto as pareto_set
        from bench.analysis.selection import select as choose
        from bench.analysis.shortnames import directed_metric
        from bench.report.selection import render_selection, selection_to_markdown
        from bench.run.catalogue import catalogue

        stated = [*_constraints(at_most, "at most"), *_constraints(at_least, "at least")]
        axes = [directed_metric(text) for text in pareto.split(",")] if pareto else []
        objective = directed_metric(by) if by else None
        found = catalogue(folders, allow_different or [])
        named = {(limit.name, limit.bound) for limit in stated}
        limits = [*stated, *(limit for limit in found.objectives if (limit.name, limit.bound) not in named)]
        quality = found.terms.quality
        front = pareto_set(found.systems, axes, quality=quality, material_pct=material)
        selection = choose(found.systems, limits, objective, quality=quality, material_pct=material)
        if as_json:
            answer |= {"pareto": front, "selection": selection, "doubts": found.doubts}
        elif markdown:
            print(selection_to_markdown(found.systems, front, selection, found.doubts), end="")
        else:
            new_console().print(render_selection(found.systems, front, selection, found.doubts))
        if not selection.that("fits"):
            raise typer.Exit(1)


def _constraints(texts: list[str] | None, bound: Literal["at most", "at least"]) -> list[Constraint]:
    """Return the constraints of one option; ConfigError where one is no METRIC=VALUE, or a second."""
    from bench.analysis.selection import Constraint
    from bench.analysis.shortnames import metric_called
    from bench.errors import ConfigError

    option = "--max" if bound == "at most" else "--min"
    found: dict[str, Constraint] = {}
    for text in texts or []:
        name, _, number = text.partition("=")
        metric = metric_called(name.strip())
        try:
            limit = float(number)
        except ValueError:
            raise ConfigError(f"{option} {text}: a number is missing; write {option} {name}=VALUE") from None
        if not 0 <= limit < math.inf:
            raise ConfigError(f"{option} {text}: a limit is a finite number, 0 or more")
        if metric in found:
            raise ConfigError(
                f"{option} {text}: {option} {name} is already {found[metric].limit:g}; state one"
            )
        found[metric] = Constraint(name=metric, bound=bound, limit=limit)
    return list(found.values())
