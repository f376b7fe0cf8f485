"""What the traffic tells the meters: when the moments come that must be known sharply, and when nothing runs.

An energy counter advances in ticks, so the span that is scored begins and ends on one; around these moments
the counter is read densely. Idle power is measured in spans of their own, in which no request is under way.
"""

from __future__ import annotations

import time
from statistics import fmean
from typing import Protocol

from bench.clock import Clock
from bench.records import Interval

EDGE_S = 0.5
"""The longest search for a tick; a counter that has not moved by then is not waited for."""
_POLL_S = 0.25
SETTLE_S = 60.0
"""The longest wait for an idle device to get level …"""
LEVEL_S = 10.0
"""… which is looked at over this time …"""
MAX_WARMING_C = 1.0
MAX_POWER_CHANGE = 0.03
"""… by these measures."""


class Metering(Protocol):
    """What the drive needs of the sampler."""

    def sharpen(self, until_s: float) -> None:
        """Read the energy counter densely until its next tick, or until `until_s` on the run's clock."""
        ...

    def check(self) -> None:
        """Raise RunFailed when a device was lost: no figure of this run would mean anything."""
        ...

    def recent(self, field: str, since_s: float) -> list[float]:
        """Return the values of `field` that were read since `since_s` on the run's clock."""
        ...


class Observer:
    """The drive's view of the meters; without any it only looks at the clocks.

    `clock_step_s` is the largest change between two looks of the wall clock against the run's own.
    """

    def __init__(
        self,
        clock: Clock,
        metering: Metering | None = None,
        *,
        tick_s: float | None = None,
        meters_power: bool = False,
    ) -> None:
        """Observe by `metering`; `tick_s` is the counter's period, None where there is none.

        `meters_power` says whether idle power can be known here at all.
        """
        self._clock = clock
        self._metering = metering
        self._tick_s = tick_s
        self.meters_power = meters_power
        self.clock_step_s = 0.0
        self._wall_ahead_s = self._wall_s()

    @property
    def lead_s(self) -> float:
        """How long before a span's end its last tick is to be searched, so that it lies inside."""
        return 0.0 if self._tick_s is None else min(2.0 * self._tick_s, EDGE_S)

    def edge(self) -> None:
        """Time the next tick of the energy counter sharply; returns at once."""
        if self._metering is not None and self._tick_s is not None:
            self._metering.sharpen(self._clock.now_s() + EDGE_S)

    def check(self) -> None:
        """Raise RunFailed when a device was lost; note when the wall clock was set meanwhile."""
        wall_ahead_s = self._wall_s()
        self.clock_step_s = max(self.clock_step_s, abs(wall_ahead_s - self._wall_ahead_s))
        self._wall_ahead_s = wall_ahead_s
        if self._metering is not None:
            self._metering.check()

    def settle(self, seconds: float) -> bool:
        """Wait, without a request, until power and temperature are level; return False if they do not get so.

        Level: over `LEVEL_S` (or `seconds`, where that is shorter) the temperature changed by 1 °C at most
        and the power's halves differ by 3 % at most. It is waited for a minute at most.
        """
        if self._metering is None:
            return True
        look_s = min(LEVEL_S, seconds)
        give_up_s = self._clock.now_s() + SETTLE_S
        while self._clock.now_s() < give_up_s:
            since_s = self._clock.now_s()
            self._pass(since_s + look_s)
            if _is_level(self._metering, since_s):
                return True
        return False

    def idle(self, seconds: float) -> Interval:
        """Let `seconds` pass without a request, and return the span."""
        span = Interval(start_s=self._clock.now_s(), end_s=self._clock.now_s() + seconds)
        self.edge()
        self._pass(span.end_s - self.lead_s)
        self.edge()
        self._pass(span.end_s)
        return span

    def _pass(self, until_s: float) -> None:
        while (now_s := self._clock.now_s()) < until_s:
            self.check()
            self._clock.sleep_until(min(now_s + _POLL_S, until_s))

    def _wall_s(self) -> float:
        return time.time() - self._clock.now_s()


def _is_level(metering: Metering, since_s: float) -> bool:
    temperatures = metering.recent("temperature_c", since_s)
    if temperatures and abs(temperatures[-1] - temperatures[0]) > MAX_WARMING_C:
        return False
    powers = metering.recent("power_average_w", since_s) or metering.recent("power_w", since_s)
    half = len(powers) // 2
    if half == 0:
        return True
    before, after = fmean(powers[:half]), fmean(powers[-half:])
    return abs(after - before) <= MAX_POWER_CHANGE * max(before, after)
