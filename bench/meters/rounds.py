"""Which fields are read together, and when: rounds at fixed deadlines, and dense series between them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bench.meters.calibration import DENSE_S
from bench.protocols import Meter, PacedMeter

Readings = list[tuple[str, float, str | None]]

ENERGY_COUNTERS = frozenset({"energy_j", "rapl_package_j", "rapl_dram_j"})
SHARP_S = 0.005
"""A tick is timed sharply by two reads of a dense series that lie no further apart …"""
SHARP_READS = 4.0
"""… or no further than so many reads last, where the driver is slow."""


def next_deadline_s(start_s: float, now_s: float, period_s: float) -> float:
    """Return the first deadline `start_s + k · period_s` after `now_s`."""
    deadline_s = start_s + (math.floor((now_s - start_s) / period_s) + 1) * period_s
    # A deadline may round to now itself; the next one is meant then.
    return deadline_s if deadline_s > now_s else deadline_s + period_s


class Round:
    """Fields of one meter that are read together, at one rate; `fields` is None for whatever there is."""

    def __init__(self, name: str, meter: Meter, fields: frozenset[str] | None, period_s: float) -> None:
        self.name, self.meter, self.fields, self.period_s = name, meter, fields, period_s
        self.deadline_s = self.last_s = 0.0
        self.max_gap_s = 0.0

    def read(self) -> Readings:
        """Read them now."""
        if self.fields is None or not isinstance(self.meter, PacedMeter):
            return self.meter.read()
        return self.meter.read(self.fields)

    def note_sample(self, t_s: float) -> None:
        """Keep account of the longest time between two samples."""
        self.max_gap_s = max(self.max_gap_s, t_s - self.last_s)
        self.last_s = t_s

    def advance(self, start_s: float, now_s: float) -> int:
        """Set the next deadline, and return how many were skipped on the way to it."""
        due_s, self.deadline_s = self.deadline_s, next_deadline_s(start_s, now_s, self.period_s)
        return max(0, round((self.deadline_s - due_s) / self.period_s) - 1)


class Burst(Round):
    """A dense series of one meter's energy counters, until a tick is timed sharply or the time is over.

    A tick that fell while this thread was held up is not: the next one is looked for.
    """

    def __init__(self, name: str, meter: Meter, fields: frozenset[str], until_s: float, now_s: float) -> None:
        super().__init__(name, meter, fields, DENSE_S)
        self.until_s, self.deadline_s = until_s, now_s
        self._last: tuple[float, dict[str, float]] | None = None
        self._fastest_s = math.inf

    def goes_on(self, readings: Readings, began_s: float, now_s: float) -> bool:
        """Take in what was read, set the next deadline, and say whether there is one.

        The pause is as long as the read: a slow driver is not kept busy all the time. A read that fails
        ends the series, for at this rate a passing fault would soon count as a lasting one.
        """
        values = {field: value for field, value, _ in readings}
        self.deadline_s = now_s + max(DENSE_S, now_s - began_s)
        self._fastest_s = min(self._fastest_s, now_s - began_s)
        last, self._last = self._last, (began_s, values)
        if not values or now_s >= self.until_s:
            return False
        if last is None:
            return True
        last_s, before = last
        sharp = now_s - last_s <= max(SHARP_S, SHARP_READS * self._fastest_s)
        return values.keys() == before.keys() and (values == before or not sharp)


def rounds_of(name: str, meter: Meter, period_s: float) -> list[Round]:
    """Part a meter's fields by their rate, the fastest first.

    Each period is a multiple of the asked one, so that the rounds fall due together.
    """
    if not isinstance(meter, PacedMeter):
        return [Round(name, meter, None, period_s)]
    together: dict[int, set[str]] = {}
    for field, shortest_s in meter.periods_s.items():
        together.setdefault(max(1, math.ceil(shortest_s / period_s - 1e-9)), set()).add(field)
    return [Round(name, meter, frozenset(fields), n * period_s) for n, fields in sorted(together.items())]


def bursts_of(meters: Mapping[str, Meter], until_s: float, now_s: float) -> list[Burst]:
    """Return a dense series for each meter that has an energy counter, to begin now."""
    return [
        Burst(name, meter, counters, until_s, now_s)
        for name, meter in meters.items()
        if isinstance(meter, PacedMeter) and (counters := ENERGY_COUNTERS.intersection(meter.periods_s))
    ]
