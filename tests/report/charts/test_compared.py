"""The charts of what is compared: each compiles without a warning, hides systems, and shows names as text."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import msgspec
import pytest
import vl_convert

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Figure
from bench.analysis.figures import FIGURES
from bench.records import Value
from bench.report.charts import CHARTS
from bench.report.charts.files import svg_of
from bench.report.charts.look import VEGA_LITE, Spec, Theme, config
from tests.analysis.figures.compared import evaluation, uncompared
from tests.analysis.many import DYNAMIC, INT8, system
from tests.analysis.pairs import metrics
from tests.analysis.sides import with_figures
from tests.recorded import LIMITS, system_runs

HOSTILE = '<img src=x onerror="alert(1)">'
KINDS = ("changes", "device", "costs", "quality", "limits", "effects", "frontier")


def known(value: float) -> Value:
    return Value(value=value, source="measured", note="known", low=0.9 * value, high=1.1 * value)


def pair() -> Evaluation:
    """Return a baseline and a system of a hostile name with every figure."""
    shares = {"decode_mbu": known(0.4), "prefill_mfu": known(0.2), "decode_floor_ms": known(2.0)}
    sets = [with_figures(metrics(name), **shares) for name in ("baseline", HOSTILE)]
    return evaluation(*sets, systems={name: system_runs(name) for name in ("baseline", HOSTILE)})


def corners() -> Evaluation:
    """Return a full factorial, one corner of which has a hostile name."""
    return uncompared(
        system("baseline", p95=(100.0, 101.0, 99.0), throughput=10.0),
        system("int8", INT8, p95=(200.0, 201.0, 199.0), throughput=10.0),
        system("dynamic", DYNAMIC, p95=(50.0, 50.5, 49.5), throughput=20.0),
        system(HOSTILE, INT8 | DYNAMIC, p95=(110.0, 111.0, 109.0), throughput=20.0),
    )


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    one, other = pair(), corners()
    return {kind: FIGURES[kind](other if kind in ("effects", "frontier") else one) for kind in KINDS}


@pytest.fixture(scope="module")
def pictures(figures: dict[str, Figure]) -> dict[str, ET.Element]:
    return {kind: drawn(figure, CHARTS[kind](figure)) for kind, figure in figures.items()}


def drawn(figure: Figure, spec: Spec) -> ET.Element:
    return ET.fromstring(svg_of(figure, spec, theme="light", width_px=800, about="a trial"))


def words(root: ET.Element) -> str:
    return "\n".join("".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_chart_compiles_without_a_warning_in_light_and_dark(
    figures: dict[str, Figure], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = CHARTS[kind](figures[kind])
    themes: tuple[Theme, ...] = ("light", "dark")
    for theme in themes:
        vl_convert.vegalite_to_vega(spec, vl_version=VEGA_LITE, config=config(theme), show_warnings=True)
    assert "WARN" not in "".join(capfd.readouterr())
    json.dumps(spec, allow_nan=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_chart_draws_marks_and_shows_a_hostile_name_as_text(
    pictures: dict[str, ET.Element], kind: str
) -> None:
    root = pictures[kind]
    assert len([one for one in root.iter() if one.tag.endswith("path")]) > 3
    assert not [one for one in root.iter() if one.tag.endswith(("img", "image", "script"))]
    if kind != "effects":  # whose rows are of no system
        # A long name is cut off at the axis, so its beginning must do.
        assert "<img src=" in words(root)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "effects"])
def test_a_hidden_system_leaves_the_chart(
    figures: dict[str, Figure], pictures: dict[str, ET.Element], kind: str
) -> None:
    spec = CHARTS[kind](figures[kind])
    hidden = {
        **spec,
        "params": [{**one, "value": [HOSTILE]} if one["name"] == "hidden" else one for one in spec["params"]],
    }
    assert marks(drawn(figures[kind], hidden)) < marks(pictures[kind])


def marks(root: ET.Element) -> int:
    """Count what is drawn: bars, points, rules and lines, each of its length."""
    return sum(len(one.get("d", "")) for one in root.iter() if one.get("aria-roledescription"))


def test_the_numbers_of_a_forest_stand_beside_its_rows(
    figures: dict[str, Figure], pictures: dict[str, ET.Element]
) -> None:
    shown = words(pictures["changes"])
    for row in figures["changes"].datasets["changes"].rows:
        pct = float(row["pct"] or 0.0)
        text = "0.0 %" if abs(pct) < 0.05 else f"{pct:+.1f} %".replace("-", "−")
        assert text in shown


def test_assumptions_are_in_the_picture_of_the_costs(pictures: dict[str, ET.Element]) -> None:
    text = words(pictures["costs"])
    assert "3.6 USD/h as configured" in text
    assert "0.5 kg CO2e/kWh, PUE 1.2" in text


def test_the_share_of_the_limit_stands_beside_its_bar(
    figures: dict[str, Figure], pictures: dict[str, ET.Element]
) -> None:
    shares = [row["pct"] for row in figures["limits"].datasets["limits"].rows]
    assert {40.0, 20.0} <= set(shares)
    assert {"40 %", "20 %"} <= set(words(pictures["limits"]).splitlines())


def test_a_bar_that_is_cut_says_how_long_it_is() -> None:
    own = with_figures(metrics("optimized"), mean_kl=known(3.6 * LIMITS.max_mean_kl))
    figure = FIGURES["quality"](evaluation(metrics("baseline"), own))
    assert "0.018 (360 %)" in words(drawn(figure, CHARTS["quality"](figure))).splitlines()


def test_what_is_not_scored_is_shaded(pictures: dict[str, ET.Element]) -> None:
    labels = [one.get("aria-label") or "" for one in pictures["device"].iter()]
    shaded = {text for text in labels if "Not scored of: baseline" in text}
    assert shaded == {
        "from_s: \u22124.95; to_s: 0; Not scored of: baseline",
        "from_s: 10; to_s: 14.95; Not scored of: baseline",
    }


def test_a_mark_is_filled_on_the_front_and_hollow_where_it_is_dominated(
    figures: dict[str, Figure], pictures: dict[str, ET.Element]
) -> None:
    first = figures["frontier"].datasets["axes"].rows[0]["pair"]
    rows = [row for row in figures["frontier"].datasets["frontier"].rows if row["pair"] == first]
    opacity = {"on the front": "1", "dominated": "0", "undecided": "0.35"}
    wanted = sorted(opacity[str(row["place"])] for row in rows)
    points = [one for one in pictures["frontier"].iter() if one.get("aria-roledescription") == "point"]
    assert sorted(one.get("fill-opacity", "1") for one in points) == wanted
    for row in rows:
        (mark,) = [one for one in points if f"System: {row['system']};" in one.get("aria-label", "")]
        assert mark.get("fill-opacity", "1") == opacity[str(row["place"])]
    assert {"on the front", "dominated"} <= {row["place"] for row in rows}


def test_of_several_factorials_one_at_a_time_is_drawn(figures: dict[str, Figure]) -> None:
    figure = figures["effects"]
    dataset = figure.datasets["effects"]
    other = tuple({**row, "factors": "another", "metric": "goodput"} for row in dataset.rows)
    both = msgspec.structs.replace(dataset, rows=(*dataset.rows, *other))
    two = msgspec.structs.replace(figure, datasets={**figure.datasets, "effects": both})
    spec = CHARTS["effects"](two)
    assert spec["params"][1]["bind"]["options"] == [dataset.rows[0]["factors"], "another"]
    text = words(drawn(two, spec))
    assert "p95 latency" in text
    assert "goodput" not in text
