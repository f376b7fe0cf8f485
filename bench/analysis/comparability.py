"""Whether two results may be compared at all.

A difference in GPU, driver, traffic or seed would be taken for the optimization's effect. So it is
refused, unless it is named in `allow_different`, and is then printed with the comparison. What is not
known of one side is not compared, and `circumstances` says so. A system's own runs must agree as well:
a run resumed on another machine has two. What differs and may is doubted (`unalike`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from bench.analysis.capacity import kind
from bench.analysis.device import HARDWARE, MAX_THROTTLED, throttled_share
from bench.analysis.energy import sources
from bench.analysis.recorded import every_gpu, gpu_facts
from bench.analysis.system import Context, MetricSet, SystemRuns
from bench.analysis.unalike import card_of, cards, mean_clock_mhz, power_capped
from bench.errors import ResultError
from bench.records import Run, RunMeta
from bench.units import PERCENT

CHECKED = (
    "source",
    "device",
    "gpu",
    "driver",
    "cpu",
    "model",
    "seed",
    "workload",
    "load",
    "throughput",
    "throttling",
    "energy_scope",
    "power_limit_w",
    "sm_clock_limit_mhz",
    "ecc",
)
"""What must be the same in both, and the names that an allowance may use."""
SAME_LOAD = 0.01
"""Offered rates within this share of one another are the same load."""
_WORDS = {key: key for key in CHECKED} | {
    "gpu": "GPU",
    "cpu": "CPU",
    "workload": "traffic",
    "throughput": "kind of throughput",
    "energy_scope": "energy scope",
    "power_limit_w": "power limit",
    "sm_clock_limit_mhz": "clock limit",
    "ecc": "ECC",
}
_SETTINGS = ("power_limit_w", "sm_clock_limit_mhz", "ecc")
"""How a GPU was set, by the names of its meter's facts."""
_SLOWED_FROM_OUTSIDE = (*HARDWARE, "throttle_sw_thermal_s")
"""Heat and a weak supply come from outside; a power cap may be the optimization's own doing."""
_ONLY_IF_READ = ("throttling", "energy_scope", *_SETTINGS)
"""What not every GPU tells; where neither side could read it, it is not called unknown."""
_BEFORE_SCHEMA_2 = {"engine.kind": "generate", "kv_cache.kind": "dynamic", "compile": None}
"""What every system was before it could be chosen."""
_DYNAMIC_BEFORE_SCHEMA_2: dict[str, Any] = {
    "batching.preferred_sizes": [],
    "batching.max_batch_tokens": None,
    "batching.look_ahead": 1,
    "batching.settle_ms": 0.0,
    "batching.deadline": None,
}
"""What dynamic batching was then; the only other kind, none, has no options."""
_NOT_THERE = {"cpu": ("gpu", "driver"), "cuda": ("cpu",)}
"""What a run on a device does not have, so that it is not missing."""


def context_of(system: SystemRuns) -> Context | None:
    """Return the circumstances of a system's runs; None when no run was completed.

    A circumstance in which its runs differ is in `mixed`, and stands in `checked` with all its values.
    Raises ResultError when some runs are simulated and others measured: their mean would be neither.
    """
    if not system.runs:
        return None
    meta = (system.measured or system.runs)[0].meta
    config = meta.config
    workload = {key: value for key, value in config.get("workload", {}).items() if key != "requests_per_day"}
    found = _circumstances(system)
    mixed = tuple(key for key, values in found.items() if len(values) > 1)
    if "source" in mixed:
        raise ResultError(
            f"{system.name}: some of its runs are {' and others '.join(found['source'])}; measure all of "
            "them alike in a new run"
        )
    seen = {key: _joined(values) for key, values in found.items()}
    checked = seen | {
        "model": config.get("model"),
        "seed": config.get("seed"),
        "workload": workload,
        "throughput": kind(system),
        "throttling": _throttling(system),
    }
    return Context(
        checked={key: checked[key] for key in CHECKED},
        settings=_settings(meta, system.name),
        memory_total_gb=meta.facts.get("memory_total_gb"),
        mixed=mixed,
        cards=cards(system),
        energy_sources=tuple(sorted(sources(system))),
        sm_clock_mhz=mean_clock_mhz(system),
        power_capped=power_capped(system),
    )


def mixed_runs(system: SystemRuns) -> str | None:
    """Return in what a system's own runs differ, in words; None where they agree."""
    found = _circumstances(system) | {"card": _distinct([card_of(run) for run in system.runs])}
    texts = [
        f"{_WORDS.get(key, key)} ({_joined(values)})" for key, values in found.items() if len(values) > 1
    ]
    return f"its own runs differ in {', '.join(texts)}" if texts else None


def check(
    baseline: MetricSet, optimized: MetricSet, allow_different: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the allowed differences as sentences.

    Raises ResultError when the two differ in anything checked that is not allowed, or when
    `allow_different` names something unknown. Bare CSVs are checked for simulated against measured only.
    """
    if unknown := sorted(set(allow_different) - set(CHECKED)):
        raise ResultError(f"{unknown[0]!r} cannot be allowed to differ; valid here: {', '.join(CHECKED)}")
    found = _differences(baseline, optimized)
    refused = [text for key, text in found.items() if key not in allow_different]
    if refused:
        keys = ", ".join(key for key in found if key not in allow_different)
        raise ResultError(
            f"{baseline.origin} and {optimized.origin} are not comparable: {'; '.join(refused)}. Measure "
            f"both alike, or allow it by name ({keys})"
        )
    return tuple(found.values())


def circumstances(one: Context, two: Context) -> str:
    """Return what was found to be the same, and what is not known or differs within a system, in words."""
    absent = {
        key
        for context in (one, two)
        for key in _NOT_THERE.get(str(context.checked.get("device")), ())
        if context.checked.get(key) is None
    }
    absent |= {key for key in _ONLY_IF_READ if one.checked.get(key) is None and two.checked.get(key) is None}
    unknown = [
        key for key in CHECKED if key not in absent and None in (one.checked.get(key), two.checked.get(key))
    ]
    mixed = [key for key in CHECKED if key in {*one.mixed, *two.mixed}]
    same = [
        key
        for key in CHECKED
        if key not in {*absent, *unknown, *mixed} and _alike(key, one.checked.get(key), two.checked.get(key))
    ]
    parts = [f"same {_listed(same)}" if same else ""]
    parts.append(f"different between the runs of one system: {_listed(mixed)}" if mixed else "")
    parts.append(f"not known: {_listed(unknown)}" if unknown else "")
    return "; ".join(part for part in parts if part)


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one table with dotted keys."""
    result: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            result |= flat(value, f"{name}.")
        else:
            result[name] = list(value) if isinstance(value, tuple) else value  # as JSON gives it back
    return result


def _settings(meta: RunMeta, name: str) -> dict[str, Any]:
    """Return a system's own settings, also those of an older run that could not be chosen then."""
    settings = flat(meta.config.get("systems", {}).get(name, {}))
    if meta.schema >= 2:
        return settings
    dynamic = settings.get("batching.kind") == "dynamic"
    return settings | _BEFORE_SCHEMA_2 | (_DYNAMIC_BEFORE_SCHEMA_2 if dynamic else {})


def _circumstances(system: SystemRuns) -> dict[str, list[Any]]:
    """Return the distinct known values of what every completed run of a system must share."""
    metas = [run.meta for run in system.runs]
    rates = [run.meta.offered_rps for run in system.windows]
    found: dict[str, list[Any]] = {
        "source": [meta.source for meta in metas],
        "device": [meta.device for meta in metas],
        "gpu": [meta.facts.get("gpu_name") for meta in metas],
        "driver": [meta.facts.get("driver") for meta in metas],
        "cpu": [meta.provenance.get("cpu") for meta in metas if meta.device == "cpu"],
        # Also a repeat that failed was offered its load.
        "load": rates,
        "energy_scope": [gpu_facts(run).get("energy_scope") for run in system.runs],
    }
    found |= {key: [_joined(_distinct(_told(run, key))) for run in system.runs] for key in _SETTINGS}
    return {key: _distinct(values) for key, values in found.items()}


def _throttling(system: SystemRuns) -> float | None:
    """Return the largest share of a run in which heat or supply slowed its GPU; None where unread."""
    shares = [s for run in system.runs if (s := throttled_share(run, _SLOWED_FROM_OUTSIDE)) is not None]
    return max(shares, default=None)


def _told(run: Run, key: str) -> list[Any]:
    """Return what the meter of each GPU said before the run."""
    return [facts.get(key) for facts in every_gpu(run)]


def _distinct(values: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for value in values:
        if value is not None and not any(_same(value, other) for other in kept):
            kept.append(value)
    return kept


def _joined(values: list[Any]) -> Any:
    """Return the one value, None for none, and several as one text."""
    return values[0] if len(values) == 1 else " / ".join(map(str, values)) or None


def _listed(keys: list[str]) -> str:
    words = [_WORDS[key] for key in keys]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _differences(baseline: MetricSet, optimized: MetricSet) -> dict[str, str]:
    """Return every checked key that is known of both and differs, with a sentence."""
    one, two = _checked(baseline), _checked(optimized)
    return {
        key: f"{key} differs ({_contrast(key, one[key], two[key])})"
        for key in CHECKED
        if key in one and key in two and not _alike(key, one[key], two[key])
    }


def _checked(metrics: MetricSet) -> dict[str, Any]:
    if metrics.context is not None:
        return metrics.context.checked
    sources = {value.source for value in metrics.values.values()}
    for source in ("simulated", "replayed", "measured"):
        if source in sources:
            return {"source": source}
    return {}


def _alike(key: str, one: Any, two: Any) -> bool:
    """Say whether two circumstances are the same; of throttling, whether they differ by 1 % of the time."""
    if key == "throttling" and one is not None and two is not None:
        return bool(abs(one - two) <= MAX_THROTTLED)
    return _same(one, two)


def _same(one: Any, two: Any) -> bool:
    if one is None or two is None:
        return True  # What is not known cannot be said to differ.
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=SAME_LOAD)
    return bool(one == two)


def _contrast(key: str, one: Any, two: Any) -> str:
    """Return both values; of two tables, only the keys that differ."""
    if key == "throttling":
        return f"{one * PERCENT:.2g} % of the time against {two * PERCENT:.2g} %"
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        left, right = flat(one), flat(two)
        keys = [key for key in left | right if left.get(key) != right.get(key)]
        return "; ".join(f"{key}: {left.get(key)} against {right.get(key)}" for key in keys)
    return f"{one} against {two}"
