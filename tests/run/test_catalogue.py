"""Choosing among the systems of recorded runs, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.analysis.change import change
from bench.analysis.metrics import METRICS
from bench.cli import app
from bench.errors import BenchError, ConfigError, ResultError
from bench.run.catalogue import Catalogue, catalogue
from tests.run.recording import Story, record

RUNS = Path(__file__).parents[2] / "results" / "runs"
SMOLLM2 = next((RUNS / "cpu-smollm2").iterdir())
OTHER = next((RUNS / "capacity-cpu").iterdir())


def select(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["select", *arguments])
    if isinstance(result.exception, BenchError):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def found() -> Catalogue:
    return catalogue([SMOLLM2])


def test_the_catalogue_is_what_was_measured_with_the_runs_own_objective(found: Catalogue) -> None:
    assert list(found.systems) == ["baseline", "optimized"]
    assert [limit.name for limit in found.objectives] == ["p95_latency_ms", "error_rate"]
    assert all(limit.of_the_run for limit in found.objectives)
    assert found.doubts == ()


def test_the_reference_does_not_drift_from_itself(found: Catalogue) -> None:
    values = found.systems["baseline"].values
    assert (values["mean_kl"].value, values["mean_kl"].source) == (0.0, "derived")
    assert values["top1_agreement"].value == 1.0


def test_systems_of_two_runs_keep_their_runs_name_and_quality_against_another_baseline_is_dropped(
    found: Catalogue, tmp_path: Path
) -> None:
    other = tmp_path / "later"
    shutil.copytree(SMOLLM2, other)
    for path in (other / "experiment.json", *other.glob("*/run.json")):
        told = json.loads(path.read_text())
        told["config"]["systems"]["baseline"]["precision"]["kind"] = "bf16"
        path.write_text(json.dumps(told))
    both = catalogue([SMOLLM2, other])
    assert list(both.systems)[2:] == ["later/baseline", "later/optimized"]
    assert "did not alternate" in both.doubts[0]
    first, last = (both.systems[f"{run}/optimized"].values for run in (SMOLLM2.name, "later"))
    assert first["mean_kl"] == found.systems["optimized"].values["mean_kl"]
    assert "another baseline than in the first run (precision)" in last["mean_kl"].note
    assert last["perplexity"].value == first["perplexity"].value


def test_folders_of_one_stamp_lose_no_system(tmp_path: Path) -> None:
    folders = [tmp_path / parent / "stamp" for parent in ("one", "two")]
    for folder in folders:
        shutil.copytree(SMOLLM2, folder)
    assert list(catalogue(folders).systems) == [
        f"{parent}/stamp/{name}" for parent in ("one", "two") for name in ("baseline", "optimized")
    ]


def test_the_reference_is_known_exactly_so_that_a_drift_from_it_keeps_its_interval(found: Catalogue) -> None:
    baseline, optimized = found.systems.values()
    for name in ("mean_kl", "top1_agreement"):
        drift = optimized.values[name]
        moved = change(baseline.values[name], drift, METRICS[name].better)
        assert drift.low is not None
        assert drift.high is not None
        assert moved.delta is not None
        assert moved.low is not None
        assert moved.high is not None
        assert moved.low < moved.delta < moved.high
        assert moved.high - moved.low == pytest.approx(drift.high - drift.low, rel=0.01)


def test_a_limit_of_the_run_holds_beside_one_from_the_other_side() -> None:
    def limits(option: str) -> list[str]:
        told = json.loads(select(str(SMOLLM2), option, "p95=0", "--json")[1])
        return [f"{limit['name']} {limit['bound']}" for limit in told["selection"]["constraints"]]

    assert limits("--min") == ["p95_latency_ms at least", "p95_latency_ms at most", "error_rate at most"]
    assert limits("--max") == ["p95_latency_ms at most", "error_rate at most"], "stated otherwise"


def test_a_choice_ends_with_0_and_nothing_that_fits_with_1(tmp_path: Path) -> None:
    enough = str(record(tmp_path / "run", Story(), Story(rps=9.0)))
    loose = ("--max", "p95=1e9", "--max", "errors=1", "--by", "throughput")
    code, text = select(enough, *loose, "--json")
    assert code == 0
    assert json.loads(text)["selection"]["choice"] == "optimized"
    code, text = select(str(SMOLLM2), *loose, "--json")
    assert code == 1, "a p95 of 27 requests in each repeat fits no limit"
    code, text = select(enough, *loose, "--min", "throughput=1e6", "--markdown")
    assert code == 1
    assert text.startswith("**NOTHING FITS**: Nearest miss")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--max", "p95"), ConfigError, "write --max p95=VALUE"),
        (("--max", "p95=nan"), ConfigError, "--max p95=nan: a limit is a finite number, 0 or more"),
        (("--min", "p95=inf"), ConfigError, "--min p95=inf: a limit is a finite number, 0 or more"),
        (("--max", "p95=-5"), ConfigError, "--max p95=-5: a limit is a finite number, 0 or more"),
        (
            ("--max", "p95=500", "--max", "p95_latency_ms=600"),
            ConfigError,
            "--max p95_latency_ms=600: --max p95_latency_ms is already 500; state one",
        ),
        (("--pareto", "p95,nope"), ConfigError, "'nope' is no metric"),
        ((str(SMOLLM2),), ResultError, "given twice"),
        ((str(OTHER),), ResultError, "different terms|not comparable"),
        ((str(RUNS),), ResultError, "is no run folder"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    arguments: tuple[str, ...], error: type[BenchError], says: str
) -> None:
    with pytest.raises(error, match=says):
        select(str(SMOLLM2), *arguments)
