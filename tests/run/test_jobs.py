"""Runs of the shipped model through the command line: systems of every kind, and what interrupts a run."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.run.commands import assert_measured, config, rows, run_folder, wait_for
from tests.run.warm import run, start

pytestmark = pytest.mark.timeout(300)  # jobs load a model each, on a machine that may be busy


def children(pid: int) -> list[int]:
    found = psutil.Process(pid).children(recursive=True)
    return [p.pid for p in found if "resource_tracker" not in " ".join(p.cmdline())]


def test_one_system_without_a_tokenizer_is_measured_and_its_quality_is_missing_with_the_reason(
    tmp_path: Path,
) -> None:
    tiny = Path(__file__).parents[2] / "bench" / "data" / "tiny"
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (model / name).write_bytes((tiny / name).read_bytes())
    text = config(tmp_path, id=f'"{model}"', prompts='"random"', window_s="1").read_text()
    path = tmp_path / "short.toml"
    path.write_text(text.partition("[systems.optimized]")[0])
    done = run(tmp_path, "run", path, "--results", tmp_path / "results", "--quiet")
    assert_measured(done)
    assert "one system only" in done.stderr
    assert all(line.startswith("bench: ") for line in done.stderr.splitlines()), "--quiet: warnings alone"
    values = rows(run_folder(tmp_path / "results") / "baseline_inference_metrics.csv")
    assert float(values["throughput_requests_per_sec"][0]) > 0
    assert values["perplexity"][0] == ""
    assert "tokenizer" in values["perplexity"][1]


def test_engines_and_policies_side_by_side_end_in_one_table(tmp_path: Path) -> None:
    systems = """
[systems.alone]
precision = "fp32"
[systems.joined]
precision = "fp32"
engine = "steps"
batching = { kind = "continuous", max_size = 4, prefill_chunk = 16 }
[systems.manager]
precision = "fp32"
engine = "transformers-continuous"
batching = { kind = "continuous", max_size = 4 }
"""
    path = config(tmp_path, tokens="0", window_s="0.8")
    path.write_text(path.read_text().partition("[systems.baseline]")[0] + systems)
    done = run(tmp_path, "run", path, "--results", tmp_path, "--rate", 6, "--quiet")
    assert_measured(done)
    folder = next((tmp_path / "runs" / "short").iterdir())
    for line, engine, cache in (
        ("alone", None, "dynamic"),
        ("joined", "steps", "dynamic"),
        ("manager", "transformers-continuous", "paged"),
    ):
        assert line in done.stdout
        meta = json.loads((folder / f"{line}.1" / "run.json").read_text())
        assert meta["offered_rps"] == 6
        assert meta["treatment"]["kv_cache"] == cache
        assert meta["facts"]["engine"]["kv_cache"]["bytes_held"] > 0
        assert meta["config"]["systems"][line]["engine"]["kind"] == (engine or "generate")
    outcomes = pq.read_table(folder / "joined.1" / "requests.parquet").to_pylist()
    assert {outcome["status"] for outcome in outcomes} <= {"ok", "rejected"}
    assert all(outcome["padded_tokens"] == 0 for outcome in outcomes if outcome["status"] == "ok")


def test_a_killed_job_is_recorded_ctrl_c_keeps_the_rest_and_resume_goes_on(tmp_path: Path) -> None:
    path = config(tmp_path, window_s="3")
    text = path.read_text().replace('precision = "int8"', 'precision = "bf16"')
    path.write_text(text)
    process = start(tmp_path, "run", path, "--results", tmp_path / "results")

    def folder() -> Path:
        return run_folder(tmp_path / "results")

    wait_for(lambda: (tmp_path / "results/runs/short").exists(), "the run folder")
    wait_for(lambda: (folder() / "optimized.offline").exists(), "the second job")
    wait_for(lambda: len(children(process.pid)) == 1, "the second job's process")
    os.kill(children(process.pid)[0], signal.SIGKILL)

    wait_for(lambda: "baseline.1: window" in process.stderr.read_text(), "the baseline's window")
    os.kill(process.pid, signal.SIGINT)
    stopped = process.result()
    assert stopped.returncode == 130, stopped.stderr
    assert f"bench run --resume {folder()}" in stopped.stderr

    killed = json.loads((folder() / "optimized.offline" / "run.json").read_text())
    assert killed["status"] == "failed"
    assert "SIGKILL" in killed["error"]
    cancelled = json.loads((folder() / "baseline.1" / "run.json").read_text())
    assert cancelled["status"] == "cancelled"
    finished = (folder() / "baseline.offline" / "run.json").stat().st_mtime_ns

    done = run(tmp_path, "run", "--resume", folder(), "--results", tmp_path / "results", "--quiet")
    assert_measured(done)
    assert (folder() / "baseline.offline" / "run.json").stat().st_mtime_ns == finished
    for name in ("optimized.offline", "baseline.1", "optimized.1"):
        assert json.loads((folder() / name / "run.json").read_text())["status"] == "complete"


def test_a_search_for_capacity_is_interrupted_resumed_shown_and_sets_the_common_rate(tmp_path: Path) -> None:
    text = config(tmp_path, tokens="0", kind='"fraction_of_baseline_capacity"', window_s="1").read_text()
    # Few requests a probe, so that a busy machine makes no queue of them.
    text = text.replace("rps = 8\n", "").replace("tokens = 6", "tokens = 30")
    text = text.replace("search = false", "search = true\nprobe_s = 0.6\nmax_probes = 2")
    path = tmp_path / "short.toml"
    path.write_text(text.partition("[systems.baseline]")[0] + '[systems.one]\nprecision = "fp32"\n')
    process = start(tmp_path, "capacity", path, "--results", tmp_path)
    wait_for(lambda: "probe 2" in process.stderr.read_text() or process.ended, "the second probe")
    os.kill(process.pid, signal.SIGINT)
    stopped = process.result()
    assert stopped.returncode == 130, stopped.stderr
    folder = run_folder(tmp_path)
    assert f"bench capacity --resume {folder}" in stopped.stderr
    search = folder / "one.capacity"
    cancelled = json.loads((search / "run.json").read_text())
    assert cancelled["status"] == "cancelled"
    (probe,) = cancelled["probes"]
    due_s = pq.read_table(search / "requests.parquet").column("due_s").to_pylist()
    assert any(probe["window"]["start_s"] <= due < probe["window"]["end_s"] for due in due_s)

    done = run(tmp_path, "run", "--resume", folder, "--results", tmp_path / "results", "--quiet")
    assert_measured(done)
    complete = json.loads((search / "run.json").read_text())
    assert complete["status"] == "complete"
    assert len(complete["probes"]) == 2
    value, note = rows(folder / "baseline_inference_metrics.csv")["throughput_requests_per_sec"]
    assert "capacity: highest steady rate at which the objectives hold" in note
    assert "2 probes of 0.6 s" in note
    assert "saturated" not in note
    window = json.loads((folder / "one.1" / "run.json").read_text())
    assert window["offered_rps"] == pytest.approx(0.7 * float(value), rel=1e-3)

    shown = run(tmp_path, "capacity", folder)
    assert shown.returncode == 0, shown.stderr
    assert "Capacity of one" in shown.stdout
    assert "2 probes of 0.6 s" in " ".join(shown.stdout.split())
    again = run(tmp_path, "capacity", "--resume", folder, "--quiet")
    assert (again.returncode, again.stdout) == (0, shown.stdout), again.stderr
    assert json.loads((search / "run.json").read_text()) == complete
