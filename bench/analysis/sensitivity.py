"""How far the figures in dollars and CO2e depend on what is assumed: a price, a grid.

Cost is proportional to the price and operational carbon to the grid's intensity, so a band multiplies both
systems alike and the change in percent stays; that is said where it holds. The ends of a band are those that
the experiment states, else what the tables span: for a price, what providers ask for the same GPU; for an
intensity, the compilations of the stated country, else the cleanest and the dirtiest country.
"""

from __future__ import annotations

from bench.analysis.carbon import kg_per_kwh
from bench.analysis.comparison import Comparison
from bench.analysis.numbers import shown
from bench.analysis.reference import grids
from bench.analysis.system import Assumed

COSTS = ("cost_per_1k_requests_usd", "cost_provisioned_per_1k_requests_usd")
ENERGY = "estimated_energy_kwh_per_1k_requests"


def bands(comparison: Comparison, assumed: Assumed) -> tuple[str, ...]:
    """Return one sentence per figure and day's total that depends on a price or an intensity."""
    found = [_cost(comparison, assumed, name) for name in COSTS]
    return tuple(text for text in [*found, _carbon(comparison, assumed)] if text)


def _cost(comparison: Comparison, assumed: Assumed, name: str) -> str:
    price, span = assumed.usd_per_gpu_hour.value, assumed.usd_per_gpu_hour_range
    row = comparison.row(name)
    if price is None or span is None or row.baseline.value is None or row.optimized.value is None:
        return ""
    low, high = (end / price for end in span)
    sides = _sides(comparison, row.baseline.value, row.optimized.value, low, high)
    return f"{row.title}: {sides} at {span[0]:g} to {span[1]:g} USD per GPU-hour; the change in % stays."


def _carbon(comparison: Comparison, assumed: Assumed) -> str:
    row = comparison.row(ENERGY)
    if assumed.kg_co2e_per_kwh is None or row.baseline.value is None or row.optimized.value is None:
        return ""
    (low, high), where = intensities(assumed)
    at_low, at_high = (kg_per_kwh(assumed, end) for end in (low, high))
    sides = _sides(comparison, row.baseline.value, row.optimized.value, at_low, at_high)
    return f"CO2e per 1k, kg: {sides} at {low:g} to {high:g} kg CO2e/kWh ({where}); the change in % stays."


def intensities(assumed: Assumed) -> tuple[tuple[float, float], str]:
    """Return the band's ends and what they are."""
    if assumed.kg_co2e_per_kwh_range is not None:
        return assumed.kg_co2e_per_kwh_range, assumed.grid or "as configured"
    ordered = sorted(grids().values(), key=lambda grid: grid.kg_co2e_per_kwh)
    low, high = ordered[0], ordered[-1]
    return (low.kg_co2e_per_kwh, high.kg_co2e_per_kwh), f"{low.name} to {high.name}"


def _sides(comparison: Comparison, one: float, two: float, low: float, high: float) -> str:
    """Return both systems' figures at both ends, their names where they differ."""
    return " and ".join(
        f"{shown(value * low, 3)} to {shown(value * high, 3)} ({name})"
        for name, value in ((comparison.baseline.name, one), (comparison.optimized.name, two))
    )
