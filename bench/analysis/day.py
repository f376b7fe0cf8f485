"""A day at the workload's volume: cost, energy, carbon of both systems.

The measured joules hold at the measured rate. A fleet also draws power while it waits: where the net energy
of the requests and the idle power of a replica are known of both systems, a day's energy is

    net kWh per 1,000 · requests / 1,000 + idle power of a replica · replicas · 24 h

(the idle power is that of all GPUs of a replica, its model resident). Else it is the gross energy times the
requests, and says what it leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.analysis import carbon
from bench.analysis.comparison import PerDay, Row
from bench.analysis.system import Assumed
from bench.records import Value
from bench.units import HOURS_PER_DAY, PER_1K, W_PER_KW

ENERGY = "estimated_energy_kwh_per_1k_requests"
AT_MEASURED_RATE = "at the measured rate; idle time of the replicas is not in it"
WITH_IDLE = "net energy of the requests + idle power of all replicas around the clock"

Pair = tuple[float | None, float | None]


def per_day(rows: Mapping[str, Row], assumed: Assumed) -> tuple[PerDay, ...]:
    """Return cost, energy and carbon of a day at the workload's volume."""
    thousands = assumed.requests_per_day / PER_1K
    kwh, note = _kwh(rows, thousands)
    stated = assumed.kg_co2e_per_kwh
    kg = (None, None) if stated is None else _times(kwh, carbon.kg_per_kwh(assumed, stated))
    sci_kg = _times(_pair(rows, "sci_kg_per_1k_requests"), thousands)
    cost = _times(_pair(rows, "cost_per_1k_requests_usd"), thousands)
    provisioned = _times(_pair(rows, "cost_provisioned_per_1k_requests_usd"), thousands)
    return (
        _day("cost, sustained", "USD", cost),
        _day("cost, provisioned", "USD", provisioned),
        _day("energy", "kWh", kwh, note),
        _day("CO2e", "kg", kg, note),
        *([] if sci_kg == (None, None) else [_day("SCI", "kg", sci_kg, carbon.SCI_OF)]),
    )


def _kwh(rows: Mapping[str, Row], thousands: float) -> tuple[Pair, str]:
    """Return the energy of a day in kWh, and what it holds: the same for both systems."""
    gross = _times(_pair(rows, ENERGY), thousands)
    one, two = (_fleet_kwh(rows, side, thousands) for side in ("baseline", "optimized"))
    lacks = any(g is not None and fleet is None for g, fleet in zip(gross, (one, two), strict=True))
    return (gross, AT_MEASURED_RATE) if lacks or gross == (None, None) else ((one, two), WITH_IDLE)


def _fleet_kwh(rows: Mapping[str, Row], side: str, thousands: float) -> float | None:
    found = [
        _value(rows, name, side) for name in ("net_energy_kwh_per_1k_requests", "idle_resident_w", "replicas")
    ]
    net_kwh, idle_w, count = found
    if net_kwh is None or idle_w is None or count is None:
        return None
    return net_kwh * thousands + idle_w * count * HOURS_PER_DAY / W_PER_KW


def _value(rows: Mapping[str, Row], name: str, side: str) -> float | None:
    if name not in rows:
        return None
    value: Value = getattr(rows[name], side)
    return value.value


def _pair(rows: Mapping[str, Row], name: str) -> Pair:
    return _value(rows, name, "baseline"), _value(rows, name, "optimized")


def _times(pair: Pair, factor: float) -> Pair:
    one, two = pair
    return None if one is None else one * factor, None if two is None else two * factor


def _day(label: str, unit: str, pair: Pair, note: str = "") -> PerDay:
    one, two = pair
    saved = None if one is None or two is None else one - two
    return PerDay(label=label, unit=unit, baseline=one, optimized=two, saved=saved, note=note)
