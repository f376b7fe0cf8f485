"""What an experiment assumes reaches its figures, and nothing that it does not state is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from bench import store
from bench.analysis.cost import resolve_price
from bench.cli import app
from bench.errors import ConfigError
from bench.run.judging import BARE, Override, judge_experiment, judge_paths
from bench.run.results import terms_of, write_csvs
from tests.run.test_results import experiment_folder

ENERGY_KWH = 100 * 1000 / 3.6e6
PAIR = Path(__file__).parents[1] / "data" / "published_pair"


def assuming(tmp_path: Path, price: Any = None, **assumptions: Any) -> Path:
    """Write the recorded experiment with other assumptions."""
    folder = experiment_folder(tmp_path)
    meta = store.read_experiment(folder)
    config = meta.config | {"assumptions": meta.config["assumptions"] | assumptions}
    price = meta.price if price is None else msgspec.to_builtins(price)
    store.write_experiment(folder, msgspec.structs.replace(meta, config=config, price=price))
    return folder


def test_without_a_grid_carbon_is_missing_with_the_remedy(tmp_path: Path) -> None:
    (judged,) = judge_experiment(assuming(tmp_path))
    row = judged.comparison.rows["co2e_kg_per_1k_requests"]
    assert row.baseline.value is None
    assert "set assumptions.grid" in row.baseline.note
    assert judged.comparison.rows["estimated_energy_kwh_per_1k_requests"].baseline.value is not None


def test_a_country_a_pue_and_the_making_of_the_gpu_reach_the_figures(tmp_path: Path) -> None:
    embodied = {"kg_co2e_per_gpu": 876.5, "life_years": 3.0}
    (judged,) = judge_experiment(assuming(tmp_path, grid="FRA", pue=1.5, embodied=embodied))
    rows = judged.comparison.rows
    co2e, sci = rows["co2e_kg_per_1k_requests"].baseline, rows["sci_kg_per_1k_requests"].baseline
    assert co2e.value == pytest.approx(ENERGY_KWH * 0.044 * 1.5)
    assert sci.value == pytest.approx(ENERGY_KWH * 0.044 * 1.5 + 876.5 / 26_280 * 24 / 86.4)
    assert "France, 2024; check: no second source agrees" in co2e.note
    assert any("0.041 to 0.056 kg CO2e/kWh (France, 2024" in text for text in judged.comparison.sensitivity)


def test_an_unknown_country_is_an_error_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'DEU'"):
        judge_experiment(assuming(tmp_path, grid="DE"))


def test_spare_replicas_are_paid_for(tmp_path: Path) -> None:
    name = "cost_provisioned_per_1k_requests_usd"
    (one,) = judge_experiment(assuming(tmp_path / "a"))
    (two,) = judge_experiment(assuming(tmp_path / "b", spare_replicas=1))
    plain, spare = (judged.comparison.rows[name].baseline.value for judged in (one, two))
    assert plain is not None
    assert spare is not None
    assert spare == pytest.approx(plain * 2)


def test_a_price_from_the_table_keeps_its_date_and_is_doubted_without_one(tmp_path: Path) -> None:
    folder = assuming(tmp_path, price=resolve_price("NVIDIA H200", "auto"))
    assumed = terms_of(folder, store.read_experiment(folder)).assumed
    assert (assumed.price_looked_up, assumed.price_date) == (True, None)
    assert assumed.usd_per_gpu_hour_range == (2.5, 7.0)
    (judged,) = judge_experiment(folder)
    assert [d.text for d in judged.comparison.doubts if d.key == "undated price"] == [
        "both: nobody dated the price of 3.5 USD/h"
    ]
    own = assuming(tmp_path / "own")
    assert "undated price" not in [d.key for d in judge_experiment(own)[0].comparison.doubts]


def test_a_run_that_has_not_come_to_its_price_says_no_more_than_that(tmp_path: Path) -> None:
    folder = experiment_folder(tmp_path)
    meta = msgspec.structs.replace(store.read_experiment(folder), price=None)
    price = terms_of(folder, meta).assumed.usd_per_gpu_hour
    assert (price.value, price.note) == (None, "no price was recorded with the run")


def test_a_price_stated_afterwards_reaches_the_comparison_and_the_page(tmp_path: Path) -> None:
    folder = str(assuming(tmp_path))
    price = ["--usd-per-gpu-hour", "36"]
    done = CliRunner().invoke(app, ["compare", folder, *price, "--json"])
    assert done.exit_code == 0, done.output
    rows = msgspec.json.decode(done.stdout)["comparisons"][0]["rows"]
    (row,) = (row for row in rows if row["metric"] == "cost_per_1k_requests_usd")
    rps = judge_paths(Path(folder), Path(folder), Override()).comparison.rows["throughput_requests_per_sec"]
    assert rps.baseline.value is not None
    assert row["baseline"]["value"] == pytest.approx(36 / 3.6 / rps.baseline.value)
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", folder, *price, "--out", str(page)])
    assert done.exit_code == 0, done.output
    assert "36 USD/h as stated" in page.read_text()


def test_csvs_that_were_written_compare_under_the_same_terms(tmp_path: Path) -> None:
    price = resolve_price("NVIDIA H200", "auto")
    folder = assuming(tmp_path, price=price, grid="FRA", embodied={"kg_co2e_per_gpu": 1.0, "life_years": 1.0})
    old, new = write_csvs(folder, tmp_path)
    from_csv = judge_paths(old, new, Override())
    (from_run,) = judge_experiment(folder)
    assert from_csv.comparison.rows == from_run.comparison.rows
    assert from_csv.comparison.sensitivity == from_run.comparison.sensitivity


def test_bare_csvs_keep_the_terms_of_the_published_exercise() -> None:
    assert (BARE.assumed.kg_co2e_per_kwh, BARE.assumed.pue, BARE.assumed.requests_per_day) == (
        0.4,
        1.0,
        250_000,
    )
    paths = [PAIR / f"{name}_inference_metrics.csv" for name in ("baseline", "optimized")]
    by_label = {day.label: day for day in judge_paths(paths[0], paths[1], Override()).comparison.per_day}
    assert by_label["CO2e"].baseline == pytest.approx(320.0)
    stated = judge_paths(paths[0], paths[1], Override(kg_co2e_per_kwh=0.2)).comparison
    assert {day.label: day for day in stated.per_day}["CO2e"].baseline == pytest.approx(160.0)


def test_bare_csvs_say_which_objective_is_a_default_and_what_settles_a_gate_that_lacks_a_figure(
    tmp_path: Path,
) -> None:
    paths = []
    for role, p95 in (("baseline", 900), ("optimized", 600)):
        paths.append(tmp_path / f"{role}_inference_metrics.csv")
        paths[-1].write_text(
            f"metric,{role}_value,notes\np50_latency_ms,{p95 / 2},\np95_latency_ms,{p95},\nerror_rate,0,\n"
            "estimated_energy_kwh_per_1k_requests,,no meter\n"
        )
    verdict = judge_paths(paths[0], paths[1], Override()).verdict
    assert verdict.binding.startswith("energy: not measured")
    assert verdict.settle == "state estimated_energy_kwh_per_1k_requests in both CSVs"
    gates = {gate.name: gate.text for gate in verdict.gates}
    assert gates["SLA"].endswith("against at most 1200 ms (a default)")
    stated = judge_paths(paths[0], paths[1], Override(p95_latency_ms=700)).verdict
    assert next(gate.text for gate in stated.gates if gate.name == "SLA").endswith("at most 700 ms")
