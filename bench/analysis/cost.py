"""Cost and carbon: what the measured capacity and energy mean in dollars and kg CO2e.

Two costs answer two questions. *Sustained*: what 1,000 requests cost on a replica kept busy at its
capacity. *Provisioned*: what they cost when whole GPUs are rented around the clock for the workload's
daily volume. They can differ severalfold, and an optimization may change only the first.
"""

from __future__ import annotations

import math
from typing import Literal

from bench.analysis.reference import Price, prices
from bench.analysis.system import Assumed, missing
from bench.records import Value
from bench.units import HOUR_S, HOURS_PER_DAY, PER_1K, per_day_to_rps


def resolve_price(gpu_name: str | None, setting: float | Literal["auto"]) -> Value:
    """Return the price of one GPU-hour in USD: the setting, or the dated table's entry for the GPU.

    Missing, with the reason, when the setting is "auto" and there is no GPU or no price for it.
    """
    if setting != "auto":
        return Value(value=float(setting), source="assumed", note=f"{setting:g} USD/h as configured")
    if gpu_name is None:
        return missing("no GPU here and no price configured; set assumptions.usd_per_gpu_hour")
    price = prices().get(gpu_name)
    if price is None:
        return missing(f"no price is known for {gpu_name}; set assumptions.usd_per_gpu_hour")
    return Value(value=price.usd_per_gpu_hour, source="assumed", note=_price_note(price))


def sustained_usd_per_1k(price_usd_per_hour: float, gpus: int, capacity_rps: float) -> float:
    """Return `1000 · price · GPUs ÷ (3600 · capacity)`.

    >>> round(sustained_usd_per_1k(2.50, 1, 12.0), 3)
    0.058
    """
    return PER_1K * price_usd_per_hour * gpus / (HOUR_S * capacity_rps)


def replicas(assumed: Assumed, capacity_rps: float) -> int:
    """Return how many replicas the peak rate needs: `ceil(peak ÷ (capacity · headroom))`."""
    peak_rps = per_day_to_rps(assumed.requests_per_day) * assumed.peak_to_mean
    return math.ceil(peak_rps / (capacity_rps * assumed.headroom))


def provisioned_usd_per_1k(assumed: Assumed, price_usd_per_hour: float, capacity_rps: float) -> float:
    """Return `1000 · replicas · GPUs · price · 24 ÷ requests a day`."""
    per_day_usd = replicas(assumed, capacity_rps) * assumed.gpus * price_usd_per_hour * HOURS_PER_DAY
    return PER_1K * per_day_usd / assumed.requests_per_day


def sustained(capacity: Value, assumed: Assumed) -> Value:
    """Return the sustained cost of 1,000 requests in USD; missing where price or capacity is."""
    price = assumed.usd_per_gpu_hour
    if (lack := _lack(capacity, price)) is not None:
        return lack
    assert capacity.value is not None
    assert price.value is not None
    usd_per_hour = price.value

    def usd(rps: float | None) -> float | None:
        return None if not rps or rps <= 0 else sustained_usd_per_1k(usd_per_hour, assumed.gpus, rps)

    # The highest capacity gives the lowest cost.
    return Value(
        value=usd(capacity.value),
        source=_derived(capacity),
        low=usd(capacity.high),
        high=usd(capacity.low),
        n=capacity.n,
        note=f"{_derived(capacity)}: from throughput and {price.note}; {assumed.gpus} GPU",
    )


def provisioned(capacity: Value, assumed: Assumed) -> Value:
    """Return the cost of 1,000 requests in USD when whole replicas serve the daily volume."""
    price = assumed.usd_per_gpu_hour
    if (lack := _lack(capacity, price)) is not None:
        return lack
    assert capacity.value is not None
    assert price.value is not None
    usd_per_hour = price.value
    count = replicas(assumed, capacity.value)
    note = (
        f"{_derived(capacity)}: {count} replica{'s' if count > 1 else ''} around the clock for "
        f"{assumed.requests_per_day:,.0f} requests a day, peak {assumed.peak_to_mean:g} x mean, "
        f"headroom {assumed.headroom:g}; {price.note}"
    )
    value = provisioned_usd_per_1k(assumed, usd_per_hour, capacity.value)
    return Value(value=value, source=_derived(capacity), note=note)


def carbon(energy: Value, assumed: Assumed) -> Value:
    """Return operational kg CO2e per 1,000 requests: energy · PUE · grid intensity."""
    if energy.value is None:
        return missing(energy.note)
    factor = assumed.pue * assumed.kg_co2e_per_kwh
    return Value(
        value=energy.value * factor,
        source=_derived(energy),
        low=None if energy.low is None else energy.low * factor,
        high=None if energy.high is None else energy.high * factor,
        n=energy.n,
        note=f"{_derived(energy)}: from energy, {assumed.kg_co2e_per_kwh:g} kg CO2e/kWh, PUE {assumed.pue:g}",
    )


def _lack(capacity: Value, price: Value) -> Value | None:
    """Return the missing value that a missing price or capacity leads to."""
    if price.value is None:
        return missing(price.note)
    if capacity.value is None:
        return missing(f"throughput is missing: {capacity.note}")
    if capacity.value <= 0:
        return missing("no request was completed, so there is no cost per request")
    return None


def _derived(base: Value) -> Literal["derived", "simulated", "replayed"]:
    """A figure derived from a simulation is a simulation."""
    if base.source == "simulated":
        return "simulated"
    return "replayed" if base.source == "replayed" else "derived"


def _price_note(price: Price) -> str:
    where = f"{price.provider} {price.region}" if price.region else price.provider
    when = price.date or "undated snapshot"
    return f"{price.usd_per_gpu_hour:g} USD/h ({where}, {when}; {price.source})"
