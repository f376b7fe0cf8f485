"""The report of an A/B replay: the result first, every figure with its interval, and what was not counted."""

from __future__ import annotations

from io import StringIO

import msgspec
from rich.console import Console

from bench.analysis.abtest import Evidence, compare_metric, conclude
from bench.analysis.failures import Segment, failures
from bench.analysis.system import missing
from bench.report.abtest import ab_to_markdown, render_ab
from tests.analysis.test_abtest import PLAN, SCATTERED, measured

UNMEASURED = msgspec.structs.replace(
    measured("p50_latency_ms", 1.0), name="energy", label="energy per 1k", candidate=missing("no meter")
)
EVIDENCE = Evidence(
    rows=(
        compare_metric(measured("p95_latency_ms", SCATTERED), PLAN),
        compare_metric(measured("p50_latency_ms", 1.0), PLAN),
        compare_metric(UNMEASURED, PLAN),
    ),
    failures=(failures("errors", [Segment(compared=50, both=1, only_candidate=2)] * 6),),
    pairs=6,
    dropped=("pair 7: old: the client was INVALID: late",),
)


def terminal() -> str:
    out = StringIO()
    Console(file=out, width=80).print(render_ab(PLAN, EVIDENCE, conclude(EVIDENCE, PLAN)))
    return out.getvalue()


def test_the_terminal_report_fits_80_columns_and_begins_with_the_result() -> None:
    text = terminal()
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[0].startswith("╭─ REJECT")
    assert "more errors" in text


def test_a_metric_that_was_not_measured_is_named_and_said_to_guard_nothing() -> None:
    assert "not guarded: energy per 1k (no meter)" in " ".join(terminal().replace("│", "").split())


def test_pairs_that_do_not_count_are_named_with_the_reason() -> None:
    assert "Not counted: pair 7: old: the client was INVALID" in " ".join(terminal().split())


def test_the_markdown_has_the_same_with_the_primary_metric_marked() -> None:
    text = ab_to_markdown(PLAN, EVIDENCE, conclude(EVIDENCE, PLAN))
    assert text.startswith("**Reject**: more errors")
    (primary,) = [line for line in text.splitlines() if line.startswith("| p95\\_latency\\_ms")]
    assert "\\*" in primary
    assert " to " in primary
    assert "| errors | 300 | 0 | 12 | 6 |" in text
    assert "- pair 7: old" in text


def test_what_would_be_markup_is_escaped_in_markdown() -> None:
    evidence = msgspec.structs.replace(EVIDENCE, crashed="<Boom> | [x]", dropped=("pair 7: <Boom>",))
    plan = msgspec.structs.replace(PLAN, candidate="new|er")
    text = ab_to_markdown(plan, evidence, conclude(evidence, plan))
    assert "the candidate crashed: \\<Boom> \\| \\[x\\]" in text
    assert "| metric | old | new\\|er |" in text
    assert "- pair 7: \\<Boom>" in text


def test_an_extension_says_what_it_needs() -> None:
    evidence = msgspec.structs.replace(EVIDENCE, failures=())
    assert "\nIt needs: about " in ab_to_markdown(PLAN, evidence, conclude(evidence, PLAN))
