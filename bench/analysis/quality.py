"""Output quality: held-out text scored, prompts continued, against the baseline and against rounding alone.

Perplexity says how well the model predicts the text; the KL divergence of its next-token distributions
from the reference's, and how often both pick the same token, say how far a system drifted from the
baseline. All is paired by position, so what makes a text hard is no part of a difference: the ratio of two
perplexities is known far better than either. Neighbouring positions are correlated, so intervals come from
long blocks of consecutive positions. What was written freely is in `drift`, `formats` and `tone`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np

from bench.analysis import drift
from bench.analysis.drift import Against, Pair, pairs_of
from bench.analysis.formats import check_formats, format_drop
from bench.analysis.numbers import shown
from bench.analysis.output_quality import Held, OutputQuality
from bench.analysis.recorded import column
from bench.analysis.stats import Array, Estimate, block_interval
from bench.analysis.summary import origin
from bench.analysis.system import SystemRuns, missing
from bench.analysis.tone import shifts, tone_shift
from bench.records import Run, Value
from bench.units import PERCENT

ALONE = "no reference: this system is the one that others are compared with"
NO_NUMBER = "the recorded divergence is a number at no position"
BLOCKS = 10


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """Positions scored by a system and by its reference; negative log-likelihoods and KL in nats."""

    nll: Array
    reference_nll: Array
    kl: Array
    agree: Array


def perplexity(system: SystemRuns) -> Value:
    """Return exp(mean negative log-likelihood) over the scored positions.

    No interval: across texts it would be far wider than that of the ratio of two systems on one text.
    """
    run = _offline(system)
    if isinstance(run, Value):
        return run
    if run.quality is None:
        return missing(run.meta.missing.get("quality", "quality was not measured"))
    nll = column(run.quality, "nll")
    nll = nll[np.isfinite(nll)]
    if len(nll) == 0:
        return missing("no position was scored")
    note = f"{origin(run)}; {len(nll)} positions of held-out text, teacher-forced"
    return Value(value=math.exp(float(nll.mean())), source=run.meta.source, note=note)


def perplexity_ratio(scored: Scored) -> Value:
    """Return the perplexity over the reference's: exp of the mean difference of the log-likelihoods."""
    if not np.isfinite(scored.reference_nll).all():
        return missing("this run did not record the reference's likelihood of each position")
    found = _by_blocks(scored.nll - scored.reference_nll)
    ends = [None if end is None else math.exp(end) for end in (found.low, found.high)]
    return _value(Estimate(math.exp(found.mean), ends[0], ends[1], found.n), len(scored.nll))


def mean_kl(scored: Scored) -> Value:
    """Return the mean KL(reference ‖ system) per position, in nats.

    Infinite, and without an interval, where the system rules out a token that the reference does not.
    """
    if beyond := int(np.isinf(scored.kl).sum()):
        note = f"the system rules out a token that the reference does not, at {beyond} of {len(scored.kl)}"
        return Value(value=math.inf, source="measured", note=f"{note} positions")
    return _value(_by_blocks(scored.kl), len(scored.kl))


def median_kl(scored: Scored) -> Value:
    """Return the median KL(reference ‖ system) over the positions, in nats."""
    return _value(_quantile(scored.kl, 0.5), len(scored.kl))


def kl_p99(scored: Scored) -> Value:
    """Return the KL(reference ‖ system) that one position in a hundred exceeds, in nats."""
    return _value(_quantile(scored.kl, 0.99), len(scored.kl))


def top1_agreement(scored: Scored) -> Value:
    """Return the share of positions at which system and reference pick the same token."""
    found = _by_blocks(scored.agree)
    ends = [None if end is None else min(1.0, max(0.0, end)) for end in (found.low, found.high)]
    return _value(Estimate(found.mean, ends[0], ends[1], found.n), len(scored.agree))


def probability_rms(scored: Scored) -> Value:
    """Return the root mean square change of the probability of the token that came."""
    if not np.isfinite(scored.reference_nll).all():
        return missing("this run did not record the reference's likelihood of each position")
    squared = _by_blocks((np.exp(-scored.nll) - np.exp(-scored.reference_nll)) ** 2)
    roots = [None if end is None else math.sqrt(max(0.0, end)) for end in (squared.low, squared.high)]
    return _value(Estimate(math.sqrt(squared.mean), roots[0], roots[1], squared.n), len(scored.nll))


TEACHER_FORCED: dict[str, Callable[[Scored], Value]] = {
    "perplexity_ratio": perplexity_ratio,
    "mean_kl": mean_kl,
    "median_kl": median_kl,
    "kl_p99": kl_p99,
    "top1_agreement": top1_agreement,
    "probability_rms": probability_rms,
}
AGAINST_REFERENCE = (*TEACHER_FORCED, *drift.MEASURES, "format_drop", "tone_shift")
"""Every measure that says nothing without the reference that it was made against."""


def measured(name: str) -> Callable[[SystemRuns], Value]:
    """Return the function of a system that gives the measure `name` against the baseline."""

    def measure(system: SystemRuns) -> Value:
        run = _offline(system)
        if isinstance(run, Value):
            return run
        if name in TEACHER_FORCED:
            return _told(run, "baseline", _teacher_forced(_scored(run, "baseline"), name))
        return _told(run, "baseline", _free_running(run, pairs_of(run, "baseline"), name))

    return measure


def quality_of(system: SystemRuns) -> OutputQuality | None:
    """Return all that was found about a system's outputs; None where its job has none."""
    run = system.offline
    if run is None or run.meta.status != "complete" or (run.quality is None and run.outputs is None):
        return None
    return OutputQuality(
        against_baseline=_held(run, "baseline"),
        against_itself=_held(run, "itself"),
        lacking=_lacking(run),
        how=_how(run),
        floor=_floor(run),
    )


def _held(run: Run, against: Against) -> Held | None:
    """Return one set of outputs held against another; None where nothing of it was measured."""
    pairs, scored = pairs_of(run, against), _scored(run, against)
    measures = {
        name: _told(run, against, _teacher_forced(scored, name))
        if name in TEACHER_FORCED
        else _told(run, against, _free_running(run, pairs, name))
        for name in AGAINST_REFERENCE
    }
    if all(value.value is None for value in measures.values()):
        return None
    return Held(measures=measures, checks=check_formats(pairs), tone=shifts(pairs))


def _told(run: Run, against: Against, found: Value) -> Value:
    """Return a measure with where it comes from."""
    if found.value is None:
        return found
    what = "the baseline" if against == "baseline" else "itself at another batch size"
    note = f"{origin(run)}; against {what}, {found.note}"
    if found.low is not None:
        sure = f"{found.confidence * PERCENT:.0f} %"
        note += f"; {sure} interval {shown(found.low)} to {shown(found.high)}"
    return msgspec.structs.replace(found, note=note, source=run.meta.source)


def _teacher_forced(scored: Scored | Value, name: str) -> Value:
    return scored if isinstance(scored, Value) else TEACHER_FORCED[name](scored)


def _free_running(run: Run, pairs: Sequence[Pair], name: str) -> Value:
    if not pairs:
        default = ALONE if run.outputs is not None else "this run continued no prompts"
        return missing(run.meta.missing.get("outputs", default))
    if name == "format_drop":
        return format_drop(check_formats(pairs))
    return tone_shift(shifts(pairs)) if name == "tone_shift" else drift.MEASURES[name](pairs)


def _scored(run: Run, against: Against) -> Scored | Value:
    """Return the positions at which both were scored, or why there are none."""
    table = run.quality
    if table is None:
        return missing(run.meta.missing.get("quality", "quality was not measured"))
    own, reference = ("", "ref_nll") if against == "baseline" else ("again_", "nll")
    nothing = np.full(table.num_rows, np.nan)
    nll, reference_nll, kl, agree = (
        column(table, name) if name in table.column_names else nothing
        for name in (f"{own}nll", reference, f"{own}kl", f"{own}agree")
    )
    both = ~np.isnan(kl) & np.isfinite(agree) & np.isfinite(nll)
    if not both.any():
        default = NO_NUMBER if against == "baseline" and np.isfinite(reference_nll).any() else ALONE
        return missing(run.meta.missing.get("kl", default))
    return Scored(nll=nll[both], reference_nll=reference_nll[both], kl=kl[both], agree=agree[both])


def _offline(system: SystemRuns) -> Run | Value:
    run = system.offline
    if run is None or run.meta.status != "complete":
        return missing("the run that measures quality did not complete")
    return run


def _lacking(run: Run) -> str:
    """Return why continued prompts that were asked for are not there; '' where they were not asked for."""
    if run.quality is None or not run.meta.config.get("quality", {}).get("prompts", 0):
        return ""
    absent = "the outputs are not in the run folder" if run.outputs is None else ""
    return run.meta.missing.get("outputs", absent)


def _how(run: Run) -> str:
    parts = []
    if run.quality is not None:
        parts.append(f"{run.quality.num_rows} positions of held-out text, a window at a time")
    if run.outputs is not None:
        new, batch = run.meta.facts.get("outputs_new_tokens"), run.meta.facts.get("outputs_batch")
        sizes = f", at most {new} tokens each, {batch} at a time" if new and batch else ""
        parts.append(f"{run.outputs.num_rows} prompts continued greedily{sizes}")
    return "; ".join(parts)


def _floor(run: Run) -> str:
    """Return at which other batch sizes the baseline was held against itself, and why at one it was not."""
    halves = (("windows", "quality_windows_again", "again"), ("prompts", "outputs_again", "outputs_again"))
    done = [f"{size} {what} at a time" for what, fact, _ in halves if (size := run.meta.facts.get(fact))]
    failed = [f"with other {what}, {why}" for what, _, key in halves if (why := run.meta.missing.get(key))]
    return "; ".join([*([f"with {' and '.join(done)}"] if done else []), *failed])


def _by_blocks(values: Array) -> Estimate:
    return block_interval(values, BLOCKS)


def _quantile(values: Array, share: float) -> Estimate:
    """Return a quantile with an interval (Woodruff, JASA 47, 1952).

    The share of positions below the quantile gets its interval from blocks, as any mean does; the quantiles
    at its two ends are then those of the quantile.
    """
    # Between a finite value and an infinite one there is nothing: then it is one of the values.
    method: Literal["linear", "inverted_cdf"] = "linear" if np.isfinite(values).all() else "inverted_cdf"
    point = float(np.quantile(values, share, method=method))
    below = _by_blocks((values <= point).astype(float))
    if below.high is None:
        return Estimate(point, None, None, 1)
    half = below.high - below.mean
    ends = (max(0.0, share - half), min(1.0, share + half))
    low, high = np.quantile(values, ends, method=method)
    return Estimate(point, float(low), float(high), below.n)


def _value(estimate: Estimate, positions: int) -> Value:
    return Value(
        value=estimate.mean,
        source="measured",
        note=f"{positions} positions in {estimate.n} blocks" if estimate.n > 1 else f"{positions} positions",
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
    )
