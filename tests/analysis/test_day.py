"""A day's energy has the fleet's idle power in it where that was measured, and says so where it was not."""

from __future__ import annotations

import msgspec
import pytest

from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison, PerDay
from bench.analysis.day import AT_MEASURED_RATE, WITH_IDLE
from bench.config import Embodied
from tests.analysis.sides import side
from tests.recorded import ASSUMED

GROSS, NET = "estimated_energy_kwh_per_1k_requests", "net_energy_kwh_per_1k_requests"
ONE: dict[str, float | None] = {GROSS: 0.030, NET: 0.020, "idle_resident_w": 100.0, "replicas": 1.0}
TWO: dict[str, float | None] = {GROSS: 0.024, NET: 0.016, "idle_resident_w": 80.0, "replicas": 3.0}


def days(one: dict[str, float | None], two: dict[str, float | None]) -> dict[str, PerDay]:
    return {day.label: day for day in against(one, two).per_day}


def against(one: dict[str, float | None], two: dict[str, float | None]) -> Comparison:
    return compare(side("a", one), side("b", two), ASSUMED)


def test_a_days_energy_is_the_requests_net_energy_and_the_idle_power_of_all_replicas() -> None:
    found = days(ONE, TWO)
    # 86.4 thousand requests; 100 W and 3 x 80 W around the clock.
    one, two = 0.020 * 86.4 + 2.4, 0.016 * 86.4 + 5.76
    assert (found["energy"].baseline, found["energy"].optimized) == pytest.approx((one, two))
    assert found["energy"].saved == pytest.approx(one - two)
    assert (found["CO2e"].baseline, found["CO2e"].optimized) == pytest.approx((one * 0.6, two * 0.6))
    assert found["energy"].note == found["CO2e"].note == WITH_IDLE


@pytest.mark.parametrize("lacking", [NET, "idle_resident_w", "replicas"])
def test_where_one_side_lacks_a_term_both_are_gross_and_say_what_is_left_out(lacking: str) -> None:
    found = days(ONE, TWO | {lacking: None})
    assert (found["energy"].baseline, found["energy"].optimized) == pytest.approx((0.03 * 86.4, 0.024 * 86.4))
    assert found["energy"].note == found["CO2e"].note == AT_MEASURED_RATE
    assert "idle time of the replicas is not in it" in AT_MEASURED_RATE


def test_a_side_without_any_energy_leaves_the_other_as_it_is() -> None:
    found = days(ONE, TWO | {GROSS: None, NET: None})
    assert found["energy"].baseline == pytest.approx(0.020 * 86.4 + 2.4)
    assert found["energy"].optimized is None
    assert found["energy"].saved is None


def test_what_is_said_of_the_grids_follows_the_day_and_not_the_request() -> None:
    """A request takes less energy, but three replicas wait instead of one."""
    (text,) = (text for text in against(ONE, TWO).findings if text.startswith("CO2e"))
    assert "CO2e depends on the grid: adds" in text


def test_the_sci_of_a_day_says_of_what_moment_its_terms_are() -> None:
    stated = msgspec.structs.replace(ASSUMED, embodied=Embodied(kg_co2e_per_gpu=800.0, life_years=4.0))
    sides = [side(name, {"sci_kg_per_1k_requests": 0.02}) for name in ("a", "b")]
    (sci,) = (day for day in compare(sides[0], sides[1], stated).per_day if day.label == "SCI")
    assert sci.baseline == pytest.approx(0.02 * 86.4)
    assert "E at the measured rate" in sci.note
