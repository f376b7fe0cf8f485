"""Every branch of the verdict, and every reason that can bind in it, from recorded runs to the exit code."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from bench import store
from bench.analysis.evaluation import Judged
from bench.cli import app
from bench.config import EXPECTATIONS
from bench.errors import ConfigError
from bench.run.assemble import assemble, assemble_written
from bench.run.judging import Override, judge_experiment, judge_paths
from bench.run.results import write_csvs
from tests.run.recording import WRITTEN, Story, record
from tests.run.verdict_cases import BASELINE, BETTER, CASES, WAIVED, Changes, but, recorded

QUALITY_ROWS = (
    "perplexity",
    "mean_kl",
    "kl_",
    "top1_agreement",
    "identical_",
    "edit_",
    "length_",
    "format_",
    "tone_",
)


def judged(tmp_path: Path, baseline: Story, optimized: Story, changes: Changes | None = None) -> Judged:
    (found,) = judge_experiment(record(tmp_path / "run", baseline, optimized, changes))
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_reason_binds_in_its_verdict_from_recorded_runs(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    folder = recorded(tmp_path, case)
    (found,) = judge_experiment(folder, allow_different=case.allowed)
    verdict = found.verdict
    assert verdict.decision == case.decision, (verdict.binding, verdict.guardrails)
    assert case.binding in verdict.binding
    assert case.settle in verdict.settle
    assert bool(verdict.guardrails) == (verdict.decision == "adopt with guardrails")
    if case.guardrail:
        assert any(case.guardrail in text for text in verdict.guardrails), verdict.guardrails


FIVE = {
    "adopt": ("a benefit and nothing against it", "", "guardrails"),
    "adopt with guardrails": ("a regression within the tolerance", "guardrails", "hold"),
    "hold": ("energy that was not measured", "hold", "reject"),
    "not enough evidence": ("a p95 on both sides of its objective", "hold", "reject"),
    "reject": ("a p95 beyond its objective", "reject", ""),
}
"""An example of each verdict, the severest --fail-on that it fails, and the mildest that it does not."""


@pytest.mark.parametrize("decision", FIVE)
def test_the_command_prints_the_verdict_with_its_reason_first_and_exits_by_it(
    decision: str, tmp_path: Path
) -> None:
    name, fails, passes = FIVE[decision]
    case = CASES[name]
    folder = recorded(tmp_path, case)
    strict = ["--fail-on", fails] if fails else []
    done = CliRunner().invoke(app, ["compare", str(folder), "--markdown", *strict])
    assert done.exit_code == (1 if fails else 0), done.output
    first = done.stdout.splitlines()[0].replace("\\", "")
    assert first.startswith(f"**{decision.capitalize()}**: ")
    assert case.binding in first
    mild = ["--fail-on", passes] if passes else []
    shown = CliRunner().invoke(app, ["compare", str(folder), *mild], env={"COLUMNS": "80"})
    assert shown.exit_code == 0, "a milder one lets it through, and without any it is only printed"
    assert shown.stdout.splitlines()[0].startswith(f"╭─ {decision.upper()} ─")


def test_a_p95_that_bare_files_lack_and_a_quality_that_they_assume_are_told_apart(tmp_path: Path) -> None:
    folder = record(tmp_path / "run", BASELINE, BETTER)
    old, new = write_csvs(folder, tmp_path)
    for path in (old, new):
        path.with_suffix(".meta.json").unlink()
        lines = [row for row in path.read_text().splitlines() if not row.startswith(QUALITY_ROWS)]
        path.write_text("\n".join(lines) + "\n")
    verdict = judge_paths(old, new, Override()).verdict
    assert verdict.decision == "adopt with guardrails"
    assert verdict.guardrails[0].startswith("Output quality was assumed")
    lines = [
        "p95_latency_ms,,lost" if row.startswith("p95_") else row for row in new.read_text().splitlines()
    ]
    new.write_text("\n".join(lines) + "\n")
    without = judge_paths(old, new, Override()).verdict
    assert (without.decision, without.binding) == ("hold", "SLA: p95 latency is not known: lost")


def test_what_is_waived_by_name_stands_below_the_verdict(tmp_path: Path) -> None:
    case = CASES["energy waived, which is no criterion then"]
    folder = recorded(tmp_path, case)
    done = CliRunner().invoke(app, ["compare", str(folder)], env={"COLUMNS": "200"})
    assert "Waived by name: energy (not measured: " in done.stdout
    (found,) = judge_experiment(folder)
    assert [gate.name for gate in found.verdict.waived] == ["energy"]


def test_a_waiver_does_not_save_what_was_measured_and_failed(tmp_path: Path) -> None:
    verdict = judged(tmp_path, BASELINE, but(BETTER, kl=0.02, agree=0.9), WAIVED).verdict
    assert verdict.decision == "reject"


def test_expectations_are_those_recorded_with_the_run_and_print_their_fate(tmp_path: Path) -> None:
    stated = {
        "average_memory_gb": "unchanged",
        "throughput_requests_per_sec": "lower",
        "ttft_p95_ms": "may rise",
        "co2e_kg_per_1k_requests": "lower",
        "quality": "small loss",
    }
    folder = record(tmp_path / "run", BASELINE, BETTER, {"expectations": stated})
    (found,) = judge_experiment(folder)
    assert found.verdict.registered
    assert [(item.name, item.fate) for item in found.verdict.expectations] == [
        ("average_memory_gb", "confirmed"),
        ("throughput_requests_per_sec", "refuted"),
        ("ttft_p95_ms", "confirmed"),
        ("co2e_kg_per_1k_requests", "not measured"),
        ("quality", "confirmed"),
    ]
    done = CliRunner().invoke(app, ["compare", str(folder), "--markdown"])
    assert "| expected before the run | outcome | because |" in done.stdout
    assert "| throughput: lower | refuted | throughput rises by 50.0 % " in done.stdout


def test_a_run_from_before_there_were_expectations_is_not_said_to_have_stated_them(tmp_path: Path) -> None:
    folder = record(tmp_path / "run", BASELINE, BETTER)
    meta = store.read_experiment(folder)
    older = {key: value for key, value in meta.config.items() if key != "expectations"}
    store.write_experiment(folder, msgspec.structs.replace(meta, config=older))
    (found,) = judge_experiment(folder)
    assert not found.verdict.registered
    assert [item.name for item in found.verdict.expectations] == list(EXPECTATIONS)
    done = CliRunner().invoke(app, ["compare", str(folder), "--markdown"])
    assert "| usually expected | outcome | because |" in done.stdout


def test_runs_that_expected_different_things_may_still_be_compared(tmp_path: Path) -> None:
    one = record(tmp_path / "one", BASELINE, BETTER)
    two = record(tmp_path / "two", BASELINE, BETTER, {"expectations": {"p95_latency_ms": "lower"}})
    found = judge_paths(one / "baseline", two / "optimized", Override())
    assert [item.name for item in found.verdict.expectations] == ["p95_latency_ms"], "the right one's"


def test_one_verdict_each_can_be_run_from_a_shipped_file() -> None:
    folder = Path(__file__).parents[2] / "configs" / "verdicts"
    assert sorted(path.stem for path in folder.glob("*.toml")) == sorted(
        decision.replace(" ", "-") for decision in FIVE
    )
    for path in folder.glob("*.toml"):
        assert assemble(path).experiment.name == f"verdict-{path.stem}"


def test_an_experiment_that_expects_what_is_never_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"x\.toml: expectations\.memory is no metric of the CSVs"):
        assemble_written(WRITTEN | {"expectations": {"memory": "lower"}}, "x.toml")


@pytest.mark.parametrize("level", ["unfinished", "INVALID"])
def test_a_run_without_a_verdict_does_not_pass_as_one(level: str, tmp_path: Path) -> None:
    optimized = but(BETTER, late_s=1.0) if level == "INVALID" else BETTER
    folder = record(tmp_path / "run", BASELINE, optimized)
    if level == "unfinished":
        for path in folder.glob("*/run.json"):
            run = msgspec.json.decode(path.read_bytes())
            path.write_bytes(msgspec.json.encode(run | {"status": "cancelled"}))
    mild = CliRunner().invoke(app, ["compare", str(folder)])
    assert mild.exit_code == 0
    assert mild.stderr.startswith("bench: ")
    assert level in mild.stderr.splitlines()[0]
    assert mild.stdout.startswith("╭─ NOT ENOUGH EVIDENCE ─")
    strict = CliRunner().invoke(app, ["compare", str(folder), "--fail-on", "reject", "--json"])
    assert strict.exit_code == 3
    answer = msgspec.json.decode(strict.stdout)
    assert answer["error"]["kind"] == "RunFailed"
    assert level in answer["error"]["message"]
    sides = ["compare", str(folder / "baseline"), str(folder / "optimized"), "--fail-on", "reject"]
    assert CliRunner().invoke(app, sides).exit_code == 3
