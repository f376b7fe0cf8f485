from __future__ import annotations

import pytest

from bench.analysis import cost, reference
from bench.analysis.system import Assumed, missing
from bench.records import Value
from tests.analysis.conftest import ASSUMED

TWO_FIFTY = Value(value=2.50, source="assumed", note="2.5 USD/h as configured")
DAY = Assumed(usd_per_gpu_hour=TWO_FIFTY, requests_per_day=250_000, headroom=0.8, peak_to_mean=3.0)


def capacity(rps: float, low: float | None = None, high: float | None = None) -> Value:
    return Value(value=rps, source="measured", note="", low=low, high=high, n=5)


def test_sustained_and_provisioned_cost_differ_fourfold_at_a_low_volume() -> None:
    # 12 requests/s of capacity, 2.89/s of mean demand and three times that at the peak: one GPU.
    assert cost.sustained(capacity(12.0), DAY).value == pytest.approx(0.0579, abs=1e-4)
    provisioned = cost.provisioned(capacity(12.0), DAY)
    assert provisioned.value == pytest.approx(0.24)
    assert "1 replica around the clock for 250,000 requests a day" in provisioned.note
    assert cost.provisioned(capacity(20.0), DAY).value == provisioned.value


def test_more_demand_than_one_replica_carries_rents_more() -> None:
    assert cost.replicas(DAY, 12.0) == 1
    assert cost.replicas(DAY, 10.0) == 2


def test_the_cost_interval_mirrors_the_capacitys() -> None:
    value = cost.sustained(capacity(10.0, 8.0, 12.5), DAY)
    assert value.low == pytest.approx(cost.sustained_usd_per_1k(2.5, 1, 12.5))
    assert value.high == pytest.approx(cost.sustained_usd_per_1k(2.5, 1, 8.0))


def test_gpus_multiply() -> None:
    four = Assumed(usd_per_gpu_hour=TWO_FIFTY, requests_per_day=250_000, gpus=4)
    one = Assumed(usd_per_gpu_hour=TWO_FIFTY, requests_per_day=250_000)
    assert (cost.sustained(capacity(10.0), four).value or 0) == pytest.approx(
        4 * (cost.sustained(capacity(10.0), one).value or 0)
    )


def test_what_is_missing_keeps_its_reason() -> None:
    nameless = Assumed(usd_per_gpu_hour=cost.resolve_price(None, "auto"), requests_per_day=1)
    assert cost.sustained(capacity(1.0), nameless).note.startswith("no GPU here and no price configured")
    assert "throughput is missing: why" in cost.provisioned(missing("why"), DAY).note
    assert cost.carbon(missing("no counter"), DAY).note == "no counter"


def test_a_cost_from_a_simulated_capacity_is_simulated() -> None:
    simulated = Value(value=1.0, source="simulated", note="")
    assert cost.sustained(simulated, DAY).source == "simulated"
    assert cost.sustained(simulated, DAY).note.startswith("simulated: ")
    assert cost.carbon(simulated, DAY).source == "simulated"


def test_carbon_is_energy_times_pue_times_grid() -> None:
    energy = Value(value=2.0, source="measured", note="", low=1.0, high=3.0, n=5)
    carbon = cost.carbon(energy, ASSUMED)
    assert (carbon.value, carbon.low, carbon.high) == pytest.approx((1.2, 0.6, 1.8))


def test_a_price_is_found_by_gpu_with_its_place_and_date() -> None:
    a10g = cost.resolve_price("NVIDIA A10G", "auto")
    assert (a10g.value, a10g.source) == (1.006, "assumed")
    assert "us-east-1, 2026-06" in a10g.note
    assert "undated snapshot" in cost.resolve_price("NVIDIA H200", "auto").note


def test_a_configured_price_overrides_the_table() -> None:
    assert cost.resolve_price("NVIDIA H200", 9.0).value == 9.0
    assert cost.resolve_price(None, 9.0).note == "9 USD/h as configured"


def test_an_unknown_gpu_has_no_price() -> None:
    price = cost.resolve_price("NVIDIA Unheard Of", "auto")
    assert price.value is None
    assert "NVIDIA Unheard Of" in price.note


def test_every_price_names_a_known_gpu_and_every_row_a_source() -> None:
    assert set(reference.prices()) <= set(reference.gpus())
    for table in (reference.prices(), reference.gpus(), reference.grids()):
        assert all(row.source for row in table.values())
    for grid in reference.grids().values():
        assert grid.low <= grid.kg_co2e_per_kwh <= grid.high
    assert reference.gpus()["NVIDIA H200"].memory_gb == 141
