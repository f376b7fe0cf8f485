"""Doubts about a pair that may be compared and is not alike in every respect.

What would be taken for the optimization's effect is refused (`comparability`). What is left here may be the
optimization's own doing (the GPU's clock, its power cap), or touches one figure alone (the energy of another
card, or of another meter): it is named, and where its size is known, the interval of the change has it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec

from bench.analysis.change import Change
from bench.analysis.corners import changed_groups, cube
from bench.analysis.device import MAX_THROTTLED, throttled_share
from bench.analysis.joules import SENSOR_GAIN
from bench.analysis.recorded import every_gpu, series, window_of
from bench.analysis.system import Context, Doubt, MetricSet, SystemRuns
from bench.records import Run
from bench.units import PERCENT

POWER_CAP = ("throttle_sw_power_s",)
"""Slowed to keep the power limit: what a system that works the GPU harder does to itself."""
MAX_CLOCK_DIFFERENCE = 0.05
"""Mean clocks further apart than this share are named: locked clocks cannot be read."""
ENERGIES = (
    "estimated_energy_kwh_per_1k_requests",
    "net_energy_kwh_per_1k_requests",
    "co2e_kg_per_1k_requests",
    "sci_kg_per_1k_requests",
)
"""Figures that are proportional to joules, the last one at most."""
DEFAULTS: dict[str, Any] = {
    "precision.threshold": 6.0,
    "precision.double_quant": False,
    "engine.block_size": 32,
    "engine.safety_margin": 0.0,
    "batching.preferred_sizes": [],
    "batching.look_ahead": 1,
    "batching.settle_ms": 0.0,
}
"""Options of one kind alone, as they are where nobody sets them: their kind says all there is to say."""
_LEAST, _MOST = (1.0 - SENSOR_GAIN) / (1.0 + SENSOR_GAIN), (1.0 + SENSOR_GAIN) / (1.0 - SENSOR_GAIN)


def card_of(run: Run) -> str | None:
    """Return the UUIDs of the GPUs that were metered for a run, None where none is known."""
    uuids = {facts["uuid"] for facts in every_gpu(run) if facts.get("uuid")}
    return " + ".join(sorted(uuids)) or run.meta.facts.get("gpu_uuid")


def cards(system: SystemRuns) -> tuple[str, ...]:
    """Return the cards on which a system's repeats were measured."""
    found = (card_of(run) for run in system.measured)
    return tuple(dict.fromkeys(card for card in found if card is not None))


def mean_clock_mhz(system: SystemRuns) -> float | None:
    """Return the mean clock of the GPU's processors over the windows; None where it was not sampled."""
    clocks = [
        float(inside.mean())
        for run in system.measured
        for samples in series(run, "sm_clock_mhz").values()
        if len(inside := samples.within(window_of(run)).values)
    ]
    return sum(clocks) / len(clocks) if clocks else None


def power_capped(system: SystemRuns) -> float | None:
    """Return the largest share of a run in which the power limit slowed its GPU; None where unread."""
    shares = [share for run in system.runs if (share := throttled_share(run, POWER_CAP)) is not None]
    return max(shares, default=None)


def setting_differences(baseline: MetricSet, optimized: MetricSet) -> dict[str, tuple[Any, Any]]:
    """Return the dotted settings in which the two systems differ, with both values.

    What one of them does not have is left out where the other has it at its default.
    """
    if baseline.context is None or optimized.context is None:
        return {}
    one, two = baseline.context.settings, optimized.context.settings
    keys = [*one, *(key for key in two if key not in one)]
    found = {key: (one.get(key), two.get(key)) for key in keys if one.get(key) != two.get(key)}
    return {key: values for key, values in found.items() if not _only_default(key, values)}


def _only_default(key: str, values: tuple[Any, Any]) -> bool:
    return key in DEFAULTS and None in values and DEFAULTS[key] in values


def doubts_of_pair(
    baseline: MetricSet, optimized: MetricSet, others: Collection[MetricSet] = ()
) -> list[Doubt]:
    """Return every doubt about the pair that neither system raises alone.

    `others` are the systems measured beside them in the same experiment.
    """
    found = [
        confounded(baseline, optimized, others),
        *(find(baseline, optimized) for find in (other_card, other_meter, other_clock, capped)),
    ]
    return [doubt for doubt in found if doubt is not None]


def confounded(baseline: MetricSet, optimized: MetricSet, others: Collection[MetricSet] = ()) -> Doubt | None:
    """Return the doubt that several changes at once raise: none of them can be credited.

    There is none where all systems between the two are among `others`, and none of these is INVALID: a
    factorial tells the changes apart (see `factorial`).
    """
    changed = changed_groups(baseline, optimized)
    if len(changed) < 2:
        return None
    text = f"the systems differ in {' and '.join(changed)} at once; the effect belongs to neither alone"
    between = cube(baseline, optimized, others)
    if between is None:
        some = ", and for each combination of some of them" if len(changed) > 2 else ""
        return Doubt(key="confounded", text=text, remedy=f"add a system for each change alone{some}")
    if not between.invalid:
        return None
    bad = ", ".join(between.invalid)
    text += f", and the factorial that would tell them apart has an INVALID run ({bad})"
    return Doubt(key="confounded", text=text, remedy=f"measure again: {bad}")


def on_several_cards(baseline: MetricSet, optimized: MetricSet) -> bool:
    """Say whether the repeats of both were measured on more than one card, one system's own included."""
    contexts = [side.context for side in (baseline, optimized) if side.context is not None]
    return len({card for context in contexts for card in context.cards}) > 1


def widened_by_gain(change: Change, base: float | None) -> Change:
    """Return a change between cards: each sensor is off its own way, so the ratio is known to both gains.

    Without an interval there is nothing to widen: it is a point value either way.
    """
    if change.low is None or change.high is None or base is None or base <= 0:
        return change
    ratios = [1.0 + end / base for end in (change.low, change.high)]
    low = min(ratios[0] * _LEAST, ratios[0] * _MOST) - 1.0
    high = max(ratios[1] * _LEAST, ratios[1] * _MOST) - 1.0
    is_open = change.direction in ("better", "worse") and low <= 0.0 <= high
    return msgspec.structs.replace(
        change,
        low=low * base,
        high=high * base,
        low_pct=low * PERCENT,
        high_pct=high * PERCENT,
        direction="unclear" if is_open else change.direction,
    )


def other_card(baseline: MetricSet, optimized: MetricSet) -> Doubt | None:
    """Doubt joules of several cards of one name: what each sensor is off by does not cancel."""
    if not on_several_cards(baseline, optimized):
        return None
    where = _each(baseline, optimized, lambda context: context.cards)
    text = (
        f"not all was measured on one card ({where}): each card's power sensor may be off by "
        f"{SENSOR_GAIN * PERCENT:g} % its own way, which does not cancel; the interval of a change of energy "
        "is widened by it"
    )
    return Doubt(key="several cards", text=text, remedy="measure both systems on the same card")


def other_meter(baseline: MetricSet, optimized: MetricSet) -> Doubt | None:
    """Doubt joules that different meters gave: their errors are not the same and do not cancel."""
    sources = [set(side.context.energy_sources) for side in (baseline, optimized) if side.context is not None]
    if len(sources) < 2 or not all(sources) or sources[0] == sources[1]:
        return None
    which = _each(baseline, optimized, lambda context: context.energy_sources)
    text = f"energy comes from different meters ({which}), whose errors do not cancel"
    remedy = "see in the notes of the energy why a meter was not used, and measure both by the same one"
    return Doubt(key="several meters", text=text, remedy=remedy)


def other_clock(baseline: MetricSet, optimized: MetricSet) -> Doubt | None:
    """Doubt two systems whose GPU ran at another clock: somebody may have locked it, which cannot be read."""
    one, two = (None if side.context is None else side.context.sm_clock_mhz for side in (baseline, optimized))
    if one is None or two is None or abs(one - two) <= MAX_CLOCK_DIFFERENCE * max(one, two):
        return None
    text = (
        f"the GPU's mean clock differs by more than {MAX_CLOCK_DIFFERENCE * PERCENT:g} % "
        f"({baseline.name}: {one:.0f} MHz, {optimized.name}: {two:.0f} MHz): it follows the load, or "
        "somebody locked it, which cannot be read"
    )
    return Doubt(
        key="clocks", text=text, remedy="unlock the clocks, or lock them alike (nvidia-smi), and run again"
    )


def capped(baseline: MetricSet, optimized: MetricSet) -> Doubt | None:
    """Doubt two systems of which the power limit slowed one more: it may be its own doing."""
    one, two = (None if side.context is None else side.context.power_capped for side in (baseline, optimized))
    if one is None or two is None or abs(one - two) <= MAX_THROTTLED:
        return None
    text = (
        f"the power limit slowed the GPU differently ({baseline.name}: {one * PERCENT:.2g} % of the time, "
        f"{optimized.name}: {two * PERCENT:.2g} %): the effect of what was changed holds at this limit"
    )
    return Doubt(key="power cap", text=text, remedy="raise the power limit, or say at which limit it holds")


def _each(baseline: MetricSet, optimized: MetricSet, read: Callable[[Context], tuple[str, ...]]) -> str:
    sides = ((side.name, side.context) for side in (baseline, optimized))
    return ", ".join(
        f"{name}: {' / '.join(read(context)) or 'unknown'}" for name, context in sides if context
    )
