"""When requests are due: laws of arrival times, drawn before the run.

Every law puts exactly `n` times into the `n / rate_rps` seconds from 0, so the realised mean rate is
the asked one by construction, and two systems at "the same rate" are offered the same number of
requests. (A plain Poisson draw of 1,000 requests misses its rate by ±3 %; that noise would be booked
on the system under test.) Steady traffic then measures service, the others queueing as well, the more
the burstier they are. A law's CV is that of its gaps: their standard deviation over their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import msgspec
import numpy as np

from bench.config import NonNegative, Positive
from bench.protocols import Arrivals
from bench.workload.trace import Start, read_trace


class Steady(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A constant rate: one request in each gap of `1 / rate_rps`, nominally in its middle.

    Each time is moved by up to ±`jitter` of the gap, uniformly, so that arrivals cannot lock in step
    with the engine's cycle. At most 0.5, so that requests never change their order; 0 is a metronome.
    CV: `jitter` · √(2/3), 0.08 by default.
    """

    jitter: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.1

    def times_s(self, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return `n` ascending times in [0, n / rate_rps), in seconds."""
        slots = np.arange(n) + 0.5 + self.jitter * rng.uniform(-1.0, 1.0, n)
        return _inside(slots / rate_rps, n / rate_rps)


class Poisson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Independent users: exponential gaps, rescaled to the exact rate.

    `n + 1` gaps are scaled to fill `n / rate_rps` seconds. That is the Poisson process given that `n`
    requests fall into this span (its times are then ordered uniform ones), not an approximation to it.
    CV: 1.
    """

    def times_s(self, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return `n` ascending times in [0, n / rate_rps), in seconds."""
        return _inside(_ordered_uniforms(n, rng) * (n / rate_rps), n / rate_rps)


class Gamma(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gamma-distributed gaps of shape `burstiness`, rescaled to the exact rate as those of `poisson`.

    CV: 1 / √`burstiness`. 1 is Poisson, below it is burstier (0.25: CV 2), above it steadier. The same
    law and name as vLLM's `--burstiness`.
    """

    burstiness: Annotated[float, msgspec.Meta(ge=0.01, le=1e6)]

    def times_s(self, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return `n` ascending times in [0, n / rate_rps), in seconds."""
        ends = np.cumsum(rng.standard_gamma(self.burstiness, n + 1))
        return _inside(ends[:-1] / ends[-1] * (n / rate_rps), n / rate_rps)


class OnOff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bursts: `on_s` seconds at `peak` times the mean rate, then `off_s` seconds at what is left; from 0 on.

    Without `peak` nothing comes in the off-phases; then it is `(on_s + off_s) / on_s`, its largest value.
    Within a phase requests come as independent users send them. `peak` is over the mean of whole periods;
    where the traffic does not end with a period, both phases are scaled alike to the exact rate.

    CV², with s = on_s / (on_s + off_s) and many requests in every phase: 2·(s/peak + (1−s)/quiet) − 1,
    `quiet` = (1 − s·peak) / (1 − s) being the off-phases' rate over the mean. Where that is 0, with m
    requests a period: 2s² + 4s(1−s) + (1−s)²·m − 1.
    """

    on_s: Positive
    off_s: Positive
    peak: Annotated[float, msgspec.Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        """Refuse a peak that brings more than all requests."""
        most = (self.on_s + self.off_s) / self.on_s
        if self.peak is not None and self.peak > most:
            raise ValueError(
                f"peak = {self.peak:g} is above (on_s + off_s) / on_s = {most:g}, where all requests come "
                "in the on-phases; lower it, or leave it out for that"
            )

    def times_s(self, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return `n` ascending times in [0, n / rate_rps), in seconds."""
        period_s = self.on_s + self.off_s
        peak = period_s / self.on_s if self.peak is None else self.peak
        burst = min(peak * self.on_s, period_s)  # what comes in an on-phase, at a mean rate of 1
        quiet = (period_s - burst) / self.off_s

        def mass(t_s: float) -> float:
            return peak * min(t_s, self.on_s) + quiet * max(t_s - self.on_s, 0.0)

        def at(mass: np.ndarray) -> np.ndarray:
            late = (mass - burst) / quiet if quiet > 0 else np.zeros_like(mass)
            times_s: np.ndarray = np.where(mass < burst, mass / peak, self.on_s + late)
            return times_s

        return _modulated(n, rate_rps, rng, period_s, mass, at)


class Diurnal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A day in `period_s` seconds: the rate goes up and down as a cosine, by `amplitude` of its mean.

    It is highest `peak_s` after the start, (1 + amplitude) times the mean, and once in every period again;
    by default in the middle, so that a period begins at its lowest, as days do. Within it requests come as
    independent users send them. Where the traffic does not end with a period, all is scaled alike to the
    exact rate.

    CV², with many requests a period: 2 / √(1 − amplitude²) − 1.
    """

    amplitude: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    period_s: Positive
    peak_s: NonNegative | None = None

    def times_s(self, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return `n` ascending times in [0, n / rate_rps), in seconds."""
        peak_s = self.period_s / 2 if self.peak_s is None else self.peak_s
        per_s = 2 * math.pi / self.period_s
        swing, before = self.amplitude / per_s, math.sin(per_s * peak_s)

        def mass(t_s: np.ndarray) -> np.ndarray:
            swung: np.ndarray = t_s + swing * (np.sin(per_s * (t_s - peak_s)) + before)
            return swung

        def at(wanted: np.ndarray) -> np.ndarray:
            low, high = np.zeros_like(wanted), np.full_like(wanted, self.period_s)
            for _ in range(60):  # bisection: the mass rises everywhere
                middle = (low + high) / 2
                short = mass(middle) <= wanted
                low, high = np.where(short, middle, low), np.where(short, high, middle)
            return low

        return _modulated(n, rate_rps, rng, self.period_s, lambda t_s: float(mass(np.array(t_s))), at)


class Replay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arrivals of a trace, row after row, stretched as a whole to the exact rate.

    `path` is a CSV that `bench.workload.trace` reads, relative to the experiment file. Replayed are
    consecutive rows: from the first one on, or from one that each repeat draws (`start = "drawn"`). After
    the last row comes the first one again, one mean gap later. CV: that of the rows replayed.

    What is stretched are the rows replayed. Fewer than all of them have a rate of their own, and so not the
    trace's gaps even at the trace's rate; whole rounds at that rate are in real time.
    """

    path: str
    start: Start = "first"

    def __post_init__(self) -> None:
        """Read the trace, so that what is wrong with it is known before any run."""
        read_trace(self.path)

    def times_s(self, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return `n` ascending times in [0, n / rate_rps), in seconds; the first one is 0."""
        return self.times_after(0, n, rate_rps, rng)

    def times_after(self, skipped: int, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return likewise the times of the rows that follow `skipped` others."""
        trace = read_trace(self.path)
        times_s = trace.times_s(trace.first_row(self.start, rng) + skipped, n)
        if times_s[-1] > 0:
            times_s *= (n - 1) / rate_rps / times_s[-1]
        return _inside(times_s, n / rate_rps)


def _ordered_uniforms(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return `n` independent uniform numbers in ascending order: the ends of exponential gaps."""
    ends = np.cumsum(rng.standard_exponential(n + 1))
    ordered: np.ndarray = ends[:-1] / ends[-1]
    return ordered


def _modulated(
    n: int,
    rate_rps: float,
    rng: np.random.Generator,
    period_s: float,
    mass: Callable[[float], float],
    at: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return `n` times of a Poisson process whose rate changes periodically, given that they are `n`.

    `mass(t_s)` is the integral of the rate, at a mean of 1, from a period's start to `t_s` inside it, and
    `at` its inverse. Given their number, the times are independent and distributed as the rate is.
    """
    whole, rest_s = divmod(n / rate_rps, period_s)
    wanted = _ordered_uniforms(n, rng) * (whole * period_s + mass(rest_s))
    periods = np.floor(wanted / period_s)
    times_s = periods * period_s + at(wanted - periods * period_s)
    return _inside(np.maximum.accumulate(times_s), n / rate_rps)


def _inside(times_s: np.ndarray, span_s: float) -> np.ndarray:
    """Undo the rounding that would put a time on the span's end."""
    inside: np.ndarray = np.minimum(times_s, np.nextafter(span_s, 0.0))
    return inside


ARRIVALS: dict[str, type[Arrivals]] = {
    "steady": Steady,
    "poisson": Poisson,
    "gamma": Gamma,
    "on_off": OnOff,
    "diurnal": Diurnal,
    "trace": Replay,
}
"""The `kind`s of `[workload] arrivals`."""
