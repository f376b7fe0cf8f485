"""`bench plot`: pictures of the right size that say what they are, the list of kinds, and what is refused."""

from __future__ import annotations

import math
import re
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.analysis.figures import FIGURES
from bench.cli import app
from bench.cli.plot import files_of, known_kinds, origin_in_words
from bench.errors import ConfigError
from bench.report.charts import CHARTS
from bench.report.charts.files import svg_of
from bench.run.evaluation import read_evaluation
from tests.analysis.figures.evaluating import invalid
from tests.recorded import system_runs, write_experiment
from tests.run.gating import WRITTEN


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plots") / "20260101T000000Z-abc"
    systems = [system_runs("baseline"), system_runs("optimized", (0.6, 0.61, 0.59))]
    two = WRITTEN | {"systems": {"baseline": {"precision": "fp16"}, "optimized": {"precision": "int8"}}}
    write_experiment(folder, two, systems, provenance={"commit": "0123456789abcdef"})
    return folder


def plot(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["plot", *map(str, args)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def size(png: bytes) -> tuple[int, int]:
    """Return width and height by the header (PNG specification, 11.2.2)."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_a_png_is_as_wide_as_asked_times_its_scale(run: Path, tmp_path: Path) -> None:
    code, out, _ = plot(run, "--kind", "changes", "--out", tmp_path, "--width", 500, "--scale", 1.5)
    assert (code, out) == (0, f"{tmp_path / 'changes.png'}\n")
    width, height = size((tmp_path / "changes.png").read_bytes())
    assert abs(width - 750) <= 3
    assert height > 200


def test_an_svg_has_title_reading_numbers_and_where_it_is_from(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "sub" / "a.svg"
    code, out, _ = plot(run, "--kind", "changes", "--out", file, "--theme", "dark")
    assert (code, out) == (0, f"{file}\n")
    root = ET.fromstring(file.read_text(encoding="utf-8"))
    text = " ".join(
        " ".join("".join(one.itertext()) for one in root.iter() if one.tag.endswith("text")).split()
    )
    assert "Changes against the baseline" in text
    assert "p50 latency rises by 20.0 %" in text
    assert "+20.0 %" in text
    assert f"{WRITTEN['name']}, 20260101T000000Z-abc; bench at commit 0123456" in text
    assert abs(float(root.get("width", "0")) - 800) <= 1


def test_the_foot_says_first_who_is_invalid(run: Path) -> None:
    evaluation = read_evaluation([run])
    told = origin_in_words(evaluation)
    assert "INVALID" not in told
    assert origin_in_words(invalid(evaluation, "baseline")) == f"INVALID: baseline; {told}"


def test_several_kinds_go_into_a_folder_each_under_its_name(run: Path, tmp_path: Path) -> None:
    code, out, _ = plot(run, "--kind", "device", "--kind", "costs", "--out", tmp_path, "--format", "svg")
    assert code == 0
    assert out.split() == [str(tmp_path / "device.svg"), str(tmp_path / "costs.svg")]
    for name in ("device", "costs"):
        ET.fromstring((tmp_path / f"{name}.svg").read_text(encoding="utf-8"))


def test_without_a_kind_they_are_listed_with_why_one_is_missing(run: Path) -> None:
    code, out, _ = plot(run)
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert next(iter(lines)) == "changes"
    assert lines["changes"] == "Changes against the baseline"
    assert lines["effects"].startswith("nothing to draw: no full factorial")


def test_a_kind_that_was_asked_for_and_has_nothing_ends_with_two_and_its_reason(
    run: Path, tmp_path: Path
) -> None:
    code, out, err = plot(run, "--kind", "effects", "--out", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("bench: effects: nothing to draw: no full factorial")
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("a file, no folder", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"full/changes\.svg: cannot be written .*--out"):
        plot(run, "--kind", "changes", "--format", "svg", "--out", tmp_path / "full")


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"--kind change: .* did you mean changes\?"):
        known_kinds(["change"])
    assert known_kinds(["costs", "changes", "costs"]) == ["costs", "changes"]


def test_one_file_is_refused_for_several_kinds_or_another_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name a folder"):
        files_of(["changes", "costs"], tmp_path / "a.png", None, one=False)
    with pytest.raises(ConfigError, match=r"a\.png is no svg"):
        files_of(["changes"], tmp_path / "a.png", "svg", one=True)
    assert files_of(["changes"], tmp_path / "a.SVG", None, one=True) == [tmp_path / "a.SVG"]
    assert files_of(["changes"], None, None, one=True) == [Path("changes.png")]


def test_a_file_of_another_kind_is_refused_and_a_folder_may_have_an_ending(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.jpg is no png and no svg, and no folder that exists"):
        files_of(["changes"], tmp_path / "x.jpg", None, one=True)
    (tmp_path / "plots.v2").mkdir()
    file = tmp_path / "plots.v2" / "changes.png"
    assert files_of(["changes"], tmp_path / "plots.v2", None, one=True) == [file]


def test_more_pixels_than_can_be_drawn_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--width 4000 --scale 8 is more than 8000 pixels across"):
        plot(run, "--kind", "changes", "--out", tmp_path, "--width", 4000, "--scale", 8)
    assert not list(tmp_path.iterdir())


def test_a_legend_of_many_systems_leaves_the_title_inside_the_picture() -> None:
    run = min((Path(__file__).parents[3] / "results" / "runs" / "policies-cpu").iterdir())
    figure = FIGURES["rate"](read_evaluation([run]))
    root = ET.fromstring(svg_of(figure, CHARTS["rate"](figure), theme="light", width_px=800, about="a trial"))
    assert top_of(root, figure.title) >= 8


def top_of(element: ET.Element, text: str) -> float:
    """Return how far the baseline of a text lies below the element's origin; minus infinity without it."""
    if "".join(element.itertext()) == text:
        found = 0.0
    else:
        found = max((top_of(child, text) for child in element), default=-math.inf)
    at = re.search(r"translate\([^,]+,([^)]+)\)", element.get("transform", ""))
    return found + (float(at[1]) if at else 0.0)


def test_all_kinds_and_some_are_not_asked_for_at_once(run: Path) -> None:
    with pytest.raises(ConfigError, match="either --kind or --all"):
        plot(run, "--kind", "changes", "--all")
