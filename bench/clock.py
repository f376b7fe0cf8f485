"""Time as an object that is passed in: real for measuring, virtual for simulating and testing.

All times of a run are seconds on one monotonic clock whose zero is the clock's creation. Wall-clock
time of day appears in provenance only.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in seconds."""

    def now_s(self) -> float:
        """Return the seconds since the clock's zero."""
        ...

    def sleep_until(self, t_s: float) -> None:
        """Return when `now_s()` has reached `t_s`; at once if it has already."""
        ...


class WallClock:
    """Real time by `time.perf_counter`."""

    def __init__(self) -> None:
        """Start at zero now."""
        self._zero = time.perf_counter()

    def now_s(self) -> float:
        """Return the real seconds since creation."""
        return time.perf_counter() - self._zero

    def sleep_until(self, t_s: float) -> None:
        """Sleep until `t_s`."""
        while (left := t_s - self.now_s()) > 0:
            time.sleep(left)


class VirtualClock:
    """Simulated time: moves only when told to, so tests are exact and instant."""

    def __init__(self, start_s: float = 0.0) -> None:
        """Start at `start_s`."""
        self._now_s = start_s

    def now_s(self) -> float:
        """Return the simulated time."""
        return self._now_s

    def sleep_until(self, t_s: float) -> None:
        """Jump to `t_s`; never backwards."""
        self._now_s = max(self._now_s, t_s)
