"""Plays recorded telemetry back as a meter, so that a run can be had again without its machine."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from bench.clock import Clock
from bench.records import Sample

if TYPE_CHECKING:
    import pyarrow as pa


class ReplayMeter:
    """A meter (`protocols.Meter`) whose readings are those of a record.

    The record's first sample falls on the clock's time of opening. Each field holds its last recorded
    value, as a sensor does between two updates; before a field's first sample and after its last it
    has no reading. `facts` says that the source is replayed.
    """

    def __init__(
        self, samples: Sequence[Sample], clock: Clock, *, missing: Mapping[str, str] | None = None
    ) -> None:
        """Start the record now; `missing` is that of the recorded run."""
        self._clock = clock
        self._missing = dict(missing or {})
        ordered = sorted(samples, key=lambda sample: sample.t_s)
        self._shift_s = clock.now_s() - (ordered[0].t_s if ordered else 0.0)
        self._series: dict[tuple[str, str | None], tuple[list[float], list[float]]] = {}
        for sample in ordered:
            times_s, values = self._series.setdefault((sample.field, sample.gpu_uuid), ([], []))
            times_s.append(sample.t_s)
            values.append(sample.value)

    @classmethod
    def of_table(
        cls, telemetry: pa.Table, clock: Clock, *, missing: Mapping[str, str] | None = None
    ) -> ReplayMeter:
        """Play back a telemetry table (columns of `records.Sample`)."""
        return cls(msgspec.convert(telemetry.to_pylist(), list[Sample]), clock, missing=missing)

    @property
    def missing(self) -> dict[str, str]:
        """What the recorded run could not read."""
        return dict(self._missing)

    @property
    def facts(self) -> dict[str, Any]:
        """The source and the number of recorded samples."""
        return {"source": "replayed", "samples": sum(len(values) for _, values in self._series.values())}

    @property
    def simulated(self) -> bool:
        """Never: a record of a modelled device is marked in its own run."""
        return False

    def read(self) -> list[tuple[str, float, str | None]]:
        """Return each field's value at this moment of the record."""
        t_s = self._clock.now_s() - self._shift_s
        readings: list[tuple[str, float, str | None]] = []
        for (field, gpu_uuid), (times_s, values) in self._series.items():
            if times_s[0] <= t_s <= times_s[-1]:
                readings.append((field, values[bisect_right(times_s, t_s) - 1], gpu_uuid))
        return readings

    def close(self) -> None:
        """Nothing is held open."""
