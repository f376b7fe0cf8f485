"""How commands show results: on stdout, plain or as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.units import MINUTE_S


def show_comparisons(
    results: list[Any],
    sets: Mapping[str, Any] | None = None,
    *,
    markdown: bool = False,
    every: bool,
    quiet: bool = False,
    folder: Path | None = None,
) -> None:
    """Print each comparison; of more than two systems `sets` in one table instead, unless `every`.

    Where these hold full factorials, what each change did follows the table; then, unless `quiet`, where to
    see more of the run in `folder`.
    """
    from bench.report.tables import render_comparison, to_markdown

    if sets is not None and len(results) > 1:
        _show_overview(results, sets, markdown=markdown, every=every)
    if every or sets is None or len(results) < 2:
        for result in results:
            if markdown:
                print(to_markdown(result.comparison, result.verdict, every=every), end="")
            else:
                new_console().print(render_comparison(result.comparison, result.verdict, every=every))
    if not quiet:
        for line in _more(folder, every=every):
            print(f"bench: {line}", file=sys.stderr)


def _show_overview(results: list[Any], sets: Mapping[str, Any], *, markdown: bool, every: bool) -> None:
    """Print every system in one table, with what each change did where they hold full factorials."""
    from bench.analysis.factorial import factorials
    from bench.report.factorial import factorial_to_markdown, render_factorial
    from bench.report.markdown import escaped
    from bench.report.overview import overview_to_markdown, reasons_in_words, render_overview

    verdicts = {result.comparison.optimized.name: result.verdict for result in results}
    decisions = {name: verdict.decision for name, verdict in verdicts.items()}
    reasons = reasons_in_words(sets, verdicts)
    if markdown:
        lines = ["", *(f"- {escaped(line)}" for line in reasons)] if reasons else []
        text = overview_to_markdown(sets, decisions) + "".join(f"{line}\n" for line in lines)
        print(text, end="" if not every else "\n")
    else:
        new_console().print(render_overview(sets, decisions))
        for line in reasons:
            new_console().print(line, markup=False, highlight=False)
    found = factorials(sets)
    for factorial in found:
        in_words = every or len(found) == 1
        if markdown:
            text = factorial_to_markdown(factorial, every=every, in_words=in_words)
            print(f"\n{text}", end="\n" if every else "")
        else:
            new_console().print(render_factorial(factorial, every=every, in_words=in_words))


def _more(folder: Path | None, *, every: bool) -> list[str]:
    """Return where more is to be seen: the page of the run, and what a short report leaves out."""
    page = None if folder is None else folder / "report.html"
    there = page if page is not None and page.is_file() else f"bench report {folder}"
    lines = [] if folder is None else [f"the page: {there}"]
    if not every:
        how = "--all" if folder is None else f"bench compare {folder} --all"
        lines.append(f"every metric, remedy and reason: {how}")
    return lines


def new_console(*, stderr: bool = False, quiet: bool = False) -> Any:
    """Return a rich console on stdout, or on stderr; a `quiet` one says nothing."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=quiet)


def say_plan(console: Any, folder: Path, planned_s: Mapping[str, float], *, at_most: bool = False) -> None:
    """Say where a run goes, what it consists of, and how long it takes as far as that is known."""
    from bench.run.duration import took_s

    most = "at most " if at_most else ""
    minutes, before_s = sum(planned_s.values()) / MINUTE_S, took_s(folder, len(planned_s))
    console.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)
    plan = f"{most}{len(planned_s)} jobs, {most}{minutes:.1f} minutes of traffic"
    whole = "; loading, quality and drain of every job come on top, and how long they take is not known yet"
    if before_s is not None:
        whole = f"; with loading, quality and drain it took {before_s / MINUTE_S:.0f} minutes here before"
    console.print(plan + whole, markup=False, highlight=False, soft_wrap=True)


def invalid_lines(sets: Mapping[str, Any]) -> list[str]:
    """Return a line for each system whose client or device was not what it should be."""
    return [
        f"{name}: the run is INVALID: {system.client.reasons}; {system.client.recommendation}"
        for name, system in sets.items()
        if system.client is not None and system.client.level == "INVALID"
    ]


def unsound_lines(results: Sequence[Any]) -> list[str]:
    """Return why there is no verdict, of all pairs without one: a run that is INVALID or unfinished."""
    from bench.analysis.decide import unsound

    gates = [gate for result in results for gate in unsound(result.verdict.gates)]
    return list(dict.fromkeys(f"{gate.text}; {gate.settle}" for gate in gates))


def rounds_lines(folder: Path) -> list[str]:
    """Return how the repeats of a run folder ended, where they were looked at as they went; else nothing."""
    from bench.run.rounds import rounds_in_words
    from bench.store import read_experiment

    rounds = read_experiment(folder).rounds
    return [] if rounds is None else [rounds_in_words(rounds)]
