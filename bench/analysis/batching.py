"""How requests went together: batch sizes, rows per decode step, and why they waited and went.

A batch is what was admitted together, and its size how many ran once it had joined: for whole batches the
batch itself, under continuous batching all that were in the engine then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np

from bench.analysis.recorded import column, scored, window_of
from bench.analysis.stats import Array
from bench.analysis.system import Batching, Reading, SystemRuns
from bench.records import Run
from bench.units import MS_PER_S

Item = TypeVar("Item", bound=Hashable)

MAX_SIZES = 8
"""More different sizes than these are put together by powers of two."""
NOT_HELD = "did not wait"


def mean_batch_size(run: Run) -> Reading:
    """Read the mean size over the batches that served the scored requests; a batch counts once."""
    sizes = batch_sizes(run)
    if len(sizes) == 0:
        return Reading(value=None, why="no batch sizes were recorded")
    return Reading(value=float(sizes.mean()), n=scored(run).n)


def mean_decode_rows(run: Run) -> Reading:
    """Read the mean number of requests that decoded together, over the time in which any did.

    A request decodes from its first token to its last own one. Weighted by time, this is the mean number of
    rows per decode step that produced a token somebody asked for.
    """
    window = window_of(run)
    first_s = column(run.requests, "first_token_s")
    start_s = np.maximum(first_s, window.start_s)
    end_s = np.minimum(first_s + _decoded_s(run), window.end_s)
    inside = end_s > start_s  # not for a request without a token or with one only
    if not inside.any():
        return Reading(value=None, why="no decoding between two timed tokens was recorded")
    rows_s = float((end_s - start_s)[inside].sum())
    return Reading(value=rows_s / _covered_s(start_s[inside], end_s[inside]), n=int(inside.sum()))


def batching_of(system: SystemRuns) -> Batching | None:
    """Return how a system's scored requests went together; None where no run recorded it."""
    sizes = np.concatenate([batch_sizes(run) for run in system.measured] or [np.array([])])
    if len(sizes) == 0:
        return None
    tables = [scored(run).table for run in system.measured]
    admitted = [text for table in tables for text in table.column("admit_reason").to_pylist()]
    waited = [
        text if text is not None else NOT_HELD
        for table in tables
        for text, admitted_s in zip(
            table.column("wait_reason").to_pylist(), table.column("admitted_s").to_pylist(), strict=True
        )
        if admitted_s is not None
    ]
    return Batching(
        p50_size=float(np.percentile(sizes, 50)),
        p90_size=float(np.percentile(sizes, 90)),
        sizes=_size_shares(sizes.astype(int)),
        admitted=_shares(text.partition(" ")[0] for text in admitted if text is not None),
        waited={} if set(waited) == {NOT_HELD} else _shares(waited),
    )


def batch_sizes(run: Run) -> Array:
    """Return the size of each batch among the scored requests, once per batch."""
    rows = scored(run)
    ids, sizes = rows.column("batch_id"), rows.column("batch_size")
    known = np.isfinite(ids) & np.isfinite(sizes)
    _, first = np.unique(ids[known], return_index=True)
    found: Array = sizes[known][first]
    return found


def _decoded_s(run: Run) -> Array:
    """Return the time from each request's first to its last token: the sum of the gaps between them."""
    import pyarrow.compute as pc

    gaps_ms = run.requests.column("itl_ms").combine_chunks()
    counts = pc.fill_null(pc.list_value_length(gaps_ms), 0).to_numpy(zero_copy_only=False)
    passed_ms = np.concatenate(([0.0], np.cumsum(gaps_ms.flatten().to_numpy().astype(np.float64))))
    ends = np.cumsum(counts)
    sums: Array = (passed_ms[ends] - passed_ms[ends - counts]) / MS_PER_S
    return sums


def _covered_s(start_s: Array, end_s: Array) -> float:
    """Return the length of the union of intervals."""
    order = np.argsort(start_s)
    reached_s = np.maximum.accumulate(end_s[order])
    before_s = np.concatenate(([-np.inf], reached_s[:-1]))
    return float((reached_s - np.maximum(before_s, start_s[order])).clip(min=0.0).sum())


def _size_shares(sizes: Array) -> dict[str, float]:
    if len(np.unique(sizes)) <= MAX_SIZES:
        return {str(size): share for size, share in _shares(sorted(sizes.tolist()), by_count=False).items()}
    tops = 2 ** np.ceil(np.log2(sizes)).astype(int)
    shares = _shares(sorted(tops.tolist()), by_count=False)
    return {str(top) if top <= 2 else f"{top // 2 + 1}-{top}": share for top, share in shares.items()}


def _shares(items: Iterable[Item], *, by_count: bool = True) -> dict[Item, float]:
    """Return each item's share, the most frequent first unless in the order in which they come."""
    counted = Counter(items)
    total = counted.total()
    found = counted.most_common() if by_count else counted.items()
    return {item: count / total for item, count in found}
