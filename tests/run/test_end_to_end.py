"""The whole path as a person runs it: the command line, the shipped model, processes of their own.

The GPU is the modelled one, so that power, energy and memory take part; everything is then marked
simulated. Protocols are as short as they can be: what is asserted is the path, never a speed.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import fake_nvml

CONFIG = """
name = "short"
seed = 3
[workload]
requests_per_day = 250_000
input_tokens = { kind = "constant", tokens = 24 }
output_tokens = { kind = "constant", tokens = 6 }
prompts = "corpus"
[load]
kind = "rate"
rps = 8
[objectives]
p95_latency_ms = 60_000
[quality]
tokens = 256
window = 128
stride = 64
  prompts = 15
new_tokens = 12
[capacity]
search = false
[protocol]
warmup_s = 0.2
max_warmup_s = 0.3
idle_s = 0.6
window_s = 1.5
repeats = 1
offline_s = 0.5
sample_hz = 20
[model]
id = "tiny"
device = "DEVICE"
cpu_threads = 1
[systems.baseline]
precision = "fp16"
[systems.optimized]
precision = "int8"
batching = { kind = "dynamic", max_size = 4, max_wait_ms = 5 }
"""


def bench(*args: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=110, env=env or dict(os.environ), check=False
    )


def config(tmp_path: Path, device: str = "cpu", **changes: str) -> Path:
    text = CONFIG.replace("DEVICE", device)
    for old, new in changes.items():
        assert f"{old} = " in text
        text = "\n".join(
            f"{old} = {new}" if line.startswith(f"{old} = ") else line for line in text.splitlines()
        )
    path = tmp_path / "short.toml"
    path.write_text(text)
    return path


def assert_measured(done: subprocess.CompletedProcess[str]) -> None:
    """Accept a run that ended; on a busy machine its client may be late, which is said and exits with 3."""
    assert done.returncode == 0 or (done.returncode == 3 and "INVALID" in done.stderr), done.stderr


def rows(path: Path) -> dict[str, list[str]]:
    with path.open() as file:
        return {row[0]: row[1:] for row in csv.reader(file)}


def run_folder(results: Path) -> Path:
    (folder,) = (results / "runs" / "short").iterdir()
    return folder


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the experiment on the modelled GPU; return the results folder."""
    tmp = tmp_path_factory.mktemp("simulated")
    library = tmp / "nvml"
    library.mkdir()
    fake_nvml.build(library)
    env = dict(os.environ) | fake_nvml.environment(library)
    done = bench("run", config(tmp, device="auto"), "--results", tmp / "results", env=env)
    assert_measured(done)
    (tmp / "stdout.txt").write_text(done.stdout)
    (tmp / "stderr.txt").write_text(done.stderr)
    return tmp / "results"


def test_a_run_leaves_both_csvs_in_the_fixed_shape(simulated: Path) -> None:
    baseline = rows(run_folder(simulated) / "baseline_inference_metrics.csv")
    optimized = rows(run_folder(simulated) / "optimized_inference_metrics.csv")
    assert baseline["metric"] == ["baseline_value", "notes"]
    assert optimized["metric"] == ["optimized_value", "notes"]
    assert list(baseline)[1:7] == [
        "p50_latency_ms",
        "p95_latency_ms",
        "throughput_requests_per_sec",
        "average_memory_gb",
        "cost_per_1k_requests_usd",
        "estimated_energy_kwh_per_1k_requests",
    ]
    for table in (baseline, optimized):
        assert float(table["p50_latency_ms"][0]) > 0
        assert float(table["throughput_requests_per_sec"][0]) > 0
        assert "simulated" in table["p50_latency_ms"][1]


def test_energy_comes_from_the_modelled_counter_and_a_missing_price_is_an_empty_cell(simulated: Path) -> None:
    baseline = rows(run_folder(simulated) / "baseline_inference_metrics.csv")
    assert float(baseline["estimated_energy_kwh_per_1k_requests"][0]) > 0
    value, note = baseline["cost_per_1k_requests_usd"]
    assert value == ""
    assert "price" in note


def test_the_precision_is_really_in_force_and_its_bytes_are_recorded(simulated: Path) -> None:
    treatment = {
        name: json.loads((run_folder(simulated) / f"{name}.1" / "run.json").read_text())["treatment"]
        for name in ("baseline", "optimized")
    }
    assert set(treatment["baseline"]["linear_layers"]) == {"Linear"}
    assert set(treatment["optimized"]["linear_layers"]) == {"Linear8bitLt"}
    assert set(treatment["optimized"]["linear_dtypes"]) == {"int8"}
    assert treatment["optimized"]["linear_bytes"] < 0.6 * treatment["baseline"]["linear_bytes"]


def test_quality_is_measured_against_the_baseline(simulated: Path) -> None:
    optimized = rows(run_folder(simulated) / "optimized_inference_metrics.csv")
    assert 0 < float(optimized["mean_kl"][0]) < 0.05
    assert 0.8 < float(optimized["top1_agreement"][0]) <= 1
    assert not list(run_folder(simulated).glob(".baseline-logits*"))


def test_outputs_are_kept_with_the_baselines_beside_and_the_noise_floor_in_its_own_job(
    simulated: Path,
) -> None:
    baseline, optimized = (
        pq.read_table(run_folder(simulated) / f"{name}.offline" / "outputs.parquet").to_pylist()
        for name in ("baseline", "optimized")
    )
    assert len(baseline) == len(optimized) == 15
    for one, two in zip(baseline, optimized, strict=True):
        assert two["ref_ids"] == one["ids"]
        assert two["ref_text"] == one["text"]
        assert len(one["ids"]) == len(one["again_ids"]) == 12
        assert one["ref_ids"] is None
        assert two["again_ids"] is None
    scored = pq.read_table(run_folder(simulated) / "baseline.offline" / "quality.parquet")
    assert scored["again_kl"].null_count == 0
    done = bench("quality", run_folder(simulated), "--markdown")
    assert done.returncode == 0, done.stderr
    assert "| mean KL, nats |" in done.stdout
    assert "digits copied: not informative" in done.stdout


def test_every_request_has_one_row_and_its_stages_sum_to_its_latency(simulated: Path) -> None:
    for name in ("baseline.1", "optimized.1"):
        table = pq.read_table(run_folder(simulated) / name / "requests.parquet").to_pylist()
        assert len({row["uid"] for row in table}) == len(table)
        for row in (row for row in table if row["status"] == "ok"):
            stages = [row[f"{stage}_s"] for stage in ("queue", "tokenize", "prefill", "decode", "detokenize")]
            assert None not in stages
            assert sum(stages) == pytest.approx(row["done_s"] - row["due_s"], abs=1e-6)
            assert row["output_tokens"] == 6
            assert len(row["itl_ms"]) == 5


def test_the_csvs_are_rebuilt_bit_for_bit_from_raw(simulated: Path, tmp_path: Path) -> None:
    done = bench("summarize", run_folder(simulated), "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("baseline", "optimized"):
        for suffix in (".csv", ".meta.json"):
            file = f"{name}_inference_metrics{suffix}"
            assert (tmp_path / file).read_bytes() == (run_folder(simulated) / file).read_bytes()


def test_the_verdict_is_printed_and_progress_stays_off_stdout(simulated: Path) -> None:
    stdout = (simulated.parent / "stdout.txt").read_text()
    stderr = (simulated.parent / "stderr.txt").read_text()
    assert "p95 latency" in stdout
    assert "baseline.offline: load" in stderr
    assert "baseline.offline: load" not in stdout


def test_a_simulated_result_is_not_compared_with_a_measured_one(simulated: Path, tmp_path: Path) -> None:
    for name in ("baseline", "optimized"):
        for file in run_folder(simulated).glob(f"{name}_inference_metrics.*"):
            text = file.read_text()
            if name == "baseline":
                text = text.replace("simulated", "measured")
            (tmp_path / file.name).write_text(text)
    done = bench("compare", *(tmp_path / f"{n}_inference_metrics.csv" for n in ("baseline", "optimized")))
    assert done.returncode == 2
    assert "simulated" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_that_cannot_be_had_is_one_line_with_the_remedy_and_leaves_nothing(tmp_path: Path) -> None:
    done = bench(
        "run", config(tmp_path), "--model", "nobody/nothing", "--results", tmp_path / "results", "--quiet"
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("bench: nobody/nothing: ")
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "results" / "runs" / "short").iterdir())


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
    done = bench("run", path, "--results", tmp_path / "results", "--quiet")
    assert_measured(done)
    assert "one system only" in done.stderr
    values = rows(run_folder(tmp_path / "results") / "baseline_inference_metrics.csv")
    assert float(values["throughput_requests_per_sec"][0]) > 0
    assert values["perplexity"][0] == ""
    assert "tokenizer" in values["perplexity"][1]


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    import psutil

    found = psutil.Process(pid).children(recursive=True)
    return [p.pid for p in found if "resource_tracker" not in " ".join(p.cmdline())]


def heed_ctrl_c() -> None:
    """Undo what a shell does to its background jobs, of which whoever tests may be one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
    done = bench("run", path, "--results", tmp_path, "--rate", 6, "--quiet")
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
    path = config(tmp_path, warmup_s="1", max_warmup_s="2", window_s="6")
    text = path.read_text().replace('precision = "int8"', 'precision = "bf16"')
    path.write_text(text)
    command = [sys.executable, "-m", "bench", "run", str(path), "--results", str(tmp_path / "results")]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )

    def folder() -> Path:
        return run_folder(tmp_path / "results")

    wait_for(lambda: (tmp_path / "results/runs/short").exists(), "the run folder")
    wait_for(lambda: (folder() / "optimized.offline").exists(), "the second job")
    wait_for(lambda: len(children(process.pid)) == 1, "the second job's process")
    os.kill(children(process.pid)[0], signal.SIGKILL)

    log = folder() / "baseline.1" / "log.txt"
    wait_for(log.exists, "the baseline's window")
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert f"bench run --resume {folder()}" in stderr

    killed = json.loads((folder() / "optimized.offline" / "run.json").read_text())
    assert killed["status"] == "failed"
    assert "SIGKILL" in killed["error"]
    cancelled = json.loads((folder() / "baseline.1" / "run.json").read_text())
    assert cancelled["status"] == "cancelled"
    finished = (folder() / "baseline.offline" / "run.json").stat().st_mtime_ns

    done = bench("run", "--resume", folder(), "--results", tmp_path / "results", "--quiet")
    assert_measured(done)
    assert (folder() / "baseline.offline" / "run.json").stat().st_mtime_ns == finished
    for name in ("optimized.offline", "baseline.1", "optimized.1"):
        assert json.loads((folder() / name / "run.json").read_text())["status"] == "complete"


def test_a_recorded_run_predicts_itself_from_the_command_line(simulated: Path) -> None:
    folder = run_folder(simulated)
    law = bench("fit", folder / "optimized")
    assert law.returncode == 0, law.stderr
    assert "decode" in law.stdout
    predicted = bench("simulate", folder / "optimized", "--rate", 4, "--requests", 50)
    assert predicted.returncode == 0, predicted.stderr
    assert "p95 latency" in predicted.stdout
    refused = bench("simulate", folder / "optimized", "--batching", '{ kind = "continuous", max_size = 4 }')
    assert refused.returncode == 2
    assert "cannot be joined" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.timeout(240)  # four jobs, each of which loads torch
def test_a_search_for_capacity_is_interrupted_resumed_shown_and_sets_the_common_rate(tmp_path: Path) -> None:
    text = config(tmp_path, tokens="0", kind='"fraction_of_baseline_capacity"', window_s="1").read_text()
    # Few requests a probe, so that a busy machine makes no queue of them.
    text = text.replace("rps = 8\n", "").replace("tokens = 6", "tokens = 30")
    text = text.replace("search = false", "search = true\nprobe_s = 0.6\nmax_probes = 2")
    path = tmp_path / "short.toml"
    path.write_text(text.partition("[systems.baseline]")[0] + '[systems.one]\nprecision = "fp32"\n')
    command = [sys.executable, "-m", "bench", "capacity", str(path), "--results", str(tmp_path)]
    log = tmp_path / "stderr.txt"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, stdout=subprocess.DEVNULL, preexec_fn=heed_ctrl_c)
        wait_for(lambda: "probe 2" in log.read_text() or process.poll() is not None, "the second probe")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, log.read_text()
    folder = run_folder(tmp_path)
    assert f"bench capacity --resume {folder}" in log.read_text()
    search = folder / "one.capacity"
    cancelled = json.loads((search / "run.json").read_text())
    assert cancelled["status"] == "cancelled"
    (probe,) = cancelled["probes"]
    due_s = pq.read_table(search / "requests.parquet").column("due_s").to_pylist()
    assert any(probe["window"]["start_s"] <= due < probe["window"]["end_s"] for due in due_s)

    done = bench("run", "--resume", folder, "--results", tmp_path / "results", "--quiet")
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

    shown = bench("capacity", folder)
    assert shown.returncode == 0, shown.stderr
    assert "Capacity of one" in shown.stdout
    assert "2 probes of 0.6 s" in " ".join(shown.stdout.split())
    again = bench("capacity", "--resume", folder, "--quiet")
    assert (again.returncode, again.stdout) == (0, shown.stdout), again.stderr
    assert json.loads((search / "run.json").read_text()) == complete
