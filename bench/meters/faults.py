"""What an NVML call's failure means for the reading behind it.

NVML answers every call with a code (`nvmlReturn_t`, nvml.h). Four families matter to a meter: the
reading does not exist here (try another method, once), the GPU is gone (stop), a passing disturbance
(a gap in the samples), anything else (this reading is over).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from bench.errors import RunFailed

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
