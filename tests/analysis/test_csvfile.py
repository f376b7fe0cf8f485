from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.csvfile import parse, render, role_of
from bench.analysis.metric_set import summarize
from bench.analysis.metrics import METRICS, REQUIRED
from bench.analysis.numbers import SIGNIFICANT, plain
from bench.errors import ResultError
from bench.records import Value
from tests.recorded import ASSUMED, OBJECTIVES, system_runs

SIX = "".join(f"{name},1.5\n" for name in REQUIRED)
HEAD = "metric,optimized_value\n"


def test_what_is_written_is_read_back_with_its_notes_and_sources() -> None:
    values = summarize(system_runs(), ASSUMED, OBJECTIVES)
    text = render(values, "baseline")
    read = parse(text, "b.csv")
    assert text.startswith("metric,baseline_value,notes\np50_latency_ms,500,measured on NVIDIA H200;")
    assert list(read.values) == list(METRICS)
    for name, value in values.items():
        again = read.values[name]
        assert plain(again.value, SIGNIFICANT) == plain(value.value, SIGNIFICANT), name
        assert again.note == value.note
        assert again.source == value.source, name
        if value.source == "derived":
            continue  # from a figure that says how sure it is
        assert again.unresolved == value.unresolved, name
        if value.between_processes is None:
            assert again.n == (None if value.low is None else value.n), name
        for end, written in ((again.low, value.low), (again.high, value.high)):
            assert (end is None) == (written is None), name
            assert end is None or end == pytest.approx(written, rel=1e-3), name
    assert render(read.values, "baseline") == text, "rendering what was read gives the same bytes"
    assert not read.doubts


@pytest.mark.parametrize(
    ("note", "ends"),
    [
        ("measured on CPU; n = 62 in 4 repeats; 95 % interval 1.4 to 1.6", (1.4, 1.6, 4)),
        ("measured on CPU; 95 % interval 1.4 to 1.499 from 5 blocks of one run", None),
        ("measured on CPU; 95 % interval 1.4 to 1.6 from 5 blocks of one run", (1.4, 1.6, 5)),
        (
            "measured on CPU; 95 % interval 1.4 to 1.6 from 5 blocks of one run; "
            "with 3.8 % between processes, by TPOT, 1.3 to 1.7",
            (1.3, 1.7, 5),
        ),
        (
            "measured on CPU; 4 repeats; 95 % interval 1.4 to 1.6, whichever repeat was the last",
            (1.4, 1.6, 4),
        ),
        ("measured on CPU; 95 % interval 1.4 to 1.6", None),
        ("measured on CPU; 4 repeats; I think that its 95 % interval 1.4 to 1.6", None),
        (f"measured on CPU; {'9' * 5000} repeats; 95 % interval 0 to {'9' * 5000}", None),
        ("ours; 4 repeats; 95 % interval 1.4 to 1.6", None),
        ("our own; not resolved: too short", None),
    ],
)
def test_an_interval_is_read_from_the_notes_of_bench_alone_and_with_its_observations(
    note: str, ends: tuple[float, float, int] | None
) -> None:
    read = parse(f'metric,optimized_value,notes\np50_latency_ms,1.5,"{note}"\n', "o.csv")
    value = read.values["p50_latency_ms"]
    assert (value.low, value.high, value.n) == (ends or (None, None, None))
    assert not value.unresolved


def test_why_a_figure_is_not_resolved_is_read_from_the_notes_of_bench() -> None:
    why = "27 requests in a repeat are too few for p95, which needs 80: make it 3 times as long"
    note = f"measured on CPU; n = 112 in 4 repeats; not resolved: {why}; worth 50 independent requests"
    read = parse(f'metric,optimized_value,notes\np95_latency_ms,1.5,"{note}"\n', "o.csv")
    value = read.values["p95_latency_ms"]
    assert (value.unresolved, value.low, value.high) == (why, None, None)


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_a_plain_number_has_no_exponent_and_six_digits(value: float) -> None:
    text = plain(value, SIGNIFICANT)
    assert "e" not in text.lower()
    assert float(text) == pytest.approx(value, rel=1e-5)


def test_a_missing_value_is_an_empty_cell_and_its_note_is_the_reason() -> None:
    missing = Value(value=None, source="missing", note="no GPU, so no energy")
    text = render({"p50_latency_ms": missing}, "optimized")
    assert text.splitlines()[1] == 'p50_latency_ms,,"no GPU, so no energy"'
    read = parse(HEAD.replace("value", "value,notes") + text.splitlines()[1], "o.csv").values[
        "p50_latency_ms"
    ]
    assert (read.value, read.source, read.note) == (None, "missing", "no GPU, so no energy")


def test_an_empty_cell_without_a_note_says_that_no_reason_was_given() -> None:
    read = parse(HEAD + SIX.replace("p50_latency_ms,1.5", "p50_latency_ms,"), "o.csv")
    assert "gives no reason" in read.values["p50_latency_ms"].note


def test_a_missing_row_is_a_doubt_and_the_rest_is_read() -> None:
    read = parse(HEAD + SIX.replace("average_memory_gb,1.5\n", ""), "o.csv")
    assert read.values["average_memory_gb"].value is None
    assert read.values["p95_latency_ms"].value == 1.5
    assert [doubt.text for doubt in read.doubts] == ["o.csv has no row average_memory_gb"]


def test_rows_in_another_order_come_out_in_the_fixed_one() -> None:
    rows = SIX.splitlines(keepends=True)
    assert tuple(parse(HEAD + "".join(reversed(rows)), "o.csv").values) == REQUIRED


@pytest.mark.parametrize("cell", ["fast", "NaN", "inf", "-inf", "1_000", "12 ms", "1;5"])
def test_text_in_a_number_cell_is_refused_with_file_and_line(cell: str) -> None:
    text = HEAD + SIX.replace("p95_latency_ms,1.5", f"p95_latency_ms,{cell}")
    with pytest.raises(ResultError, match=r"o\.csv, line 3: p95_latency_ms is '.*', no finite number"):
        parse(text, "o.csv")


def test_duplicate_metrics_are_refused_with_both_lines() -> None:
    with pytest.raises(ResultError, match=r"line 8: p50_latency_ms stands already in line 2"):
        parse(HEAD + SIX + "p50_latency_ms,2\n", "o.csv")


def test_an_unquoted_comma_is_refused() -> None:
    with pytest.raises(ResultError, match="4 cells"):
        parse("metric,optimized_value,notes\np50_latency_ms,1,a,b\n", "o.csv")


def test_a_negative_latency_is_refused() -> None:
    with pytest.raises(ResultError, match="cannot be negative"):
        parse(HEAD + SIX.replace("p50_latency_ms,1.5", "p50_latency_ms,-1"), "o.csv")


def test_every_fault_gets_its_own_line() -> None:
    with pytest.raises(ResultError) as caught:
        parse(HEAD + SIX.replace("1.5", "x"), "o.csv")
    assert len(str(caught.value).splitlines()) == 6


def test_an_impossible_zero_is_taken_as_not_measured() -> None:
    name = "estimated_energy_kwh_per_1k_requests"
    read = parse(HEAD + SIX.replace(f"{name},1.5", f"{name},0.0"), "o.csv")
    assert read.values[name].value is None
    assert [doubt.key for doubt in read.doubts] == ["zero"]


def test_an_unknown_metric_is_kept_with_a_doubt() -> None:
    read = parse(HEAD + SIX + "my_metric,-3\n", "o.csv")
    assert read.values["my_metric"].value == -3
    assert [doubt.key for doubt in read.doubts] == ["unknown metric"]


@pytest.mark.parametrize(
    "header",
    ["", "metric", "metric,value", "name,baseline_value", "metric,baseline_value,remark", "metric,a,b,c"],
)
def test_another_header_is_refused(header: str) -> None:
    with pytest.raises(ResultError, match="expected metric,baseline_value,notes"):
        parse(header + "\n", "o.csv")


def test_the_header_says_which_side_a_file_is() -> None:
    assert role_of("\ufeffmetric,baseline_value,notes\n", "b.csv") == "baseline"
    assert role_of(HEAD, "o.csv") == "optimized"


@given(st.text(max_size=200))
def test_no_text_is_read_without_either_values_or_a_clear_error(text: str) -> None:
    try:
        values = list(parse("metric,baseline_value,notes\n" + text, "b.csv").values.values())
    except ResultError:
        return
    assert all(value.value is None or math.isfinite(value.value) for value in values)


def test_a_cell_that_is_too_large_for_csv_is_refused() -> None:
    with pytest.raises(ResultError, match=r"o\.csv, line 2: is no valid CSV"):
        parse(HEAD + '"' + "x" * 200_000, "o.csv")
