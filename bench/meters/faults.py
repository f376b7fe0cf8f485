"""What an NVML call's failure means for the reading behind it.

NVML answers every call with a code (`nvmlReturn_t`, nvml.h). Four families matter to a meter: the
reading does not exist here (try another method, once), the GPU is gone (stop), a passing disturbance
(a gap in the samples), anything else (this reading is over). A call may also never come back: whatever
must not wait for ever is called through `within`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import msgspec

from bench.errors import NotAvailable, RunFailed

T = TypeVar("T")

FUNCTION_NOT_FOUND = 13
ABSENT = frozenset({2, 3, FUNCTION_NOT_FOUND, 25})
"""Invalid argument (an id that the driver does not know), not supported, function not found, argument
version mismatch: this method does not exist here, another may."""
GONE = frozenset({15, 16})
"""GPU is lost, reset required."""
TRANSIENT = frozenset({10, 999})
"""Timeout, unknown error: both are seen sporadically on healthy GPUs."""
MAX_CONSECUTIVE_GAPS = 3
"""So many transient faults in a row are gaps in a reading; one more ends it."""


class GpuLost(RunFailed):
    """The GPU fell off the bus or wants a reset: the run is invalid, earlier samples are kept."""


class Hung(NotAvailable):
    """A driver's call did not return in its time; the driver is left alone from then on."""


class Fault(msgspec.Struct, frozen=True):
    """A failed reading: NVML's code and its text."""

    code: int
    text: str


def attempt(nvml: Any, call: Callable[[], T]) -> T | Fault:
    """Return what `call` returns, or the fault that the binding raised.

    `NVMLLibraryMismatchError` (an old driver without a versioned function) is no NVMLError in the
    binding; it means the same as a function that is not there.
    """
    try:
        return call()
    except nvml.NVMLError as error:
        return Fault(code=error.value, text=str(error))
    except nvml.NVMLLibraryMismatchError as error:
        return Fault(code=FUNCTION_NOT_FOUND, text=str(error))


def refuse_gone(fault: Fault, uuid: str) -> None:
    """Raise GpuLost where `fault` says that the GPU is gone."""
    if fault.code in GONE:
        raise GpuLost(f"{uuid}: {fault.text}; reset the GPU or reboot, then run again")


def within(limit_s: float, call: Callable[[], T], what: str) -> T:
    """Return what `call` returns, or raise what it raises; Hung, naming `what`, once `limit_s` have passed.

    A call into a driver cannot be interrupted, so it is made in a daemon thread, which is abandoned then.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
            outcome.set_exception(error)

    threading.Thread(target=run, name="bench-driver-call", daemon=True).start()
    try:
        return outcome.result(limit_s)
    except TimeoutError:
        if outcome.done():  # it was the call that raised this
            raise
    raise Hung(f"{what}: the driver has not answered for {limit_s:g} s; it is left alone from now on")
