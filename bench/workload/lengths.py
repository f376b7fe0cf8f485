"""How many tokens a request has: laws of whole numbers with a stated mean.

A law that is cut off at `max` has a smaller mean than its parameters say; here the stated mean is
that of what is drawn, so "650 input tokens on average" is what the engine sees.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bench.config import Positive, PositiveInt
from bench.protocols import Lengths
from bench.workload.trace import Column, Start, Trace, read_trace


class Constant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Always `tokens` tokens."""

    tokens: PositiveInt

    @property
    def longest(self) -> int:
        """The most tokens that can be drawn."""
        return self.tokens

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return `n` token counts."""
        return np.full(n, self.tokens)


class Uniform(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every count from `min` to `max`, both included, equally often."""

    min: PositiveInt = 1
    max: PositiveInt

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        if self.min > self.max:
            raise ValueError(f"min = {self.min} is above max = {self.max}; give min <= max")

    @property
    def longest(self) -> int:
        """The most tokens that can be drawn."""
        return self.max

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return `n` token counts."""
        return rng.integers(self.min, self.max, n, endpoint=True)


class Lognormal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Many short requests and a long tail, on the whole numbers from `min` to `max`.

    A count's weight is the lognormal density there. Its shape is that of an untruncated lognormal law
    whose standard deviation is `cv` times its mean; its position is solved so that the mean of the
    truncated law, i.e. of what is drawn, is `mean`. Truncation makes the drawn spread a little smaller
    than `cv`.
    """

    mean: Positive
    cv: Positive
    min: PositiveInt = 1
    max: PositiveInt

    def __post_init__(self) -> None:
        """Refuse a mean that no law on the range can have."""
        if not self.min < self.mean < self.max:
            raise ValueError(
                f"mean = {self.mean:g} must lie between min = {self.min} and max = {self.max}, "
                'both excluded; for one length take kind = "constant"'
            )

    @property
    def longest(self) -> int:
        """The most tokens that can be drawn."""
        return self.max

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return `n` token counts, one uniform number each (so a longer draw begins with the shorter)."""
        cumulative = np.cumsum(self.probabilities())
        # Divided by the sum itself, so that rounding cannot leave a gap below 1.
        index = np.searchsorted(cumulative / cumulative[-1], rng.random(n), side="right")
        return self.min + index

    def probabilities(self) -> np.ndarray:
        """Return the probability of each count from `min` to `max`."""
        from scipy.optimize import brentq  # 0.2 s to import: only a run needs it

        counts = np.arange(self.min, self.max + 1)

        def excess(mu: float) -> float:
            return float(counts @ self._weights(counts, mu)) - self.mean

        # The mean rises with mu, from min to max: widen the bracket until it holds the root.
        low = high = math.log(self.mean)
        step = 1.0
        while excess(low) > 0:
            low -= step
            step *= 2
        step = 1.0
        while excess(high) < 0:
            high += step
            step *= 2
        return self._weights(counts, low if low == high else brentq(excess, low, high, xtol=1e-12))

    def _weights(self, counts: np.ndarray, mu: float) -> np.ndarray:
        """Return the normalised lognormal density at `counts`, without underflow for far-off `mu`."""
        logs = np.log(counts)
        log_density = -logs - (logs - mu) ** 2 / (2 * math.log1p(self.cv**2))
        density: np.ndarray = np.exp(log_density - log_density.max())
        density /= density.sum()
        return density


class FromTrace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lengths of a trace's rows, one after the other: request i has those of row i.

    `path` and `start` are by default those of the arrivals, `column` follows from where this stands. A
    length above `max` is cut down to it; `clipped` says of how many rows.
    """

    path: str
    column: Column
    max: PositiveInt | None = None
    start: Start = "first"

    def __post_init__(self) -> None:
        """Read the trace, so that what is wrong with it is known before any run."""
        read_trace(self.path)

    @property
    def longest(self) -> int:
        """The most tokens that can be drawn."""
        return int(self.of_rows().max())

    @property
    def clipped(self) -> int:
        """How many rows of the trace are longer than `max`."""
        return 0 if self.max is None else int((getattr(self._trace, self.column) > self.max).sum())

    def of_rows(self) -> np.ndarray:
        """Return the token counts of all rows in their order."""
        return self._cut(getattr(self._trace, self.column))

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return `n` token counts."""
        return self.draw_after(0, n, rng)

    def draw_after(self, skipped: int, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return `n` token counts, of the rows that follow `skipped` others."""
        trace = self._trace
        return self._cut(trace.tokens(self.column, trace.first_row(self.start, rng) + skipped, n))

    def _cut(self, tokens: np.ndarray) -> np.ndarray:
        return tokens if self.max is None else np.minimum(tokens, self.max)

    @property
    def _trace(self) -> Trace:
        return read_trace(self.path)


LENGTHS: dict[str, type[Lengths]] = {
    "constant": Constant,
    "lognormal": Lognormal,
    "uniform": Uniform,
    "trace": FromTrace,
}
"""The `kind`s of `[workload] input_tokens` and `output_tokens`."""
