"""`--json`: one document on stdout, whatever happens, that says what the tables and CSVs say."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.store import REPLAY_FILE

ROOT = Path(__file__).parents[2]
(SMOLLM2,) = (ROOT / "results" / "runs" / "cpu-smollm2").iterdir()
(CAPACITY,) = (ROOT / "results" / "runs" / "capacity-cpu").iterdir()


def answer(*args: object) -> dict[str, Any]:
    """Return the one document of a command; fails where stdout is anything else."""
    done = CliRunner().invoke(app, [*map(str, args), "--json"])
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["schema"] == 1
    assert document["command"] == args[0]
    assert document["exit_code"] == getattr(done.exception, "exit_code", done.exit_code)
    return document


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    return answer("compare", SMOLLM2, "--fail-on", "reject")


def test_a_comparison_has_the_verdict_its_reason_and_the_exit_code(compared: dict[str, Any]) -> None:
    (pair,) = compared["comparisons"]
    assert pair["verdict"]["decision"] == "reject"
    assert "p95 latency" in pair["verdict"]["binding"]
    assert compared["exit_code"] == 1
    assert compared["error"] is None
    assert compared["run_folder"] == str(SMOLLM2)


def test_its_figures_are_those_of_the_csvs_with_their_notes(compared: dict[str, Any], tmp_path: Path) -> None:
    written = answer("summarize", SMOLLM2, "--out", tmp_path)["csvs"]
    (pair,) = compared["comparisons"]
    for path, side in zip(written, ("baseline", "optimized"), strict=True):
        rows = {row["metric"]: row[side] for row in pair["rows"]}
        with Path(path).open() as file:
            cells = list(csv.reader(file))[1:]
        assert len(cells) > 20
        for metric, value, note in cells:
            assert rows[metric]["note"] == note
            assert (rows[metric]["value"] is None) == (value == "")
            if value:
                assert rows[metric]["value"] == pytest.approx(float(value), rel=1e-4)


def test_every_figure_has_its_interval_its_source_and_the_change_its_direction(
    compared: dict[str, Any],
) -> None:
    (pair,) = compared["comparisons"]
    rows = {row["metric"]: row for row in pair["rows"]}
    p50 = rows["p50_latency_ms"]
    for side in ("baseline", "optimized"):
        assert p50[side]["low"] < p50[side]["value"] < p50[side]["high"]
        assert p50[side]["source"] == "measured"
    assert p50["change"]["direction"] == "worse"
    assert p50["change"]["low_pct"] < p50["change"]["pct_change"] < p50["change"]["high_pct"]
    cost = rows["cost_per_1k_requests_usd"]["baseline"]
    assert (cost["value"], cost["source"]) == (None, "missing")
    assert cost["note"]


@pytest.mark.parametrize(
    ("args", "kind", "exit_code"),
    [
        (("compare", "nowhere"), "ResultError", 2),
        (("run",), "BadParameter", 2),
        (("run", "nowhere.toml"), "ConfigError", 2),
        (("gate", "nowhere"), "ResultError", 2),
    ],
)
def test_an_error_is_a_document_too(args: tuple[str, ...], kind: str, exit_code: int) -> None:
    found = answer(*args)
    assert found["error"]["kind"] == kind
    assert found["error"]["message"]
    assert found["exit_code"] == exit_code


def test_a_capacity_has_its_curve_and_a_gate_its_state(tmp_path: Path) -> None:
    capacity = answer("capacity", CAPACITY)["systems"]["baseline"]
    assert capacity["capacity"]["low"] < capacity["capacity"]["value"] < capacity["capacity"]["high"]
    assert len(capacity["curve"]) >= 5
    gate = answer("gate", SMOLLM2, "--history", tmp_path)
    assert [system["state"] for system in gate["systems"]] == ["no baseline", "no baseline"]
    assert gate["exit_code"] == 2


def test_checks_tell_of_every_file_and_quality_of_every_pair(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("name = 1\n")
    checked = answer("check", ROOT / "configs" / "cpu-tiny.toml", wrong)
    assert [file["well_formed"] for file in checked["files"]] == [True, False]
    assert checked["exit_code"] == 2
    (pair,) = answer("quality", SMOLLM2)["pairs"]
    assert pair["quality"]["against_baseline"] is not None


@pytest.mark.parametrize("command", ["run", "capacity"])
def test_a_replay_is_gone_on_with_by_its_own_command(command: str, tmp_path: Path) -> None:
    (tmp_path / REPLAY_FILE).write_text("{}")
    found = answer(command, "--resume", tmp_path)
    assert found["error"]["message"].endswith(f"go on with: bench ab --resume {tmp_path}")
    assert found["exit_code"] == 2
