"""Sends drawn requests at their due times: an open loop, whatever the system does with them.

One thread sleeps until shortly before the next due time and then yields in a loop until it has come.
It goes by the absolute schedule: after a stall it sends at once all that is overdue and drops
nothing. Its lateness is in the records (`sent_s - due_s`), and latency counts from `due_s`, so a
stalled system cannot hide its stall (no coordinated omission).
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Generic, TypeVar

from bench.clock import Clock
from bench.records import Request

T = TypeVar("T")

SPIN_S = 300e-6
"""How long before the due time sleeping ends: a thread's wake-up comes about 0.1 ms late."""
SWITCH_INTERVAL_S = 500e-6
"""How long a thread may hold the interpreter while another waits; Python's 5 ms would be the lag."""


class Pacer(Generic[T]):
    """Calls `submit` with each request at its due time, on a thread of its own; used once.

    `clock` must be real: on virtual time nobody would move it.
    """

    def __init__(self, clock: Clock, submit: Callable[[Request], T]) -> None:
        """Remember whom to send to, and collect garbage now: with a model loaded that can take 0.3 s."""
        gc.collect()
        self._clock = clock
        self._submit = submit
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._answers: list[T] = []
        self._error: BaseException | None = None

    @property
    def answers(self) -> Sequence[T]:
        """What `submit` returned for the requests that were sent so far, in their order."""
        return tuple(self._answers)

    def start(self, requests: Sequence[Request]) -> None:
        """Begin to send `requests`; ValueError unless they are in order of `due_s`."""
        if self._thread is not None:
            raise RuntimeError("a pacer is used once; make a new one")
        if any(later.due_s < earlier.due_s for earlier, later in pairwise(requests)):
            raise ValueError("requests must be in order of due_s")
        self._thread = threading.Thread(target=self._run, args=(requests,), name="pacer", daemon=True)
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
        self._stop.set()

    def _run(self, requests: Sequence[Request]) -> None:
        try:
            with _prompt_interpreter():
                for request in requests:
                    if not self._reach(request.due_s):
                        return
                    self._answers.append(self._submit(request))
        except BaseException as error:  # noqa: BLE001 - a thread has no caller: `join` re-raises it
            self._error = error

    def _reach(self, due_s: float) -> bool:
        """Return True when `due_s` has come, False at once when stopped."""
        early_s = due_s - self._clock.now_s() - SPIN_S
        if early_s > 0:
            self._stop.wait(min(early_s, threading.TIMEOUT_MAX))
        while not self._stop.is_set():
            if self._clock.now_s() >= due_s:
                return True
            time.sleep(0)  # gives the interpreter and the core to whoever wants them
        return False


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
