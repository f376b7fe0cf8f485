"""The gate's words and its JUnit file: what failed, what was only suspected, and what was not judged."""

from __future__ import annotations

import io
import math
from xml.etree import ElementTree

import msgspec
import pytest
from rich.console import Console

from bench.analysis.regression import Chart, Judgement, Observed, scale_of
from bench.records import Value
from bench.report.gate import gate_to_markdown, render_gate, sentence
from bench.report.junit import gate_to_junit
from bench.run.gate import Finding, GateReport, SystemGate
from bench.run.history import Acceptance, Entry

ENTRY = Entry(
    run="demo/2",
    system="optimized",
    utc="2026-01-02T00:00:00+00:00",
    commit="def45678",
    dirty=False,
    packages={},
    machine={"device": "cpu", "cpu": "A & <B>"},
    settings={},
    rate_rps=1.0,
    level="VALID",
    figures={"p95_latency_ms": Value(value=115.0, source="measured", note="")},
)


def judged(*figures: float, share: bool = False) -> Judgement:
    """Return the judgement of the last figure; the first is the accepted one."""
    chart = Chart(scale_of("lower", share=share))
    runs = [
        Observed(f"run{i}", Value(value=x, source="measured", note="", low=x - 0.1, high=x + 0.1, n=5))
        for i, x in enumerate(figures)
    ]
    chart.accept(runs[0])
    return [chart.add(run) for run in runs[1:]][-1]


QUIET = (100.0, 101.0, 99.0, 100.0)
REGRESSED = Finding(metric="p95_latency_ms", judgement=judged(*QUIET, 115.0, 116.0))
SUSPECTED = Finding(metric="p50_latency_ms", judgement=judged(*QUIET, 115.0))
OPEN = Finding(metric="average_memory_gb", judgement=judged(*QUIET, 106.0))
CRASHED = Finding(
    metric="error_rate",
    judgement=judged(0.001, 0.001, 0.001, 0.001, math.inf, math.inf, share=True),
    why="2 of 3 repeats failed: CUDA error \x00 <oom> & \ud800 more",
)
MISSING = Finding(metric="estimated_energy_kwh_per_1k_requests", why="this run has none: no meter")
IN_LINE = Finding(metric="throughput_requests_per_sec", judgement=judged(*QUIET, 100.5))


def report(*findings: Finding, **changes: object) -> GateReport:
    system = SystemGate(
        system="optimized",
        state="judged",
        entry=ENTRY,
        baseline=msgspec.structs.replace(ENTRY, run="demo/1", commit="abc"),
        acceptance=Acceptance(run="demo/1", by="me", why="the release", utc="2026-01-01T00:00:00"),
        findings=findings,
        text="commit abc to def4567",
    )
    system = msgspec.structs.replace(system, **changes)
    return GateReport(experiment="demo", run="demo/2", material_pct=5.0, systems=(system,))


def suite(of: GateReport) -> ElementTree.Element:
    root = ElementTree.fromstring(gate_to_junit(of))
    assert root.tag == "testsuites"
    (found,) = root
    return found


def test_a_regression_names_metric_interval_threshold_and_since_when() -> None:
    text = sentence(REGRESSED, report(REGRESSED))
    assert text.startswith("REGRESSED: p95 latency +15.5 % (95 % interval +")
    assert "beyond the 5 % that is material, in 2 runs in a row, since run4" in text
    assert "4 earlier runs, whose variation makes the interval" in text


def test_a_suspicion_asks_for_another_run_and_an_open_interval_is_said_to_be_open() -> None:
    assert "suspected, not yet a regression: 2 runs in a row" in sentence(SUSPECTED, report())
    assert "more than 5 % by its figure, not by its interval" in sentence(OPEN, report())
    few = Finding(metric="p50_latency_ms", judgement=judged(100.0, 115.0))
    assert "1 earlier run, too few to tell how runs vary" in sentence(few, report())


def test_a_level_that_most_runs_lie_beyond_may_have_been_a_lucky_one() -> None:
    left_open = Finding(metric="p50_latency_ms", judgement=judged(580.0, 1079.0, 733.0, 704.0, 652.0))
    assert "the accepted run was a lucky one: accept a later one" in sentence(left_open, report())
    assert "lucky" not in sentence(OPEN, report())


def test_a_figure_in_line_says_what_its_interval_leaves_open() -> None:
    assert "is not excluded" not in sentence(IN_LINE, report())
    slower = Finding(metric="p95_latency_ms", judgement=judged(100.0, 102.0, 98.0, 102.0))
    assert ": in line with the level, though +" in sentence(slower, report())
    assert "% is not excluded" in sentence(slower, report())


def test_a_figure_without_an_interval_is_not_said_to_have_one() -> None:
    chart = Chart(scale_of("lower", share=False))
    chart.accept(Observed("run0", Value(value=1.0, source="measured", note="")))
    bare = chart.add(Observed("run1", Value(value=2.0, source="measured", note="")))
    text = sentence(Finding(metric="p95_latency_ms", judgement=bare), report())
    assert "+100.0 % in this run alone: more than 5 % by its figure, and it has no interval;" in text
    assert text.endswith("and the repeats of a run do not tell, either")


def test_what_the_interval_leaves_wide_open_is_skipped_and_says_so() -> None:
    wide = Finding(metric="p95_latency_ms", judgement=judged(100.0, 150.0, 60.0, 101.0))
    chart = Chart(scale_of("lower", share=False))
    chart.accept(Observed("run0", Value(value=1.0, source="measured", note="")))
    same = chart.add(Observed("run1", Value(value=1.0, source="measured", note="")))
    bare = Finding(metric="p50_latency_ms", judgement=same)
    assert ": too uncertain to be judged, though +" in sentence(wide, report())
    assert ": too uncertain to be judged and without an interval;" in sentence(bare, report())
    assert suite(report(wide, bare)).get("skipped") == "2"
    assert gate_to_markdown(report(wide)).count("too uncertain") == 2, "in the table and in words"


def test_what_has_no_bound_says_why_and_no_interval() -> None:
    text = sentence(CRASHED, report())
    assert text.startswith("REGRESSED: error rate has no bound (2 of 3 repeats failed: CUDA error")
    assert text.endswith("in 2 runs in a row, since run4")


def test_a_junit_file_has_a_case_a_metric_and_only_regressions_fail() -> None:
    found = suite(report(REGRESSED, SUSPECTED, OPEN, MISSING, IN_LINE))
    assert [found.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["5", "1", "0", "3"]
    cases = {case.get("name"): case for case in found.findall("testcase")}
    assert all(case.get("classname") == "demo.optimized" for case in cases.values())
    failure = cases["p95_latency_ms"].find("failure")
    assert failure is not None
    assert "+15.5 %" in failure.get("message", "")
    for name in ("p50_latency_ms", "average_memory_gb", "estimated_energy_kwh_per_1k_requests"):
        skipped = cases[name].find("skipped")
        assert skipped is not None, name
        assert skipped.get("message")
    assert [child.tag for child in cases["throughput_requests_per_sec"]] == ["system-out"]


def test_properties_say_what_was_held_against_what() -> None:
    found = suite(report(REGRESSED))
    properties = {one.get("name"): one.get("value", "") for one in found.iter("property")}
    assert properties["commit"] == "def4567"
    assert properties["baseline_commit"] == "abc"
    assert properties["machine.cpu"] == "A & <B>"
    assert properties["p95_latency_ms.change"].startswith("+15.5 % (")


def test_text_that_xml_cannot_hold_is_replaced_and_all_else_escaped() -> None:
    failure = suite(report(CRASHED)).find("testcase/failure")
    assert failure is not None
    assert "CUDA error \ufffd <oom> & \ufffd more" in (failure.text or "")


@pytest.mark.parametrize("state", ["baseline", "no baseline", "not comparable", "refused"])
def test_what_could_not_be_judged_at_all_is_an_error(state: str) -> None:
    found = suite(report(state=state, text="why it is so"))
    assert (found.get("errors"), found.get("failures")) == ("1", "0")
    error = found.find("testcase/error")
    assert error is not None
    assert error.get("message") == "why it is so"


def test_a_system_of_which_nothing_was_judged_is_an_error_until_it_is_accepted() -> None:
    found = suite(report(MISSING))
    assert [found.get(key) for key in ("tests", "errors", "skipped")] == ["2", "1", "1"]
    error = found.find("testcase/error")
    assert error is not None
    assert "nothing was judged" in error.get("message", "")
    accepted = Acceptance(run="demo/2", by="me", why="why", utc="2026-01-02T00:00:00")
    assert suite(report(MISSING, accepted=accepted)).get("errors") == "0"
    assert suite(report(MISSING, IN_LINE)).get("errors") == "0"


def test_markdown_escapes_what_others_wrote() -> None:
    crashed = msgspec.structs.replace(CRASHED, why="failed:\n<b> | *args")
    markdown = gate_to_markdown(report(crashed, system="int8_kv", notes=("see [log](x)",)))
    assert "**int8\\_kv**" in markdown
    assert "failed: \\<b> \\| \\*args" in markdown
    assert "- int8\\_kv: see \\[log\\](x)" in markdown


def test_the_table_and_its_markdown_show_every_metric_at_80_columns() -> None:
    crashed = msgspec.structs.replace(CRASHED, why="2 of 3 repeats failed: out of memory")
    of = report(REGRESSED, SUSPECTED, crashed, MISSING, IN_LINE)
    out = io.StringIO()
    Console(file=out, width=80).print(render_gate(of))
    text, markdown = out.getvalue(), gate_to_markdown(of)
    assert max(len(line) for line in text.splitlines()) <= 80
    for shown in (text, markdown):
        for word in ("regressed", "suspected", "not judged", "in line", "no bound"):
            assert word in shown
    assert "held against demo/1 (abc; accepted by me on 2026-01-01: the release)" in markdown
    assert all(line.count("|") == 6 for line in markdown.splitlines() if line.startswith("|"))
