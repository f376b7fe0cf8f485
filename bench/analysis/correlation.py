"""How many independent observations a sequence is worth, whose neighbours share their fate.

Requests that wait in one queue wait together, so n latencies know less than n independent ones. The mean of n
values of one variance scatters as that of n / τ, with τ = 1 + 2 Σ ρ_k the integrated autocorrelation time;
n / τ is the *effective sample size*. Of an estimated autocorrelation only the first part is signal: it is
summed as Geyer's initial monotone sequence (Practical Markov Chain Monte Carlo, Statistical Science 7, 1992).
A window that is short against τ cannot show τ, so it is an upper bound of what the sequence is worth.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bench.analysis.stats import Array

SEGMENT = 65_536
"""Longer sequences are looked at in pieces of this length, whose effective sizes add up."""

ROUNDING = 1e-9
"""Values that differ by a smaller share are alike."""


class Correlation(msgspec.Struct, frozen=True, kw_only=True):
    """What `n` consecutive values are worth: `effective` independent ones.

    `lag1` is the correlation of neighbours, None where all values are alike or there are fewer than three.
    """

    n: int
    effective: float
    lag1: float | None


def correlation(values: Array) -> Correlation:
    """Return what a sequence is worth; infinite values count as the largest finite one."""
    finite = np.isfinite(values)
    if not finite.any():
        return Correlation(n=len(values), effective=float(len(values)), lag1=None)
    known = np.where(finite, values, values[finite].max())
    pieces = max(1, math.ceil(len(known) / SEGMENT))
    return together([_of_piece(piece) for piece in np.array_split(known, pieces)])


def together(parts: list[Correlation]) -> Correlation:
    """Return what independent sequences are worth together; the lag-1 correlation is their mean by length."""
    known = [(part.n, part.lag1) for part in parts if part.lag1 is not None]
    total = sum(n for n, _ in known)
    return Correlation(
        n=sum(part.n for part in parts),
        effective=math.fsum(part.effective for part in parts),
        lag1=math.fsum(n * lag1 for n, lag1 in known) / total if total else None,
    )


def _of_piece(values: Array) -> Correlation:
    n = len(values)
    rho = _autocorrelation(values)
    if rho is None:
        return Correlation(n=n, effective=float(n), lag1=None)
    pairs = rho[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0.0)
    signal = pairs[: ends[0]] if len(ends) else pairs
    time = 2.0 * float(np.minimum.accumulate(signal).sum()) - 1.0
    return Correlation(n=n, effective=n / max(1.0, time), lag1=float(rho[1]))


def _autocorrelation(values: Array) -> Array | None:
    """Return the autocorrelation at every lag, by the fast Fourier transform; None where nothing varies."""
    n = len(values)
    if n < 3 or np.ptp(values) <= ROUNDING * np.abs(values).max():
        return None
    away = values - values.mean()
    padded = 1 << (2 * n - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(away, padded)) ** 2
    products: Array = np.fft.irfft(spectrum, padded)[:n]
    scaled: Array = products / products[0]
    return scaled
