"""A probe of a capacity search, looked at as a run of its own: its window, its requests, its sender."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from bench.records import Probe, Run

_HANDOVER_S = 0.5
"""The longest pause between a probe's warm-up and its window, in which nothing is due."""


def view_of(run: Run, probe: Probe) -> Run:
    """Return the probe as a run of its own: its window, its requests alone, and the facts of its sender.

    What another probe left behind would count as waiting in this one. A probe's own requests are due from
    its warm-up on, until the next probe's warm-up begins.
    """
    import pyarrow.compute as pc

    starts_s = [_start_s(other, run.meta.probes) for other in run.meta.probes]
    start_s = _start_s(probe, run.meta.probes)
    end_s = min((other_s for other_s in starts_s if other_s > start_s), default=math.inf)
    due = pc.field("due_s")
    requests = run.requests.filter((due >= start_s) & (due < end_s))
    meta = msgspec.structs.replace(
        run.meta, window=probe.window, offered_rps=probe.rate_rps, facts=_facts(run, probe)
    )
    return msgspec.structs.replace(run, meta=meta, requests=requests)


def _facts(run: Run, probe: Probe) -> dict[str, Any]:
    """Return the run's facts with the probe's own; those of another probe's window would be wrong here."""
    own = {"due_in_window": probe.due, "pacer": probe.pacer, "stopped_early": probe.stopped}
    others = {name: fact for name, fact in run.meta.facts.items() if name not in own}
    return others | {name: fact for name, fact in own.items() if fact is not None}


def _start_s(probe: Probe, probes: list[Probe]) -> float:
    """Return when a probe's warm-up began; where that is unknown, when the window before it ended."""
    before_s = [other.window.end_s for other in probes if other.window.end_s <= probe.window.start_s]
    earliest_s = max(before_s, default=-math.inf)
    if probe.warmup_s is None:
        return earliest_s
    # The warm-up and the window do not quite touch; what is due between them is none of either.
    return max(probe.window.start_s - probe.warmup_s - _HANDOVER_S, earliest_s)
