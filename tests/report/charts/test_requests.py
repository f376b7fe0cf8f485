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
from bench.report.charts.look import VEGA_LITE, Spec, Theme, config
from bench.run.evaluation import read_evaluation
from tests.analysis.figures.evaluating import evaluation_of, of_requests
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
@pytest.mark.parametrize("config_name", ["capacity-cpu", "cpu-smollm2", "cpu-tiny", "policies-cpu"])
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
    assert any("open marks: overloaded" in text for text in said)
    assert any(text.startswith("server: ") and text.endswith("/s") for text in said)
    assert "p95 objective 1,200 ms" in said


def test_figures_stand_in_the_lanes_and_at_the_bars() -> None:
    said = texts(drawn(FIGURES["latency"](two())))
    assert "p50 500 ms,  p95 500 ms" in said
    assert {"700", "500"} <= texts(drawn(FIGURES["stages"](two())))
