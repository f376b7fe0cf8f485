"""Many systems: where each stands in the Pareto set, which constraint binds it, and the choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bench.analysis.metrics import METRICS
from bench.analysis.numbers import shown
from bench.analysis.pareto import Axis, Pareto
from bench.analysis.selection import Selection
from bench.analysis.shortnames import short_name
from bench.analysis.system import MetricSet
from bench.report.markdown import escaped

_PLACES = {"front": "on the front", "dominated": "dominated", "undecided": "undecided"}
_STYLES = {"on the front": "green", "fits": "green", "breaks": "red", "open": "yellow", "undecided": "yellow"}
_MOST_RIVALS = 1
"""So many of the systems that dominate, or may dominate, another are named with their figures."""


def render_selection(
    sets: Mapping[str, MetricSet], front: Pareto, selection: Selection, doubts: Sequence[str]
) -> Group:
    """Return the choice, the constraints, and the Pareto set, for the terminal."""
    title, lines = conclusion(front, selection)
    style = "green" if selection.choice or not selection.constraints else "red"
    parts: list[RenderableType] = [
        Panel(
            Text("\n".join(lines)),
            title=Text(title, style="bold"),
            title_align="left",
            border_style=style,
            box=box.ROUNDED,
        )
    ]
    for heading, headings, rows, notes in _sections(sets, front, selection, doubts):
        parts.append(Text(heading, style="bold"))
        if rows:
            parts.append(_table(headings, rows))
        if notes:
            parts.append(_list(notes))
    return Group(*parts)


def selection_to_markdown(
    sets: Mapping[str, MetricSet], front: Pareto, selection: Selection, doubts: Sequence[str]
) -> str:
    """Return the same as Markdown: the choice first, then all the rest."""
    title, lines = conclusion(front, selection)
    text = [f"**{escaped(title)}**: {escaped(' '.join(lines))}"]
    for heading, headings, rows, notes in _sections(sets, front, selection, doubts):
        text += ["", f"**{escaped(heading)}**"]
        if rows:
            text += ["", f"| {' | '.join(headings)} |", "|---|" + "---:|" * (len(headings) - 2) + "---|"]
            text += [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows]
        if notes:
            text += ["", *(f"- {escaped(note)}" for note in notes)]
    return "\n".join(text) + "\n"


def conclusion(front: Pareto, selection: Selection) -> tuple[str, list[str]]:
    """Return the choice, or the nearest miss, or the front where there is nothing to choose by."""
    if selection.choice is not None:
        return _choice(selection)
    if not selection.that("fits"):
        return _nothing_fits(selection)
    lines = [f"On the front: {', '.join(front.at('front')) or 'none for certain'}."]
    if undecided := front.at("undecided"):
        lines.append(f"Undecided: {', '.join(undecided)}.")
    why = (
        "; ".join(dict.fromkeys(selection.unranked.values()))
        or "no cost or throughput is known of all that fit"
    )
    return "NO CHOICE", [*lines, f"There is nothing to choose by: {why}. State it: --by METRIC."]


def _choice(selection: Selection) -> tuple[str, list[str]]:
    assert selection.choice is not None
    assert selection.objective is not None
    way = "lowest" if selection.objective.better == "lower" else "highest"
    lines = [f"{selection.choice} has the {way} {selection.objective.label} of those that fit."]
    if selection.tied_names:
        ties = [f"{n} ({s.text})" for n, s in zip(selection.tied_names, selection.tied, strict=True)]
        lines.append(f"It cannot be told from: {'; '.join(ties)}.")
        why = dict.fromkeys(tie.unresolved for tie in selection.tied if tie.unresolved)
        lines += [f"Not resolved: {reason}." for reason in why]
    binding = selection.candidates[selection.choice].binding
    if binding is not None:
        lines.append(f"Its tightest constraint: {binding.in_words}, {binding.margin}.")
    for name in selection.held_back:
        kept = selection.candidates[name]
        assert kept.binding is not None
        word = "breaks" if kept.fit == "breaks" else "leaves open"
        lines.append(f"{name} would be better, and {word}: {kept.binding.in_words}.")
    lines += [f"{name} fits and cannot be ranked: {why}." for name, why in selection.unranked.items()]
    on_points = ", ON POINT VALUES" if selection.on_points else ""
    return f"CHOICE: {selection.choice}{on_points}", lines


def _nothing_fits(selection: Selection) -> tuple[str, list[str]]:
    if selection.nearest is None:
        return "NOTHING FITS", ["No system has the figures that the constraints are on."]
    nearest = selection.candidates[selection.nearest]
    assert nearest.binding is not None
    miss = nearest.binding
    if miss.unresolved:
        how = f"not resolved: {miss.unresolved}"
        if miss.fit == "breaks":
            how = f"{miss.margin}, although {how}"
    elif nearest.fit == "open":
        how = f"it may hold, but the interval reaches {miss.margin}"
    else:
        how = miss.margin
    lines = [f"Nearest miss: {nearest.name}, by {miss.in_words}: {how}."]
    others = [check for check in nearest.checks if check.fit != "fits" and check is not miss]
    lines += [f"It also misses {check.in_words}: {check.margin}." for check in others]
    if settle := miss.settle:
        lines.append(f"{settle[0].upper()}{settle[1:]}.")
    if len(selection.that("open")) > 1:
        lines.append(f"Not settled either way: {', '.join(selection.that('open'))}.")
    return "NOTHING SURELY FITS" if selection.that("open") else "NOTHING FITS", lines


_Section = tuple[str, list[str], list[list[str]], list[str]]


def _sections(
    sets: Mapping[str, MetricSet], front: Pareto, selection: Selection, doubts: Sequence[str]
) -> Iterator[_Section]:
    """Yield title, headings, rows and notes of each part; what is left out for one reason is said once."""
    left_out = _left_out(selection.excluded) if selection.constraints else []
    if selection.constraints:
        stated = "; ".join(
            limit.in_words + (" (the run's own)" if limit.of_the_run else "")
            for limit in selection.constraints
        )
        yield (
            f"Constraints: {stated}",
            ["system", "tightest constraint", "against the limit", ""],
            [
                [name, candidate.binding.figure, candidate.binding.margin, candidate.fit]
                for name, candidate in selection.candidates.items()
                if candidate.binding is not None
            ],
            left_out,
        )
    axes = ", ".join(_axis(axis) for axis in front.axes)
    yield (
        f"Pareto set by {axes or 'nothing'}",
        ["system", *(short_name(axis.name) for axis in front.axes), "place"],
        [
            [name, *(_figure(sets[name], axis) for axis in front.axes), _PLACES[standing.place]]
            for name, standing in front.standings.items()
        ],
        [note for note in _front_notes(sets, front) if note not in left_out],
    )
    if doubts:
        yield "Doubts", [], [], [f"{doubt}." for doubt in doubts]


def _left_out(excluded: Mapping[str, str]) -> list[str]:
    """Return what was left out, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for name, why in excluded.items():
        reasons.setdefault(why, []).append(name)
    return [f"{', '.join(names)} left out: {why}." for why, names in reasons.items()]


def _not_resolved(sets: Mapping[str, MetricSet], front: Pareto) -> Iterator[str]:
    """Yield why the figures in the rivals that are named are not resolved, each reason once."""
    reasons: dict[str, dict[str, None]] = {}
    for name, standing in front.standings.items():
        for rival in (standing.by or standing.perhaps_by)[:_MOST_RIVALS]:
            for step in rival.steps:
                for system in (rival.name, name):
                    if why := sets[system].values[step.axis.name].unresolved:
                        reasons.setdefault(why, {})[f"{step.axis.label} of {system}"] = None
                        break
    yield from (f"Not resolved, {', '.join(figures)}: {why}." for why, figures in reasons.items())


def _front_notes(sets: Mapping[str, MetricSet], front: Pareto) -> Iterator[str]:
    """Yield who dominates whom, which interval leaves a system undecided, and what was left out."""
    for name, standing in front.standings.items():
        if standing.place == "dominated":
            yield f"{name} is dominated by {_rivals([rival.in_words for rival in standing.by])}."
        elif standing.place == "undecided":
            yield f"{name} may be dominated by {_rivals([rival.in_words for rival in standing.perhaps_by])}."
    yield from _not_resolved(sets, front)
    yield from _left_out(front.excluded)
    for name, why in front.without.items():
        yield f"{METRICS[name].label} is no axis here: {why}."
    if front.axes:
        told = "; ".join(f"{axis.label} {axis.tolerance_in_words}" for axis in front.axes)
        yield f"Immaterial is a difference up to: {told}."
    if front.point_axes:
        labels = ", ".join(METRICS[name].label for name in front.point_axes)
        yield f"Some figure has no interval, and its point value was taken: {labels}."


def _rivals(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_RIVALS
    return ", ".join(texts[:_MOST_RIVALS]) + (f" and {more} more" if more > 0 else "")


def _axis(axis: Axis) -> str:
    unit = METRICS[axis.name].unit
    return f"{axis.label} ({unit}, {axis.better})" if unit else f"{axis.label} ({axis.better})"


def _figure(metrics: MetricSet, axis: Axis) -> str:
    return shown(metrics.values[axis.name].value, METRICS[axis.name].digits)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, heading in enumerate(headings):
        inner = 0 < i < len(headings) - 1
        table.add_column(heading, justify="right" if inner else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table


def _list(lines: Sequence[str]) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("-", Text(line))
    return table
