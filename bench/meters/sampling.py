"""Reads the meters beside the run: one daemon thread, fixed deadlines, every raw sample kept.

A thread suffices because a call into a driver releases the interpreter. Fields are read in rounds, each at
its own rate: power and energy as asked, what changes slowly or takes long less often. A deadline that has
passed is skipped, not made up for: bunched readings would weigh that moment double. Where a moment must be
known sharply, `sharpen` reads the energy counters alone, densely, until their next tick. A meter that raises
ends alone, and one that hangs never holds up the result.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from itertools import chain
from typing import Any

import msgspec

from bench.clock import Clock
from bench.meters.calibration import COUNTER, Calibration, calibrate
from bench.meters.faults import GpuLost, Hung, within
from bench.meters.rounds import Burst, Round, bursts_of, rounds_of
from bench.meters.sample_log import FailureKind, MeterFailure, SampleLog, missing_fields, read_costs
from bench.protocols import Meter, PacedMeter
from bench.records import Sample

STALL_PERIODS = 5
"""A read that lasts for so many periods …"""
MIN_STALL_S = 1.0
"""… and at least this long has stalled."""
STALE_S = 5.0
"""A reading that is older says nothing about now."""
_AFTER_LIMIT_S = 0.75
_CALIBRATION_SLACK_S = 1.0


class Sampler:
    """Reads every meter at its rates, from `start` to `stop`; used once.

    Meters have names, which `facts` and `failures` carry. The sampler does not close them. A
    `PacedMeter` says which fields are worth less than the asked rate; any other is read whole.
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
        self._read_s: list[float] = []
        self._latest: dict[str, Sample] = {}
        self._skipped = 0
        self._failures: dict[str, MeterFailure] = {}
        self._fields: dict[str, set[str]] = {name: set() for name in meters}
        self._calibrations: dict[str, Calibration] = {}
        self._rounds: list[Round] = []
        self._bursts: list[Burst] = []
        self._asked: deque[float] = deque()
        self._reading: tuple[str, float] | None = None
        self._ending = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-sampler", daemon=True)

    def calibrate(self, seconds: float = 2.0) -> dict[str, Calibration]:
        """Find how the meters' energy counters tick; before `start`, and while nothing else runs.

        Never raises: what stands in the way is the calibration's `reason`, and goes into the log where it
        is a driver that hangs or a GPU that is lost. Takes up to twice the `seconds`.
        """
        for name, meter in self._meters.items():
            if isinstance(meter, PacedMeter) and COUNTER in meter.periods_s:
                self._calibrations[name] = self._calibrated(name, meter, seconds)
        return dict(self._calibrations)

    def _calibrated(self, name: str, meter: PacedMeter, seconds: float) -> Calibration:
        began_s = self._clock.now_s()
        limit_s = 2 * seconds + _CALIBRATION_SLACK_S
        try:
            return within(limit_s, lambda: calibrate(meter, self._clock, seconds), "calibrating")
        except Exception as error:  # noqa: BLE001 - it ends the calibration, not the run
            if isinstance(error, Hung | GpuLost):
                self._fail(name, "stalled" if isinstance(error, Hung) else "lost", began_s, str(error))
            return Calibration(reason=str(error))

    @property
    def tick_s(self) -> float | None:
        """The longest tick of the calibrated counters; None where none is known."""
        return max((c.tick_s for c in self._calibrations.values() if c.tick_s is not None), default=None)

    def start(self) -> None:
        """Begin sampling; the first reading is due at once."""
        rounds = (rounds_of(name, meter, self._period_s) for name, meter in self._meters.items())
        # The fastest first: what is read slowly may also take long to read.
        self._rounds = sorted(chain.from_iterable(rounds), key=lambda part: part.period_s)
        now_s = self._clock.now_s()
        for part in self._rounds:
            part.deadline_s = part.last_s = now_s
        self._thread.start()

    def sharpen(self, until_s: float) -> None:
        """Read the energy counters densely until their next tick, at most until `until_s`; returns at once.

        The samples are ordinary ones. May be called from any thread; asked again on the way, it looks for
        the tick after that.
        """
        self._asked.append(until_s)
        self._wake.set()

    @property
    def stalled(self) -> str | None:
        """Which meter's read has not returned for how long, None while all is well."""
        reading = self._reading
        if reading is None:
            return None
        name, began_s = reading
        lasted_s = self._clock.now_s() - began_s
        if lasted_s < max(MIN_STALL_S, STALL_PERIODS * self._period_s):
            return None
        return f"the {name} meter stalled: {_unreturned(lasted_s)}"

    def recent(self, field: str, since_s: float) -> list[float]:
        """Return the values of `field` that were read since `since_s`, in their order."""
        found: list[float] = []
        for sample in reversed(self._samples.copy()):
            if sample.t_s < since_s:
                break
            if sample.field == field:
                found.append(sample.value)
        return found[::-1]

    def latest(self, field: str) -> Sample | None:
        """Return the newest sample of `field`; None where there is none, or it is no longer true."""
        sample = self._latest.get(field)
        return sample if sample and self._clock.now_s() - sample.t_s <= STALE_S else None

    def check(self) -> None:
        """Raise GpuLost when a GPU was lost: no figure of this run would mean anything."""
        for failure in list(self._failures.values()):
            if failure.kind == "lost":
                raise GpuLost(f"the {failure.meter} was lost while it was measured: {failure.error}")

    def stop(self) -> SampleLog:
        """End sampling, look at the devices once more, and return the log; within 2 s whatever hangs."""
        self._ending = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(0 if self.stalled else self._join_timeout_s)
        # Copies: a read that hangs may yet return and write to the originals.
        reading, samples, read_s = self._reading, tuple(self._samples), tuple(self._read_s)
        stopped_s = self._clock.now_s()
        if self._thread.is_alive() and reading is not None:
            name, began_s = reading
            self._fail(name, "stalled", began_s, _unreturned(stopped_s - began_s))
        failures = dict(self._failures)
        facts, doubts = self._facts(failures)
        return SampleLog(
            samples=samples,
            missing=missing_fields(self._meters, self._fields, failures),
            facts=facts,
            simulated=any(meter.simulated for meter in self._meters.values()),
            max_gap_s=self._max_gap_s(stopped_s),
            failures=tuple(failures.values()),
            period_s=self._field_periods_s(),
            skipped=self._skipped,
            doubts=tuple([f"{f.meter} meter {f.kind}: {f.error}" for f in failures.values()] + doubts),
            **read_costs(read_s),
        )

    def _facts(self, failures: Mapping[str, MeterFailure]) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Join the facts of each meter with its calibration and what it says now; and why it does not."""
        facts: dict[str, dict[str, Any]] = {}
        for name, meter in self._meters.items():
            facts[name] = dict(meter.facts)
            if name in self._calibrations:
                facts[name]["calibration"] = msgspec.structs.asdict(self._calibrations[name])
        if any(failure.kind == "stalled" for failure in failures.values()):
            return facts, []  # the failure says it; a driver that hangs is not called again
        doubts = []
        for name, after in self._look_again(failures).items():
            if after:
                facts[name]["after"] = dict(after)
            if "reason" in after:
                doubts.append(f"{name} meter: its state after the run is not known: {after['reason']}")
        return facts, doubts

    def _look_again(self, failures: Mapping[str, MeterFailure]) -> dict[str, Mapping[str, Any]]:
        """Ask each meter that works for what may have changed; the `reason` where it does not tell."""
        found: dict[str, Mapping[str, Any]] = {}
        meters = {
            name: meter
            for name, meter in self._meters.items()
            if isinstance(meter, PacedMeter) and name not in failures
        }

        def look() -> None:
            for name, meter in meters.items():
                found[name] = meter.after()

        try:
            within(_AFTER_LIMIT_S, look, "looking at the device once more")
        except Exception as error:  # noqa: BLE001 - the run is over and measured; only this is missing
            return {name: {"reason": str(error)} for name in meters} | found
        return found

    def _max_gap_s(self, stopped_s: float) -> float:
        """Return the longest time without a sample among the fastest rounds, from start to stop."""
        fastest_s = min((part.period_s for part in self._rounds), default=math.inf)
        rounds = [part for part in self._rounds if part.period_s == fastest_s]
        return max((max(part.max_gap_s, stopped_s - part.last_s) for part in rounds), default=0.0)

    def _field_periods_s(self) -> dict[str, float]:
        periods_s: dict[str, float] = {}
        for part in self._rounds:
            fields = self._fields[part.name] if part.fields is None else part.fields
            periods_s |= dict.fromkeys(sorted(fields), part.period_s)
        return periods_s

    def _run(self) -> None:
        start_s = self._clock.now_s()
        while not self._ending:
            due_s = min((part.deadline_s for part in [*self._rounds, *self._bursts]), default=math.inf)
            if self._wait_until(due_s):
                self._wake.clear()
                self._begin_bursts()
                continue
            # Waited for is reached, also on a clock that only moves when it is told to.
            reached_s = max(due_s, self._clock.now_s())
            self._bursts = [
                burst for burst in self._bursts if burst.deadline_s > reached_s or self._go_on(burst)
            ]
            due = [part for part in self._rounds if part.deadline_s <= reached_s]
            for part in due:
                self._read(part)
            # Together, so that rounds of one rate stay together: two GPUs' powers are added up.
            ended_s = max(reached_s, self._clock.now_s())
            self._skipped += sum(part.advance(start_s, ended_s) for part in due)

    def _wait_until(self, due_s: float) -> bool:
        """Wait for `due_s`, and say whether somebody called before."""
        left_s = due_s - self._clock.now_s()
        return self._wake.wait(None if math.isinf(left_s) else max(0.0, left_s))

    def _begin_bursts(self) -> None:
        while self._asked:
            until_s, now_s = self._asked.popleft(), self._clock.now_s()
            self._bursts = bursts_of(self._meters, until_s, now_s)

    def _go_on(self, burst: Burst) -> bool:
        began_s = self._clock.now_s()
        readings = self._read(burst)
        return burst.goes_on(readings, began_s, self._clock.now_s())

    def _read(self, part: Round) -> list[tuple[str, float, str | None]]:
        """Read a round and keep its samples; nothing of a meter that has failed."""
        if part.name in self._failures or self._ending:
            return []
        began_s = self._clock.now_s()
        self._reading = (part.name, began_s)
        try:
            readings = part.read()
        except Exception as error:  # noqa: BLE001 - a meter of any kind may fail; the others go on
            kind: FailureKind = "lost" if isinstance(error, GpuLost) else "failed"
            self._fail(part.name, kind, began_s, f"{type(error).__name__}: {error}")
            return []
        finally:
            self._reading = None
        ended_s = self._clock.now_s()
        self._keep(part, readings, (began_s + ended_s) / 2, ended_s - began_s)
        return readings

    def _keep(
        self, part: Round, readings: list[tuple[str, float, str | None]], t_s: float, read_s: float
    ) -> None:
        if not readings:
            return
        part.note_sample(t_s)
        self._read_s.append(read_s)
        for field, value, gpu_uuid in readings:
            self._fields[part.name].add(field)
            sample = Sample(t_s=t_s, read_s=read_s, field=field, value=value, gpu_uuid=gpu_uuid)
            self._samples.append(sample)
            self._latest[field] = sample

    def _fail(self, name: str, kind: FailureKind, t_s: float, error: str) -> None:
        self._failures[name] = MeterFailure(meter=name, kind=kind, t_s=t_s, error=error)


def _unreturned(lasted_s: float) -> str:
    return f"a read has not returned for {lasted_s:.1f} s"
