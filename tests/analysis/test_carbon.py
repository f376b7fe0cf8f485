"""Carbon from stated terms only: operational, SCI with the hardware's making, and how far both depend."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench.analysis import carbon
from bench.analysis.compare import compare
from bench.analysis.system import Assumed, missing
from bench.config import Assumptions, Embodied
from bench.errors import ConfigError
from bench.records import Value
from tests.analysis.sides import measured, side
from tests.recorded import ASSUMED, system_runs

PRICE = Value(value=2.0, source="assumed", note="2 USD/h as configured")
PLAIN = Assumed(usd_per_gpu_hour=PRICE, requests_per_day=86_400)
ENERGY = Value(value=2.0, source="measured", note="", low=1.0, high=3.0, n=5)
TEN_RPS = Value(value=10.0, source="measured", note="")
H100 = Embodied(kg_co2e_per_gpu=164 + 5700 / 8, life_years=3)


def terms(**changes: Any) -> Assumed:
    return msgspec.structs.replace(PLAIN, **changes)


def test_operational_carbon_is_energy_times_pue_times_grid() -> None:
    found = carbon.operational(ENERGY, ASSUMED)
    assert (found.value, found.low, found.high) == pytest.approx((1.2, 0.6, 1.8))
    assert "PUE 1.2" in found.note


def test_without_a_pue_it_is_the_it_energy_alone_and_says_so() -> None:
    found = carbon.operational(ENERGY, terms(kg_co2e_per_kwh=0.5))
    assert found.value == pytest.approx(1.0)
    assert "IT energy only (no PUE stated)" in found.note


def test_without_an_intensity_there_is_no_carbon_and_the_remedy_is_named() -> None:
    found = carbon.operational(ENERGY, PLAIN)
    assert found.value is None
    assert "assumptions.grid" in found.note
    assert "assumptions.kg_co2e_per_kwh" in found.note
    stated = terms(kg_co2e_per_kwh=0.5)
    assert carbon.operational(missing("no counter"), stated).note == "no counter"
    simulated = msgspec.structs.replace(ENERGY, source="simulated")
    assert carbon.operational(simulated, stated).source == "simulated"


def test_an_hour_of_an_h100_uses_up_33_grams_of_its_making() -> None:
    # NVIDIA's product carbon footprint of the GPU and an eighth of a server, over 26,280 h.
    assert carbon.embodied_kg_per_gpu_hour(H100) == pytest.approx(0.03335, abs=5e-6)


def test_the_sci_is_the_standards_formula_over_a_day_of_the_reserved_fleet() -> None:
    # One replica of one GPU for 86,400 requests a day, each thousand of which takes 2 kWh.
    found = carbon.sci(ENERGY, TEN_RPS, terms(kg_co2e_per_kwh=0.5, embodied=H100))
    energy_kwh, making_kg, functional_units = 2.0 * 86.4, 0.0333524 * 24, 86.4
    assert found.value == pytest.approx((energy_kwh * 0.5 + making_kg) / functional_units, rel=1e-5)
    assert "1 GPU reserved around the clock" in found.note
    assert "E at the measured rate, without idle time of the replicas; M of the whole fleet" in found.note
    spare = carbon.sci(ENERGY, TEN_RPS, terms(kg_co2e_per_kwh=0.5, embodied=H100, spare_replicas=1))
    assert spare.value == pytest.approx((energy_kwh * 0.5 + 2 * making_kg) / functional_units, rel=1e-5)


def test_the_sci_is_missing_with_what_it_lacks() -> None:
    grid = terms(kg_co2e_per_kwh=0.5)
    assert "[assumptions.embodied]" in carbon.sci(ENERGY, TEN_RPS, grid).note
    assert carbon.sci(ENERGY, TEN_RPS, terms(embodied=H100)).note == carbon.NO_INTENSITY
    both = terms(kg_co2e_per_kwh=0.5, embodied=H100)
    assert carbon.sci(missing("no counter"), TEN_RPS, both).note == "no counter"
    assert "throughput is missing: why" in carbon.sci(ENERGY, missing("why"), both).note


def test_a_country_stands_for_its_intensity_with_its_span() -> None:
    assert carbon.intensity(Assumptions(grid="FRA")) == (
        0.044,
        (0.041, 0.056),
        "France, 2024; check: no second source agrees",
    )
    assert carbon.intensity(Assumptions(grid="FRA", kg_co2e_per_kwh_range=(0.01, 0.1)))[1] == (0.01, 0.1)
    assert carbon.intensity(Assumptions(kg_co2e_per_kwh=0.3)) == (0.3, None, None)
    assert carbon.intensity(Assumptions()) == (None, None, None)
    with pytest.raises(ConfigError, match=r"grid = 'fr' is unknown \(did you mean 'FRA'\?\)"):
        carbon.intensity(Assumptions(grid="fr"))


def test_a_day_without_an_intensity_has_no_carbon_but_its_energy() -> None:
    comparison = compare(side("a"), side("b"), PLAIN)
    by_label = {day.label: day for day in comparison.per_day}
    assert by_label["CO2e"].baseline is None
    assert by_label["energy"].baseline == pytest.approx(86.4)
    stated = compare(side("a"), side("b"), terms(kg_co2e_per_kwh=0.5))
    assert {day.label: day for day in stated.per_day}["CO2e"].baseline == pytest.approx(43.2)


def test_the_band_multiplies_both_systems_by_the_same_prices_and_grids() -> None:
    sides = {name: measured(name, system_runs(name, rps=rps)) for name, rps in (("a", 2.0), ("b", 4.0))}
    band = compare(
        sides["a"],
        sides["b"],
        msgspec.structs.replace(ASSUMED, usd_per_gpu_hour_range=(1.8, 7.2), kg_co2e_per_kwh_range=(0.1, 1.0)),
    ).sensitivity
    # ASSUMED's 3.6 USD/h are 0.5 USD per 1,000 requests at 2 requests/s.
    assert band[0] == (
        "cost per 1k, USD: 0.25 to 1 (a) and 0.125 to 0.5 (b) at 1.8 to 7.2 USD per GPU-hour; "
        "the change in % stays."
    )
    assert band[1].startswith("provisioned per 1k, USD: ")
    # 100 W at 1 request/s are 1/36 kWh per 1,000 requests, times the PUE of 1.2.
    assert band[2].startswith("CO2e per 1k, kg: 0.00333 to 0.0333 (a) and 0.00333 to 0.0333 (b) at 0.1 to 1 ")


def test_without_stated_ranges_the_tables_span_the_band() -> None:
    sides = [measured(name, system_runs(name)) for name in ("a", "b")]
    (text,) = compare(sides[0], sides[1], ASSUMED).sensitivity
    assert "(Sweden to India)" in text
    assert compare(sides[0], sides[1], PLAIN).sensitivity == ()
