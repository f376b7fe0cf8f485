"""Cost: both kinds, the fleet behind them, and prices that say where and when they were seen."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench.analysis import cost
from bench.analysis.system import Assumed, missing
from bench.records import Value
from tests.recorded import system_runs

TWO_FIFTY = Value(value=2.50, source="assumed", note="2.5 USD/h as configured")
DAY = Assumed(usd_per_gpu_hour=TWO_FIFTY, requests_per_day=250_000, headroom=0.8, peak_to_mean=3.0)


def capacity(rps: float, low: float | None = None, high: float | None = None) -> Value:
    return Value(value=rps, source="measured", note="", low=low, high=high, n=5)


def day(**changes: Any) -> Assumed:
    return msgspec.structs.replace(DAY, **changes)


def figure(value: Value) -> float:
    assert value.value is not None, value.note
    return value.value


def test_sustained_and_provisioned_cost_differ_fourfold_at_a_low_volume() -> None:
    # 12 requests/s of capacity, 2.89/s of mean demand and three times that at the peak: one GPU.
    assert cost.sustained(capacity(12.0), DAY).value == pytest.approx(0.0579, abs=1e-4)
    provisioned = cost.provisioned(capacity(12.0), DAY)
    assert provisioned.value == pytest.approx(0.24)
    assert "1 replica around the clock for 250,000 requests a day" in provisioned.note
    assert cost.provisioned(capacity(20.0), DAY).value == provisioned.value


def test_more_demand_than_one_replica_carries_rents_more() -> None:
    assert cost.replicas(capacity(12.0), DAY).value == 1
    assert cost.replicas(capacity(10.0), DAY).value == 2


def test_the_least_and_the_spare_replicas_are_rented_whatever_the_demand() -> None:
    assert cost.replicas(capacity(12.0), day(min_replicas=2)).value == 2
    assert cost.replicas(capacity(10.0), day(min_replicas=2)).value == 2
    assert cost.replicas(capacity(10.0), day(min_replicas=2, spare_replicas=1)).value == 3
    spare = cost.provisioned(capacity(12.0), day(spare_replicas=1))
    assert spare.value == pytest.approx(0.48)
    assert "1 spare" in spare.note


@pytest.mark.parametrize("rps", [0.5, 3.0, 12.0, 40.0])
@pytest.mark.parametrize("extra", [{}, {"min_replicas": 3}, {"spare_replicas": 2}, {"gpus": 4}])
def test_provisioned_cost_is_sustained_cost_over_the_fleets_utilisation(
    rps: float, extra: dict[str, int]
) -> None:
    assumed = day(**extra)
    utilisation = figure(cost.fleet_utilisation(capacity(rps), assumed))
    sustained = figure(cost.sustained(capacity(rps), assumed))
    assert figure(cost.provisioned(capacity(rps), assumed)) == pytest.approx(sustained / utilisation)


def test_the_fleet_is_never_planned_beyond_its_headroom() -> None:
    steady = day(peak_to_mean=1.0)
    for rps in (0.3, 0.9, 2.0, 3.61, 3.62):
        assert figure(cost.fleet_utilisation(capacity(rps), steady)) <= steady.headroom


def test_the_cost_interval_mirrors_the_capacitys() -> None:
    value = cost.sustained(capacity(10.0, 8.0, 12.5), DAY)
    assert value.low == pytest.approx(cost.sustained_usd_per_1k(2.5, 1, 12.5))
    assert value.high == pytest.approx(cost.sustained_usd_per_1k(2.5, 1, 8.0))


def test_gpus_multiply() -> None:
    four, one = (figure(cost.sustained(capacity(10.0), day(gpus=gpus))) for gpus in (4, 1))
    assert four == pytest.approx(4 * one)


def test_what_is_missing_keeps_its_reason() -> None:
    nameless = day(usd_per_gpu_hour=cost.resolve_price(None, "auto").figure)
    assert cost.sustained(capacity(1.0), nameless).note.startswith("no GPU here and no price configured")
    for derive in (cost.provisioned, cost.replicas, cost.fleet_utilisation, cost.sustained):
        assert "throughput is missing: why" in derive(missing("why"), DAY).note
        assert derive(capacity(0.0), DAY).value is None


def test_a_cost_from_a_simulated_capacity_is_simulated() -> None:
    simulated = Value(value=1.0, source="simulated", note="")
    assert cost.sustained(simulated, DAY).source == "simulated"
    assert cost.sustained(simulated, DAY).note.startswith("simulated: ")


def test_a_price_is_found_by_gpu_with_its_place_and_date() -> None:
    a10g = cost.resolve_price("NVIDIA A10G", "auto")
    assert (a10g.value, a10g.source, a10g.looked_up) == (1.006, "assumed", True)
    assert "us-east-1, 2026-06-17" in a10g.note
    assert a10g.note.endswith("check: no second source agrees)")
    assert "check" not in cost.resolve_price("NVIDIA H100 80GB HBM3", "auto").note
    h200 = cost.resolve_price("NVIDIA H200", "auto")
    assert "undated snapshot" in h200.note
    assert h200.asked is not None
    assert h200.asked[0] < figure(h200) < h200.asked[1]


def test_a_configured_price_overrides_the_table() -> None:
    assert cost.resolve_price("NVIDIA H200", 9.0).value == 9.0
    assert not cost.resolve_price("NVIDIA H200", 9.0).looked_up
    assert cost.resolve_price(None, 9.0).note == "9 USD/h as configured"


def test_an_unknown_gpu_has_no_price() -> None:
    price = cost.resolve_price("NVIDIA Unheard Of", "auto")
    assert price.value is None
    assert "NVIDIA Unheard Of" in price.note


@pytest.mark.parametrize(
    ("seen", "key"),
    [
        ("2026-06-17", None),
        ("2026-06-16", "old price"),
        ("2026-07", None),
        ("2026-06", "old price"),
        (None, "undated price"),
    ],
)
def test_a_price_that_was_old_when_the_run_was_made_is_doubted(seen: str | None, key: str | None) -> None:
    runs = system_runs(latencies_s=(0.5,), provenance={"utc": "2026-09-15T08:00:00+00:00"})
    doubt = cost.old_price(runs, day(price_looked_up=True, price_date=seen))
    assert (None if doubt is None else doubt.key) == key
    assert cost.old_price(runs, day(price_date=seen)) is None, "what a person configured is their own"


def test_an_old_price_says_how_old() -> None:
    runs = system_runs(latencies_s=(0.5,), provenance={"utc": "2026-09-15T08:00:00+00:00"})
    doubt = cost.old_price(runs, day(price_looked_up=True, price_date="2026-01-01"))
    assert doubt is not None
    assert "257 days before the run (at most 90)" in doubt.text


def test_a_throughput_that_may_be_zero_leaves_the_cost_unresolved_and_no_point_value() -> None:
    found = cost.sustained(capacity(2.0, -0.5, 4.5), DAY)
    assert found.value is not None
    assert (found.low, found.high) == (None, None)
    assert found.unresolved == "the interval of the throughput reaches zero"
