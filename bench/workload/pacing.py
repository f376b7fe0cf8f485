"""Sends drawn requests at their due times: an open loop, whatever the system does with them.

One thread sleeps until shortly before the next due time and spins until it has come. It goes by the
absolute schedule: after a stall it sends at once all that is overdue, re-anchors nothing and drops
nothing. Latency counts from the due time, so a stalled system cannot hide its stall (no coordinated
omission), and the sender's own lateness is recorded in two parts: it was still busy with earlier requests
(`pacer_lag_s`), or it waited for the interpreter and a core (`interpreter_lag_s`). An engine in the same
process makes every sender late by the second; one that stamps before it holds the interpreter hides it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

from bench.clock import Clock
from bench.records import Request
from bench.units import NS_PER_S

T = TypeVar("T")

SPIN_S = 100e-6
"""How long before the due time sleeping ends: about what a thread needs to wake up and get its turn …"""
MAX_SPIN_SHARE = 0.02
"""… but at most this share of the mean gap: while the sender spins, the engine has no interpreter."""
SWITCH_INTERVAL_S = 100e-6
"""How long a thread may hold the interpreter while another waits; Python's 5 ms would be the lag.

Not below `SPIN_S`: else the sender, which holds the interpreter while it spins, loses it to the engine
just before the due time.
"""
_SET_TIMER_SLACK = 29
"""`PR_SET_TIMERSLACK` of prctl(2)."""
_SCHEDULING = Path("/proc/thread-self/schedstat")


def split_lag(due_s: float, ready_s: float, sent_s: float) -> tuple[float, float]:
    """Return a request's pacer lag and interpreter lag in seconds; their sum is `sent_s - due_s`.

    `ready_s` is when the sender had done with the requests before this one.

    >>> split_lag(1.0, 1.5, 1.75), split_lag(1.0, 0.5, 1.25)
    ((0.5, 0.25), (0.0, 0.25))
    """
    turned_s = max(due_s, ready_s)
    return turned_s - due_s, sent_s - turned_s


class Pacer(Generic[T]):
    """Calls `submit` with each request at its due time, on a thread of its own; used once.

    `clock` must be real: on virtual time nobody would move it.
    """

    def __init__(self, clock: Clock, submit: Callable[[Request], T]) -> None:
        """Remember whom to send to, and collect garbage now: with a model loaded that can take 0.3 s."""
        gc.collect()
        self._clock = clock
        self._submit = submit
        self._stopped = False
        self._stop = threading.Lock()  # held until `stop`: sleeping is waiting for it, in one call
        self._stop.acquire()
        self._thread: threading.Thread | None = None
        self._requests: Sequence[Request] = ()
        self._answers: list[T] = []
        self._ready_s: list[float] = []
        self._spin_s = SPIN_S
        self._scheduling: dict[str, Any] = {}
        self._error: BaseException | None = None

    @property
    def answers(self) -> Sequence[T]:
        """What `submit` returned for the requests that were sent so far, in their order."""
        return tuple(self._answers)

    @property
    def ready_s(self) -> Mapping[int, float]:
        """When the sender turned to each request, by uid: the second argument of `split_lag`.

        It may hold one more than was sent: that which the sender waits for.
        """
        return {request.uid: s for request, s in zip(self._requests, tuple(self._ready_s), strict=False)}

    @property
    def facts(self) -> Mapping[str, Any]:
        """How it sent, and, once its thread has ended, how long that ran and waited for a core, in seconds.

        `scheduling` is `real-time` where the system allowed it, else `as usual`. `run_queue_s` tells a lack
        of cores from a wait for the interpreter, which is not in it. None where the system does not say,
        with the reason as `run_queue_why`.
        """
        return {"spin_s": self._spin_s, "switch_interval_s": SWITCH_INTERVAL_S} | self._scheduling

    def start(self, requests: Sequence[Request]) -> None:
        """Begin to send `requests`; ValueError unless they are in order of `due_s`."""
        if self._thread is not None:
            raise RuntimeError("a pacer is used once; make a new one")
        if any(later.due_s < earlier.due_s for earlier, later in pairwise(requests)):
            raise ValueError("requests must be in order of due_s")
        self._requests = requests
        if len(requests) > 1:
            gap_s = (requests[-1].due_s - requests[0].due_s) / (len(requests) - 1)
            self._spin_s = min(SPIN_S, MAX_SPIN_SHARE * gap_s)
        self._thread = threading.Thread(target=self._run, name="pacer", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until all is sent or `stop` was called; return False if `timeout_s` passed before.

        Re-raises what `submit` raised, which also ends the sending.
        """
        if self._thread is None:
            raise RuntimeError("the pacer was not started")
        self._thread.join(timeout_s)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Send nothing more, from now on; may be called at any time and more than once."""
        if not self._stopped:
            self._stopped = True
            self._stop.release()

    def _run(self) -> None:
        try:
            self._scheduling["scheduling"] = _be_punctual()
            with _prompt_interpreter(), _observed(self._scheduling):
                self._send()
        except BaseException as error:  # noqa: BLE001 - a thread has no caller: `join` re-raises it
            self._error = error

    def _send(self) -> None:
        """Send each request when it is due; nothing here may take time that is not needed."""
        now_s, submit, spin_s = self._clock.now_s, self._submit, self._spin_s
        ready, answered = self._ready_s.append, self._answers.append
        for request in self._requests:
            due_s = request.due_s
            turned_s = now_s()
            ready(turned_s)
            early_s = due_s - turned_s - spin_s
            if early_s > 0:
                self._stop.acquire(timeout=min(early_s, threading.TIMEOUT_MAX))
            # Holding the interpreter: who gives it away now may get it back too late.
            while now_s() < due_s and not self._stopped:
                pass
            if self._stopped:
                return
            answered(submit(request))


@contextmanager
def _prompt_interpreter() -> Iterator[None]:
    """Let a waiting thread get its turn sooner than Python would, and restore that afterwards.

    What exists already (modules, the model, the drawn requests) is frozen, so that a full collection
    during the run does not stop all threads to walk through it. The collector stays on: switched off,
    cyclic garbage of the run itself would pile up and be measured as the system's memory.
    """
    interval_s = sys.getswitchinterval()
    gc.freeze()
    sys.setswitchinterval(min(interval_s, SWITCH_INTERVAL_S))
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        gc.unfreeze()


def _be_punctual() -> str:
    """Ask Linux to wake this thread on time and to let it go first; return how it is scheduled then.

    By default the kernel may delay a timer by 50 µs, to save wake-ups, and a thread waits for its turn on
    busy cores, some milliseconds at p99. Both are the thread's own and end with it. Real-time scheduling
    needs a privilege; it is harmless to others, for the thread runs for a fraction of a millisecond a time.
    """
    if sys.platform != "linux":
        return "as usual"
    ctypes.CDLL(None).prctl(_SET_TIMER_SLACK, ctypes.c_ulong(1), 0, 0, 0)
    try:
        # Threads that are started while sending go back to the usual.
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        return "as usual"
    return "real-time"


@contextmanager
def _observed(facts: dict[str, Any]) -> Iterator[None]:
    """Note in `facts` how long this thread runs and how long it waits for a core meanwhile."""
    before = _scheduling_ns()
    try:
        yield
    finally:
        after = _scheduling_ns()
        if isinstance(before, str) or isinstance(after, str):
            why = before if isinstance(before, str) else after
            facts |= {"processor_s": None, "run_queue_s": None, "run_queue_why": why}
        else:
            ran, waited = (end - start for start, end in zip(before, after, strict=True))
            facts |= {"processor_s": ran / NS_PER_S, "run_queue_s": waited / NS_PER_S}


def _scheduling_ns() -> tuple[int, int] | str:
    """Return this thread's time on a core and in a core's queue, in ns, or why they are not known."""
    try:
        ran, waited, _ = _SCHEDULING.read_text(encoding="ascii").split()
        return int(ran), int(waited)
    except (OSError, ValueError) as error:
        return f"{_SCHEDULING}: {error}"
