"""Is it steady yet, is it still, and will it ever be? Tests for the warm-up, the window and the queue.

A system is *warm* when its latencies no longer drift, not after so and so many requests. A window that drifts
has no figure but a slope. And where more arrives than leaves, the number of requests in the system grows in
a straight line for as long as one cares to look: that is seen long before the window has passed.
"""

from __future__ import annotations

import math

import numpy as np

from bench.analysis.recorded import scored
from bench.analysis.stats import Array
from bench.analysis.system import SystemRuns
from bench.analysis.trend import Trend, trend
from bench.records import Run
from bench.units import PERCENT

MATERIAL_DRIFT = 0.05
"""A drift below this share is none, however sure …"""
CHANCE = 0.05
"""… and one that chance would bring as often as this is none, however large."""
MIN_ENDED = 30
"""Requests that must have ended before the warm-up can be told to be over."""
WARM_BLOCKS = (5, 10)
DRIFT_BLOCKS = (8, 20)
"""The fewest and the most blocks that a trend is looked for in."""
MIN_BLOCK = 10
"""Requests of a block of the window."""
GROWING = 0.1
"""The queue is growing if its slope is above this share of the rate …"""
SURPRISE = 3.5
"""… and its growth above this many standard deviations of what arrives by chance …"""
MIN_ARRIVED = 20
"""… among at least so many requests …"""
FILL = 2.0
"""… of which none came before the system could be full: so many times the longest service."""
MIN_LOOKS = 8


def converged(ended_s: Array, latency_s: Array) -> bool:
    """Say whether the latencies of what has ended so far no longer drift: the warm-up is over.

    Only the later half counts, so that a slow start is forgotten in time. Blocks of it in the order of their
    ends must show no trend that is both material and more than chance, neither in their median latency nor
    in the time that they took.
    """
    if len(ended_s) < MIN_ENDED:
        return False
    order = np.argsort(ended_s, kind="stable")
    ended_s, latency_s = ended_s[order], latency_s[order]
    half = int(np.searchsorted(ended_s, (ended_s[0] + ended_s[-1]) / 2.0))
    fewest, most = WARM_BLOCKS
    blocks = min(most, (len(ended_s) - half) // 3)
    if blocks < fewest:
        return False
    parts = np.array_split(np.arange(half, len(ended_s)), blocks)
    medians = np.array([np.median(latency_s[part]) for part in parts])
    spans_s = np.array([(ended_s[part[-1]] - ended_s[max(part[0] - 1, 0)]) / len(part) for part in parts])
    return not (_drifts(trend(medians), CHANCE) or _drifts(trend(spans_s), CHANCE))


def saturating(
    t_s: Array, in_flight: Array, *, rate_rps: float, service_s: float | None, dispersion: float = 1.0
) -> str | None:
    """Return why a system will never carry `rate_rps`; None while it may.

    `in_flight` requests were in the system at the times `t_s`. `service_s` is the longest time that an
    answered request has spent in the engine so far (None: none was answered): until the system has filled,
    its content grows whatever it can carry. `dispersion` is the variance of the arrivals' count over its
    mean, 1 for Poisson traffic.

    The slope is that of a straight line through the later half of the samples. It must be a material share
    of the rate, and the growth more than a system in balance, whose content is then a random walk, would
    show by chance, and more than the largest drop so far: batches that end together make a saw.
    """
    if service_s is None or len(t_s) < MIN_LOOKS:
        return None
    begin_s = max((t_s[0] + t_s[-1]) / 2.0, t_s[0] + FILL * service_s)
    later = t_s >= begin_s
    span_s = float(t_s[-1] - begin_s)
    arrived = rate_rps * span_s
    if np.count_nonzero(later) < MIN_LOOKS or arrived < MIN_ARRIVED:
        return None
    apart_s = t_s[later] - t_s[later].mean()
    slope = float(apart_s @ in_flight[later]) / float(apart_s @ apart_s)
    swing = max(float(-np.diff(in_flight).min()), 0.0)
    chance = SURPRISE * math.sqrt(dispersion * arrived) + swing
    if slope <= GROWING * rate_rps or slope * span_s <= chance:
        return None
    return (
        f"the queue grows by {slope:.3g} requests/s at {rate_rps:.3g} requests/s offered: "
        f"the system answers {rate_rps - slope:.3g}/s at most"
    )


def drift(run: Run) -> Trend | None:
    """Return the trend of the window's median latency over blocks in due order; None with too few requests.

    A request that failed is infinitely slow; blocks that mostly failed leave nothing to measure a drift by.
    """
    latency_s = scored(run).latency_s
    fewest, most = DRIFT_BLOCKS
    blocks = min(most, len(latency_s) // MIN_BLOCK)
    if blocks < fewest:
        return None
    medians = np.array([np.median(part) for part in np.array_split(latency_s, blocks)])
    return trend(medians) if np.isfinite(medians).all() else None


def drifting(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt latencies of windows that are not steady: their figures depend on when one looked.

    With several repeats chance has several tries, and must be as much rarer in each.
    """
    trends = [found for run in system.measured if (found := drift(run)) is not None]
    seen = [found for found in trends if _drifts(found, CHANCE / len(trends))]
    if not seen:
        return None
    worst = max(seen, key=lambda found: abs(found.relative))
    text = (
        f"median latency drifts by {worst.relative * PERCENT:+.0f} % through the window in {len(seen)} of "
        f"{len(system.measured)} repeats (p = {worst.p:.2g})"
    )
    return text, "lengthen protocol.warmup_s; look for throttling, a growing cache or a growing queue"


def cold(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt windows that began although latencies had not converged when the warm-up had to end."""
    told = [run.meta.facts.get("warmup", {}) for run in system.measured]
    late = [warm for warm in told if warm.get("converged") is False and warm.get("took_s", 0.0) > 0]
    if not late:
        return None
    took_s = max(warm["took_s"] for warm in late)
    text = (
        f"latencies had not converged after {took_s:.3g} s of warm-up in {len(late)} of {len(told)} repeats"
    )
    return text, "raise protocol.max_warmup_s, or lower the load"


def _drifts(found: Trend, chance: float) -> bool:
    return found.p < chance and abs(found.relative) >= MATERIAL_DRIFT
