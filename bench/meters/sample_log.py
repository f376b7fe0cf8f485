"""What the sampler hands over at the end: the raw samples, how they were taken, and what went wrong."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

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
    has samples. `facts` are by meter. `max_gap_s` is the longest time without a sample of a field that is
    read at the fastest rate, from start to stop. `period_s` is the declared period of each field; energy
    counters are also read in dense series between. `read_s_*` is what a read took, and `skipped` counts
    the deadlines that were not met.
    """

    samples: tuple[Sample, ...]
    missing: dict[str, str]
    facts: dict[str, dict[str, Any]]
    simulated: bool
    max_gap_s: float
    failures: tuple[MeterFailure, ...]
    period_s: dict[str, float] = {}
    read_s_median: float | None = None
    read_s_max: float | None = None
    skipped: int = 0
    doubts: tuple[str, ...] = ()

    @property
    def sampler(self) -> dict[str, Any]:
        """How the samples were taken, for `run.json`."""
        names = ("period_s", "read_s_median", "read_s_max", "max_gap_s", "skipped")
        return {name: getattr(self, name) for name in names}


def read_costs(read_s: Sequence[float]) -> dict[str, float]:
    """Return the median and the longest of the reads; nothing where there was none."""
    if not read_s:
        return {}
    return {"read_s_median": statistics.median(read_s), "read_s_max": max(read_s)}


def missing_fields(
    meters: Mapping[str, Meter], seen: Mapping[str, set[str]], failures: Mapping[str, MeterFailure]
) -> dict[str, str]:
    """Join the meters' reasons; the same field of two GPUs is missing if it is missing of one.

    Of a meter that failed every field is missing that was `seen`, or known without having been read.
    """
    reasons: dict[str, list[str]] = {}
    for name, meter in meters.items():
        own = dict(meter.missing)
        if name in failures:
            failure = failures[name]
            known = seen[name] | set(getattr(meter, "periods_s", {}))
            own |= dict.fromkeys(known, f"{failure.kind}: {failure.error}")
        for field, reason in own.items():
            if reason not in (known_reasons := reasons.setdefault(field, [])):
                known_reasons.append(reason)
    return {field: "; ".join(known_reasons) for field, known_reasons in reasons.items()}
