"""What is said of a pair agrees with its numbers, whatever they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import notebook
from bench.analysis.decide import decide
from bench.analysis.metrics import METRICS, REQUIRED
from bench.notebook import NotebookError, Pair
from bench.report.markdown import escaped
from bench.run.results import Terms
from tests.analysis.pairs import pair as compared
from tests.notebook.pairs import (
    BASELINE,
    IMPROVED,
    INCOMPLETE,
    MIXED,
    NAMES,
    PUBLISHED,
    ROOT,
    WORSE,
    Figure,
    write_pair,
)
from tests.recorded import ASSUMED, LIMITS, OBJECTIVES

SECTIONS = (
    notebook.in_short,
    notebook.context,
    notebook.baseline_findings,
    notebook.scenario,
    notebook.differences,
    notebook.day_in_words,
    notebook.tradeoffs,
    notebook.analysis,
    notebook.recommendation,
)
figures = st.one_of(
    st.floats(min_value=1e-3, max_value=1e5).map(lambda x: float(f"{x:.4g}")),
    st.just("the meter was not there"),
)
sides = st.fixed_dictionaries(dict.fromkeys(REQUIRED, figures))


def read(folder: Path, **terms: float | str) -> Pair:
    return notebook.read(folder / NAMES[0], folder / NAMES[1], **terms)  # type: ignore[arg-type]


def pair_of(folder: Path, optimized: dict[str, Figure], baseline: dict[str, Figure] = BASELINE) -> Pair:
    return read(write_pair(folder, optimized, baseline))


def said(pair: Pair) -> str:
    return "\n".join(section(pair) for section in SECTIONS)


def line(text: str, start: str) -> str:
    """Return the line of a list with this heading; empty where there is none."""
    return next((line for line in text.splitlines() if line.startswith(f"- **{start}")), "")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=sides, two=sides)
def test_every_direction_that_is_said_is_that_of_the_numbers(
    tmp_path: Path, one: dict[str, Figure], two: dict[str, Figure]
) -> None:
    pair = pair_of(tmp_path, two, one)
    text = notebook.differences(pair)
    headings = {heading: line(text, heading) for heading in ("Better", "Worse", "Unchanged", "Not compared")}
    for name in REQUIRED:
        label, old, new = METRICS[name].label, one[name], two[name]
        if isinstance(old, str) or isinstance(new, str):
            expected = "Not compared"
        elif old == new:
            expected = "Unchanged"
        else:
            expected = "Better" if (new < old) == (METRICS[name].better == "lower") else "Worse"
            verb = "falls" if new < old else "rises"
            assert f"{label} {verb} by" in text
            assert f"{label} {verb} by".lower() in notebook.tradeoffs(pair).lower()
        for heading, found in headings.items():
            assert (label in found) == (heading == expected), (name, heading, text)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=sides, two=sides)
def test_of_a_missing_figure_nothing_is_said_but_that_it_is_missing_and_why(
    tmp_path: Path, one: dict[str, Figure], two: dict[str, Figure]
) -> None:
    pair = pair_of(tmp_path, two, one)
    text = said(pair)
    for name in REQUIRED:
        if isinstance(one[name], str) or isinstance(two[name], str):
            label = METRICS[name].label
            assert not re.search(rf"{label} (rises|falls|changes|stays)", text, re.IGNORECASE), text
            assert "the meter was not there" in text
    assert "nan" not in re.findall(r"[a-z]+", text.lower())
    assert "None" not in text


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=sides, two=sides, volume=st.integers(1, 10**7))
def test_a_day_saves_what_the_difference_per_thousand_comes_to(
    tmp_path: Path, one: dict[str, Figure], two: dict[str, Figure], volume: int
) -> None:
    pair = read(write_pair(tmp_path, two, one), requests_per_day=volume)
    frame = notebook.per_day(pair).set_index("per_day")
    text = notebook.day_in_words(pair)
    assert f"At {volume:,} requests a day" in text
    for label, heading, name in (
        ("cost, sustained", "Sustained cost", "cost_per_1k_requests_usd"),
        ("energy", "Energy", "estimated_energy_kwh_per_1k_requests"),
    ):
        old, new = one[name], two[name]
        if isinstance(old, str) or isinstance(new, str):
            assert frame.loc[label].isna()["saved"]
            assert not line(text, f"{heading}:").count("saves")
            continue
        assert frame.loc[label, "saved"] == pytest.approx((old - new) * volume / 1000, rel=1e-9, abs=1e-9)
        word = "saves" if new < old else "takes" if new > old else "the same"
        assert word in line(text, f"{heading}:")


def test_an_improved_pair_is_said_to_be_better_in_all_six_figures(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, IMPROVED)
    text = said(pair)
    assert "Of the six figures that decide, 6 became better" in text
    assert "**Worse:**" not in text
    assert "faster throughout" in text
    assert "p95 latency 900 ms is 25 % below the objective of 1200 ms" in text
    assert "Cost per 1k requests: 0.08 USD, which is 20 USD a day at 250,000 requests" in text
    assert "20 to 12.5 USD, saves 7.5 USD" in text
    assert pair.verdict.decision == "adopt with guardrails"
    assert "On point values" not in text


def test_a_worse_pair_is_rejected_and_nothing_in_it_is_called_better(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, WORSE)
    text = said(pair)
    assert notebook.in_short(pair).startswith("**Reject, on point values.** SLA: p95 latency 1500 ms")
    assert "6 became worse" in text
    assert "**Better:**" not in text
    assert "saves" not in text
    assert "30 USD, takes 10 USD more" in text


def test_a_mixed_pair_names_both_ways(tmp_path: Path) -> None:
    text = said(pair_of(tmp_path, MIXED))
    assert "4 became better (p95 latency, throughput, cost per 1k and energy per 1k)" in text
    assert "2 became worse (p50 latency and average memory)" in text
    assert "the typical request waits longer, the slow tail is shorter" in text


def test_an_incomplete_pair_names_what_is_missing_with_the_reason_and_saves_nothing(tmp_path: Path) -> None:
    text = said(pair_of(tmp_path, INCOMPLETE))
    assert "2 not compared, for the reasons in section 6 (cost per 1k and energy per 1k)" in text
    assert "optimized: no price is known for this GPU" in text
    assert "**Energy and CO2e:** not known (optimized: the energy counter could not be read)" in text
    assert "saves" not in text


def test_what_an_interval_leaves_open_is_said_to_be_open() -> None:
    comparison = compared(
        {
            "average_memory_gb": (19.0, 18.0, 21.0, 20.5, 20.0),
            "p95_latency_ms": (900.0, 901.0, 899.0, 900.0, 900.0),
        }
    )
    pair = Pair(
        comparison=comparison,
        verdict=decide(comparison, OBJECTIVES, LIMITS),
        terms=Terms(assumed=ASSUMED, objectives=OBJECTIVES),
    )
    text = notebook.differences(pair)
    assert "average memory falls by" in line(text, "Open, as the interval includes no change")
    assert "average memory" not in line(text, "Better")
    assert "p95 latency falls by 10.0 % (95 % interval" in line(text, "Better")
    assert "point values" not in text
    assert "1 left open by the interval (average memory)" in notebook.analysis(pair)


def test_the_published_pair_reads_as_published() -> None:
    text = said(read(PUBLISHED))
    for words in ("saves 700 USD", "saves 275 kWh", "saves 110 kg", "479.5 USD an hour", "207 kW"):
        assert words in text
    assert "**Adopt with guardrails, on point values.**" in text
    assert "at p95 it is 2.3 times that" in text
    assert "6.2 times the demand" in text


def test_stated_terms_are_shown_as_stated_and_change_what_follows_from_them(tmp_path: Path) -> None:
    folder = write_pair(tmp_path, INCOMPLETE)
    pair = read(folder, usd_per_gpu_hour=3.6, requests_per_day=1000, p95_latency_ms=500, kg_co2e_per_kwh=0.1)
    text = said(pair)
    assert text.count("| stated in the first cell |") == 4
    assert "from 0.1 to 0.06667 USD" in text, "1000 x 3.6 USD/h / (3600 x 10 or 15 requests/s)"
    assert "p95 latency 900 ms is 80 % above the objective of 500 ms" in text
    assert notebook.in_short(pair).startswith("**Reject")


def test_descriptions_are_shown_and_never_markup(tmp_path: Path) -> None:
    pair = read(write_pair(tmp_path, MIXED), workload="chat <b>*now*</b>", optimization="INT8 | batching")
    assert r"Chat \<b>\*now\*\</b>" in notebook.context(pair)
    assert r"INT8 \| batching" in notebook.scenario(pair)


def test_a_blank_description_counts_as_none(tmp_path: Path) -> None:
    folder = write_pair(tmp_path, MIXED)
    assert said(read(folder, workload="   ", optimization="\n")) == said(read(folder))


def test_the_frames_hold_numbers_and_are_shown_with_digits_and_words(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, INCOMPLETE)
    frame = notebook.changes(pair).set_index("metric")
    assert frame.loc["p95 latency", "change_pct"] == pytest.approx(-100 / 3)
    assert frame.loc["cost per 1k", "baseline"] == 0.08
    assert frame.loc["cost per 1k"].isna()["optimized"]
    html = notebook.shown(notebook.changes(pair)).to_html()
    assert "not measured" in html
    assert "-33.3 %" in html
    assert "nan" not in html.lower()
    assert "95 % from" not in html, "bare CSVs have no intervals"


@pytest.mark.parametrize("header", ["metric,baseline_value,notes", " metric , baseline_value"])
def test_the_frames_of_the_figures_hold_what_the_sentences_speak_of(tmp_path: Path, header: str) -> None:
    folder = write_pair(tmp_path, IMPROVED)
    text = (folder / NAMES[0]).read_text(encoding="utf-8").splitlines()[1:]
    text = [row.removesuffix(",").replace(",", " , ").replace(" 900", " 0") for row in text]
    (folder / NAMES[0]).write_text("\n".join([header, *text]), encoding="utf-8")
    frame = notebook.deciding(read(folder), "baseline")
    assert list(frame["metric"]) == list(REQUIRED)
    assert frame["baseline_value"].isna().tolist() == [False, True, False, False, False, False]
    assert "says 0, which is impossible" in frame["notes"][1]
    html = notebook.shown(frame).to_html()
    assert "400" in html
    assert html.count("not measured") == 2, "the figure, and its note"


def test_a_figure_without_a_note_is_shown_without_a_word_beside_it(tmp_path: Path) -> None:
    frame = notebook.deciding(pair_of(tmp_path, IMPROVED), "optimized")
    assert "not measured" not in notebook.shown(frame).to_html()


def test_what_became_worse_beside_the_six_figures_is_named_in_every_section(tmp_path: Path) -> None:
    others = {"goodput_requests_per_sec": 5, "error_rate": 0}
    ruined = IMPROVED | {"goodput_requests_per_sec": 0.1, "error_rate": 0.009}
    pair = pair_of(tmp_path, ruined, BASELINE | others)
    found = line(notebook.differences(pair), "Beside these six, worse")
    assert "goodput falls by 98.0 %, from 5 to 0.1 requests/s" in found
    assert "error rate changes by +0.009, from 0 to 0.009" in found
    assert "Worse beside the six figures: goodput falls by 98.0 %" in notebook.tradeoffs(pair)
    assert "Beside them, goodput and error rate became worse." in notebook.analysis(pair)
    assert "goodput and error rate became worse: section 6" in notebook.recommendation(pair)
    assert "eside" not in said(pair_of(tmp_path, IMPROVED | others, BASELINE | others))


def test_the_chart_does_not_repeat_what_the_table_says_of_missing_figures(tmp_path: Path) -> None:
    html = notebook.chart(pair_of(tmp_path, INCOMPLETE))
    assert "The axis is logarithmic" in html
    assert "not compared" not in html
    assert "the energy counter could not be read" not in html


def test_the_chart_is_a_picture_without_scripts_and_says_why_where_there_is_none(tmp_path: Path) -> None:
    html = notebook.chart(pair_of(tmp_path, MIXED))
    assert html.count("<svg") == 1
    assert "<script" not in html
    assert "p50 latency" in html
    none = dict.fromkeys(REQUIRED, "nobody looked")
    assert notebook.chart(pair_of(tmp_path, none)).startswith("<p>No chart: ")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [0, -1, "many", float("nan"), True, 1e-320, pytest.param(10**400, id="huge")]
)
def test_a_term_that_cannot_be_is_one_line(value: object) -> None:
    expected = r"^REQUESTS_PER_DAY is .*; expected a number from 1 to 1e\+15, or None$"
    with pytest.raises(NotebookError, match=expected):
        notebook.read("a.csv", "b.csv", requests_per_day=value)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({name: st.sampled_from(ends) for name, ends in notebook.BOUNDS.items()}))
def test_terms_at_their_bounds_can_be_told_of(tmp_path: Path, terms: dict[str, float]) -> None:
    assert said(read(write_pair(tmp_path, MIXED), **terms))


def test_an_error_shows_in_a_notebook_as_its_one_line() -> None:
    with pytest.raises(NotebookError) as caught:
        notebook.read("nowhere.csv", "nothing.csv")
    (line_,) = caught.value._render_traceback_()
    assert line_.startswith("bench: nowhere.csv: cannot be read")
    assert "\n" not in line_


def test_the_first_line_says_which_runs_were_read_and_what_to_do(tmp_path: Path) -> None:
    bare = pair_of(tmp_path, IMPROVED)
    assert r"Read from baseline\_inference\_metrics.csv and optimized" in notebook.in_short(bare)
    assert "measured on" not in notebook.in_short(bare)
    measured = read(ROOT / "results" / "runs" / "cpu-smollm2" / "20261121T203335Z-234b742")
    found = notebook.in_short(measured)
    assert measured.comparison.optimized.origin in found
    assert ", measured on 2026-11-2" in found
    for pair in (bare, measured):
        assert escaped(pair.verdict.advice) in notebook.in_short(pair)
        assert escaped(pair.verdict.advice) in notebook.recommendation(pair)


def test_a_note_is_shown_whole(tmp_path: Path) -> None:
    note = "; ".join(f"part {n} of a long note" for n in range(20))
    pair = pair_of(tmp_path, IMPROVED | {"average_memory_gb": note})
    html = notebook.shown(notebook.deciding(pair, "optimized")).to_html()
    assert note in html
    assert "…" not in html
