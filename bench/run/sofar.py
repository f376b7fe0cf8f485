"""Percentiles of latencies so far, for watching: what they cost does not grow with the run.

Latencies are counted in logarithmic bins of 1 %, so a percentile is right to half of that, however many there
are. No result is made of these figures: those come from the recorded requests, and exactly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

BIN = 1.01
"""The ratio of a bin's ends."""
_LEAST_S = 1e-5
_MOST_S = 1e6
_BINS = math.ceil(math.log(_MOST_S / _LEAST_S) / math.log(BIN)) + 1
RECENT_S = 10.0
"""A rate is that of so many seconds."""


class Histogram:
    """Counts latencies, in seconds, from 10 µs on."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, dtype=np.int64)
        self.n = 0

    def add(self, values_s: Sequence[float]) -> None:
        """Count `values_s`."""
        if not values_s:
            return
        ratios = np.clip(np.array(values_s) / _LEAST_S, 1.0, _MOST_S / _LEAST_S)
        bins = (np.log(ratios) / math.log(BIN)).astype(np.int64)
        self._counts += np.bincount(bins, minlength=_BINS)
        self.n += len(values_s)

    def percentiles_s(self, *shares: float) -> list[float | None]:
        """Return the smallest latency that each share of the requests is within; None before there is one."""
        if not self.n:
            return [None] * len(shares)
        below = np.cumsum(self._counts)
        bins = np.searchsorted(below, [max(share * self.n, 1.0) for share in shares])
        return [float(_LEAST_S * BIN ** (at + 0.5)) for at in bins]


class Recent:
    """The rate at which a count has grown over the last seconds, from looks at it.

    It is taken from growth to growth, as what comes in batches has not stopped between them; only where the
    next growth takes longer than the last one did, the wait counts, too.
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def per_s(self, now_s: float, count: int) -> float | None:
        """Return the rate; None before the count has grown."""
        looks = self._looks
        if not looks or count != looks[-1][1]:
            looks.append((now_s, count))
        if len(looks) == 1:
            return None
        while len(looks) > 2 and looks[1][0] <= now_s - RECENT_S:
            looks.popleft()
        (then_s, before), (last_s, _) = looks[0], looks[-1]
        took_s = last_s - looks[-2][0]
        until_s = last_s if now_s - last_s <= took_s else now_s
        return (count - before) / (until_s - then_s) if until_s > then_s else None
