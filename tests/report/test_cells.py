"""What stands in a cell where there is no figure, and what a row's name leaves open."""

from __future__ import annotations

import pytest

from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.latency import latencies
from bench.analysis.percentiles import percentile_over_repeats
from bench.analysis.system import SystemRuns, missing
from bench.report import cells, frames
from tests.analysis.sides import measured, point, with_figures
from tests.recorded import ASSUMED, completion, steady, system_runs, window_run

P95 = "p95_latency_ms"
SATURATED = "measured on CPU; offline (saturated) throughput; n = 21 in 63 s; one run, so no interval"
CAPACITY = "measured on CPU; capacity: between 3 and 4 requests/s"


def overloaded() -> Comparison:
    """Return a pair whose second system answers less than is offered: it has no latency to state."""
    slow = system_runs("optimized", rps=0.2, offered_rps=5.0)
    return compare(measured("baseline"), measured("optimized", slow), ASSUMED, allow_different=("load",))


def test_a_latency_that_an_overloaded_system_does_not_have_is_withheld_not_unmeasured() -> None:
    row = overloaded().row(P95)
    assert row.optimized.note.startswith("saturated at 5 requests/s")
    assert cells.values(row) == ("500", "withheld: overloaded")


def test_one_that_too_many_failures_leave_unbounded_is_withheld_too() -> None:
    failing = [*steady(n=10)[:8], completion(18.0, status="timeout"), completion(19.0, status="error")]
    system = SystemRuns(name="baseline", offline=None, windows=[window_run(failing)])
    value = percentile_over_repeats(system, latencies, 0.95)
    assert cells.figure(value) == "withheld: failures"


def test_what_was_never_measured_is_neither() -> None:
    assert cells.figure(missing("the counter stood still")) == "-"
    assert cells.figure(missing("the saturated run did not complete"), lack="not measured") == "not measured"
    assert cells.figure(point(0.0)) == "0"


def test_the_notebooks_table_withholds_in_the_same_words() -> None:
    pytest.importorskip("pandas")
    html = frames.shown(frames.changes(overloaded())).to_html()
    assert html.count("withheld: overloaded") >= 2
    own = frames.shown(frames.deciding(overloaded(), "optimized")).to_html()
    assert own.count("withheld: overloaded") == 2, "p50 and p95"


@pytest.mark.parametrize(
    ("one", "two", "said"),
    [
        (SATURATED, SATURATED, "Throughput: the saturated rate, with every request there at once. "),
        (CAPACITY, CAPACITY, "the highest steady rate at which the objectives hold. Latency: at the "),
        (CAPACITY, SATURATED, "objectives hold, or the saturated rate, with"),
        ("", "", ""),
    ],
)
def test_the_throughput_is_said_to_be_what_its_note_says(one: str, two: str, said: str) -> None:
    baseline, optimized = (
        with_figures(measured(name), throughput_requests_per_sec=point(2.0, note))
        for name, note in (("baseline", one), ("optimized", two))
    )
    note = cells.throughput_note(compare(baseline, optimized, ASSUMED))
    assert said in note
    assert bool(said) == bool(note)
