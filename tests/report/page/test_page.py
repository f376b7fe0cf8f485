"""The page as text: what stands where, and that no name can become markup."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter

import msgspec
import pytest

from bench.analysis.decide import Decision
from bench.analysis.metrics import METRICS
from bench.analysis.system import MetricSet, SystemRuns, Validity
from bench.records import Value
from bench.report.page.about import measured
from bench.report.page.embedded import script_code, script_json
from bench.report.page.page import SCHEMA, render_page
from tests.recorded import CONFIG, system_runs
from tests.report.page.making import (
    CHARTS,
    FIGURES,
    HOSTILE,
    IMAGE,
    SCRIPT,
    Element,
    evaluation,
    hostile,
    parsed,
    texts,
)

SECTIONS = ["Verdict", "Comparison", "Gates and expectations", "What was found", "Figures", "Doubts"]
SECTIONS += ["Scale and assumptions", "How each number is defined", "Provenance"]


@pytest.fixture(scope="module")
def page() -> Element:
    return parsed(render_page(evaluation(), FIGURES, CHARTS))


@pytest.fixture(scope="module")
def many() -> Element:
    return parsed(render_page(evaluation(("one", "two", "three")), FIGURES, CHARTS))


@pytest.fixture(scope="module")
def attacked() -> Element:
    return parsed(render_page(hostile(), FIGURES, CHARTS))


def test_the_sections_come_in_the_order_in_which_a_person_decides(page: Element) -> None:
    assert texts(page.all("h2")) == SECTIONS
    assert texts(page.all("h1")) == ["trial"]
    assert page.one("html").attributes["lang"] == "en"
    assert len(page.all("main")) == len(page.all("footer")) == len(page.all("nav")) == 1


def test_headings_skip_no_level(page: Element, many: Element) -> None:
    for tree in (page, many):
        levels = [int(e.tag[1]) for e in tree.all() if e.tag in {"h1", "h2", "h3", "h4", "h5"}]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_verdict_has_its_binding_reason_right_below(page: Element) -> None:
    (pair,) = evaluation().pairs
    decision, binding = page.all("p", class_="decision")[0], page.all("p", class_="binding")[0]
    assert pair.verdict.decision in decision.words.lower()
    assert binding.words == " ".join(pair.verdict.binding.split())
    for line in pair.verdict.guardrails:
        assert line in texts(page.all("li"))


def test_every_headline_metric_has_both_figures_change_and_interval(page: Element) -> None:
    row = next(row for row in page.all("tr") if row.all("th") and row.all("th")[0].words == "p50 latency, ms")
    cells = texts(row.all("td"))
    assert cells[:4] == ["500", "450", "-10.0 %", "better"]
    assert " to " in cells[4]
    assert cells[5] == "measured"


def test_a_figure_that_was_not_measured_has_its_reason_in_the_cell() -> None:
    def without(metrics: MetricSet) -> MetricSet:
        lost = Value(value=None, source="missing", note="the counter stood still")
        return msgspec.structs.replace(
            metrics, values=metrics.values | {"estimated_energy_kwh_per_1k_requests": lost}
        )

    tree = parsed(render_page(evaluation(changes=without), FIGURES, CHARTS))
    reasons = texts(tree.all("details", class_="why"))
    assert reasons.count("not measured the counter stood still") >= 2


def test_every_chart_has_its_numbers_in_a_table_beside_it(page: Element) -> None:
    figure = page.one("figure", data_kind="points")
    chart = figure.one("div", class_="chart")
    assert chart.attributes["aria-label"] == "Points of trial. Latency rises with time."
    table = figure.one("table")
    assert texts(table.all("th")) == ["system", "time, s", "latency, ms", "what"]
    rows = [texts(row.all("td")) for row in table.all("tr")[1:]]
    assert rows[:3] == [
        ["baseline", "0", "∞", "baseline"],
        ["baseline", "1", "101.5", "baseline"],
        ["baseline", "2", "102.5", "baseline"],
    ]
    assert "every third row" in table.one("caption").words
    assert [row.attributes.get("data-system") for row in table.all("tr")[1:]] == ["0"] * 3 + ["1"] * 3


def test_the_data_in_the_page_are_those_of_the_table_in_full(page: Element) -> None:
    data = json.loads(page.one("script", type="application/json").text)
    assert data["schema"] == SCHEMA
    assert data["systems"] == ["baseline", "optimized"]
    points = data["figures"]["points"]["datasets"]["points"]
    assert points["fields"] == ["system", "second", "latency", "what"]
    names, seconds, latencies, _ = points["columns"]
    assert [names["texts"][place] for place in names["at"]] == ["baseline"] * 3 + ["optimized"] * 3
    assert seconds == [0, 1, 2] * 2
    assert latencies == [None, 101.5, 102.5, None, 202.0, 203.0], "infinity is no JSON"
    assert data["figures"]["points"]["chart"]["datasets"] == {}, "the rows stand in the page once"
    assert data["figures"]["absent"]["chart"] is None
    value = evaluation().sets["baseline"].values["p50_latency_ms"]
    assert data["metrics"]["baseline"]["p50_latency_ms"] == [value.value, value.low, value.high]


def test_a_figure_without_data_says_why(page: Element) -> None:
    assert f"no GPU {IMAGE}" in page.one(data_kind="absent").words
    assert not page.one(data_kind="absent").all("div", class_="chart")


def test_of_several_systems_all_stand_in_one_table_and_each_pair_is_folded(many: Element) -> None:
    rows = many.one("table", class_="overview").all("tr")[1:]
    assert [row.all("th")[0].words for row in rows] == ["one", "two", "three"]
    pairs = many.all("details", class_="pair")
    assert [pair.attributes["data-system"] for pair in pairs] == ["1", "2"]
    assert all("open" not in pair.attributes for pair in pairs)


def test_a_doubt_that_several_pairs_share_stands_once(many: Element) -> None:
    told = [item.all("span")[0].words for item in many.one("section", aria_labelledby="doubts").all("li")]
    assert len(told) == len(set(told)) > 0
    shared = {
        doubt.text
        for pair in evaluation(("one", "two", "three")).pairs
        for doubt in pair.comparison.doubts
        if doubt.text.startswith("both: ")
    }
    assert all(f"{text}." in told for text in shared)
    assert shared


def test_one_system_alone_has_a_page_without_a_verdict() -> None:
    tree = parsed(render_page(evaluation(("alone",)), FIGURES, CHARTS))
    assert "No verdict" in tree.one("section", aria_labelledby="verdict").words
    assert not tree.all("form"), "there is nothing to switch"


def test_an_invalid_run_is_said_above_everything() -> None:
    def unsound(metrics: MetricSet) -> MetricSet:
        return msgspec.structs.replace(metrics, client=Validity(level="INVALID", faults=()))

    tree = parsed(render_page(evaluation(changes=unsound), FIGURES, CHARTS))
    assert len(tree.all("p", class_="alarm")) == 2


def test_every_table_has_a_caption_and_every_heading_its_scope(page: Element, many: Element) -> None:
    for tree in (page, many):
        assert all(len(table.all("caption")) == 1 for table in tree.all("table"))
        assert all(head.attributes.get("scope") in {"col", "row"} for head in tree.all("th"))


def test_ids_are_unique_and_every_inner_link_has_its_target(
    page: Element, many: Element, attacked: Element
) -> None:
    for tree in (page, many, attacked):
        ids = Counter(e.attributes["id"] for e in tree.all() if "id" in e.attributes)
        assert set(ids.values()) == {1}
        links = [str(e.attributes["href"]) for e in tree.all("a")]
        assert all(link.startswith("#") and link[1:] in ids for link in links)


@pytest.mark.parametrize(
    ("decision", "tone", "sign"),
    [
        ("adopt", "good", "✓"),
        ("reject", "bad", "✕"),
        ("hold", "open", "‖"),
        ("not enough evidence", "open", "?"),
    ],
)
def test_a_verdict_has_the_tone_and_the_sign_of_its_decision(
    decision: Decision, tone: str, sign: str
) -> None:
    found = evaluation()
    (pair,) = found.pairs
    verdict = msgspec.structs.replace(pair.verdict, decision=decision)
    told = msgspec.structs.replace(found, pairs=(msgspec.structs.replace(pair, verdict=verdict),))
    box = parsed(render_page(told, FIGURES, CHARTS)).one("div", class_=f"verdict {tone}")
    assert box.one("span", class_="sign").words == sign
    assert box.one("p", class_="decision").words.removeprefix(sign).lower().startswith(decision)


@pytest.mark.parametrize(
    ("dirty", "told"), [(True, "abc, with uncommitted changes"), (False, "abc, clean"), (None, "abc")]
)
def test_the_tree_is_called_what_it_was(dirty: bool | None, told: str) -> None:
    tree = parsed(render_page(evaluation(provenance={"commit": "abc", "dirty": dirty}), FIGURES, CHARTS))
    (fact,) = [one for one in tree.all("div") if one.children and one.children[0].words == "commit of bench"]
    assert fact.one("dd").words == told


def test_repeats_are_those_that_were_measured() -> None:
    planned = CONFIG | {"protocol": {"repeats": 3, "window_s": 20.0}}
    first, second = (system_runs(name, config=planned) for name in ("baseline", "optimized"))
    short = msgspec.structs.replace(second, windows=second.windows[:1])

    def told(*systems: SystemRuns) -> str:
        found = msgspec.structs.replace(evaluation(), systems={one.name: one for one in systems})
        return dict(measured(found))["Repeats"]

    assert told(first, second) == "3 of 3, 20 s each, per system"
    assert told(first, short) == "3 of 3, 20 s each (baseline); 1 of 3, 20 s each (optimized)"


def test_where_the_common_rate_comes_from_stands_beside_it() -> None:
    note = "0.5 of the baseline's 1.1481704218114308 requests/s: measured on CPU; offline"
    told = [dict(measured(evaluation(rate_note=text)))["Common rate"] for text in ("", note)]
    assert told == [
        "1 requests/s to every system",
        "1 requests/s to every system: 0.5 of the baseline's 1.148 requests/s",
    ]


def test_every_metric_is_defined(page: Element) -> None:
    section = page.one("section", aria_labelledby="definitions")
    assert texts(section.all("code")) == list(METRICS)


def test_provenance_has_the_command_and_the_experiment_as_written(page: Element) -> None:
    section = page.one("section", aria_labelledby="provenance")
    assert texts(section.all("code"))[0] == "bench run trial.toml"
    assert json.loads(section.one("pre", class_="written").text) == {"name": "trial"}
    assert "abc, with uncommitted changes" in section.words


def test_the_page_names_no_address_that_could_be_fetched(page: Element) -> None:
    for element in page.all():
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert (element.attributes.get(name) or "#").startswith(("#", "data:"))
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    assert str(policy).startswith("default-src 'none'")


def test_no_name_becomes_markup(attacked: Element) -> None:
    assert attacked.all("img") == []
    assert len(attacked.all("script")) == 3, "data, Vega and ours"
    assert texts(attacked.all("h1")) == [IMAGE]
    assert [e for e in attacked.all() for key in e.attributes if key.startswith("on")] == []
    for name in HOSTILE:
        assert any(" ".join(name.split()) in label.words for label in attacked.all("label"))
    data = json.loads(attacked.one("script", type="application/json").text)
    assert data["systems"] == list(HOSTILE)


def test_data_in_a_script_cannot_end_it() -> None:
    data = {"a": [SCRIPT, "\u2028\u2029", "&<>"], "b": math.inf}
    text = script_json(data)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": data["a"], "b": None}


def test_code_in_a_script_cannot_end_it() -> None:
    assert script_code('"</script><!--"') == '"<\\/script><\\!--"'
