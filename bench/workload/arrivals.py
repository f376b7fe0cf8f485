"""When requests are due: laws of arrival times, drawn before the run.

Every law puts exactly `n` times into the `n / rate_rps` seconds from 0, so the realised mean rate is
the asked one by construction, and two systems at "the same rate" are offered the same number of
requests. (A plain Poisson draw of 1,000 requests misses its rate by ±3 %; that noise would be booked
on the system under test.) Steady traffic then measures service, Poisson traffic queueing as well.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from bench.protocols import Arrivals


class Steady(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A constant rate: one request in each gap of `1 / rate_rps`, nominally in its middle.

    Each time is moved by up to ±`jitter` of the gap, uniformly, so that arrivals cannot lock in step
    with the engine's cycle. At most 0.5, so that requests never change their order; 0 is a metronome.
    """

    jitter: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.1

    def times_s(self, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return `n` ascending times in [0, n / rate_rps), in seconds."""
        slots = np.arange(n) + 0.5 + self.jitter * rng.uniform(-1.0, 1.0, n)
        return slots / rate_rps


class Poisson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Independent users: exponential gaps, rescaled to the exact rate.

    `n + 1` gaps are scaled to fill `n / rate_rps` seconds. That is the Poisson process given that `n`
    requests fall into this span (its times are then ordered uniform ones), not an approximation to it.
    """

    def times_s(self, n: int, rate_rps: float, rng: np.random.Generator) -> np.ndarray:
        """Return `n` ascending times in [0, n / rate_rps), in seconds."""
        ends = np.cumsum(rng.standard_exponential(n + 1))
        times_s: np.ndarray = ends[:-1] / ends[-1] * (n / rate_rps)
        return times_s


ARRIVALS: dict[str, type[Arrivals]] = {"steady": Steady, "poisson": Poisson}
"""The `kind`s of `[workload] arrivals`."""
