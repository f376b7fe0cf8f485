"""The report on many systems: the choice, what binds it, and why each other one is not it."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import msgspec
from rich.console import Console, RenderableType

from bench.analysis.factorial import factorials
from bench.analysis.pareto import pareto
from bench.analysis.selection import Constraint, select
from bench.analysis.shortnames import directed_metric
from bench.analysis.system import MetricSet, Validity
from bench.records import Value
from bench.report.factorial import factorial_to_markdown, render_factorial
from bench.report.selection import conclusion, render_selection, selection_to_markdown
from tests.analysis.many import DYNAMIC, INT8, by_name, system

SETS = by_name(
    system("big-batches", p95=(900.0, 910.0, 890.0), throughput=(50.0, 51.0, 49.0)),
    system("one|by|one", p95=(100.0, 101.0, 99.0), throughput=(10.0, 10.1, 9.9)),
    system("noisy", p95=(100.0, 190.0, 140.0), throughput=(30.0, 31.0, 29.0)),
    system("both", p95=(100.0, 102.0, 98.0), throughput=(30.0, 30.5, 29.5)),
    system("lost", p95="saturated at 3 requests/s", throughput=5.0),
)
LIMITS = (Constraint(name="p95_latency_ms", bound="at most", limit=200.0, of_the_run=True),)


def plain(renderable: RenderableType, width: int = 80) -> str:
    out = StringIO()
    Console(file=out, width=width).print(renderable)
    return out.getvalue()


def flat(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def shown(sets: dict[str, MetricSet], *limits: Constraint, by: str | None = None) -> str:
    objective = directed_metric(by) if by else None
    return plain(render_selection(sets, pareto(sets), select(sets, limits, objective), ("a doubt",)))


def test_the_report_says_place_fit_choice_and_every_reason_in_80_columns() -> None:
    text = shown(SETS, *LIMITS)
    assert max(map(len, text.splitlines())) <= 80
    words = flat(text)
    assert "Pareto set by p95 latency (ms, lower), throughput (requests/s, higher)" in words
    assert "one|by|one is dominated by both (throughput +200.0 %, +" in words
    assert "noisy may be dominated by both (p95 latency" in words
    assert "lost left out: no p95 latency: saturated at 3 requests/s." in words
    assert "Constraints: p95 latency at most 200 ms (the run's own)" in words
    assert "CHOICE: both" in words
    assert "p95 latency 100 (" in words
    assert "big-batches would be better, and breaks: p95 latency 900" in words
    assert "a doubt." in words


def test_the_choice_is_first_then_the_constraints_then_the_pareto_set_and_its_notes() -> None:
    words = flat(shown(SETS, *LIMITS))
    told = (
        "CHOICE: both",
        "Constraints:",
        "against the limit",
        "Pareto set by",
        "is dominated by",
        "a doubt.",
    )
    assert sorted(told, key=words.index) == list(told)
    assert words.count("lost left out") == 1, "by the constraints and by the Pareto set alike"


def test_a_reason_that_several_share_is_said_once_with_all_of_them() -> None:
    waves = {
        name: Value(value=x, source="measured", note="", unresolved="few") for name, x in (("a", 1), ("b", 2))
    }
    sets = by_name(*(system(name, p95=p95, throughput=1.0) for name, p95 in waves.items()))
    words = flat(shown(sets))
    assert "a may be dominated by b (p95 latency +100.0 %, not resolved)." in words
    assert words.count(": few.") == 1
    assert "Not resolved, p95 latency of b, p95 latency of a: few." in words


def test_ties_are_said_as_ties() -> None:
    sets = by_name(
        system("a", throughput=(20.0, 22.0, 19.0), p95=1.0),
        system("b", throughput=(19.0, 23.0, 18.0), p95=1.0),
    )
    words = flat(shown(sets))
    assert re.search(r"It cannot be told from: b \(throughput -1\.6 %, \S+ to \S+ %\)\.", words)
    points = by_name(system("a", throughput=20.0), system("b", throughput=19.5))
    assert "It cannot be told from: b (throughput -2.5 %)." in flat(shown(points))
    absolute = by_name(system("a", error_rate=0.0), system("b", error_rate=0.0))
    assert "It cannot be told from: b (error rate +0)." in flat(shown(absolute, by="errors"))


def test_where_nothing_fits_the_nearest_miss_is_told_with_all_that_it_misses() -> None:
    limits = [
        Constraint(name="p95_latency_ms", bound="at most", limit=80.0),
        Constraint(name="throughput_requests_per_sec", bound="at least", limit=60.0),
    ]
    words = flat(shown(SETS, *limits))
    assert "NOTHING FITS" in words
    assert "Nearest miss: both, by throughput 30" in words
    assert "It also misses p95 latency 100" in words


def test_an_open_constraint_says_what_would_settle_it() -> None:
    sets = by_name(SETS["noisy"])
    words = flat(shown(sets, *LIMITS))
    assert "NOTHING SURELY FITS" in words
    assert "it may hold, but the interval reaches" in words
    assert "repeats instead of 3 would settle it." in words


def test_a_figure_that_is_not_resolved_is_no_miss_by_some_percent() -> None:
    waves = Value(value=150.0, source="measured", note="", unresolved="too few waves")
    words = flat(shown(by_name(system("a", p95=waves, throughput=1.0)), *LIMITS))
    assert "p95 latency 150 against at most 200 ms: not resolved: too few waves." in words
    assert "to spare" not in words
    assert "Lengthen protocol.window_s" in words


def test_a_nearest_miss_that_breaks_shows_its_size_though_it_is_not_resolved() -> None:
    waves = Value(value=400.0, source="measured", note="", unresolved="too few waves")
    words = flat(shown(by_name(system("a", p95=waves, throughput=1.0)), *LIMITS))
    assert "at most 200 ms: 100.0 % beyond, although not resolved: too few waves." in words
    assert "a p95 latency 400 100.0 % beyond breaks" in words
    assert "system tightest constraint against the limit" in words


def test_nobody_with_the_figures_leaves_nothing_near() -> None:
    words = flat(shown(by_name(SETS["lost"]), *LIMITS))
    assert "No system has the figures that the constraints are on." in words


def test_without_anything_to_choose_by_the_front_is_told() -> None:
    sets = by_name(system("a", p95=1.0), system("b", p95=2.0))
    title, lines = conclusion(pareto(sets), select(sets, ()))
    assert title == "NO CHOICE"
    assert lines[0] == "On the front: a."
    assert "--by METRIC" in lines[-1]


def test_markdown_has_the_choice_first_and_escapes_names() -> None:
    text = selection_to_markdown(SETS, pareto(SETS), select(SETS, LIMITS), ())
    assert text.startswith("**CHOICE: both**: both has the highest throughput")
    assert "| one\\|by\\|one | 100 | 10 | dominated |" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 5 for line in table)


def square(*p95: float | str) -> dict[str, MetricSet]:
    corners: tuple[tuple[str, dict[str, Any]], ...] = (
        ("none", {}),
        ("int8", INT8),
        ("dynamic", DYNAMIC),
        ("both", INT8 | DYNAMIC),
    )
    return by_name(
        *(
            system(name, own, p95=[x * t for t in (1.0, 1.2, 0.9)] if isinstance(x, float) else x)
            for (name, own), x in zip(corners, p95, strict=True)
        )
    )


def test_a_factorial_is_a_table_and_sentences_in_80_columns() -> None:
    (found,) = factorials(square(100.0, 150.0, 40.0, 90.0))
    text = plain(render_factorial(found))
    assert max(map(len, text.splitlines())) <= 80
    words = flat(text)
    assert "Which change did what: precision (fp16 to int8) × batching (none to dynamic)" in words
    assert "p95 latency precision (fp16 to int8) +83.7 % (+83.7 to +83.7 %)" in words
    assert "together -10.0 % (-10.0 to -10.0 %)" in words
    assert (
        "- p95 latency: The effects depend on one another, so each is an average: precision +50.0 %" in words
    )
    assert words.count("interaction precision × batching") == 1, "the sentences do not repeat the table"
    assert "so each is an average" not in flat(plain(render_factorial(found, in_words=False)))


def test_the_count_of_intervals_is_that_of_those_on_the_screen() -> None:
    for corners, n in (((100.0, 150.0, 40.0, 90.0), 8), ((100.0, 150.0, 40.0, 60.0), 4)):
        (found,) = factorials(square(*corners))
        words = flat(plain(render_factorial(found)))
        assert len(re.findall(r"\(\S+ to \S+ %\)", words)) == n
        assert f"Each of these {n} effects" in words


def test_a_metric_without_main_effects_is_named_with_the_reason_beside_the_others() -> None:
    sets = square(100.0, "saturated", 40.0, 90.0)
    for name, metrics in sets.items():
        rps = Value(value=9.0, source="measured", note="")
        sets[name] = msgspec.structs.replace(
            metrics, values=metrics.values | {"throughput_requests_per_sec": rps}
        )
    (found,) = factorials(sets)
    line = "- p95 latency: no main effects (int8: saturated)."
    words = flat(plain(render_factorial(found, in_words=False)))
    assert line in words
    assert "throughput precision (fp16 to int8) +0.0 %" in words
    assert line in factorial_to_markdown(found, in_words=False).splitlines()


def test_effects_that_are_not_resolved_are_marked_in_the_table() -> None:
    sets = square(100.0, 150.0, 40.0, 90.0)
    waves = Value(value=155.0, source="measured", note="", unresolved="too few waves")
    sets["int8"] = system("int8", INT8, p95=waves)
    (found,) = factorials(sets)
    words = flat(plain(render_factorial(found)))
    assert "precision (fp16 to int8) +83.7 % (not resolved)" in words
    assert "p95 latency: no intervals (not resolved: too few waves)." in words


def test_a_factorial_without_any_effect_still_says_why() -> None:
    (found,) = factorials(square("saturated", 150.0, 40.0, 90.0))
    words = flat(plain(render_factorial(found, in_words=False)))
    assert "no main effects (none: saturated)" in words


def test_a_factorial_in_markdown_has_its_intervals_in_a_column() -> None:
    (found,) = factorials(square(100.0, 150.0, 40.0, 60.0))
    lines = factorial_to_markdown(found).splitlines()
    assert "| p95 latency | precision (fp16 to int8) | +50.0 % | +50.0 to +50.0 % |" in lines
    assert lines[-1].startswith("- Each of these 4 effects has a 95 % interval")
    assert not any(line.startswith("- p95 latency") for line in lines), "the table says it"
    assert not any(
        line.startswith("- ") for line in factorial_to_markdown(found, in_words=False).splitlines()
    )


def test_an_invalid_corner_is_said_before_any_effect() -> None:
    sets = square(100.0, 150.0, 40.0, 60.0)
    sets["int8"] = msgspec.structs.replace(sets["int8"], client=Validity(level="INVALID"))
    (found,) = factorials(sets)
    assert "- int8 is INVALID" in factorial_to_markdown(found)
