"""Reads the meters beside the run: one daemon thread, fixed deadlines, every raw sample kept.

A thread suffices because a call into a driver releases the interpreter. A deadline that has passed is
skipped, not made up for: bunched readings would weigh that moment double. A meter that raises ends
alone, and one that hangs never holds up the result.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from bench.clock import Clock
from bench.meters.faults import GpuLost
from bench.protocols import Meter
from bench.records import Sample

FailureKind = Literal["lost", "failed", "stalled"]


class MeterFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a meter gave no more readings.

    `lost` is a GPU that is gone, which makes the run invalid; `stalled` a read that did not return by
    the end; `failed` any other exception. `t_s` is when that read began.
    """

    meter: str
    kind: FailureKind
    t_s: float
    error: str


class SampleLog(msgspec.Struct, frozen=True, kw_only=True):
    """What the sampler found.

    `missing` maps a field to its reason; a field that failed on the way stands there too, though it
    has samples. `facts` are by meter. `max_gap_s` is the longest time without a reading of some meter,
    from start to stop.
    """

    samples: tuple[Sample, ...]
    missing: dict[str, str]
    facts: dict[str, dict[str, Any]]
    simulated: bool
    max_gap_s: float
    failures: tuple[MeterFailure, ...]


def next_deadline_s(start_s: float, now_s: float, period_s: float) -> float:
    """Return the first deadline `start_s + k · period_s` after `now_s`."""
    deadline_s = start_s + (math.floor((now_s - start_s) / period_s) + 1) * period_s
    # A deadline may round to now itself; the next one is meant then.
    return deadline_s if deadline_s > now_s else deadline_s + period_s


class Sampler:
    """Reads every meter once per period, from `start` to `stop`; used once.

    Meters have names, which `facts` and `failures` carry. The sampler does not close them.
    """

    def __init__(
        self, meters: Mapping[str, Meter], clock: Clock, period_s: float, *, join_timeout_s: float = 1.0
    ) -> None:
        """Prepare; `join_timeout_s` bounds how long `stop` waits for a read in progress."""
        if not period_s > 0:
            raise ValueError(f"the sampling period must be above 0 s, not {period_s}")
        self._meters = dict(meters)
        self._clock, self._period_s, self._join_timeout_s = clock, period_s, join_timeout_s
        self._samples: list[Sample] = []
        self._failures: dict[str, MeterFailure] = {}
        self._fields: dict[str, set[str]] = {name: set() for name in meters}
        self._last_s: dict[str, float] = {}
        self._max_gap_s = 0.0
        self._reading: tuple[str, float] | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-sampler", daemon=True)

    def start(self) -> None:
        """Begin sampling; the first reading is due at once."""
        self._last_s = dict.fromkeys(self._meters, self._clock.now_s())
        self._thread.start()

    def stop(self) -> SampleLog:
        """End sampling and return the log, within `join_timeout_s` even when a meter hangs."""
        self._ending.set()
        self._thread.join(self._join_timeout_s)
        # Copies: a read that hangs may yet return and write to the originals.
        reading, samples = self._reading, tuple(self._samples)
        failures = dict(self._failures)
        stopped_s = self._clock.now_s()
        if self._thread.is_alive() and reading is not None:
            name, began_s = reading
            failures[name] = MeterFailure(
                meter=name,
                kind="stalled",
                t_s=began_s,
                error=f"a read has not returned for {stopped_s - began_s:.1f} s",
            )
        gaps_s = [stopped_s - last_s for last_s in self._last_s.values()]
        return SampleLog(
            samples=samples,
            missing=self._missing(failures),
            facts={name: dict(meter.facts) for name, meter in self._meters.items()},
            simulated=any(meter.simulated for meter in self._meters.values()),
            max_gap_s=max([self._max_gap_s, *gaps_s]),
            failures=tuple(failures.values()),
        )

    def _run(self) -> None:
        start_s = deadline_s = self._clock.now_s()
        while not self._ending.wait(max(0.0, deadline_s - self._clock.now_s())):
            for name, meter in self._meters.items():
                if name not in self._failures and not self._ending.is_set():
                    self._read(name, meter)
            deadline_s = next_deadline_s(start_s, self._clock.now_s(), self._period_s)

    def _read(self, name: str, meter: Meter) -> None:
        began_s = self._clock.now_s()
        self._reading = (name, began_s)
        try:
            readings = meter.read()
        except Exception as error:  # noqa: BLE001 - a meter of any kind may fail; the others go on
            kind: FailureKind = "lost" if isinstance(error, GpuLost) else "failed"
            text = f"{type(error).__name__}: {error}"
            self._failures[name] = MeterFailure(meter=name, kind=kind, t_s=began_s, error=text)
            return
        finally:
            self._reading = None
        ended_s = self._clock.now_s()
        self._keep(name, readings, (began_s + ended_s) / 2, ended_s - began_s)

    def _keep(
        self, name: str, readings: list[tuple[str, float, str | None]], t_s: float, read_s: float
    ) -> None:
        if not readings:
            return
        self._max_gap_s = max(self._max_gap_s, t_s - self._last_s[name])
        self._last_s[name] = t_s
        for field, value, gpu_uuid in readings:
            self._fields[name].add(field)
            self._samples.append(Sample(t_s=t_s, read_s=read_s, field=field, value=value, gpu_uuid=gpu_uuid))

    def _missing(self, failures: Mapping[str, MeterFailure]) -> dict[str, str]:
        """Join the meters' reasons; the same field of two GPUs is missing if it is missing of one."""
        reasons: dict[str, list[str]] = {}
        for name, meter in self._meters.items():
            own = dict(meter.missing)
            if name in failures:
                failure = failures[name]
                own |= dict.fromkeys(self._fields[name], f"{failure.kind}: {failure.error}")
            for field, reason in own.items():
                if reason not in (known := reasons.setdefault(field, [])):
                    known.append(reason)
        return {field: "; ".join(known) for field, known in reasons.items()}
