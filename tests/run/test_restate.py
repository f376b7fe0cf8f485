"""CSVs put under other terms hold what their run folder gives under these, or say that they cannot know."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.analysis.cost import resolve_price
from bench.run.judging import Override, judge_experiment, read_pair
from bench.run.results import write_csvs
from tests.run.test_terms import PAIR, assuming

OTHERS = {
    "requests_per_day": Override(requests_per_day=5_000_000),
    "usd_per_gpu_hour": Override(usd_per_gpu_hour=7.5),
    "kg_co2e_per_kwh": Override(kg_co2e_per_kwh=0.9),
}
CSVS = [PAIR / f"{name}_inference_metrics.csv" for name in ("baseline", "optimized")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    embodied = {"kg_co2e_per_gpu": 900.0, "life_years": 3.0}
    return assuming(tmp_path, price=resolve_price("NVIDIA H200", "auto"), grid="FRA", embodied=embodied)


@pytest.mark.parametrize("name", OTHERS)
def test_what_follows_from_a_stated_term_is_what_the_run_folder_gives_under_it(
    folder: Path, tmp_path: Path, name: str
) -> None:
    old, new = write_csvs(folder, tmp_path)
    restated, terms = read_pair(old, new, OTHERS[name], restate=True)
    (recomputed,) = judge_experiment(folder, OTHERS[name])
    (before,) = judge_experiment(folder)
    assert {key: (row.baseline, row.optimized) for key, row in restated.comparison.rows.items()} == {
        key: (row.baseline, row.optimized) for key, row in recomputed.comparison.rows.items()
    }
    assert restated.comparison.per_day == recomputed.comparison.per_day
    assert restated.comparison.per_day != before.comparison.per_day
    assert restated.verdict.decision == recomputed.verdict.decision
    assert terms.assumed.requests_per_day == restated.comparison.requests_per_day


def test_goodput_under_another_objective_is_missing_and_the_objective_holds(
    folder: Path, tmp_path: Path
) -> None:
    old, new = write_csvs(folder, tmp_path)
    judged, _ = read_pair(old, new, Override(p95_latency_ms=300), restate=True)
    goodput = judged.comparison.rows["goodput_requests_per_sec"]
    assert goodput.baseline.value is None
    assert "another latency objective" in goodput.baseline.note
    assert judged.comparison.rows["error_rate"].baseline.high is not None, "intervals stay"
    assert any("at most 300 ms" in gate.text for gate in judged.verdict.gates)


def test_terms_that_are_stated_as_they_were_change_nothing(folder: Path, tmp_path: Path) -> None:
    old, new = write_csvs(folder, tmp_path)
    plain, terms = read_pair(old, new, Override(), restate=True)
    stated = Override(requests_per_day=terms.assumed.requests_per_day, p95_latency_ms=1200)
    assert read_pair(old, new, stated, restate=True)[0] == plain


def test_a_price_gives_bare_csvs_a_cost_of_their_throughput() -> None:
    judged, _ = read_pair(CSVS[0], CSVS[1], Override(usd_per_gpu_hour=3.6), restate=True)
    cost = judged.comparison.rows["cost_per_1k_requests_usd"]
    assert (cost.baseline.value, cost.optimized.value) == pytest.approx((1 / 18, 1 / 32))
    assert "3.6 USD/h as stated" in cost.baseline.note
    provisioned = judged.comparison.rows["cost_provisioned_per_1k_requests_usd"]
    assert provisioned.baseline.value == pytest.approx(24 * 3.6 / 250)
    assert not [doubt for doubt in judged.comparison.doubts if doubt.key == "implied price"]
