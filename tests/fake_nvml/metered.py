"""bench's own meter and sampler on virtual time: what a run records of the modelled GPU, at once and the same
every time.

The sampler's code is the real one, and it reads through the real binding. Only time is virtual: it is the
modelled library's, and it moves when the sampler waits or reads. So that this is no fairer than real time, a
`Disturbance` makes the sampler wake late, now and then very late, and gives every read a length, somewhere
within which its value was true.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bench import store
from bench.meters.sample_log import SampleLog
from bench.meters.sampling import Sampler
from bench.protocols import Meter, PacedMeter
from bench.records import Completion, Interval, Run, RunMeta
from tests.fake_nvml.in_process import Modelled

PERIOD_S = 0.1
"""Between two readings, as `protocol.sample_hz` has it by default."""
EDGE_S = 0.5
"""The longest search for a tick, as in `bench.run.observe`."""
TAIL_S = 1.5
"""Metering begins so long before the window and ends so long after it."""


class Disturbance(msgspec.Struct, frozen=True, kw_only=True):
    """How far real time strays from the schedule.

    The defaults are harsher than what was seen on two busy cores, where the sampler woke 0.1 ms late (p99
    4 ms), a read of the modelled library took 0.1 ms and the longest stall in ten seconds was 30 ms.

    The sampler wakes late by a log-normal time with median `late_s`. At random moments, `stall_every_s` apart
    in the mean, it gets neither interpreter nor processor for up to `stall_s`. A read takes about `read_s`,
    log-normal, too.
    """

    late_s: float = 0.0003
    late_spread: float = 1.0
    stall_every_s: float = 5.0
    stall_s: float = 0.15
    read_s: float = 0.0004
    read_spread: float = 0.5

    def late(self, rng: np.random.Generator) -> float:
        """Draw how late the sampler wakes where it is not stalled."""
        return float(self.late_s * rng.lognormal(0.0, self.late_spread))

    def stalls(self, rng: np.random.Generator) -> Iterator[Interval]:
        """Draw the stalls, in order, from 0 on."""
        t_s = 0.0
        while math.isfinite(self.stall_every_s):
            t_s += float(rng.exponential(self.stall_every_s))
            yield Interval(start_s=t_s, end_s=t_s + self.stall_s * float(rng.random()))

    def read(self, rng: np.random.Generator) -> float:
        """Draw how long a read takes."""
        return float(self.read_s * rng.lognormal(0.0, self.read_spread))


PUNCTUAL = Disturbance(late_s=0.0, stall_every_s=math.inf, read_s=0.0)
"""No disturbance at all."""


class LibraryClock:
    """The modelled library's virtual time as a clock (`bench.clock.Clock`)."""

    def __init__(self, library: Modelled) -> None:
        self._library = library

    def now_s(self) -> float:
        """Return the library's time."""
        return self._library.time_s

    def sleep_until(self, t_s: float) -> None:
        """Move it on; never back."""
        self._library.set_time_s(max(self._library.time_s, t_s))


class _TakingTime:
    """A meter whose reads take time, and are of some moment within it (`bench.protocols.PacedMeter`)."""

    def __init__(
        self, meter: PacedMeter, clock: LibraryClock, lasts_s: Callable[[], tuple[float, float]]
    ) -> None:
        self._meter, self._clock, self._lasts_s = meter, clock, lasts_s

    @property
    def missing(self) -> Mapping[str, str]:
        return self._meter.missing

    @property
    def facts(self) -> Mapping[str, Any]:
        return self._meter.facts

    @property
    def simulated(self) -> bool:
        return self._meter.simulated

    @property
    def periods_s(self) -> Mapping[str, float]:
        return self._meter.periods_s

    def read(self, fields: Collection[str] | None = None) -> list[tuple[str, float, str | None]]:
        began_s = self._clock.now_s()
        before_s, read_s = self._lasts_s()
        self._clock.sleep_until(began_s + before_s)
        try:
            return self._meter.read(fields)
        finally:
            self._clock.sleep_until(began_s + read_s)

    def after(self) -> Mapping[str, Any]:
        return self._meter.after()

    def close(self) -> None:
        self._meter.close()


class Waker:
    """When the sampler really wakes that wanted to at some time; times must be asked for in order."""

    def __init__(self, disturbance: Disturbance, rng: np.random.Generator) -> None:
        self._disturbance, self._rng = disturbance, rng
        self._stalls = disturbance.stalls(np.random.default_rng(int(rng.integers(2**31))))
        self._stall = next(self._stalls, None)

    def wakes_s(self, wanted_s: float) -> float:
        """Return it."""
        t_s = wanted_s + self._disturbance.late(self._rng)
        while self._stall is not None and self._stall.end_s < t_s:
            self._stall = next(self._stalls, None)
        stalled = self._stall is not None and self._stall.start_s <= t_s
        return self._stall.end_s if stalled and self._stall is not None else t_s


class _Waiting:
    """Stands for the event that wakes the sampler: to wait moves the clock and does what the script says."""

    def __init__(
        self, clock: LibraryClock, script: Sequence[tuple[float, Callable[[], None]]], waker: Waker
    ) -> None:
        self._clock, self._script, self._waker = clock, sorted(script, key=lambda act: act[0]), waker
        self._is_set = False

    def wait(self, timeout: float | None) -> bool:
        target_s = math.inf if timeout is None else self._clock.now_s() + timeout
        while not self._is_set and self._script and self._script[0][0] <= target_s:
            t_s, act = self._script.pop(0)
            self._clock.sleep_until(t_s)
            act()
        if not self._is_set:
            self._clock.sleep_until(self._waker.wakes_s(target_s))
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False


class _Inline:
    """Stands for the sampler's thread: runs to the end where it is started."""

    ident = None

    def __init__(self, target: Callable[[], None]) -> None:
        self.start = target

    def is_alive(self) -> bool:
        return False


def sampled(
    library: Modelled,
    meters: Mapping[str, Meter],
    spans: Sequence[Interval],
    rng: np.random.Generator,
    *,
    lead_s: float = 0.2,
    period_s: float = PERIOD_S,
    disturbance: Disturbance | None = None,
    calibrate_s: float = 0.0,
) -> SampleLog:
    """Sample from `TAIL_S` before the first of `spans` to `TAIL_S` after the last; on virtual time.

    Each span's edges are timed sharply, as the drive has it (`bench.run.observe`): from its start on, and
    from `lead_s` before its end on.
    """
    disturbed = disturbance or Disturbance()
    clock = LibraryClock(library)

    def lasts_s() -> tuple[float, float]:
        read_s = disturbed.read(rng)
        return read_s * float(rng.random()), read_s

    slow = {
        name: _TakingTime(meter, clock, lasts_s) if isinstance(meter, PacedMeter) else meter
        for name, meter in meters.items()
    }
    sampler = Sampler(slow, clock, period_s)
    edges_s = [t_s for span in spans for t_s in (span.start_s, span.end_s - lead_s)]
    script: list[tuple[float, Callable[[], None]]] = [
        (t_s, lambda: sampler.sharpen(clock.now_s() + EDGE_S)) for t_s in edges_s
    ]

    def end() -> None:
        sampler._ending = True
        sampler._wake.set()

    script.append((max(span.end_s for span in spans) + TAIL_S, end))
    inline: Any = sampler
    inline._wake = _Waiting(clock, script, Waker(disturbed, rng))
    inline._thread = _Inline(sampler._run)
    clock.sleep_until(
        min(span.start_s for span in spans) - TAIL_S - calibrate_s - float(rng.random()) * period_s
    )
    if calibrate_s:
        sampler.calibrate(calibrate_s)
    sampler.start()
    return sampler.stop()


def spread(window: Interval, n: int, jitter: float = 0.5, latency_s: float = 0.2) -> list[Completion]:
    """Return `n` requests a second from 2 s before the window to 2 s after it, all answered alone.

    Each is due up to the share `jitter` of the time between two later than evenly.
    """
    dues_s = np.arange(window.start_s - 2.0, window.end_s + 2.0, 1.0 / n)
    dues_s += np.random.default_rng(5).random(len(dues_s)) * jitter / n
    return [
        Completion(
            uid=uid,
            due_s=due_s,
            sent_s=due_s,
            admitted_s=due_s,
            first_token_s=due_s + latency_s / 4,
            done_s=due_s + latency_s,
            prompt_tokens=8,
            output_tokens=4,
            padded_tokens=0.0,
            padded_prefill_tokens=0.0,
            batch_id=uid,
            batch_size=1,
            queue_s=0.0,
            prefill_s=latency_s / 4,
            decode_s=latency_s * 3 / 4,
            itl_ms=(latency_s * 250,) * 3,
            pacer_lag_s=0.0,
            interpreter_lag_s=0.0,
        )
        for uid, due_s in enumerate(dues_s.tolist())
    ]


def run_of(window: Interval, log: SampleLog, requests: Sequence[Completion] = (), **meta: Any) -> Run:
    """Return what a window's job records of what the sampler found, as `bench.run.recording` writes it."""
    facts = {"gpu_name": log.facts["gpu"].get("name"), "meters": log.facts, "sampler": log.sampler}
    fields: dict[str, Any] = {
        "schema": store.SCHEMA,
        "status": "complete",
        "source": "simulated" if log.simulated else "measured",
        "kind": "window",
        "system": "modelled",
        "repeat": 1,
        "config": {},
        "written": {},
        "provenance": {},
        "device": "cuda",
        "offered_rps": 5.0,
        "window": window,
        "missing": log.missing,
        "doubts": list(log.doubts),
        "facts": facts | meta.pop("facts", {}),
    }
    return Run(
        folder="modelled.1",
        meta=RunMeta(**(fields | meta)),
        requests=store.requests_table(requests),
        telemetry=store.telemetry_table(log.samples),
    )
