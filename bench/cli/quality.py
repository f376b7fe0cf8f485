"""The command that shows what the systems of a run did to the output; nothing is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.answer import answering
from bench.cli.show import new_console
from bench.errors import ResultError


def quality(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="An experiment's run folder.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, with intervals.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Show each pair in full.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Show output quality of every system against the baseline: held-out text, drift, formats, tone."""
    with answering("quality", as_json=as_json) as answer:
        from bench.report.quality import (
            qualities_to_markdown,
            quality_to_markdown,
            render_qualities,
            render_quality,
        )
        from bench.run.judging import judge_experiment

        pairs = [(judged.comparison, judged.verdict) for judged in judge_experiment(folder)]
        known = [pair for pair in pairs if pair[0].optimized.quality is not None]
        if not known:
            raise ResultError(f"{folder}: the outputs of no two systems were compared in this run")
        if as_json:
            answer |= {"run_folder": str(folder), "pairs": [_pair(*pair) for pair in known]}
            return
        if markdown:
            print(qualities_to_markdown(known), end="")
        else:
            new_console().print(render_qualities(known))
        for comparison, verdict in known if every else ():
            if markdown:
                print(
                    f"\n## {comparison.optimized.name}\n\n{quality_to_markdown(comparison, verdict)}", end=""
                )
            else:
                new_console().rule(comparison.optimized.name)
                new_console().print(render_quality(comparison, verdict))


def _pair(comparison: Any, verdict: Any) -> dict[str, Any]:
    """Return one pair as `--json` has it."""
    return {
        "baseline": comparison.baseline.name,
        "optimized": comparison.optimized.name,
        "quality": comparison.optimized.quality,
        "gates": [gate for gate in verdict.gates if gate.parts],
    }
