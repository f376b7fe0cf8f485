"""Carbon: what the measured energy means in kg CO2e, and what making the hardware adds.

*Operational* is energy times the grid's intensity where the machine stands (location-based, no offsets),
times the building's overhead (PUE) where that is stated; else it is that of the measured devices alone, and
says so. *SCI* (Software Carbon Intensity, ISO/IEC 21031:2024) is `(E · I + M) / R`: the same with the share
of the hardware's making that the reserved time uses up, per 1,000 requests here. Nothing is guessed: without
an intensity there is no carbon, without a figure for the making no SCI.
"""

from __future__ import annotations

from bench.analysis.cost import derived, no_capacity, replica_count
from bench.analysis.reference import caution, grid_of
from bench.analysis.system import Assumed, missing
from bench.config import Assumptions, Embodied
from bench.records import Value
from bench.units import HOURS_PER_DAY, PER_1K

DAYS_PER_YEAR = 365.0
NO_INTENSITY = (
    "no grid intensity is stated; set assumptions.grid to a country of bench/data/grid.toml, "
    "or assumptions.kg_co2e_per_kwh"
)
NO_EMBODIED = (
    "no embodied carbon is stated; set [assumptions.embodied] kg_co2e_per_gpu (the GPU and its share of the "
    "server) and life_years"
)
SCI_OF = "E at the measured rate, without idle time of the replicas; M of the whole fleet"
"""What stands in the note of every SCI: the two terms are not of the same moment."""


def intensity(
    assumptions: Assumptions,
) -> tuple[float | None, tuple[float, float] | None, str | None]:
    """Return the intensity in kg CO2e/kWh, its [low, high] and where it is from, None where not stated.

    Raises ConfigError for an unknown country.
    """
    stated = assumptions.kg_co2e_per_kwh_range
    if assumptions.grid is None:
        return assumptions.kg_co2e_per_kwh, stated, None
    grid = grid_of(assumptions.grid)
    where = f"{grid.name}, {grid.date}{caution(grid.confidence)}"
    return grid.kg_co2e_per_kwh, stated or (grid.low, grid.high), where


def operational(energy: Value, assumed: Assumed) -> Value:
    """Return operational kg CO2e per 1,000 requests from their energy in kWh."""
    if assumed.kg_co2e_per_kwh is None:
        return missing(NO_INTENSITY)
    if energy.value is None:
        return missing(energy.note)
    factor = kg_per_kwh(assumed, assumed.kg_co2e_per_kwh)
    return Value(
        value=energy.value * factor,
        source=derived(energy),
        low=None if energy.low is None else energy.low * factor,
        high=None if energy.high is None else energy.high * factor,
        n=energy.n,
        note=f"{derived(energy)}: from energy, {in_words(assumed)}",
    )


def sci(energy: Value, capacity: Value, assumed: Assumed) -> Value:
    """Return the SCI in kg CO2e per 1,000 requests: operational, and the making of the GPUs reserved.

    The GPUs reserved are those of the provisioned replicas, around the clock; the energy is that at the
    measured rate.
    """
    running = operational(energy, assumed)
    if running.value is None:
        return running
    if assumed.embodied is None:
        return missing(NO_EMBODIED)
    if (lack := no_capacity(capacity)) is not None:
        return lack
    assert capacity.value is not None
    gpus = replica_count(assumed, capacity.value) * assumed.gpus
    making = embodied_kg_per_1k(assumed.embodied, gpus, assumed.requests_per_day)
    note = (
        f"{running.note}; and {making:.3g} kg for the making of {gpus} GPU reserved around the clock "
        f"({assumed.embodied.kg_co2e_per_gpu:g} kg each over {assumed.embodied.life_years:g} years); {SCI_OF}"
    )
    return Value(
        value=running.value + making,
        source=running.source,
        low=None if running.low is None else running.low + making,
        high=None if running.high is None else running.high + making,
        n=running.n,
        note=note,
    )


def embodied_kg_per_gpu_hour(embodied: Embodied) -> float:
    """Return what one hour of a GPU uses up of its making, in kg CO2e.

    >>> round(embodied_kg_per_gpu_hour(Embodied(kg_co2e_per_gpu=164 + 5700 / 8, life_years=3)), 4)
    0.0334
    """
    return embodied.kg_co2e_per_gpu / (embodied.life_years * DAYS_PER_YEAR * HOURS_PER_DAY)


def embodied_kg_per_1k(embodied: Embodied, gpus: int, requests_per_day: float) -> float:
    """Return the making's share per 1,000 requests when `gpus` are reserved around the clock."""
    return PER_1K * embodied_kg_per_gpu_hour(embodied) * gpus * HOURS_PER_DAY / requests_per_day


def kg_per_kwh(assumed: Assumed, kg_co2e_per_kwh: float) -> float:
    """Return kg CO2e per measured kWh at a grid's intensity: times the PUE where one is stated."""
    return kg_co2e_per_kwh * (1.0 if assumed.pue is None else assumed.pue)


def in_words(assumed: Assumed) -> str:
    """Return the terms that carbon is computed by."""
    where = f" ({assumed.grid})" if assumed.grid else ""
    pue = "IT energy only (no PUE stated)" if assumed.pue is None else f"PUE {assumed.pue:g}"
    return f"{assumed.kg_co2e_per_kwh:g} kg CO2e/kWh{where}, {pue}"
