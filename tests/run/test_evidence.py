"""What a run folder has to say at the gate, and which runs are no evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from bench import store
from bench.run.evidence import commit_of, take
from bench.run.history import Entry
from tests.recorded import completion, steady, window_run, write
from tests.run.gating import run_folder


def entry_of(folder: Path) -> Entry:
    found = taken(folder)
    assert isinstance(found, Entry), found
    return found


def taken(folder: Path) -> Entry | str:
    return take(folder, store.read_experiment(folder))["baseline"]


def test_a_line_has_machine_settings_commit_and_every_judged_figure(tmp_path: Path) -> None:
    found = entry_of(run_folder(tmp_path, 3, 0.5, provenance={"dirty": True}))
    assert found.run == "demo/20260103T000000Z-abc0003"
    assert commit_of(found) == "abc0003+"
    assert found.machine == {
        "source": "measured",
        "device": "cuda",
        "gpu": "NVIDIA H200",
        "driver": "595",
    }
    assert found.settings["load"] == {"kind": "rate", "rps": 1.0}
    assert found.settings["system"]["precision"] == "fp16"
    assert "requests_per_day" not in found.settings["workload"]
    assert "repeats" not in found.settings["protocol"]
    assert found.figures["p50_latency_ms"].value == 500.0
    assert found.figures["p50_latency_ms"].repeats is not None
    assert "offered_requests_per_sec" not in found.figures, "neither way is better"
    assert found.unbounded == {}


def test_a_cpu_is_told_apart_by_its_name_and_the_cores_that_may_be_used(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, 1, device="cpu", provenance={"cpus_usable": 2})
    assert entry_of(folder).machine["cpus_usable"] == 2


def test_an_invalid_run_is_no_evidence_and_says_why(tmp_path: Path) -> None:
    late = [completion(10.0 + i * 0.01, 0.9, sent_s=10.4 + i * 0.01) for i in range(300)]
    folder = run_folder(tmp_path, 5)
    write(folder, window_run(late, repeat=2))
    assert "is INVALID: " in str(taken(folder))


def test_an_unfinished_run_is_no_evidence_and_says_how_to_go_on(tmp_path: Path) -> None:
    assert "bench run --resume" in str(taken(run_folder(tmp_path, 5, (0.5, 0.5))))


@pytest.mark.parametrize("job", ["window", "offline"])
def test_a_cancelled_job_makes_a_run_unfinished(tmp_path: Path, job: Literal["window", "offline"]) -> None:
    folder = run_folder(tmp_path, 5)
    write(folder, window_run(steady(), repeat=3, kind=job, status="cancelled", error="interrupted"))
    assert "3 of 4 jobs have ended; bench run --resume" in str(taken(folder))


def test_crashed_repeats_are_errors_without_bound(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, 5)
    write(folder, window_run(steady(), repeat=3, status="failed", error="out of memory"))
    assert entry_of(folder).unbounded == {"error_rate": "1 of 3 repeats failed: out of memory"}


def test_a_system_that_cannot_carry_the_load_has_latencies_without_bound(tmp_path: Path) -> None:
    found = entry_of(run_folder(tmp_path, 5, rps=0.5))
    assert {"p50_latency_ms", "p95_latency_ms"} <= found.unbounded.keys()
    assert found.unbounded["p50_latency_ms"].startswith("saturated")
    assert "average_memory_gb" not in found.unbounded


def test_what_was_not_measured_keeps_its_reason_and_is_not_without_bound(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, 5)
    missing = {"energy_j": "no counter", "power_w": "no sensor"}
    write(folder, window_run(steady(), [], repeat=1, missing=missing))
    found = entry_of(folder)
    energy = found.figures["estimated_energy_kwh_per_1k_requests"]
    assert energy.value is None
    assert energy.note
    assert found.unbounded == {}
