"""A run watched on a terminal: the view is live, goes away, and leaves stdout to the one document."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

CONFIG = """
name = "watched"
[workload]
requests_per_day = 1000
input_tokens = { kind = "constant", tokens = 8 }
output_tokens = { kind = "constant", tokens = 4 }
prompts = "random"
[load]
kind = "rate"
rps = 10
[quality]
tokens = 0
[capacity]
search = false
[protocol]
warmup_s = 0.2
max_warmup_s = 0.3
window_s = 2
repeats = 1
offline_s = 0.3
sample_hz = 20
[model]
id = "tiny"
device = "cpu"
cpu_threads = 1
[systems.only]
precision = "fp32"
"""


def watched(tmp_path: Path, *args: str, columns: int = 80) -> tuple[int, str, str]:
    """Run bench with a terminal on stderr; return exit code, stdout, and all that the terminal was sent."""
    ours, theirs = pty.openpty()
    sent: list[bytes] = []

    def read() -> None:
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # its other end is closed
                return
            if not part:
                return
            sent.append(part)

    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *args],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=env | {"TERM": "xterm-256color", "COLUMNS": f"{columns}", "LINES": "30"},
    )
    os.close(theirs)
    reader = threading.Thread(target=read)
    reader.start()
    stdout, _ = process.communicate(timeout=110)
    reader.join(timeout=10)
    os.close(ours)
    return process.returncode, stdout, b"".join(sent).decode()


def test_a_run_shows_its_p95_so_far_ends_clean_and_answers_with_one_document(tmp_path: Path) -> None:
    config = tmp_path / "watched.toml"
    config.write_text(CONFIG)
    code, stdout, terminal = watched(
        tmp_path, "run", str(config), "--results", str(tmp_path / "results"), "--json"
    )
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal)
    assert "[2/2] only.1: window" in plain
    assert re.search(r"p95 so far +[0-9.]+ ms", plain)
    assert re.search(r"answered +\d+/20 ", plain)
    assert re.search(r"host memory [0-9.]+ GB", plain)
    assert re.search(r"power +-", plain), "no meter of power here"
    assert "[2/2] only.1: complete in 0:" in plain
    assert terminal.rindex("\x1b[?25h") > terminal.rindex("\x1b[?25l"), "the cursor is back"
    last = re.split(r"\x1b\[\?25h", terminal)[-1]
    assert "so far" not in last, "nothing of the view is left"

    answer = json.loads(stdout)
    assert code == answer["exit_code"]
    assert code == 0 or answer["invalid"], terminal  # on a busy machine the client may be late
    assert answer["failures"] == []
    assert Path(answer["run_folder"]).is_dir()
    with Path(answer["csvs"][0]).open() as file:
        cells = {row[0]: row[1] for row in csv.reader(file)}
    for row in answer["systems"]["only"]["metrics"]:
        if row["value"] is None:
            assert cells[row["metric"]] == ""
        else:
            assert float(cells[row["metric"]]) == pytest.approx(row["value"], rel=1e-4)


def test_an_error_on_a_terminal_is_one_line(tmp_path: Path) -> None:
    code, stdout, terminal = watched(tmp_path, "run", "nowhere.toml", "--quiet")
    assert (code, stdout) == (2, "")
    assert terminal.count("\n") == 1
    assert terminal.startswith("bench: nowhere.toml")
