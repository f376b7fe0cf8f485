"""The figure of energy, cost and carbon: every number beside what it assumes, and what that leaves open."""

from __future__ import annotations

import msgspec
import pytest

from bench.analysis.figures.costs import costs
from tests.analysis.figures.compared import evaluation, row, rows, uncompared
from tests.analysis.pairs import metrics
from tests.recorded import ASSUMED

BASELINE = metrics("baseline")
CHEAPER = metrics("optimized", {"cost_per_1k_requests_usd": (0.25,)})
DARK = metrics(
    "baseline",
    {
        "cost_per_1k_requests_usd": "no price",
        "cost_provisioned_per_1k_requests_usd": "no price",
        "estimated_energy_kwh_per_1k_requests": "no meter",
        "co2e_kg_per_1k_requests": "no meter",
        "sci_kg_per_1k_requests": "no making",
    },
)


def test_each_figure_stands_per_thousand_and_per_day_with_the_price_that_it_assumes() -> None:
    figure = costs(evaluation(BASELINE, CHEAPER))
    sustained = row(figure, "costs", figure="cost per 1k requests, sustained, USD", system="optimized")
    assert (sustained["value"], sustained["unit"]) == (0.25, "USD")
    assert sustained["by"] == "3.6 USD/h as configured; 1 GPU kept busy at the throughput"
    # 86,400 requests a day.
    assert row(figure, "costs", figure="cost, sustained per day, USD", system="optimized")["value"] == 21.6
    assert row(figure, "costs", figure="cost, sustained per day, USD", system="baseline")["value"] == 43.2
    assert "A day has 86,400 requests." in figure.notes


def test_energy_assumes_nothing_and_carbon_names_grid_and_overhead() -> None:
    figure = costs(evaluation(BASELINE, CHEAPER))
    energy = row(figure, "costs", figure="energy per 1k requests, kWh", system="baseline")
    assert (energy["value"], energy["band_low"]) == (0.03, None)
    assert "nothing is assumed" in str(energy["by"])
    carbon = rows(figure, "costs", figure="CO2e per 1k requests, kg")[0]
    assert str(carbon["by"]).startswith("0.5 kg CO2e/kWh, PUE 1.2; band: ")


def test_a_range_of_prices_makes_a_band_in_proportion() -> None:
    assumed = msgspec.structs.replace(ASSUMED, usd_per_gpu_hour_range=(1.8, 7.2))
    figure = costs(evaluation(BASELINE, CHEAPER, assumed=assumed))
    found = row(figure, "costs", figure="cost per 1k requests, sustained, USD", system="baseline")
    assert (found["band_low"], found["value"], found["band_high"]) == (0.25, 0.5, 1.0)
    assert "band: 1.8 to 7.2 USD per GPU-hour" in str(found["by"])
    assert (found["value_share"], found["band_high_share"]) == (0.5, 1.0)


def test_what_is_not_known_is_listed_with_its_reason_and_never_drawn() -> None:
    dark = metrics("optimized", {"estimated_energy_kwh_per_1k_requests": "no meter"})
    figure = costs(evaluation(BASELINE, dark))
    assert not rows(figure, "costs", figure="energy per 1k requests, kWh", system="optimized")
    lacking = row(figure, "missing", figure="energy per 1k requests", system="optimized")
    assert lacking["why"] == "no meter"
    assert "energy per 1k requests of optimized is not known: no meter." in figure.notes


@pytest.mark.parametrize("name", ["no meter", "no price", "no making"])
def test_without_any_figure_every_reason_is_said(name: str) -> None:
    assert name in costs(uncompared(DARK)).missing
