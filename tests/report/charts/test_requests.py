"""The charts of the requests: each compiles without a warning, hides systems, and shows names as text."""

from __future__ import annotations

import functools
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import get_args

import pytest
import vl_convert

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Figure
from bench.analysis.figures import FIGURES
from bench.report.charts import CHARTS
from bench.report.charts.files import svg_of
from bench.report.charts.look import INK, PALETTE, VEGA_LITE, Spec, Theme, config
from bench.report.charts.rate import STRIP_PX
from bench.run.evaluation import read_evaluation
from tests.analysis.figures.evaluating import evaluation_of, of_requests, of_runs
from tests.analysis.figures.test_rate import searched
from tests.recorded import completion, steady

HOSTILE = '<img src=x onerror="alert(1)">'
KINDS = ("latency", "rate", "timeline", "batches", "stages")
RUNS = Path(__file__).resolve().parents[3] / "results" / "runs"
MOST_BYTES = 250_000
"""Of a figure's rows: twelve of them and the charting library are a page of 2 MB."""


@functools.cache
def two() -> Evaluation:
    """Return a system with a failed request and one of a hostile name."""
    rows = [*steady(0.5, 40), completion(15.05, status="timeout", admit_reason="size")]
    other = [completion(row.due_s, 0.7, admit_reason=HOSTILE, wait_reason="busy") for row in steady(0.7, 40)]
    return evaluation_of(of_requests(rows, "plain"), of_requests(other, HOSTILE))


def drawn(
    figure: Figure, theme: Theme = "light", spec: Spec | None = None, width_px: int = 800
) -> ET.Element:
    return ET.fromstring(
        svg_of(figure, spec or CHARTS[figure.kind](figure), theme="light", width_px=width_px, about="")
    )


def texts(image: ET.Element) -> set[str]:
    return {"".join(element.itertext()) for element in image.iter() if element.tag.endswith("}text")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config_name", ["capacity-cpu", "cpu-smollm2", "policies-cpu"])
def test_every_committed_run_is_drawn_without_a_warning_or_says_why_not(
    config_name: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    figure = FIGURES[kind](committed(config_name))
    if figure.missing:
        assert figure.missing.endswith(".")
        return
    assert figure.reading
    assert (
        len(json.dumps([list(row.values()) for data in figure.datasets.values() for row in data.rows]))
        < MOST_BYTES
    )
    for theme in get_args(Theme):
        spec = CHARTS[kind](figure)
        vl_convert.vegalite_to_vega(spec, vl_version=VEGA_LITE, config=config(theme), show_warnings=True)
    assert "WARN" not in "".join(capfd.readouterr())


@functools.cache
def committed(config_name: str) -> Evaluation:
    return read_evaluation([max((RUNS / config_name).iterdir())])


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_name_stays_text_and_a_hidden_system_leaves_no_marks(kind: str) -> None:
    figure = FIGURES[kind](two())
    image = drawn(figure)
    assert not any(element.tag.endswith(("}img", "}image", "}script")) for element in image.iter())
    assert any(text.startswith("<img src=x") for text in texts(image))
    assert told(image, "plain") > 0
    spec = CHARTS[kind](figure)
    assert spec["params"][0] == {"name": "hidden", "value": []}
    without = {**spec, "params": [{"name": "hidden", "value": ["plain"]}, *spec["params"][1:]]}
    image = drawn(figure, spec=without)
    assert told(image, "plain") == 0
    assert told(image, HOSTILE) > 0


def told(image: ET.Element, system: str) -> int:
    """Return how many marks tell a reader of the screen that they are of a system."""
    labels = [element.get("aria-label") or "" for element in image.iter()]
    return sum(1 for label in labels if f": {system}" in label and "legend" not in label)


@pytest.mark.parametrize("kind", KINDS)
def test_a_chart_is_no_wider_than_a_narrow_screen(kind: str) -> None:
    image = drawn(FIGURES[kind](two()), width_px=320)
    assert float(image.get("width", "0")) <= 330


def test_an_overloaded_rate_is_an_open_mark_and_the_capacity_is_named() -> None:
    figure = FIGURES["rate"](evaluation_of(searched("server")))
    said = texts(drawn(figure))
    assert "no percentile: overloaded" in said
    heights_px: dict[bool, list[float]] = {True: [], False: []}
    for element in drawn(figure).iter():
        if element.get("aria-roledescription") == "point":
            y_px = float((element.get("transform") or "").split(",")[1].rstrip(")"))
            heights_px["overloaded" in (element.get("aria-label") or "")].append(y_px)
    assert max(heights_px[True]) < STRIP_PX < min(heights_px[False])
    assert any(text.startswith("server: ") and text.endswith("/s") for text in said)
    assert "p95 objective 1,200 ms" in said


def test_a_line_has_the_looks_of_its_system_though_another_has_no_rate() -> None:
    figure = FIGURES["rate"](evaluation_of(of_runs(name="idle"), searched("server"), searched("other")))
    colours = {element.get(key) for element in drawn(figure).iter() for key in ("fill", "stroke")}
    assert PALETTE[0] not in colours
    assert {PALETTE[1], PALETTE[2]} <= colours
    legend = [text for element in drawn(figure).iter() if (text := element.text) in ("server", "other")]
    assert legend == ["server", "other"]


def test_the_run_has_seconds_on_its_axis() -> None:
    said = texts(drawn(FIGURES["timeline"](two())))
    assert {"seconds since the scored window began", "0", "5", "10"} <= said


def test_a_lane_is_named_in_ink_behind_the_mark_of_its_system() -> None:
    image = drawn(FIGURES["latency"](two()))
    fills = [
        element.get("fill")
        for element in image.iter()
        if (element.get("aria-label") or "").startswith("head: 0.04; system: plain")
    ]
    assert fills == [PALETTE[0], INK["light"]]


def test_a_bar_of_a_stage_is_as_long_as_its_mean() -> None:
    lengths = {}
    for element in drawn(FIGURES["stages"](two())).iter():
        label = element.get("aria-label") or ""
        if element.get("aria-roledescription") == "bar" and "System: plain; Requests: all" in label:
            stage = label.partition("Stage: ")[2].partition(";")[0]
            lengths[stage] = float(element.get("d", "").partition("h")[2].partition("v")[0])
    # 300, 100 and 99.8 ms.
    assert lengths["decode"] == pytest.approx(3 * lengths["prefill"])
    assert lengths["queue"] == pytest.approx(0.998 * lengths["prefill"])


def test_a_share_of_requests_holds_until_the_next_one_is_answered() -> None:
    rows = [completion(10.0 + i, 0.3 + i / 10) for i in range(4)]
    image = drawn(FIGURES["latency"](evaluation_of(of_requests(rows))))
    (path,) = (e.get("d", "") for e in image.iter() if e.get("aria-roledescription") == "line mark")
    points = [tuple(map(float, point.split(","))) for point in path[1:].split("L")]
    steps = [(x, y) for x, y in points if y != points[0][1]]
    # From 25 % at 300 ms on at 25 % to 400 ms, and from there up to 50 %.
    assert steps[0][0] == points[0][0]
    assert steps[1][1] == steps[0][1]
    assert steps[1][0] == steps[2][0] > steps[0][0]
    assert steps[2][1] < steps[1][1]


def test_a_timeline_says_what_line_and_shade_are() -> None:
    said = texts(drawn(FIGURES["timeline"](two())))
    assert "Requests that waited: mean (line) and highest (shade)" in said


def test_figures_stand_in_the_lanes_and_at_the_bars() -> None:
    said = texts(drawn(FIGURES["latency"](two())))
    assert "pooled p50 500 ms,  p95 500 ms" in said
    assert {"700", "500"} <= texts(drawn(FIGURES["stages"](two())))
