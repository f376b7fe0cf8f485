"""From run folders to CSVs and comparisons: order, terms and references survive the way through files."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from bench import store
from bench.errors import ResultError
from bench.run.judging import Override, judge_experiment, judge_paths
from bench.run.results import metric_sets, write_csvs
from tests.recorded import quality, system_runs, write, write_experiment


def experiment_folder(
    tmp_path: Path, names: tuple[str, str] = ("old", "new"), *, requests_per_day: float = 86_400
) -> Path:
    """Write an experiment with two recorded systems; the second has half the latency and a KL."""
    folder = tmp_path / "runs" / "demo" / "20260101T000000Z-abc"
    written = {
        "name": "demo",
        "workload": {"requests_per_day": requests_per_day, "input_tokens": "x", "output_tokens": "y"},
        "model": {"id": "m"},
        "systems": {names[0]: {"precision": "fp16"}, names[1]: {"precision": "int8"}},
        "objectives": {"p95_latency_ms": 1200},
    }
    one = system_runs(names[0], (0.8, 0.82, 0.81), table=quality())
    two = system_runs(names[1], (0.4, 0.41, 0.42), rps=4.0, table=quality(kl=0.001))
    write_experiment(folder, written, (one, two))
    return folder


def csvs(folder: Path, target: Path) -> list[Path]:
    return write_csvs(folder, target)


def test_the_first_system_of_the_file_is_the_baseline_whatever_its_name(tmp_path: Path) -> None:
    folder = experiment_folder(tmp_path, ("old", "new"))
    assert list(metric_sets(folder)) == ["old", "new"]
    (judged,) = judge_experiment(folder)
    assert (judged.comparison.baseline.name, judged.comparison.optimized.name) == ("old", "new")
    old, new = csvs(folder, tmp_path)
    assert [old.name, new.name] == ["baseline_inference_metrics.csv", "optimized_inference_metrics.csv"]
    assert old.read_text().startswith("metric,baseline_value,notes")
    assert new.read_text().startswith("metric,optimized_value,notes")


def test_untouched_csvs_compare_like_the_run_they_were_made_from(tmp_path: Path) -> None:
    folder = experiment_folder(tmp_path)
    old, new = csvs(folder, tmp_path)
    from_csv = judge_paths(old, new, Override())
    (from_run,) = judge_experiment(folder)
    assert from_csv.comparison.rows == from_run.comparison.rows
    assert from_csv.verdict == from_run.verdict
    assert from_csv.comparison.rows["p50_latency_ms"].change.low is not None
    assert not any(doubt.key == "edited csv" for doubt in from_csv.comparison.doubts)


def test_an_edited_csv_is_taken_as_stated_and_doubted(tmp_path: Path) -> None:
    old, new = csvs(experiment_folder(tmp_path), tmp_path)
    new.write_text(new.read_text().replace("p50_latency_ms,4", "p50_latency_ms,1", 1))
    judged = judge_paths(old, new, Override())
    assert any(doubt.key == "edited csv" for doubt in judged.comparison.doubts)
    assert judged.comparison.rows["p50_latency_ms"].change.low is None


def test_csvs_without_their_meta_are_bare(tmp_path: Path) -> None:
    old, new = csvs(experiment_folder(tmp_path), tmp_path)
    for path in (old, new):
        path.with_suffix(".meta.json").unlink()
    judged = judge_paths(old, new, Override(requests_per_day=1000))
    assert judged.comparison.requests_per_day == 1000
    assert judged.comparison.bare


def test_csvs_without_their_meta_are_as_sure_as_their_notes_say(tmp_path: Path) -> None:
    old, new = csvs(experiment_folder(tmp_path), tmp_path)
    known = judge_paths(old, new, Override())
    for path in (old, new):
        path.with_suffix(".meta.json").unlink()
    bare = judge_paths(old, new, Override())
    assert bare.verdict.decision == known.verdict.decision == "not enough evidence"
    assert {name: row.change.direction for name, row in bare.comparison.rows.items()} == {
        name: row.change.direction for name, row in known.comparison.rows.items()
    }
    p95 = bare.comparison.rows["p95_latency_ms"]
    assert p95.unresolved == known.comparison.rows["p95_latency_ms"].unresolved != ""


def test_the_wrong_way_round_is_refused(tmp_path: Path) -> None:
    old, new = csvs(experiment_folder(tmp_path), tmp_path)
    with pytest.raises(ResultError, match="its column is optimized_value, expected baseline_value"):
        judge_paths(new, old, Override())
    with pytest.raises(ResultError, match="its column is baseline_value, expected optimized_value"):
        judge_paths(old, old, Override())


def test_stated_terms_recompute_a_run_and_a_csv_with_its_own(tmp_path: Path) -> None:
    folder = experiment_folder(tmp_path)
    (own,) = judge_experiment(folder)
    (stated,) = judge_experiment(folder, Override(requests_per_day=864_000))
    row = "cost_provisioned_per_1k_requests_usd"
    assert own.comparison.requests_per_day == 86_400
    assert stated.comparison.requests_per_day == 864_000
    assert stated.comparison.rows[row].baseline.value != own.comparison.rows[row].baseline.value
    old, new = csvs(folder, tmp_path)
    of_csvs = judge_paths(old, new, Override(requests_per_day=864_000))
    assert of_csvs.comparison.rows[row] == stated.comparison.rows[row]


def test_results_made_under_different_terms_are_refused_unless_allowed(tmp_path: Path) -> None:
    one = experiment_folder(tmp_path / "one")
    two = experiment_folder(tmp_path / "two", requests_per_day=1_000_000)
    with pytest.raises(ResultError, match=r"assumed\.requests_per_day: 86400\.0 against 1000000\.0"):
        judge_paths(one / "old", two / "new", Override())
    judged = judge_paths(one / "old", two / "new", Override(), ["terms", "workload"])
    assert judged.comparison.requests_per_day == 1_000_000


def test_quality_against_another_baseline_does_not_count_for_this_comparison(tmp_path: Path) -> None:
    folder = experiment_folder(tmp_path)
    judged = judge_paths(folder / "new", folder / "new", Override())
    lost = judged.comparison.rows["mean_kl"].optimized
    assert lost.value is None
    assert "/old, which is not the baseline of this comparison" in lost.note
    kept = judge_paths(folder / "old", folder / "new", Override())
    assert kept.comparison.rows["mean_kl"].optimized.value == pytest.approx(0.001)


def test_an_unknown_system_and_a_folder_without_runs_are_named(tmp_path: Path) -> None:
    folder = experiment_folder(tmp_path)
    with pytest.raises(ResultError, match="no such system in this run; it has old, new"):
        judge_paths(folder / "newer", folder, Override())
    with pytest.raises(ResultError, match="is this a run folder"):
        judge_experiment(folder / "old.1")
    for path in folder.glob("*/run.json"):
        path.unlink()
    with pytest.raises(ResultError, match="no ended job"):
        judge_experiment(folder)


def test_an_unfinished_run_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    folder = experiment_folder(tmp_path)
    (folder / "new.3" / "run.json").unlink()
    (judged,) = judge_experiment(folder)
    (doubt,) = [doubt for doubt in judged.comparison.doubts if doubt.text.startswith("new: the run is unfin")]
    assert "3 of 6 jobs" in doubt.text  # the saturated run and five repeats
    assert doubt.remedy == f"bench run --resume {folder}"


def test_bare_csvs_judged_by_defaults_say_so() -> None:
    pair = Path(__file__).parents[1] / "data" / "published_pair"
    paths = [pair / f"{name}_inference_metrics.csv" for name in ("baseline", "optimized")]
    keys = [doubt.key for doubt in judge_paths(paths[0], paths[1], Override()).comparison.doubts]
    assert "default terms" in keys
    volume = judge_paths(paths[0], paths[1], Override(requests_per_day=1000)).comparison
    (doubt,) = [doubt for doubt in volume.doubts if doubt.key == "default terms"]
    assert "p95 latency at most 1200 ms" in doubt.text
    assert "requests a day" not in doubt.text
    everything = Override(requests_per_day=1000, p95_latency_ms=900, kg_co2e_per_kwh=0.1)
    stated = judge_paths(paths[0], paths[1], everything).comparison
    assert "default terms" not in [doubt.key for doubt in stated.doubts]


def test_the_system_called_optimized_is_the_optimized_file_also_when_another_follows(tmp_path: Path) -> None:
    folder = experiment_folder(tmp_path, ("base", "optimized"))
    meta = store.read_experiment(folder)
    systems = meta.config["systems"]
    config = meta.config | {"systems": systems | {"third": systems["base"]}}
    store.write_experiment(folder, msgspec.structs.replace(meta, config=config))
    third = system_runs("third", (0.9, 0.9, 0.9))
    for run in third.windows:
        write(folder, run)
    assert [path.name for path in csvs(folder, tmp_path)] == [
        "baseline_inference_metrics.csv",
        "optimized_inference_metrics.csv",
        "third_inference_metrics.csv",
    ]
    assert "p50_latency_ms,410" in (tmp_path / "optimized_inference_metrics.csv").read_text()


def test_one_csv_alone_asks_for_the_other(tmp_path: Path) -> None:
    old, _ = csvs(experiment_folder(tmp_path), tmp_path)
    with pytest.raises(ResultError, match="name the optimized one too"):
        judge_experiment(old)


def test_a_folder_of_run_folders_names_the_newest(tmp_path: Path) -> None:
    folder = experiment_folder(tmp_path)
    newer = folder.with_name("20261231T000000Z-later")
    shutil.copytree(folder, newer)
    for above in (newer.parent, newer.parents[1], newer.parents[2]):
        with pytest.raises(ResultError, match=f"the newest is .*{newer.name}"):
            judge_experiment(above)


def test_an_experiment_file_is_to_be_measured_first() -> None:
    with pytest.raises(ResultError, match=r"is an experiment; measure it \(bench run\)"):
        judge_experiment(Path("configs/cpu-tiny.toml"))


def test_stated_figures_that_contradict_one_another_are_held(tmp_path: Path) -> None:
    old, new = csvs(experiment_folder(tmp_path), tmp_path)
    for path in (old, new):
        path.with_suffix(".meta.json").unlink()
    lines = [
        "p50_latency_ms,4000," if row.startswith("p50_") else row for row in old.read_text().splitlines()
    ]
    old.write_text("\n".join(lines) + "\n")
    verdict = judge_paths(old, new, Override()).verdict
    assert verdict.decision == "hold"
    assert "which cannot be" in verdict.binding


def test_a_machine_that_was_busy_before_the_run_is_the_first_doubt_of_both(tmp_path: Path) -> None:
    folder = experiment_folder(tmp_path)
    meta = store.read_experiment(folder)
    for load, is_doubted in ((7.3, True), (1.0, False)):
        facts = meta.provenance | {"load_average_1min": load, "cpu_count": 2}
        store.write_experiment(folder, msgspec.structs.replace(meta, provenance=facts))
        sets = metric_sets(folder, so_far=True)
        assert ["busy machine" in {doubt.key for doubt in each.doubts} for each in sets.values()] == (
            [is_doubted] * 2
        )
        first = judge_experiment(folder, so_far=True)[0].comparison.doubts[0]
        assert first.text.startswith("both: the machine was busy in the minute before") == is_doubted
        assert not is_doubted or "load average 7.3 on 2 cores" in first.text
