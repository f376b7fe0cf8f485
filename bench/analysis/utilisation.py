"""How near a run came to the physical limits: MBU and MFU, from the steps recovered from its records.

*MBU* (model bandwidth utilisation) is the bytes that the decode steps had to read over their time and the
bandwidth; *MFU* (model FLOPs utilisation) the operations of the passes with a prefill over their time and the
peak. On a GPU the peak is the specification's, and the note has the share of what a copy and a matrix product
reached at start-up; elsewhere there is no specification, and those are the peak.

A share above 1 is no feat: either our count is wrong, or the weights stay in a cache, which is said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from bench.analysis.fit import iterations_of
from bench.analysis.limits import OPERATIONS, TERA, attention_operations, step_bytes
from bench.analysis.numbers import shown
from bench.analysis.recorded import column, engine_facts
from bench.analysis.reference import Gpu, caution, gpus
from bench.analysis.stats import Array
from bench.analysis.summary import over_repeats
from bench.analysis.system import Reading, SystemRuns
from bench.records import Footprint, Run, Value
from bench.units import BYTES_PER_GB, PERCENT, to_ms

MAX_TOKENS = 2_000_000
"""Of a run with more output tokens the steps are not recovered: that takes memory and time."""
SLACK = 1.5
"""A measured peak is no limit. A copy also writes, and may fetch the lines that it writes, which goes
uncounted; a product of one size may be slower than another's. Only beyond this is a count doubted."""
BYTES_PER_MB = 1e6


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's steps had to move and compute, and how long they took.

    Of its pure decode steps: their number, bytes read and time. Of each pass with a prefill (and perhaps a
    decode step in it): operations, bytes of weights and time.
    """

    footprint: Footprint
    read_bytes: float
    steps: int
    decode_bytes: float
    decode_s: float
    passes: Array
    operations: Array
    weights: Array
    prefill_s: float


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """A rate that cannot, or not easily, be exceeded, in units/s.

    `specified` where a specification states it, `firm` where independent sources agree on that.
    """

    rate: float
    name: str
    specified: bool = False
    firm: bool = False


def decode_floor_ms(system: SystemRuns) -> Value:
    """Return the mean over the decode steps of their least time."""

    def read(work: Work, peak: Peak) -> Reading:
        if work.steps == 0:
            return Reading(value=None, why="no output had a second token")
        return Reading(value=to_ms(work.decode_bytes / work.steps / peak.rate), how=f"at {peak.name}")

    return over_repeats(system, lambda run: _against(system, run, _bandwidth, read))


def prefill_floor_ms(system: SystemRuns) -> Value:
    """Return the mean over the passes with a prefill of their least time."""

    def read(run: Run, work: Work, compute: Peak) -> Reading:
        memory = _bandwidth(system, run, work)
        if isinstance(memory, str):
            return Reading(value=None, why=memory)
        if not work.passes.sum():
            return Reading(value=None, why="no prefill was seen")
        least_s = np.maximum(work.operations / compute.rate, work.weights / memory.rate)
        how = f"at {compute.name} and {memory.name}"
        return Reading(value=to_ms(float(least_s.sum() / work.passes.sum())), how=how)

    return over_repeats(
        system, lambda run: _against(system, run, _compute, lambda work, peak: read(run, work, peak))
    )


def decode_mbu(system: SystemRuns) -> Value:
    """Return the share of the memory bandwidth that decode steps used."""
    return over_repeats(system, lambda run: _against(system, run, _bandwidth, _mbu(system, run)))


def prefill_mfu(system: SystemRuns) -> Value:
    """Return the share of the peak rate of products that passes with a prefill used."""
    return over_repeats(system, lambda run: _against(system, run, _compute, _mfu(system, run)))


def beyond_limit(system: SystemRuns) -> tuple[str, str] | None:
    """Doubt our own bytes and operations where they would have taken more than the device can do."""
    for run in system.measured:
        for what, peak_of, shares in (
            ("memory bandwidth", _bandwidth, _mbu(system, run)),
            ("peak rate of products", _compute, _mfu(system, run)),
        ):
            work = work_of(run)
            peak = work if isinstance(work, str) else peak_of(system, run, work)
            if isinstance(work, str) or isinstance(peak, str):
                continue
            share = shares(work, peak).value
            resident = what == "memory bandwidth" and _in_cache(system, run, work)
            if share is None or resident or share <= (1.0 if peak.specified else SLACK):
                continue
            wrong = "our count of bytes or operations"
            if peak.specified and not peak.firm:
                wrong += ", or the specification, with which no second source agrees,"
            text = (
                f"the steps would have used {share * PERCENT:.0f} % of the {what} ({peak.name}): above the "
                f"physical limit, so {wrong} is wrong"
            )
            return text, "do not use the limits of this run, and report it with its run.json"
    return None


def work_of(run: Run) -> Work | str:
    """Return what a run's steps moved and computed, or why that cannot be told."""
    known = _RECENT.get(id(run))
    if known is not None and known[0] is run:
        return known[1]
    found = _work(run)
    _RECENT[id(run)] = (run, found)
    while len(_RECENT) > _KEPT:
        _RECENT.popitem(last=False)
    return found


_KEPT = 8
_RECENT: OrderedDict[int, tuple[Run, Work | str]] = OrderedDict()
"""Several metrics ask for the same few runs in turn; a run has no hash to remember it by."""


def _work(run: Run) -> Work | str:
    facts = run.meta.facts.get("model") or {}
    if "footprint" not in facts:
        return str(facts.get("no_footprint", "the model's footprint was not recorded"))
    footprint = msgspec.convert(facts["footprint"], Footprint)
    if column(run.requests, "output_tokens").sum() > MAX_TOKENS:
        return f"the run has more than {MAX_TOKENS:,} output tokens, too many to recover its steps"
    it = iterations_of(run)
    # Resident bytes, as the treatment check counted them: quantization states and all.
    total = run.meta.treatment.get("total_bytes", footprint.weight_bytes)
    read_bytes = float(total - footprint.gathered_bytes)
    cached = footprint.kv_bytes_per_token * _cache_share(run)
    footprint = msgspec.structs.replace(footprint, kv_bytes_per_token=round(cached))
    decode, prefill = (it.prefills == 0) & (it.rows > 0), it.prefills > 0
    prompts = column(run.requests, "prompt_tokens")
    # Exact for prompts that are computed whole and once, whatever passes they are computed in.
    mean_span = float((prompts * prompts).sum() / prompts.sum()) if prompts.sum() else 0.0
    rows, positions = it.rows[prefill], it.positions[prefill]
    operations = OPERATIONS * footprint.linear_parameters * (positions + rows)
    operations += OPERATIONS * footprint.head_parameters * (it.prefills[prefill] + rows)
    operations += attention_operations(footprint, positions * mean_span + 2.0 * it.context[prefill])
    return Work(
        footprint=footprint,
        read_bytes=read_bytes,
        steps=int(decode.sum()),
        decode_bytes=float(step_bytes(footprint, it.context[decode], read_bytes).sum()),
        decode_s=float(it.duration_s[decode].sum()),
        passes=it.prefills[prefill],
        operations=operations,
        weights=it.prefills[prefill] * read_bytes,
        prefill_s=float(it.duration_s[prefill].sum()),
    )


def _cache_share(run: Run) -> float:
    """Return which share of an unquantized cache's bytes a step reads: none without a cache."""
    cache = engine_facts(run).get("kv_cache") or {}
    if cache.get("kind") == "off":
        return 0.0
    held, formula = cache.get("bytes_held"), cache.get("bytes_held_by_formula")
    if cache.get("kind") == "quantized" and held and formula:
        return min(1.0, float(held) / float(formula))
    return 1.0


def _against(
    system: SystemRuns,
    run: Run,
    peak_of: Callable[[SystemRuns, Run, Work], Peak | str],
    read: Callable[[Work, Peak], Reading],
) -> Reading:
    """Return what `read` makes of a run's work and the peak, or why one of them is unknown."""
    work = work_of(run)
    if isinstance(work, str):
        return Reading(value=None, why=work)
    peak = peak_of(system, run, work)
    return Reading(value=None, why=peak) if isinstance(peak, str) else read(work, peak)


def _mbu(system: SystemRuns, run: Run) -> Callable[[Work, Peak], Reading]:
    def read(work: Work, peak: Peak) -> Reading:
        if work.decode_s <= 0:
            return Reading(value=None, why="no decode step was seen")
        rate = work.decode_bytes / work.decode_s
        parts = [f"of {peak.name}", _beside(peak, rate, _measured_copy(system))]
        if _in_cache(system, run, work):
            parts.append("the weights fit in the cache, so that memory is no limit")
        parts.append(work.footprint.note)
        return Reading(value=rate / peak.rate, how="; ".join(part for part in parts if part))

    return read


def _mfu(system: SystemRuns, run: Run) -> Callable[[Work, Peak], Reading]:
    def read(work: Work, peak: Peak) -> Reading:
        if work.prefill_s <= 0:
            return Reading(value=None, why="no prefill was seen")
        rate = float(work.operations.sum()) / work.prefill_s
        beside = _beside(peak, rate, _measured_product(system, work))
        return Reading(
            value=rate / peak.rate, how="; ".join(part for part in (f"of {peak.name}", beside) if part)
        )

    return read


def _beside(peak: Peak, rate: float, measured: Peak | None) -> str:
    """Return the share of the measured peak, where that is not the peak itself."""
    if not peak.specified or measured is None:
        return ""
    return f"{rate / measured.rate * PERCENT:.0f} % of {measured.name}"


def _bandwidth(system: SystemRuns, run: Run, work: Work) -> Peak | str:
    """Return the memory bandwidth in bytes/s: the specification's on a GPU, else that of a measured copy."""
    gpu = _specification(run)
    if isinstance(gpu, Gpu):
        rate = gpu.bandwidth_gb_per_s
        return _specified(gpu, rate * BYTES_PER_GB, f"{rate:g} GB/s")
    return _measured_copy(system) or f"{gpu}, and no copy was measured{_why(system, 'copy')}"


def _compute(system: SystemRuns, run: Run, work: Work) -> Peak | str:
    """Return the peak rate of products in operations/s, likewise."""
    gpu, math = _specification(run), work.footprint.math
    peak = gpu.tflops(math) if isinstance(gpu, Gpu) else None
    if isinstance(gpu, Gpu) and peak is not None:
        return _specified(gpu, peak * TERA, f"{peak:g} TFLOP/s in {math}")
    measured = _measured_product(system, work)
    if measured is not None:
        return measured
    lack = gpu if isinstance(gpu, str) else f"no source gives the {gpu.label}'s peak in {math}"
    return f"{lack}, and no product in {math} was measured{_why(system, math)}"


def _specified(gpu: Gpu, rate: float, name: str) -> Peak:
    return Peak(
        rate=rate,
        name=f"{name} (specification{caution(gpu.confidence)})",
        specified=True,
        firm=gpu.confidence == "ok",
    )


def _specification(run: Run) -> Gpu | str:
    """Return the specification of the GPU that computed the run, or why none holds."""
    if run.meta.device != "cuda":
        return "there is no specification of a CPU here"
    name = run.meta.facts.get("gpu_name")
    if (run.meta.facts.get("meters", {}).get("gpu") or {}).get("mig") in (True, "enabled"):
        return "the GPU is partitioned (MIG), so that its specification does not hold"
    return gpus().get(str(name)) or f"no specification of {name or 'an unnamed GPU'} is known"


def _peaks(system: SystemRuns) -> Mapping[str, Any]:
    """Return what was measured at start-up, in the saturated run's process."""
    return {} if system.offline is None else system.offline.meta.facts.get("peaks") or {}


def _why(system: SystemRuns, what: str) -> str:
    why = (_peaks(system).get("why") or {}).get(what)
    return f" ({why})" if why else ""


def _measured_copy(system: SystemRuns) -> Peak | None:
    rate = _peaks(system).get("copy_gb_per_s")
    if not rate:
        return None
    return Peak(rate=rate * BYTES_PER_GB, name=f"{shown(rate)} GB/s (a measured copy)")


def _measured_product(system: SystemRuns, work: Work) -> Peak | None:
    math = work.footprint.math
    rate = (_peaks(system).get("matmul_tflops") or {}).get(math)
    if not rate:
        return None
    return Peak(rate=rate * TERA, name=f"{shown(rate)} TFLOP/s in {math} (a measured product)")


def _in_cache(system: SystemRuns, run: Run, work: Work) -> bool:
    """Say whether the weights fit in the last cache, so that a step need not read them from memory."""
    gpu = _specification(run)
    stated = gpu.l2_mb * BYTES_PER_MB if isinstance(gpu, Gpu) and gpu.l2_mb is not None else 0.0
    return work.read_bytes <= max(stated, float(_peaks(system).get("cache_bytes") or 0.0))
