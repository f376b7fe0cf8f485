"""The whole path as a person runs it: the command line, the shipped model, processes of their own.

The GPU is the modelled one, so that power, energy and memory take part; everything is then marked
simulated. Protocols are as short as they can be: what is asserted is the path, never a speed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import fake_nvml
from tests.run.commands import assert_measured, config, fresh, rows, run_folder
from tests.run.warm import run

pytestmark = pytest.mark.timeout(300)  # jobs load a model each, on a machine that may be busy


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the experiment on the modelled GPU; return the results folder."""
    tmp = tmp_path_factory.mktemp("simulated")
    library = tmp / "nvml"
    library.mkdir()
    fake_nvml.build(library)
    env = dict(os.environ) | fake_nvml.environment(library)
    (tmp / "results").mkdir()
    (tmp / "results" / "evaluation.html").write_text("of another run")
    done = fresh("run", config(tmp, device="auto"), "--results", tmp / "results", env=env)
    assert_measured(done)
    (tmp / "stdout.txt").write_text(done.stdout)
    (tmp / "stderr.txt").write_text(done.stderr)
    return tmp / "results"


def test_what_the_run_leaves_outdated_is_named(simulated: Path) -> None:
    said = (simulated.parent / "stderr.txt").read_text()
    if "INVALID" not in said:  # else the CSVs beside it are the earlier run's, too
        assert f"{simulated / 'evaluation.html'} shows an earlier run" in said


def test_a_results_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    path = config(tmp_path)
    done = run(tmp_path, "run", path, "--results", path)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"bench: {path}: no run folder can be made there (Not a directory); name another with --results"
    )


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
    simulated: Path, tmp_path: Path
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
    done = run(tmp_path, "quality", run_folder(simulated), "--markdown")
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
    done = run(tmp_path, "summarize", run_folder(simulated), "--out", tmp_path)
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
    done = run(
        tmp_path, "compare", *(tmp_path / f"{n}_inference_metrics.csv" for n in ("baseline", "optimized"))
    )
    assert done.returncode == 2
    assert "simulated" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_that_cannot_be_had_is_one_line_with_the_remedy_and_leaves_nothing(tmp_path: Path) -> None:
    done = fresh(
        "run", config(tmp_path), "--model", "nobody/nothing", "--results", tmp_path / "results", "--quiet"
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("bench: nobody/nothing: ")
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "results" / "runs" / "short").iterdir())


def test_a_recorded_run_predicts_itself_from_the_command_line(simulated: Path, tmp_path: Path) -> None:
    folder = run_folder(simulated)
    law = run(tmp_path, "fit", folder / "optimized")
    assert law.returncode == 0, law.stderr
    assert "decode" in law.stdout
    predicted = run(tmp_path, "simulate", folder / "optimized", "--rate", 4, "--requests", 50)
    assert predicted.returncode == 0, predicted.stderr
    assert "p95 latency" in predicted.stdout
    refused = run(
        tmp_path, "simulate", folder / "optimized", "--batching", '{ kind = "continuous", max_size = 4 }'
    )
    assert refused.returncode == 2
    assert "cannot be joined" in refused.stderr
    assert refused.stderr.count("\n") == 1
