"""How long an experiment takes: what the same one took before, where it did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench import store
from bench.run.duration import took_s

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "results" / "runs" / "cpu-smollm2" / "20261121T203335Z-234b742"
JOBS = 10
TOOK_S = 1362 + 152
"""From 20:33:35 to 20:56:17, when the last job began, and the median time between two."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a new run's folder beside the recorded run."""
    shutil.copytree(RECORDED, tmp_path / RECORDED.name)
    new = tmp_path / "20270101T000000Z-234b742"
    new.mkdir()
    shutil.copy(RECORDED / store.EXPERIMENT_FILE, new)
    return new


def changed(path: Path, key: str, value: object) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(document | {key: value}), encoding="utf-8")


def test_the_same_experiment_takes_what_it_took_before(folder: Path) -> None:
    assert took_s(folder, JOBS) == pytest.approx(TOOK_S)


def test_a_run_that_was_interrupted_and_went_on_the_next_day_does_not_count_for_more(folder: Path) -> None:
    later = folder.with_name("20261121T210000Z-234b742")
    shutil.copytree(folder.parent / RECORDED.name, later)
    run = later / "optimized.3" / store.RUN_FILE
    utc = {"utc": "2026-11-22T20:56:17+00:00"}
    changed(run, "provenance", json.loads(run.read_text(encoding="utf-8"))["provenance"] | utc)
    assert took_s(folder, JOBS) == pytest.approx(TOOK_S)


def test_nothing_is_known_where_no_run_is_whole_and_the_same(folder: Path) -> None:
    assert took_s(folder, JOBS + 1) is None
    changed(folder / store.EXPERIMENT_FILE, "config", {})
    assert took_s(folder, JOBS) is None
    shutil.copy(RECORDED / store.EXPERIMENT_FILE, folder)
    changed(folder.parent / RECORDED.name / "baseline.2" / store.RUN_FILE, "status", "failed")
    assert took_s(folder, JOBS) is None
    shutil.rmtree(folder.parent / RECORDED.name)
    assert took_s(folder, JOBS) is None
