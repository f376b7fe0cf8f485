"""What was found out about a run, kept for as long as the run is.

A metric asks a run for the same views as the one before: the scored requests, a field of the telemetry, the
joules. A `Run` never changes, so each is computed once. Nobody may change what is returned.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from bench.records import Run

P = ParamSpec("P")
T = TypeVar("T")

_KEPT: dict[int, dict[Any, Any]] = {}


def remembered(read: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T]:
    """Compute `read` of a run and the same other arguments once."""

    @functools.wraps(read)
    def once(run: Run, /, *args: P.args, **named: P.kwargs) -> T:
        kept, key = _kept_of(run), (read, args, *sorted(named.items()))
        if key not in kept:
            kept[key] = read(run, *args, **named)
        found: T = kept[key]
        return found

    return once


def _kept_of(run: Run) -> dict[Any, Any]:
    # By identity: two runs that are equal are rare, and comparing their tables is what this is to save.
    found = _KEPT.get(id(run))
    if found is None:
        found = _KEPT[id(run)] = {}
        weakref.finalize(run, _KEPT.pop, id(run), None)
    return found
