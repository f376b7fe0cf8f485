"""What an engine did, iteration by iteration, recovered from the times of its requests' tokens.

No engine is asked to log its steps: the tokens' times hold them. In a static batch (`generate`) the first
token's time ends the prefill, and the gaps of the row with the longest output are the decode steps of all
rows. In a step engine all rows of a step get their token at the same moment, so equal times are one step,
their number is its rows, and a row's position in its own output is the context that it holds. A gap that ends
with somebody's first token holds a prefill as well, in the same pass or in one of its own (`alternating`).

Only time inside the model is left in the gaps: tokenizing and detokenizing are taken out and summed up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from bench.analysis.recorded import column
from bench.analysis.stats import Array
from bench.records import Run
from bench.units import MS_PER_S

SAME_STEP_S = 20e-6
"""Token times nearer than this are one step: gaps are stored as float32, whose rounding adds up to less."""


class Iterations(msgspec.Struct, frozen=True, kw_only=True):
    """Spans of computing, each with the work done in it; arrays of one length.

    A span holds `prefills` prefill passes over `positions` prompt positions, and one decode step of `rows`
    rows holding `context` tokens together, or none where `rows` is 0. `outside_s` is the time outside the
    model over `requests` requests.
    """

    duration_s: Array
    prefills: Array
    positions: Array
    rows: Array
    context: Array
    outside_s: float
    requests: int


class _Served(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of those requests that got as far as a token; `gaps_s[i]` between the tokens of one."""

    admitted_s: Array
    first_s: Array
    done_s: Array
    tokenize_s: Array
    detokenize_s: Array
    prompt: Array
    batch: Array
    batch_size: Array
    gaps_s: list[Array]


def static_iterations(run: Run) -> Iterations:
    """Return the prefills and decode steps of a run's static batches, after its warm-up.

    A batch of which not every request was served is left out: what it computed is unknown.
    """
    served = _served(run)
    warm_s = warm_since_s(run)
    spans: list[tuple[Array, ...]] = []
    outside_s, requests = 0.0, 0
    order = np.argsort(served.batch, kind="stable")
    edges = np.flatnonzero(np.diff(served.batch[order])) + 1
    for members in np.split(order, edges):
        size = len(members)
        if size == 0 or size != served.batch_size[members[0]] or served.admitted_s[members[0]] < warm_s:
            continue
        longest = max(members, key=lambda member: len(served.gaps_s[member]))
        gaps_s = served.gaps_s[longest]
        width = served.prompt[members].max()
        start_s = (served.admitted_s[members] + served.tokenize_s[members]).max()
        first_s = served.first_s[longest]
        number = np.arange(1, len(gaps_s) + 1)
        spans.append(
            (
                np.concatenate(([first_s - start_s], gaps_s)),
                _first(1.0, len(gaps_s)),
                _first(size * width, len(gaps_s)),
                np.concatenate(([0.0], np.full(len(gaps_s), float(size)))),
                np.concatenate(([0.0], size * (width + number))),
            )
        )
        outside_s += start_s - served.admitted_s[longest]
        outside_s += max(0.0, served.done_s[members].max() - first_s - gaps_s.sum())
        requests += size
    return _iterations(spans, outside_s, requests)


def stepped_iterations(run: Run, prefill_chunk: int | None, *, alternating: bool) -> Iterations:
    """Return the steps of a run on an engine whose requests come and go by themselves, after its warm-up.

    `alternating`: prompts have a pass of their own, followed at once by a decode step of all.
    """
    served = _served(run)
    if len(served.first_s) == 0:
        return _iterations([], 0.0, 0)
    lengths = np.array([1 + len(gaps_s) for gaps_s in served.gaps_s])
    row = np.repeat(np.arange(len(lengths)), lengths)
    token = np.concatenate([np.arange(length) for length in lengths])
    offsets = [np.concatenate(([0.0], np.cumsum(gaps_s))) for gaps_s in served.gaps_s]
    time_s = np.repeat(served.first_s, lengths) + np.concatenate(offsets)
    order = np.argsort(time_s, kind="stable")
    step = np.empty(len(order), dtype=np.int64)
    step[order] = np.concatenate(([0], np.cumsum(np.diff(time_s[order]) > SAME_STEP_S)))
    n = int(step.max()) + 1

    def per_step(values: Array) -> Array:
        return np.bincount(step, weights=values, minlength=n)

    at_s = per_step(time_s) / per_step(np.ones(len(step)))
    rows = per_step(token > 0)
    context = per_step(np.where(token > 0, served.prompt[row] + token, 0))
    first, last = step[np.cumsum(lengths) - lengths], step[np.cumsum(lengths) - 1]
    start_s = _starts_s(served, at_s, first, last)
    decodes = rows > 0
    after_prefill = np.concatenate(([False], ~decodes[:-1]))
    closed = decodes & after_prefill if alternating else np.zeros(n, dtype=bool)
    positions, prefills = _prefilled(served, at_s, decodes, closed, first, prefill_chunk or math.inf)
    outside_s = _outside_s(served, at_s, last)
    duration_s = np.maximum(at_s - start_s - outside_s, 0.0)
    warm_s = warm_since_s(run)
    kept = start_s >= warm_s
    spans = [(duration_s[kept], prefills[kept], positions[kept], rows[kept], context[kept])]
    admitted = int((served.admitted_s >= warm_s).sum())
    return _iterations(spans, float(outside_s[kept].sum()), admitted)


def warm_since_s(run: Run) -> float:
    """Return when the run's warm-up was over."""
    if run.meta.window is not None:
        return run.meta.window.start_s
    return float(run.meta.facts.get("offline_started_s", 0.0))


def _served(run: Run) -> _Served:
    import pyarrow.compute as pc

    table = run.requests
    answered = np.isfinite(column(table, "first_token_s")) & np.isfinite(column(table, "batch_id"))
    table = table.filter(answered)
    itl_ms = table.column("itl_ms").combine_chunks()
    counts = pc.fill_null(pc.list_value_length(itl_ms), 0).to_numpy(zero_copy_only=False)
    gaps_s = itl_ms.flatten().to_numpy(zero_copy_only=False).astype(np.float64) / MS_PER_S
    return _Served(
        admitted_s=column(table, "admitted_s"),
        first_s=column(table, "first_token_s"),
        done_s=column(table, "done_s"),
        tokenize_s=np.nan_to_num(column(table, "tokenize_s")),
        detokenize_s=np.nan_to_num(column(table, "detokenize_s")),
        prompt=column(table, "prompt_tokens"),
        batch=column(table, "batch_id"),
        batch_size=column(table, "batch_size"),
        gaps_s=np.split(gaps_s, np.cumsum(counts)[:-1]) if len(counts) else [],
    )


def _starts_s(served: _Served, at_s: Array, first: Array, last: Array) -> Array:
    """Return when the work of each step began: at the step before, or when its first request was admitted."""
    n = len(at_s)
    before_s = np.concatenate(([-math.inf], at_s[:-1]))
    # Rows that have had a token before the step and get another one at it or later keep the engine busy.
    change = np.bincount(first + 1, minlength=n + 2) - np.bincount(last + 1, minlength=n + 2)
    busy = np.cumsum(change)[:n] > 0
    admitted_s = np.full(n, math.inf)
    np.minimum.at(admitted_s, first, served.admitted_s)
    return np.where(busy, before_s, np.maximum(before_s, admitted_s))


def _prefilled(
    served: _Served, at_s: Array, decodes: Array, closed: Array, first: Array, chunk: float
) -> tuple[Array, Array]:
    """Return the prompt positions computed in each step, and in how many passes.

    Prompts are computed in the order of their first tokens. Beside a decode step at most a chunk is;
    where nothing decodes, as many chunks as the prompts that end there need; in a `closed` step, none.
    """
    n = len(at_s)
    order = np.lexsort((served.admitted_s, first))
    ends = np.cumsum(served.prompt[order])
    needed = np.zeros(n)
    np.maximum.at(needed, first[order], ends)
    # How many had been admitted when the step began; those admitted at its end belong to the next.
    admitted = np.searchsorted(np.sort(served.admitted_s), at_s - SAME_STEP_S)
    available = np.concatenate(([0.0], np.cumsum(served.prompt[np.argsort(served.admitted_s)])))[admitted]
    positions, passes = np.zeros(n), np.zeros(n)
    done = 0.0
    for i in range(n):
        pending = max(available[i], needed[i]) - done
        if pending <= 0 or closed[i]:
            continue
        if math.isinf(chunk):
            count, taken = float(needed[i] > done), max(0.0, needed[i] - done)
        else:
            count = 1.0 if decodes[i] else math.ceil((needed[i] - done) / chunk)
            taken = max(min(count * chunk, pending), needed[i] - done)
        positions[i], passes[i] = taken, count
        done += taken
    return positions, passes


def _outside_s(served: _Served, at_s: Array, last: Array) -> Array:
    """Return the time outside the model before each step: detokenizing what had ended, tokenizing what came.

    Requests are detokenized and tokenized one after the other, so the latest of a group holds the others.
    """
    n = len(at_s)
    detokenized_s = np.zeros(n + 1)
    np.maximum.at(detokenized_s, last + 1, served.detokenize_s)
    tokenized_s = np.zeros(n)
    _, group = np.unique(served.admitted_s, return_inverse=True)
    longest_s = np.zeros(group.max() + 1)
    np.maximum.at(longest_s, group, served.tokenize_s)
    _, one_of_each = np.unique(group, return_index=True)
    step = np.minimum(np.searchsorted(at_s, served.admitted_s[one_of_each] + SAME_STEP_S), n - 1)
    np.add.at(tokenized_s, step, longest_s)
    return detokenized_s[:n] + tokenized_s


def _first(value: float, zeros: int) -> Array:
    found = np.zeros(zeros + 1)
    found[0] = value
    return found


def _iterations(spans: Sequence[tuple[Array, ...]], outside_s: float, requests: int) -> Iterations:
    columns = [np.concatenate(parts) for parts in zip(*spans, strict=True)] or [np.zeros(0)] * 5
    duration_s, prefills, positions, rows, context = columns
    return Iterations(
        duration_s=duration_s,
        prefills=prefills,
        positions=positions,
        rows=rows,
        context=context,
        outside_s=outside_s,
        requests=requests,
    )


def together(parts: Sequence[Iterations]) -> Iterations:
    """Return the iterations of several runs of one system."""
    names = ("duration_s", "prefills", "positions", "rows", "context")
    spans = [tuple(getattr(part, name) for name in names) for part in parts]
    return _iterations(spans, sum(p.outside_s for p in parts), sum(p.requests for p in parts))
