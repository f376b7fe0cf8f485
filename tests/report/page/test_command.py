"""`bench report`, and the page that `bench run` leaves behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.cli.page import page_of_run
from bench.errors import ResultError
from bench.report.page import page as pages
from tests.report.page.making import parsed, texts

RUNS = Path(__file__).parents[3] / "results" / "runs"
SMOLLM2 = next((RUNS / "cpu-smollm2").iterdir())
POLICIES = sorted((RUNS / "policies-cpu").iterdir())


def report(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["report", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_the_page_of_one_run_goes_into_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(SMOLLM2, folder)
    assert report(folder) == str(folder / "report.html")
    page = parsed((folder / "report.html").read_text(encoding="utf-8"))
    assert texts(page.all("h1")) == ["cpu-smollm2"]
    assert (folder / "report.html").stat().st_size < 2e6


def test_the_page_of_several_runs_goes_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SMOLLM2, tmp_path / "later")
    monkeypatch.chdir(tmp_path)
    assert report(SMOLLM2, "later") == "report.html"
    page = parsed(Path("report.html").read_text(encoding="utf-8"))
    earlier = SMOLLM2.name
    assert [text.removesuffix(" (baseline)") for text in texts(page.all("label"))] == [
        f"{earlier}/baseline",
        f"{earlier}/optimized",
        "later/baseline",
        "later/optimized",
    ]
    assert texts(page.one("section", aria_labelledby="provenance").all("h3")) == [earlier, "later"]


def test_runs_of_different_loads_need_a_word_to_be_put_on_one_page() -> None:
    with pytest.raises(ResultError, match="load"):
        CliRunner().invoke(app, ["report", *map(str, POLICIES[:2])], catch_exceptions=False)


def test_terms_stated_at_the_command_line_hold_on_the_page(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    options = ["--requests-per-day", 1000, "--kg-co2e-per-kwh", 0.123, "--p95-latency-ms", 4321]
    assert report(SMOLLM2, "--out", out, *options) == str(out)
    text = out.read_text(encoding="utf-8")
    page = parsed(text)
    assert "p95 latency at most 4321 ms" in page.one("dl", class_="measured").words
    scale = page.one("section", aria_labelledby="scale").words
    assert "0.123 kg CO2e/kWh" in scale
    assert "A day at 1,000 requests" in scale


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="cannot be written"):
        CliRunner().invoke(
            app,
            ["report", str(SMOLLM2), "--out", str(tmp_path / "no" / "page.html")],
            catch_exceptions=False,
        )


def test_a_run_leaves_its_page_in_its_folder_and_beside_the_csvs(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x" / "y"
    shutil.copytree(SMOLLM2, folder)
    assert page_of_run(folder, tmp_path) == [folder / "report.html", tmp_path / "report.html"]
    assert (folder / "report.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def test_a_run_that_cannot_be_drawn_is_said_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError("a chart\nwith a defect")

    monkeypatch.setattr(pages, "render_page", broken)
    folder = tmp_path / "run"
    shutil.copytree(SMOLLM2, folder)
    assert page_of_run(folder, tmp_path) == []
    said = capsys.readouterr().err
    assert (
        said == f"bench: no result page (ZeroDivisionError: a chart); try again with: bench report {folder}\n"
    )
