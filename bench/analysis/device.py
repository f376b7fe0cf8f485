"""Was it the device? What a GPU and its meter did while they were measured, as faults of the run.

A GPU that slowed itself, whose limits somebody changed, whose memory lost bits or that served others as
well measures something else than the system. What is found here joins the verdict on the client
(`validity`): INVALID figures prove nothing. A run without a GPU has no such faults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.analysis.recorded import Series, every_gpu, length_s, series, span_of, whole_series
from bench.analysis.system import Fault, Level
from bench.records import Interval, Run
from bench.units import PERCENT

MAX_THROTTLED = 0.01
"""DEGRADED: throttled for more than this share of the window."""
MAX_THROTTLED_BY_HARDWARE = 0.05
"""INVALID: the hardware itself throttled for more than this share."""
HARDWARE = ("throttle_hw_thermal_s", "throttle_hw_power_brake_s")
SOFTWARE = ("throttle_sw_power_s", "throttle_sw_thermal_s")
REASON = {
    "throttle_sw_power_s": 0x04,
    "throttle_sw_thermal_s": 0x20,
    "throttle_hw_thermal_s": 0x40,
    "throttle_hw_power_brake_s": 0x80,
}
"""The bit of `throttle_reasons` for what the counter adds up (`nvmlClocksEventReason*` of nvml.h)."""
METER_STOPPED: dict[str, Level] = {"stalled": "DEGRADED", "failed": "INVALID"}
"""What a GPU's meter that stopped so makes of the run; the recorded doubt is `gpu meter stalled: why`."""


def device_faults(run: Run) -> tuple[Fault, ...]:
    """Return everything that was wrong with the device of one run, in any kind of job."""
    each = [fault for facts in every_gpu(run) for fault in (_reset_settings(facts), _memory_errors(facts))]
    found = [_throttled(run), *each, _shared(run), *_meter(run)]
    return tuple(fault for fault in found if fault is not None)


def throttled_share(run: Run, fields: tuple[str, ...] = (*HARDWARE, *SOFTWARE)) -> float | None:
    """Return the largest share of the span in which the GPU throttled so; None where none was read."""
    found = _throttling(run, fields)
    return max(found.values()) if found else None


def unknown_throttling(run: Run) -> dict[str, str]:
    """Return the causes of throttling that nobody watched in the span, each with the recorded reason."""
    known = _throttling(run, (*HARDWARE, *SOFTWARE))
    lacking = {field: why for field in REASON if field not in known and (why := run.meta.missing.get(field))}
    return {_cause(field): why for field, why in lacking.items()} if span_of(run) is not None else {}


def changed(facts: Mapping[str, Any], key: str) -> tuple[Any, Any] | None:
    """Return a fact before and after the run where it is known of both and differs."""
    before, after = facts.get(key), (facts.get("after") or {}).get(key)
    return None if before is None or after is None or before == after else (before, after)


def ecc_delta(facts: Mapping[str, Any], kind: str) -> int:
    """Return how many memory errors of a `kind` (corrected, uncorrected) came during the run."""
    ends = changed(facts, f"ecc_{kind}")
    return 0 if ends is None else max(int(ends[1]) - int(ends[0]), 0)


def others_on(run: Run) -> list[int]:
    """Return the ids of the processes that shared the GPU, before or after the run.

    In a container the ids are the host's and this run is not listed under its own: one of those that came
    is then its own, and a single one is nobody else. Who was there before anything was loaded is somebody
    else in any case.
    """
    came = _came(run)
    alone = len(came) == 1 and is_hidden(run)
    return [*_pids(every_gpu(run)), *([] if alone else came)]


def hidden_pids(run: Run) -> list[int]:
    """Return the ids that came while it ran, one of them this run's own; empty where that is listed."""
    return _came(run) if is_hidden(run) else []


def is_hidden(run: Run) -> bool:
    """Say whether this run's process was not among those on the GPU after it had computed there."""
    return any((facts.get("after") or {}).get("own_pid_listed") is False for facts in every_gpu(run))


def _came(run: Run) -> list[int]:
    before = _pids(every_gpu(run))
    after = _pids([facts.get("after") or {} for facts in every_gpu(run)])
    return [pid for pid in after if pid not in before]


def _pids(moments: Sequence[Mapping[str, Any]]) -> list[int]:
    listed = [process for moment in moments for process in moment.get("other_processes") or ()]
    return list(dict.fromkeys(process["pid"] for process in listed))


def _throttled(run: Run) -> Fault | None:
    hardware, all_of_it = _throttling(run, HARDWARE), _throttling(run, (*HARDWARE, *SOFTWARE))
    worst = max(all_of_it.values(), default=0.0)
    if worst <= MAX_THROTTLED:
        return None
    is_invalid = max(hardware.values(), default=0.0) > MAX_THROTTLED_BY_HARDWARE
    causes = ", ".join(
        f"{_cause(field)} {share * PERCENT:.2g} %"
        for field, share in all_of_it.items()
        if share > MAX_THROTTLED
    )
    limit = f"limit {MAX_THROTTLED * PERCENT:g} %, {MAX_THROTTLED_BY_HARDWARE * PERCENT:g} % by hardware"
    return Fault(
        level="INVALID" if is_invalid else "DEGRADED",
        of="device",
        text=f"the GPU throttled: {causes} of the window ({limit})",
        remedy="cool the GPU or fix its clocks below the limit; run again",
    )


def _cause(field: str) -> str:
    return field.removeprefix("throttle_").removesuffix("_s").replace("_", " ")


def _throttling(run: Run, fields: tuple[str, ...]) -> dict[str, float]:
    """Return for which share of the span each cause held the clocks down, the worst GPU's.

    By how much its cumulative counter advanced; where that is missing, in how many samples of the reasons
    its bit was set.
    """
    span = span_of(run)
    found: dict[str, float] = {}
    if span is None:
        return found
    reasons = series(run, "throttle_reasons")
    for field in fields:
        counters = whole_series(run, field)
        shares = [_advance(samples, span) for samples in counters.values()]
        shares += [
            float(np.mean((inside.values.astype(np.int64) & REASON[field]) != 0))
            for uuid, samples in reasons.items()
            if uuid not in counters and len((inside := samples.within(span)).t_s)
        ]
        if shares:
            found[field] = max(shares)
    return found


def _advance(samples: Series, span: Interval) -> float:
    ends = np.interp([span.start_s, span.end_s], samples.t_s, samples.values)
    return float(ends[1] - ends[0]) / length_s(span)


def _reset_settings(facts: Mapping[str, Any]) -> Fault | None:
    """Fault a power limit or a limit of the clocks that was another one afterwards."""
    limits = [key for key in facts if key == "power_limit_w" or ("clock" in key and "limit" in key)]
    found = {key: ends for key in limits if (ends := changed(facts, key)) is not None}
    if not found:
        return None
    texts = ", ".join(f"{key} from {before} to {after}" for key, (before, after) in found.items())
    return Fault(
        level="INVALID",
        of="device",
        text=f"the GPU's limits were changed while it was measured: {texts}",
        remedy="leave its power limit and clocks alone while it is measured; run again",
    )


def _memory_errors(facts: Mapping[str, Any]) -> Fault | None:
    n = ecc_delta(facts, "uncorrected")
    if n == 0:
        return None
    return Fault(
        level="INVALID",
        of="device",
        text=f"memory errors were not corrected: {n} during the run (limit 0)",
        remedy="take the GPU out of service, or reset it; run again",
    )


def _shared(run: Run) -> Fault | None:
    pids = others_on(run)
    if not pids:
        return None
    own = ", one of them this run's own, whose id this container hides" if len(hidden_pids(run)) > 1 else ""
    return Fault(
        level="DEGRADED",
        of="device",
        text=f"other processes were on the GPU: pids {', '.join(map(str, pids))}{own}",
        remedy="free the GPU, then run again",
    )


def _meter(run: Run) -> list[Fault]:
    """Fault a meter that stopped on the way: what happened to the GPU after that, nobody saw."""
    return [
        Fault(level=level, of="device", text=doubt, remedy="check the driver's log; run again")
        for doubt in run.meta.doubts
        for how, level in METER_STOPPED.items()
        if doubt.startswith("gpu") and doubt.partition(":")[0].endswith(f" meter {how}")
    ]
