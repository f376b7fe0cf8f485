"""The child's side of progress: events on their way to whoever watches, few enough not to disturb.

A phase is told at once; how far it is, twice a second at most, however often the job says so, and only then
are its figures worked out: that takes about 0.1 ms of the thread that drives the traffic, never the engine's.
`bench selftest` counts it into the cost of the harness. Where nobody watches, nothing is worked out at all;
where whoever watches has stopped reading, what there is to tell is lost, and never waited for.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import msgspec

from bench.clock import Clock
from bench.meters.sampling import Sampler
from bench.records import Event, Figures
from bench.run.drive import POLL_S
from bench.run.ends import Ends

TELL_EVERY_S = 0.5
_GPU_POWER = ("power_w", "power_average_w")
_CPU_ENERGY = "rapl_package_j"


class Teller:
    """Tells `send` how `job` goes on; itself the `Emit` that the job reports to.

    `sampler` returns what reads the meters, None while there is none; `send` is None where nobody watches.
    """

    def __init__(
        self,
        job: str,
        send: Callable[[Event], None] | None,
        sampler: Callable[[], Sampler | None] = lambda: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job, self._send, self._sampler, self._now_s = job, send, sampler, now_s
        self._told: tuple[str, str] | None = None
        self._next_s = 0.0
        self._energy: tuple[float, float] | None = None

    def __call__(
        self,
        phase: str,
        elapsed_s: float = 0.0,
        total_s: float | None = None,
        detail: str = "",
        done: float | None = None,
        figures: Callable[[], Figures] | None = None,
    ) -> None:
        """Report (see `Emit`)."""
        if self._send is None:
            return
        now_s = self._now_s()
        if (phase, detail) == self._told and now_s < self._next_s:
            return
        self._told, self._next_s = (phase, detail), now_s + TELL_EVERY_S
        self._send(
            Event(
                job=self._job,
                phase=phase,
                elapsed_s=elapsed_s,
                total_s=total_s,
                detail=detail,
                done=done,
                figures=None if figures is None else self._with_meters(figures()),
            )
        )

    def _with_meters(self, figures: Figures) -> Figures:
        """Return `figures` with what the meters read last."""
        sampler = self._sampler()
        if sampler is None:
            return figures

        def latest(field: str) -> float | None:
            sample = sampler.latest(field)
            return None if sample is None else sample.value

        power_w = next((watts for name in _GPU_POWER if (watts := latest(name)) is not None), None)
        return msgspec.structs.replace(
            figures,
            power_w=self._cpu_power_w(sampler) if power_w is None else power_w,
            gpu_memory_gb=latest("memory_used_gb"),
            host_memory_gb=latest("rss_gb"),
        )

    def _cpu_power_w(self, sampler: Sampler) -> float | None:
        """Return the mean power of the processors since the last look; None where no counter tells."""
        sample = sampler.latest(_CPU_ENERGY)
        if sample is None:
            return None
        before, self._energy = self._energy, (sample.t_s, sample.value)
        if before is None or sample.t_s <= before[0]:
            return None
        return (sample.value - before[1]) / (sample.t_s - before[0])


def without_waiting(events: Connection) -> Callable[[Event], None]:
    """Return what sends an event through the pipe `events`, and loses it where that is full or broken.

    A pipe that is ready takes a page (4 KiB), of which an event needs a tenth.
    """
    room = select.poll()
    room.register(events, select.POLLOUT)

    def send(event: Event) -> None:
        if room.poll(0):
            with suppress(OSError):
                events.send(event)

    return send


@contextmanager
def told_to_nobody(ends: Ends, sampler: Sampler, clock: Clock) -> Iterator[None]:
    """Look at `ends` and tell of it beside the work, as the thread that drives a run does."""
    over = threading.Event()
    nobody: Connection = Connection(os.open(os.devnull, os.O_WRONLY), readable=False)
    tell = Teller("nobody", without_waiting(nobody), lambda: sampler)

    def look() -> None:
        while not over.wait(POLL_S):
            ends.look()
            tell("window", figures=lambda: ends.so_far(clock.now_s()))

    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        nobody.close()
