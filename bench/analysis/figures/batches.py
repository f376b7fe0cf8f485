"""How requests went together: sizes of batches, what padding cost, why they went and why they had waited.

A batch counts once in its size's share of the *batches* and with all its requests in that of the *requests*:
a batch of eight beside eight of one is half of the requests, but one in nine of the batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from bench.analysis.batching import batch_sizes
from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.figures.sentences import ALL_INVALID, by_system
from bench.analysis.figures.thinning import seen
from bench.analysis.numbers import shown
from bench.analysis.recorded import scored
from bench.analysis.stats import Array
from bench.analysis.system import SystemRuns
from bench.records import Run
from bench.units import PERCENT

MAX_SIZES = 12
"""More different sizes than these, over all systems, are put together by powers of two."""
PADDING = {
    "padding_share": "all positions",
    "prefill_waste": "prefill positions",
    "decode_waste": "decode positions",
    "time_weighted_waste": "engine's time",
}
"""The metrics of padding, by what they are a share of."""
SYSTEM = Column("system", "System")
PERCENTS = Column("percent", "Share (%)", 3)


def batches(evaluation: Evaluation) -> Figure:
    """Return how the scored requests of every system went together."""
    names, title = tuple(evaluation.systems), "Batches"
    sizes = {
        name: (by_batch, by_request)
        for name, system in evaluation.systems.items()
        if len(by_batch := _pooled(system, batch_sizes))
        and len(by_request := _pooled(system, _request_sizes))
    }
    if not sizes:
        why = "no repeat at a common rate was completed, or none recorded its batches"
        return Figure(
            kind="batches", title=title, systems=names, missing=f"There are no batches to show: {why}."
        )
    return Figure(
        kind="batches",
        title=title,
        systems=names,
        reading=_reading({name: own for name, own in sizes.items() if name not in evaluation.invalid}),
        datasets={
            "sizes": _sizes(sizes),
            "padding": _padding(evaluation),
            "reasons": Dataset(
                columns=(SYSTEM, Column("of", "Of"), Column("reason", "Reason"), PERCENTS),
                rows=tuple(_reasons(evaluation)),
                caption="Shares of the scored requests by why they went when they did, and by why they were "
                "last left waiting before",
            ),
        },
        notes=tuple(_notes(evaluation, set(sizes))),
    )


def _pooled(system: SystemRuns, read: Callable[[Run], Array]) -> Array:
    found: Array = np.concatenate([read(run) for run in system.measured] or [np.array([])]).astype(int)
    return found


def _request_sizes(run: Run) -> Array:
    """Return the size of the batch of each scored request that went into one."""
    sizes = scored(run).column("batch_size")
    known: Array = sizes[np.isfinite(sizes)]
    return known


def _sizes(sizes: dict[str, tuple[Array, Array]]) -> Dataset:
    different = np.unique(np.concatenate([by_batch for by_batch, _ in sizes.values()]))
    grouped = len(different) > MAX_SIZES
    return Dataset(
        columns=(
            SYSTEM,
            Column("of", "Share of"),
            Column("size", "Requests together"),
            PERCENTS,
            Column("n", "Count", 9),
        ),
        rows=tuple(
            {
                "system": name,
                "of": of,
                "size": _called(size) if grouped else str(size),
                "percent": seen(n / len(values) * PERCENT),
                "n": n,
                "order": size,
            }
            for name, both in sizes.items()
            for of, values in zip(("batches", "requests"), both, strict=True)
            for size, n in sorted(Counter(_tops(values) if grouped else values.tolist()).items())
        ),
        caption="How many requests ran once a batch had joined, over the scored requests of all repeats",
        thinned=f"{len(different)} different sizes are put together by powers of two" if grouped else "",
    )


def _tops(sizes: Array) -> list[int]:
    tops: list[int] = (2 ** np.ceil(np.log2(sizes)).astype(int)).tolist()
    return tops


def _called(top: int) -> str:
    return str(top) if top <= 2 else f"{top // 2 + 1}–{top}"


def _padding(evaluation: Evaluation) -> Dataset:
    rows: list[dict[str, Cell]] = [
        {
            "system": name,
            "of": of,
            "percent": seen(value.value * PERCENT),
            "low": None if value.low is None else seen(value.low * PERCENT),
            "high": None if value.high is None else seen(value.high * PERCENT),
        }
        for name, own in evaluation.sets.items()
        for metric, of in PADDING.items()
        if (value := own.values.get(metric)) is not None and value.value is not None
    ]
    return Dataset(
        columns=(
            SYSTEM,
            Column("of", "Of"),
            Column("percent", "Padding (%)", 3),
            Column("low", "From", 3),
            Column("high", "To (95 % interval)", 3),
        ),
        rows=tuple(rows),
        caption="Computed without being asked for: padded prompts, and steps of a row past its own end",
    )


def _reasons(evaluation: Evaluation) -> Iterator[dict[str, Cell]]:
    for name, own in evaluation.sets.items():
        if own.batching is None:
            continue
        kinds = {"went because": own.batching.admitted, "waited because": own.batching.waited}
        for of, shares in kinds.items():
            before = 0.0
            for reason, share in shares.items():
                percent = share * PERCENT
                yield {
                    "system": name,
                    "of": of,
                    "reason": reason,
                    "percent": seen(percent),
                    "start": seen(before),
                    "end": seen(before + percent),
                }
                before += percent


def _reading(sizes: dict[str, tuple[Array, Array]]) -> str:
    if not sizes:
        return ALL_INVALID
    means = {name: float(by_batch.mean()) for name, (by_batch, _) in sizes.items()}
    each = by_system(means, lambda name: shown(means[name], 3))
    return f"Requests together once a batch had joined, on average: {each}."


def _notes(evaluation: Evaluation, known: set[str]) -> Iterator[str]:
    for name, own in evaluation.sets.items():
        if name not in known:
            yield f"{name}: no batches were recorded."
            continue
        lacks = {
            of: value.note
            for metric, of in PADDING.items()
            if (value := own.values.get(metric)) is not None and value.value is None
        }
        if lacks:
            yield f"{name}: no padding of {', '.join(lacks)}: {'; '.join(dict.fromkeys(lacks.values()))}."
