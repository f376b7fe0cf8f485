"""What a power reading shows: over how long it averages and how often it changes, by GPU architecture.

NVML's readings are not what their names promise: some are a mean of one second, some see a quarter of the
time. The table (`bench/data/sensors.toml`) holds what was measured or documented, with its source; a
combination that is not in it is unknown, and no neighbour's figure is put in its place.
"""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Any, Literal

import msgspec

PowerReading = Literal["instant", "average", "legacy"]


class Sensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the table: one reading on the GPUs of some compute capabilities.

    A value averages over `window_s`, and there is a new one every `update_s`; None where that is not known.
    """

    capability: tuple[str, ...]
    reading: PowerReading
    source: str
    window_s: float | None = None
    update_s: float | None = None
    measured_on: str | None = None

    @property
    def share_observed(self) -> float | None:
        """The share of the time that the reading averages over; None where it is not known."""
        if self.window_s is None or self.update_s is None:
            return None
        return min(1.0, self.window_s / self.update_s)


@functools.cache
def sensors() -> tuple[Sensor, ...]:
    """Return the table."""
    text = (resources.files("bench") / "data" / "sensors.toml").read_text(encoding="utf-8")
    # Not strict: a whole number in the file is a number like any other.
    return msgspec.convert(tomllib.loads(text)["sensor"], tuple[Sensor, ...], strict=False)


def reading_of(method: str) -> PowerReading:
    """Return which reading a method of `power_w` is (`nvml_readings.QUANTITIES`)."""
    if method.startswith("field 186"):
        return "instant"
    return "average" if method.startswith("field 185") else "legacy"


def sensor_facts(method: str | None, capability: str | None) -> dict[str, Any] | None:
    """Say what `power_w` shows; figures that nobody gives are None, and None is all without a reading."""
    if method is None:
        return None
    reading = reading_of(method)
    for row in sensors():
        if row.reading == reading and capability in row.capability:
            measured = f" (measured on {row.measured_on})" if row.measured_on else ""
            return {
                "reading": reading,
                "window_s": row.window_s,
                "update_s": row.update_s,
                "share_observed": row.share_observed,
                "source": row.source + measured,
            }
    unknown = dict.fromkeys(("window_s", "update_s", "share_observed", "source"))
    return {"reading": reading, **unknown}
