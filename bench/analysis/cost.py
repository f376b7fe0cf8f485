"""Cost: what the measured capacity means in dollars.

Two costs answer two questions. *Sustained*: what 1,000 requests cost on a replica kept busy at its
capacity. *Provisioned*: what they cost when whole GPUs are rented around the clock for the workload's
daily volume. They differ by the fleet's utilisation, often severalfold, and an optimization may change only
the first: what decides the bill is the number of replicas.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Literal

from bench.analysis.reference import Price, caution, prices
from bench.analysis.system import Assumed, Doubt, SystemRuns, missing
from bench.records import Value
from bench.units import DAY_S, HOUR_S, HOURS_PER_DAY, PER_1K, per_day_to_rps

MAX_PRICE_AGE_DAYS = 90
"""An older price is doubted."""


class Quote(Value, frozen=True, kw_only=True):
    """The price of one GPU-hour in USD with where it is from.

    `looked_up` says that it is the table's, `date` when its source saw it, None where that is unknown;
    `asked` is the [low, high] of what providers ask for this GPU.
    """

    looked_up: bool = False
    date: str | None = None
    asked: tuple[float, float] | None = None

    @property
    def figure(self) -> Value:
        """Return the price alone."""
        return Value(value=self.value, source=self.source, note=self.note)


def resolve_price(gpu_name: str | None, setting: float | Literal["auto"]) -> Quote:
    """Return the price of one GPU-hour in USD: the setting, or the dated table's entry for the GPU.

    Missing, with the reason, when the setting is "auto" and there is no GPU or no price for it.
    """
    price = None if gpu_name is None else prices().get(gpu_name)
    asked = None if price is None or price.low is None or price.high is None else (price.low, price.high)
    if setting != "auto":
        note = f"{setting:g} USD/h as configured"
        return Quote(value=float(setting), source="assumed", note=note, asked=asked)
    if gpu_name is None:
        return _no_price("no GPU here and no price configured; set assumptions.usd_per_gpu_hour")
    if price is None:
        return _no_price(f"no price is known for {gpu_name}; set assumptions.usd_per_gpu_hour")
    return Quote(
        value=price.usd_per_gpu_hour,
        source="assumed",
        note=_price_note(price),
        looked_up=True,
        date=price.date,
        asked=asked,
    )


def old_price(system: SystemRuns, assumed: Assumed) -> Doubt | None:
    """Doubt a looked-up price that nobody dated, or that was old when the system was measured."""
    if not assumed.price_looked_up or assumed.usd_per_gpu_hour.value is None:
        return None
    remedy = "set assumptions.usd_per_gpu_hour to what you pay"
    if assumed.price_date is None:
        text = f"{system.name}: nobody dated the price of {assumed.usd_per_gpu_hour.value:g} USD/h"
        return Doubt(key="undated price", text=text, remedy=remedy)
    measured = next((day for run in system.runs if (day := _day(run.meta.provenance.get("utc")))), None)
    seen = _day(assumed.price_date)
    if measured is None or seen is None or (measured - seen).days <= MAX_PRICE_AGE_DAYS:
        return None
    text = (
        f"{system.name}: the price of {assumed.usd_per_gpu_hour.value:g} USD/h was seen on "
        f"{assumed.price_date}, {(measured - seen).days} days before the run (at most {MAX_PRICE_AGE_DAYS})"
    )
    return Doubt(key="old price", text=text, remedy=remedy)


def sustained_usd_per_1k(price_usd_per_hour: float, gpus: int, capacity_rps: float) -> float:
    """Return `1000 · price · GPUs ÷ (3600 · capacity)`.

    >>> round(sustained_usd_per_1k(2.50, 1, 12.0), 3)
    0.058
    """
    return PER_1K * price_usd_per_hour * gpus / (HOUR_S * capacity_rps)


def replica_count(assumed: Assumed, capacity_rps: float) -> int:
    """Return how many replicas are rented: `max(least, ceil(peak ÷ (capacity · headroom))) + spare`."""
    peak_rps = per_day_to_rps(assumed.requests_per_day) * assumed.peak_to_mean
    needed = math.ceil(peak_rps / (capacity_rps * assumed.headroom))
    return max(assumed.min_replicas, needed) + assumed.spare_replicas


def provisioned_usd_per_1k(assumed: Assumed, price_usd_per_hour: float, capacity_rps: float) -> float:
    """Return `1000 · replicas · GPUs · price · 24 ÷ requests a day`."""
    gpu_hours = replica_count(assumed, capacity_rps) * assumed.gpus * HOURS_PER_DAY
    return PER_1K * gpu_hours * price_usd_per_hour / assumed.requests_per_day


def sustained(capacity: Value, assumed: Assumed) -> Value:
    """Return the sustained cost of 1,000 requests in USD; missing where price or capacity is."""
    price = assumed.usd_per_gpu_hour
    if price.value is None:
        return missing(price.note)
    if (lack := no_capacity(capacity)) is not None:
        return lack
    usd_per_hour = price.value

    def usd(rps: float | None) -> float | None:
        return None if not rps or rps <= 0 else sustained_usd_per_1k(usd_per_hour, assumed.gpus, rps)

    # The highest capacity gives the lowest cost. One that may be zero leaves it without an upper end.
    endless = capacity.low is not None and capacity.low <= 0
    return Value(
        value=usd(capacity.value),
        source=derived(capacity),
        low=None if endless else usd(capacity.high),
        high=None if endless else usd(capacity.low),
        n=capacity.n,
        between_processes=capacity.between_processes,
        unresolved="the interval of the throughput reaches zero" if endless else "",
        note=f"{derived(capacity)}: from throughput and {price.note}; {assumed.gpus} GPU",
    )


def provisioned(capacity: Value, assumed: Assumed) -> Value:
    """Return the cost of 1,000 requests in USD when whole replicas serve the daily volume."""
    price = assumed.usd_per_gpu_hour
    if price.value is None:
        return missing(price.note)
    if (lack := no_capacity(capacity)) is not None:
        return lack
    assert capacity.value is not None
    count = replica_count(assumed, capacity.value)
    note = (
        f"{derived(capacity)}: {count} replica{'s' if count > 1 else ''} around the clock for "
        f"{_demand(assumed)}; {price.note}"
    )
    value = provisioned_usd_per_1k(assumed, price.value, capacity.value)
    return Value(value=value, source=derived(capacity), note=note)


def replicas(capacity: Value, assumed: Assumed) -> Value:
    """Return how many replicas serve the daily volume."""
    if (lack := no_capacity(capacity)) is not None:
        return lack
    assert capacity.value is not None
    count = float(replica_count(assumed, capacity.value))
    return Value(value=count, source=derived(capacity), note=f"{derived(capacity)}: for {_demand(assumed)}")


def fleet_utilisation(capacity: Value, assumed: Assumed) -> Value:
    """Return the mean rate's share of all replicas' capacity: sustained over provisioned cost."""
    if (lack := no_capacity(capacity)) is not None:
        return lack
    assert capacity.value is not None
    count = replica_count(assumed, capacity.value)
    share = assumed.requests_per_day / DAY_S / (count * capacity.value)
    note = f"{derived(capacity)}: mean rate / ({count} x throughput), for {_demand(assumed)}"
    return Value(value=share, source=derived(capacity), note=note)


def no_capacity(capacity: Value) -> Value | None:
    """Return the missing value that a missing capacity leads to, None where there is one."""
    if capacity.value is None:
        return missing(f"throughput is missing: {capacity.note}")
    if capacity.value <= 0:
        return missing("no request was completed, so there is no cost per request")
    return None


def derived(base: Value) -> Literal["derived", "simulated", "replayed"]:
    """A figure derived from a simulation is a simulation."""
    if base.source == "simulated":
        return "simulated"
    return "replayed" if base.source == "replayed" else "derived"


def _demand(assumed: Assumed) -> str:
    least = f", at least {assumed.min_replicas}" if assumed.min_replicas > 1 else ""
    spare = f", {assumed.spare_replicas} spare" if assumed.spare_replicas else ""
    return (
        f"{assumed.requests_per_day:,.0f} requests a day, peak {assumed.peak_to_mean:g} x mean, "
        f"headroom {assumed.headroom:g}{least}{spare}"
    )


def _no_price(why: str) -> Quote:
    return Quote(value=None, source="missing", note=why)


def _price_note(price: Price) -> str:
    where = f"{price.provider} {price.region}" if price.region else price.provider
    when = price.date or "undated snapshot"
    return f"{price.usd_per_gpu_hour:g} USD/h ({where}, {when}; {price.source}{caution(price.confidence)})"


def _day(written: str | None) -> dt.date | None:
    """Return the day that a date, a month (its first day) or a time stamp names; None where there is none."""
    if not written:
        return None
    try:
        return dt.date.fromisoformat(written[:10] if len(written) >= 10 else f"{written}-01")
    except ValueError:
        return None
