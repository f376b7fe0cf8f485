"""The A/B replay of two systems: measured, extended, shown again."""

from __future__ import annotations

import sys
from collections.abc import Set
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.answer import Unsuccessful, answering
from bench.cli.measure import resumable
from bench.cli.show import new_console, say_plan
from bench.errors import RunFailed

TO_SHOW = {"path", "resume", "extend", "fail_on", "markdown", "quiet", "as_json"}
"""What may be said of a replay that is recorded already."""
SEVERITY = ["rollout", "extend", "hold", "reject"]


class AbFailOn(StrEnum):
    """The mildest result that makes `ab` exit with 1."""

    extend = "extend"
    hold = "hold"
    reject = "reject"


def ab(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG|RUN", help="An experiment file, or a replay's run folder."),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="System; default: the first.")] = None,
    candidate: Annotated[
        str | None, typer.Option(help="System; default: the one called optimized, else the last.")
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(min=1, max=100, help="Pairs of segments (8); with --extend so many more.")
    ] = None,
    max_pairs: Annotated[
        int | None, typer.Option(min=2, max=200, help="With all extensions; default: twice --pairs.")
    ] = None,
    segment_s: Annotated[
        float | None, typer.Option(min=0.1, max=86_400, help="Length of a segment; default: window_s.")
    ] = None,
    metric: Annotated[str, typer.Option(help="The primary metric, e.g. p95.")] = "p95_latency_ms",
    mde: Annotated[
        float, typer.Option(min=0.1, max=1000, help="Improvement of it to be found, in percent.")
    ] = 10.0,
    power: Annotated[float, typer.Option(min=0.51, max=0.999, help="Probability to find it.")] = 0.8,
    tolerate: Annotated[
        float, typer.Option(min=0.1, max=1000, help="Worsening of any metric that is tolerated, in percent.")
    ] = 20.0,
    like: Annotated[
        Path | None, typer.Option(help="An earlier run folder: what can be detected, by its scatter.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1e-6, max=1e9, help="Requests/s, instead of [load].")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model id or folder instead of the file's.")] = None,
    results: Annotated[Path, typer.Option(help="Where the run folder goes.")] = Path("results"),
    resume: Annotated[Path | None, typer.Option(help="Go on with this interrupted replay.")] = None,
    extend: Annotated[Path | None, typer.Option(help="Add --pairs to this replay.")] = None,
    fail_on: Annotated[
        AbFailOn | None, typer.Option(help="Exit with 1 at this result or a worse one.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but warnings and errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON document instead.")] = False,
) -> None:
    """Replay one seeded trace on two systems in turn: rollout, extend, hold or reject.

    Of a replay's run folder the result is shown again. The exit code is 0 unless --fail-on says more, and 3
    where a job failed, the planned pairs were not all made, or fewer than two count.
    """
    with answering("ab", as_json=as_json) as answer:
        from bench.analysis.shortnames import metric_called
        from bench.run.ab import go_on, replay_of, start
        from bench.run.ab_plan import Asked, plan_in_words, prepare
        from bench.run.experiment import reopen

        if sum(given is not None for given in (path, resume, extend)) != 1:
            raise typer.BadParameter(
                "give one of an experiment file or run folder, --resume RUN, --extend RUN"
            )
        failures: list[str] = []
        folder = resume or extend or path
        assert folder is not None
        if folder.is_dir():
            answer["run_folder"] = str(folder)
            _refuse_planning(context, {"pairs"} if extend is not None else set())
        if extend is not None and pairs is None:
            raise typer.BadParameter("--extend needs --pairs: how many more")
        if folder != path:
            failures = _replay(reopen(folder), folder, go_on(folder, pairs or 0), quiet=quiet)
        elif not folder.is_dir():
            asked = Asked(
                baseline=baseline,
                candidate=candidate,
                metric=metric_called(metric),
                mde_pct=mde,
                power=power,
                tolerated_pct=tolerate,
                pairs=8 if pairs is None else pairs,
                most_pairs=max_pairs,
                segment_s=segment_s,
                rate_rps=rate,
                model_id=model,
            )
            parts, plan = prepare(folder, asked)
            _say(plan_in_words(plan))
            if like is not None:
                _say_detectable(like, plan)
            folder = start(parts, plan, results)
            answer["run_folder"] = str(folder)
            failures = _replay(parts, folder, plan, quiet=quiet)
        replay = replay_of(folder)
        answer["failures"] = failures
        answer |= {"plan": replay.plan, "evidence": replay.evidence, "result": replay.result}
        if not as_json:
            _show(replay, markdown=markdown)
        for failure in failures:
            _say(failure)
        if replay.result.decision == "extend" and (how := _more_pairs(replay, folder)):
            _say(f"add pairs with: bench ab {how}")
        _end(replay, failures, fail_on)


def _more_pairs(replay: Any, folder: Path) -> str:
    """Return the options that add the pairs needed, as far as the plan allows; '' where none would help."""
    from bench.analysis.abtest import LONGER_SEGMENTS

    if replay.evidence.made < replay.plan.asked:
        return f"--resume {folder}"
    left = replay.plan.most_pairs - replay.plan.asked
    if left <= 0 or replay.result.needs == LONGER_SEGMENTS:
        return ""
    known = replay.result.more
    return f"--extend {folder} --pairs {f'N (at most {left})' if known is None else min(known, left)}"


def _refuse_planning(context: typer.Context, allowed: Set[str]) -> None:
    """Refuse options that state what a recorded replay has stated already."""
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        given = source is not None and source.name != "DEFAULT"
        if given and option.name not in TO_SHOW | allowed:
            raise typer.BadParameter(f"{option.opts[0]} is stated before the first segment, with a CONFIG")


def _end(replay: Any, failures: list[str], fail_on: AbFailOn | None) -> None:
    """End with 3 where a job failed or too few pairs were made, with 1 where the result is asked to fail."""
    made, count, planned = replay.evidence.made, replay.evidence.pairs, replay.plan.pairs
    if failures or made < planned or count < 2:
        few = f"of {planned} planned pairs {made} were made, and {count} count"
        raise Unsuccessful(RunFailed, failures or [few])
    if fail_on and SEVERITY.index(replay.result.decision) >= SEVERITY.index(fail_on):
        raise typer.Exit(1)


def _replay(parts: Any, folder: Path, plan: Any, *, quiet: bool) -> list[str]:
    """Make the segments that are not recorded; return a line for each job that failed."""
    from bench.report.progress import RunProgress
    from bench.run.ab import run
    from bench.run.experiment import planned_s

    console = new_console(stderr=True, quiet=quiet)
    plan_s = planned_s(parts, most=plan.asked)
    say_plan(console, folder, plan_s)
    with RunProgress(console, planned_s=plan_s, quiet=quiet) as progress:
        return resumable(lambda: run(parts, folder, plan, progress.watcher, _say), f"ab --resume {folder}")


def _say_detectable(like: Path, plan: Any) -> None:
    """Say what the planned pairs can detect, as those of an earlier run scatter."""
    from bench.run.ab import evidence_of, planned_in_words

    for line in planned_in_words(evidence_of(like, plan), plan, f"the repeats of {like.name}"):
        _say(line)


def _show(replay: Any, *, markdown: bool) -> None:
    from bench.report.abtest import ab_to_markdown, render_ab

    if markdown:
        print(ab_to_markdown(replay.plan, replay.evidence, replay.result), end="")
    else:
        new_console().print(render_ab(replay.plan, replay.evidence, replay.result))


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr)
