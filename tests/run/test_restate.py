"""CSVs put under other terms hold what their run folder gives under these, or say that they cannot know."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.analysis.cost import replica_count, resolve_price
from bench.run.judging import Override, judge_experiment, judge_paths, read_pair
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
    restated, terms = read_pair(old, new, OTHERS[name])
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
    judged, _ = read_pair(old, new, Override(p95_latency_ms=300))
    goodput = judged.comparison.rows["goodput_requests_per_sec"]
    assert goodput.baseline.value is None
    assert "another latency objective" in goodput.baseline.note
    assert judged.comparison.rows["error_rate"].baseline.high is not None, "intervals stay"
    assert any("at most 300 ms" in gate.text for gate in judged.verdict.gates)


def test_terms_that_are_stated_as_they_were_change_nothing(folder: Path, tmp_path: Path) -> None:
    old, new = write_csvs(folder, tmp_path)
    plain, terms = read_pair(old, new, Override())
    stated = Override(requests_per_day=terms.assumed.requests_per_day, p95_latency_ms=1200)
    assert read_pair(old, new, stated)[0] == plain


def test_a_price_gives_bare_csvs_a_cost_of_their_throughput() -> None:
    judged, _ = read_pair(CSVS[0], CSVS[1], Override(usd_per_gpu_hour=3.6))
    cost = judged.comparison.rows["cost_per_1k_requests_usd"]
    assert (cost.baseline.value, cost.optimized.value) == pytest.approx((1 / 18, 1 / 32))
    assert "3.6 USD/h as stated" in cost.baseline.note
    provisioned = judged.comparison.rows["cost_provisioned_per_1k_requests_usd"]
    assert provisioned.baseline.value == pytest.approx(24 * 3.6 / 250)
    assert not [doubt for doubt in judged.comparison.doubts if doubt.key == "implied price"]


@pytest.mark.parametrize("edited", [0, 1])
def test_an_edited_csv_is_put_under_the_terms_of_the_intact_one(tmp_path: Path, edited: int) -> None:
    price = resolve_price("NVIDIA H200", "auto")
    folder = assuming(tmp_path, price=price, grid="FRA", pue=1.5, headroom=0.35)
    paths = write_csvs(folder, tmp_path)
    text = paths[edited].read_text(encoding="utf-8")
    paths[edited].write_text(text.replace("offline (saturated)", "our own", 1), encoding="utf-8")
    stated = Override(requests_per_day=5_000_000, usd_per_gpu_hour=7.5, kg_co2e_per_kwh=0.9)
    judged, terms = read_pair(paths[0], paths[1], stated)
    (recomputed,) = judge_experiment(folder, stated)
    assert any(doubt.key == "edited csv" for doubt in judged.comparison.doubts)
    assert (terms.assumed.pue, terms.assumed.headroom) == (1.5, 0.35)
    for name in ("co2e_kg_per_1k_requests", "replicas", "cost_provisioned_per_1k_requests_usd"):
        row, known = judged.comparison.rows[name], recomputed.comparison.rows[name]
        assert row.baseline.value == pytest.approx(known.baseline.value, rel=1e-5), name
        assert row.optimized.value == pytest.approx(known.optimized.value, rel=1e-5), name


def test_compare_puts_bare_csvs_under_the_stated_terms(folder: Path, tmp_path: Path) -> None:
    paths = write_csvs(folder, tmp_path)
    for path in paths:
        path.with_suffix(".meta.json").unlink()
    judged = judge_paths(paths[0], paths[1], Override(requests_per_day=10_000_000, kg_co2e_per_kwh=0.1))
    rows, days = judged.comparison.rows, {day.label: day for day in judged.comparison.per_day}
    energy = rows["estimated_energy_kwh_per_1k_requests"].baseline.value
    assert energy is not None
    assert rows["co2e_kg_per_1k_requests"].baseline.value == pytest.approx(energy * 0.1)
    assert days["CO2e"].baseline == pytest.approx(energy * 0.1 * 10_000)
    assert "10,000,000 requests a day" in rows["replicas"].baseline.note


def test_a_price_on_bare_csvs_is_charged_for_the_replicas_that_are_shown(
    folder: Path, tmp_path: Path
) -> None:
    paths = write_csvs(folder, tmp_path)
    for path in paths:
        path.with_suffix(".meta.json").unlink()
        text = path.read_text(encoding="utf-8")
        row = next(line for line in text.splitlines() if line.startswith("replicas,"))
        path.write_text(text.replace(row, "replicas,20,as we rent them"), encoding="utf-8")
    judged, terms = read_pair(paths[0], paths[1], Override(usd_per_gpu_hour=2))
    rows = judged.comparison.rows
    rps, count = (rows[name].baseline.value for name in ("throughput_requests_per_sec", "replicas"))
    cost = rows["cost_provisioned_per_1k_requests_usd"].baseline.value
    assert rps is not None
    assert count == replica_count(terms.assumed, rps)
    assert cost == pytest.approx(count * 24 * 2 / (terms.assumed.requests_per_day / 1000))
