"""Where the latency goes: the mean time in each stage, of all answered requests and of the slowest of them.

The stages of a request follow one another without a gap, so their means sum to the mean latency. The
harness's own lag (a request is sent later than due) is taken out of the queue, which counts from the due
time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.sentences import ALL_INVALID, LISTED, listed
from bench.analysis.figures.thinning import seen
from bench.analysis.numbers import shown
from bench.analysis.recorded import Scored, scored
from bench.analysis.stats import Array
from bench.analysis.system import SystemRuns
from bench.units import PERCENT, to_ms

STAGES = ("harness lag", "queue", "tokenize", "prefill", "decode", "detokenize", "not timed")
"""The stages in their order; `not timed` is what is left of the latency where one was not recorded."""
SLOWEST = 0.05
ALL, SLOW = "all requests", "slowest 5 %"
LEAST_S = 1e-6
"""What is left of a latency below this is rounding."""
LEAST = 20
"""Of fewer requests there is no slowest twentieth."""

SYSTEM = Column("system", "System")
OF = Column("of", "Requests")


def stages(evaluation: Evaluation) -> Figure:
    """Return the mean time per stage of every system's scored requests that were answered."""
    names, title = tuple(evaluation.systems), "Where the latency goes"
    parts_of = {name: _parts_ms(system) for name, system in evaluation.systems.items()}
    found = {name: parts for name, parts in parts_of.items() if len(parts["queue"])}
    if not found:
        why = "no repeat at a common rate was completed, or none of its requests was answered"
        return Figure(
            kind="stages", title=title, systems=names, missing=f"There are no stages to show: {why}."
        )
    groups = [(name, of, _of(parts, of)) for name, parts in found.items() for of in _groups(parts)]
    return Figure(
        kind="stages",
        title=title,
        systems=names,
        reading=_reading({name: own for name, own in found.items() if name not in evaluation.invalid}),
        datasets={
            "stages": Dataset(
                columns=(
                    SYSTEM,
                    OF,
                    Column("stage", "Stage"),
                    Column("mean_ms", "Mean (ms)"),
                    Column("percent", "Share of the latency (%)", 3),
                ),
                rows=tuple(row for group in groups for row in _rows(*group)),
                caption="Mean time of the answered requests per stage, all repeats together",
            ),
            "totals": Dataset(
                columns=(SYSTEM, OF, Column("mean_ms", "Mean latency (ms)"), Column("n", "Requests", 9)),
                rows=tuple(
                    {"system": name, "of": of, "mean_ms": seen(_total_ms(parts)), "n": len(parts["queue"])}
                    for name, of, parts in groups
                ),
                caption="The stages together: the mean latency",
            ),
        },
        notes=tuple(_notes(evaluation, found)),
    )


def _parts_ms(system: SystemRuns) -> dict[str, Array]:
    """Return each answered request's time in each stage; the stages of a request sum to its latency."""
    parts: dict[str, list[Array]] = {stage: [np.array([])] for stage in STAGES}
    for run in system.measured:
        own = _parts_s(scored(run))
        for stage in STAGES:
            parts[stage].append(own[stage])
    return {stage: to_ms(1.0) * np.concatenate(values) for stage, values in parts.items()}


def _parts_s(rows: Scored) -> dict[str, Array]:
    def timed(name: str) -> Array:
        return np.nan_to_num(rows.column(name)[rows.ok])

    # Where no queue was recorded there is nothing to take the lag out of.
    lag_s = np.minimum(np.nan_to_num(rows.column("sent_s") - rows.due_s)[rows.ok], timed("queue_s"))
    parts = {"harness lag": lag_s, "queue": timed("queue_s") - lag_s}
    parts |= {stage: timed(f"{stage}_s") for stage in STAGES[2:-1]}
    left_s = rows.latency_s[rows.ok] - sum(parts.values())
    return parts | {"not timed": np.where(np.abs(left_s) < LEAST_S, 0.0, left_s)}


def _groups(parts: dict[str, Array]) -> tuple[str, ...]:
    return (ALL,) if len(parts["queue"]) < LEAST else (ALL, SLOW)


def _of(parts: dict[str, Array], of: str) -> dict[str, Array]:
    if of == ALL:
        return parts
    latency_ms = sum(parts.values())
    count = math.ceil(SLOWEST * len(parts["queue"]))
    slowest = np.argsort(latency_ms, kind="stable")[-count:]
    return {stage: values[slowest] for stage, values in parts.items()}


def _total_ms(parts: dict[str, Array]) -> float:
    return math.fsum(float(values.mean()) for values in parts.values())


def _rows(name: str, of: str, parts: dict[str, Array]) -> Iterator[dict[str, Cell]]:
    total_ms, before_ms = _total_ms(parts), 0.0
    for order, stage in enumerate(STAGES):
        mean_ms = float(parts[stage].mean())
        if mean_ms == 0.0:
            continue
        yield {
            "system": name,
            "of": of,
            "stage": stage,
            "mean_ms": seen(mean_ms),
            "percent": seen(mean_ms / total_ms * PERCENT),
            "order": order,
            "start_ms": seen(before_ms),
            "end_ms": seen(before_ms + mean_ms),
        }
        before_ms += mean_ms


def _reading(found: dict[str, dict[str, Array]]) -> str:
    if not found:
        return ALL_INVALID
    means = {
        name: {stage: float(own.mean()) for stage, own in parts.items()} for name, parts in found.items()
    }
    largest = {name: max(own, key=lambda stage: own[stage]) for name, own in means.items()}
    if len(found) > LISTED:
        counted = Counter(largest.values()).most_common()
        return f"Largest part of the latency: {listed(f'{stage} with {n} systems' for stage, n in counted)}."
    return " ".join(_in_words(name, largest[name], means[name], parts) for name, parts in found.items())


def _in_words(name: str, largest: str, means: dict[str, float], parts: dict[str, Array]) -> str:
    total_ms = math.fsum(means.values())
    text = f"{name}: {largest} is {means[largest] / total_ms * PERCENT:.0f} % of {shown(total_ms)} ms"
    if SLOW not in _groups(parts):
        return f"{text}."
    slow = {stage: float(own.mean()) for stage, own in _of(parts, SLOW).items()}
    worst = max(slow, key=lambda stage: slow[stage] - means[stage])
    more_ms = slow[worst] - means[worst]
    if more_ms < to_ms(LEAST_S):
        return f"{text}, of the slowest 5 % as well."
    return (
        f"{text}; of the slowest 5 % ({shown(math.fsum(slow.values()))} ms) {worst} has "
        f"{shown(more_ms)} ms more."
    )


def _notes(evaluation: Evaluation, found: dict[str, dict[str, Array]]) -> Iterator[str]:
    for name, system in evaluation.systems.items():
        if name not in found:
            yield f"{name}: no answered request to split up."
            continue
        failed = sum(int((~scored(run).ok).sum()) for run in system.measured)
        if failed:
            yield f"{name}: {failed} requests that were not answered have no stages and are not in it."
        if float(found[name]["not timed"].mean()) > 0:
            yield f"{name}: not every stage was timed; what is left of the latency is shown as not timed."
