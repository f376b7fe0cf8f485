"""`--json`: one document on stdout, whatever happens, that says what the tables and CSVs say."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.cli.answer import answering
from bench.store import REPLAY_FILE
from tests.run.commands import fresh

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
            if metric == "perplexity_ratio":
                continue  # without a paired interval the comparison makes it of the two perplexities
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
        (("check", "nowhere.toml"), "ConfigError", 2),
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
    assert gate["error"]["kind"] == "ResultError"
    assert gate["error"]["message"].startswith("baseline: no baseline was ever accepted: bench")
    assert "; optimized: no baseline" in gate["error"]["message"]


def test_checks_tell_of_every_file_and_quality_of_every_pair(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("name = 1\n")
    checked = answer("check", ROOT / "configs" / "cpu-tiny.toml", wrong)
    assert [file["well_formed"] for file in checked["files"]] == [True, False]
    assert checked["exit_code"] == 2
    assert checked["error"]["message"] == checked["files"][1]["why"]
    (pair,) = answer("quality", SMOLLM2)["pairs"]
    assert pair["quality"]["against_baseline"] is not None


@pytest.mark.parametrize("command", ["run", "capacity"])
def test_a_replay_is_gone_on_with_by_its_own_command(command: str, tmp_path: Path) -> None:
    (tmp_path / REPLAY_FILE).write_text("{}")
    found = answer(command, "--resume", tmp_path)
    assert found["error"]["message"].endswith(f"go on with: bench ab --resume {tmp_path}")
    assert found["exit_code"] == 2


def test_a_folder_that_cannot_be_written_is_bad_input_in_one_line_and_not_a_verdict() -> None:
    done = fresh("summarize", SMOLLM2, "--out", "/dev/null/x", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == found["exit_code"] == 2
    assert found["error"]["kind"] == "ResultError"
    assert done.stderr == f"bench: {found['error']['message']}\n"
    assert "/dev/null" in done.stderr


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_where_messages_cannot_be_written_the_answer_and_the_exit_code_are_the_same(where: str) -> None:
    command = [
        "sh",
        "-c",
        f'exec "$@" {where}',
        "sh",
        sys.executable,
        "-m",
        "bench",
        "check",
        "nowhere",
        "--json",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == json.loads(done.stdout)["exit_code"] == 2


SHOWN = """
import sys
from bench.cli.answer import answering
from bench.cli.messages import messages
from bench.cli.show import new_console
from bench.records import Event
from bench.report.progress import RunProgress
sys.stderr = messages()
with answering("run", as_json=True) as answer:
    with RunProgress(new_console(stderr=True), planned_s={"one.1": 1.0}) as progress:
        for phase in ("load", "window", "complete"):
            progress.watch(Event(job="one.1", phase=phase))
    print("bench: said at the end", file=sys.stderr)
    answer["measured"] = True
"""


def test_where_nobody_reads_stderr_any_more_a_run_that_is_shown_goes_on_and_is_answered() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-c", SHOWN], stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False
    )
    os.close(theirs)
    found = json.loads(done.stdout)
    assert (done.returncode, found["exit_code"], found["measured"]) == (0, 0, True)


def test_whatever_ends_a_command_its_answer_does_not_report_success(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit), answering("compare", as_json=True):
        raise SystemExit(1)
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == 1
    assert found["error"]["kind"] == "SystemExit"


INTERRUPTED = """
import os, signal, sys
sys.argv = ["bench", *{args!r}]
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {at!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from bench.__main__ import main
main()
"""


@pytest.mark.parametrize("command", ["compare", "select", "quality", "env"])
def test_an_interrupt_while_a_command_is_still_being_imported_is_answered(command: str) -> None:
    args = [command, *([] if command == "env" else ["nowhere"]), "--json"]
    code = INTERRUPTED.format(args=args, at="numpy" if command != "env" else "bench.report.environment")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    found = json.loads(done.stdout)
    assert done.returncode == found["exit_code"] == 130
    assert found["error"] == {"kind": "KeyboardInterrupt", "message": "interrupted"}


@pytest.mark.parametrize("at", ["bench.cli", "bench.cli.quality"])
def test_an_interrupt_before_the_command_line_is_read_is_one_line(at: str) -> None:
    code = INTERRUPTED.format(args=["env", "--json"], at=at)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "bench: interrupted\n")
