"""Identities that any pair of figures must obey, whoever reports it.

Cost, energy and throughput are tied together: `USD/h = 3.6 · USD per 1k · requests/s` is what the
hardware would have to cost, `kW = 3.6 · kWh per 1k · requests/s` what it would have to draw. Figures
that imply more than any GPU costs or draws do not belong together. Percentiles must be in order.
"""

from __future__ import annotations

import math

from bench.analysis.numbers import shown
from bench.analysis.reference import gpus, prices
from bench.analysis.system import Assumed, Doubt, MetricSet
from bench.records import Value
from bench.units import HOUR_S, PER_1K, W_PER_KW

PRICE_SPREAD = 3.0
"""One GPU's price differs about 2.5-fold between providers; beyond this it is no price of one GPU."""
POWER_SPREAD = 1.2
"""A board's power limit can be raised a little above its data sheet."""
ORDERED = (
    ("p50_latency_ms", "p90_latency_ms"),
    ("p90_latency_ms", "p95_latency_ms"),
    ("p50_latency_ms", "p95_latency_ms"),
    ("p95_latency_ms", "p99_latency_ms"),
    ("ttft_p50_ms", "ttft_p95_ms"),
    ("ttft_p50_ms", "p50_latency_ms"),
    ("average_memory_gb", "peak_memory_gb"),
)
"""Pairs of metrics of which the first can never exceed the second."""
ROUNDING = 1e-9
"""A mean of equal samples may exceed their maximum by the last bits; that is no contradiction."""


def broken_identities(metrics: MetricSet, assumed: Assumed) -> list[Doubt]:
    """Return a doubt, with the implied figure, for every identity that the metrics break."""
    found = [implied_price(metrics, assumed), implied_power(metrics, assumed)]
    return [doubt for doubt in found if doubt is not None] + _disordered(metrics)


def implied_usd_per_hour(usd_per_1k: float, rps: float) -> float:
    """Return what an hour of the hardware must cost: `3.6 · USD per 1k · requests/s`."""
    return usd_per_1k * rps * HOUR_S / PER_1K


def implied_kw(kwh_per_1k: float, rps: float) -> float:
    """Return the power that the hardware must draw: `3.6 · kWh per 1k · requests/s`."""
    return kwh_per_1k * rps * HOUR_S / PER_1K


def implied_price(metrics: MetricSet, assumed: Assumed) -> Doubt | None:
    """Doubt a cost that implies a dearer hour than any GPU's."""
    usd, rps = _number(metrics, "cost_per_1k_requests_usd"), _number(metrics, "throughput_requests_per_sec")
    if usd is None or rps is None:
        return None
    hour = implied_usd_per_hour(usd, rps)
    # A price that the user configured is known, too.
    known = [price.usd_per_gpu_hour for price in prices().values()] + [assumed.usd_per_gpu_hour.value or 0.0]
    dearest = max(known)
    if hour <= dearest * assumed.gpus * PRICE_SPREAD:
        return None
    return Doubt(
        key="implied price",
        text=(
            f"{metrics.name}: {usd:g} USD per 1k at {rps:g} requests/s is {shown(hour)} USD an hour; "
            f"the dearest GPU known here costs {dearest:g}: cost and throughput do not belong together"
        ),
        remedy="derive cost from price and measured throughput: 1000 * USD/h / (3600 * requests/s)",
    )


def implied_power(metrics: MetricSet, assumed: Assumed) -> Doubt | None:
    """Doubt an energy that implies more power than any GPU draws.

    Energy goes with the rate at which it was metered: the completed rate where it is known.
    """
    kwh = _number(metrics, "estimated_energy_kwh_per_1k_requests")
    rps = _number(metrics, "completed_requests_per_sec") or _number(metrics, "throughput_requests_per_sec")
    if kwh is None or rps is None:
        return None
    kw = implied_kw(kwh, rps)
    tdp_w = max(gpu.tdp_w for gpu in gpus().values() if gpu.tdp_w is not None)
    if kw <= tdp_w / W_PER_KW * assumed.gpus * POWER_SPREAD:
        return None
    return Doubt(
        key="implied power",
        text=(
            f"{metrics.name}: {kwh:g} kWh per 1k at {rps:g} requests/s is {shown(kw, 3)} kW; the hungriest "
            f"GPU known here draws {tdp_w / W_PER_KW:g} kW: energy and throughput do not belong together"
        ),
        remedy="meter joules and count the requests in the same window",
    )


def _disordered(metrics: MetricSet) -> list[Doubt]:
    doubts = []
    for lower, upper in ORDERED:
        small, large = _number(metrics, lower), _number(metrics, upper)
        if small is None or large is None or small <= large:
            continue
        if not math.isclose(small, large, rel_tol=ROUNDING):
            text = f"{metrics.name}: {lower} ({small:g}) exceeds {upper} ({large:g}), which cannot be"
            doubts.append(Doubt(key="order", text=text, remedy="check which figure stands in which row"))
    return doubts


def _number(metrics: MetricSet, name: str) -> float | None:
    value: Value | None = metrics.values.get(name)
    return None if value is None else value.value
