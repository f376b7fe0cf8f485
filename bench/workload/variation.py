"""How bursty arrivals are, as realised: an average rate says nothing of it, and queues live on it.

The gaps' coefficient of variation (CV) looks at neighbours: 0 is a metronome, 1 Poisson. The index of
dispersion looks at counts in bins far wider than a gap: 1 is Poisson at any width, 0 a steady rate. A rate
that comes and goes slowly raises it and hardly changes the CV.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_MIN_BINS = 5


def describe(times_s: Sequence[float] | np.ndarray, bin_s: float | None = None) -> dict[str, Any]:
    """Return `n`, `rate_rps`, `gap_cv`, `dispersion` and its `bin_s` of ascending times, in seconds.

    The rate is that of the gaps, between the first time and the last. Dispersion is the variance over the
    mean of the counts in whole bins of `bin_s`; by default the square root of `n` bins of as many arrivals.
    What so few times do not tell is None, with the reason as `why`.
    """
    times = np.asarray(times_s, dtype=float)
    n = len(times)
    span_s = float(times[-1] - times[0]) if n else 0.0
    unknown = {"n": n, "rate_rps": None, "gap_cv": None, "dispersion": None, "bin_s": None}
    if span_s <= 0:
        return unknown | {"why": "fewer than two different times"}
    gaps_s = np.diff(times)
    facts = unknown | {"rate_rps": (n - 1) / span_s, "gap_cv": float(gaps_s.std() / gaps_s.mean())}
    bins = math.isqrt(n) if bin_s is None else int(span_s / bin_s)
    width_s = span_s / bins if bin_s is None else bin_s
    if bins < _MIN_BINS:
        return facts | {"why": f"counts in {bins} bin(s) show no dispersion; {_MIN_BINS} are needed"}
    counts, _ = np.histogram(times - times[0], bins=bins, range=(0.0, bins * width_s))
    return facts | {"dispersion": float(counts.var(ddof=1) / counts.mean()), "bin_s": width_s}
