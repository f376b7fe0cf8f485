"""The tables on output quality, from recorded outputs: everything is said and nothing is cut off."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.decide import Verdict, decide
from bench.analysis.metrics import METRICS
from bench.analysis.quality import AGAINST_REFERENCE, quality_of
from bench.analysis.system import MetricSet, SystemRuns
from bench.report.quality import (
    qualities_to_markdown,
    quality_to_markdown,
    render_qualities,
    render_quality,
)
from bench.report.tables import render_comparison, to_markdown
from tests.analysis.answering import outputs_table, said, scored_table, system
from tests.analysis.pairs import metrics
from tests.recorded import ASSUMED, LIMITS, OBJECTIVES

JSON = '{"customer": "Anna", "order": "12345", "issue": "late"}'
LETTER = "Thank you for writing. We are sorry that order 12345 is late, and will send it again tomorrow."
BRIEF = "It is late. We send order 12345 again."


def answers(lost: int) -> Any:
    asked: dict[str, Any] = {"keys": ("customer", "order", "issue"), "digits": ("12345",)}
    return [
        *[said("no", JSON, "json", **asked)] * lost,
        *[said(JSON, JSON, "json", **asked)] * (60 - lost),
        *[said(LETTER, LETTER, "reply", digits=("12345",))] * 30,
        *[said(BRIEF, LETTER, "reply", digits=("12345",))] * 20,
        *[said(LETTER, BRIEF, "reply", digits=("12345",))] * 20,
        *[said("no code", "no code", "fence", digits=("12345",))] * 20,
    ]


def with_quality(name: str, runs: SystemRuns) -> MetricSet:
    rows = {
        row: METRICS[row].measure(runs, ASSUMED, OBJECTIVES)
        for row in ("perplexity", *AGAINST_REFERENCE)
        if row in METRICS
    }
    measured = metrics(name)
    return msgspec.structs.replace(measured, values=measured.values | rows, quality=quality_of(runs))


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Comparison, Verdict]]:
    table = scored_table(kl=2e-5, worse=0.0)
    again = {"position": table["position"], "nll": table["ref_nll"], "again_nll": table["nll"]}
    again |= {f"again_{column}": table[column] for column in ("kl", "agree")}
    facts = {"quality_windows_again": 4, "outputs_again": 16}
    base = with_quality(
        "baseline", system("baseline", again, outputs_table(answers(0), "again_"), facts=facts)
    )
    found = []
    for name, lost in (("optimized", 2), ("int8-no-outliers", 0), ("nf4", 25)):
        other = with_quality(name, system(name, scored_table(seed=3), outputs_table(answers(lost))))
        comparison = compare(base, other, ASSUMED, OBJECTIVES)
        found.append((comparison, decide(comparison, OBJECTIVES, LIMITS)))
    return found


def plain(renderable: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_pairs_tables_fit_eighty_columns_and_cut_nothing_off(
    pairs: list[tuple[Comparison, Verdict]],
) -> None:
    text = plain(render_quality(*pairs[2]))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert "…" not in plain(render_qualities(pairs))


def test_every_figure_has_its_interval_floor_limit_and_outcome(
    pairs: list[tuple[Comparison, Verdict]],
) -> None:
    text = quality_to_markdown(*pairs[2])
    assert "| mean KL, nats | 0.001 | 0.00096 to 0.001 | 0.00002 | at most 0.005 | pass |" in text
    assert "| format kept less often | 0.17 | 0.12 to 0.23 |" in text
    assert text.partition("format kept less often")[2].splitlines()[0].endswith("| at most 0.03 | fail |")
    assert "Noise floor: the baseline against itself with 4 windows at a time and 16 prompts" in text


def test_lost_formats_stand_with_mcnemars_test_and_what_says_nothing_says_so(
    pairs: list[tuple[Comparison, Verdict]],
) -> None:
    text = quality_to_markdown(*pairs[2])
    assert "| required keys | 100 % (94 to 100) of 60 |" in text
    assert r"| 25, 0 | \< 0.001 |" in text
    line = next(line for line in text.splitlines() if line.startswith("| code fence closed"))
    assert line.endswith("| not informative |")
    assert "| polite words per 100 words |" in text


def test_all_systems_stand_side_by_side(pairs: list[tuple[Comparison, Verdict]]) -> None:
    lines = qualities_to_markdown(pairs).splitlines()
    assert "| measure | baseline again | optimized | int8-no-outliers | nf4 |" in lines
    assert "| gate |  | unclear | pass | fail |" in lines
    assert any(line.startswith("| required keys | 60 | 100 % | 97 % (0.5) | 100 % (1) |") for line in lines)


def test_the_comparisons_report_has_the_tables_in_both_forms(
    pairs: list[tuple[Comparison, Verdict]],
) -> None:
    assert "Output quality" in plain(render_comparison(*pairs[0]))
    assert "**Output quality**" in to_markdown(*pairs[0])


def test_without_compared_outputs_there_is_no_table() -> None:
    bare = compare(metrics("baseline"), metrics("optimized"), ASSUMED, OBJECTIVES)
    nothing = msgspec.structs.replace(bare, optimized=msgspec.structs.replace(bare.optimized, quality=None))
    verdict = decide(nothing, OBJECTIVES, LIMITS)
    assert quality_to_markdown(nothing, verdict) == ""
    assert plain(render_quality(nothing, verdict)).strip() == ""
    assert qualities_to_markdown([(nothing, verdict)]) == ""
