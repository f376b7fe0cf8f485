"""How a command ends: with where more is to be seen, whatever it has shown before."""

from __future__ import annotations

import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bench import store
from bench.cli import app
from bench.cli.show import say_plan

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "results" / "runs" / "cpu-smollm2" / "20261121T203335Z-234b742"


def compared(*words: object) -> tuple[str, list[str]]:
    done = CliRunner().invoke(app, ["compare", *map(str, words)], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr.splitlines()


def test_a_short_report_fits_two_screens_and_names_the_page_and_the_command_for_the_rest(
    tmp_path: Path,
) -> None:
    folder = tmp_path / RUN.name
    shutil.copytree(RUN, folder)
    text, said = compared(folder)
    assert len(text.splitlines()) < 130
    rest = f"bench: every metric, remedy and reason: bench compare {folder} --all"
    assert said[-2:] == [f"bench: the page: bench report {folder}", rest]
    (folder / "report.html").write_text("", encoding="utf-8")
    assert compared(folder, "--all")[1][-1] == f"bench: the page: {folder / 'report.html'}"


def test_two_csvs_have_no_page() -> None:
    csvs = [RUN / f"{role}_inference_metrics.csv" for role in ("baseline", "optimized")]
    assert compared(*csvs)[1][-1] == "bench: every metric, remedy and reason: --all"


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        (
            10,
            "10 jobs, 10.0 minutes of traffic; with loading, quality and drain it took 25 minutes",
        ),
        (
            9,
            "9 jobs, 9.0 minutes of traffic; loading, quality and drain of every job come on top",
        ),
    ],
)
def test_the_first_lines_of_a_run_say_how_long_it_took_before(tmp_path: Path, jobs: int, said: str) -> None:
    shutil.copytree(RUN, tmp_path / RUN.name)
    folder = tmp_path / "20270101T000000Z-234b742"
    folder.mkdir()
    shutil.copy(RUN / store.EXPERIMENT_FILE, folder)
    out = StringIO()
    say_plan(Console(file=out, width=80), folder, {f"job {n}": 60.0 for n in range(jobs)})
    assert out.getvalue().splitlines()[1].startswith(said)
