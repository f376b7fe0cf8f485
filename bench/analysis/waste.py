"""Padding: token positions that were computed though nobody asked for them, and the time that they took.

A request asks for its prompt's positions in the prefill and for one position per output token but the
first, which the prefill gives, in decode steps. Padded prompts and steps past a request's own end come on
top. A share of positions misranks: a padded prompt is computed in one go, while an idle row costs its
share of every decode step. So the two are told apart, and weighted by the time that they took.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.analysis.recorded import Scored, column, scored
from bench.analysis.stats import Array
from bench.analysis.system import Reading
from bench.records import Run

NOT_RECORDED = "padding was not recorded"
NOT_APART = "padding was not recorded apart for prefill and decode"
NO_TOKENS = "no tokens were computed"


def padding_share(run: Run) -> Reading:
    """Read the share of computed token positions that nobody asked for."""
    rows = scored(run)
    return _share(_asked_prefill(rows) + _asked_decode(rows), rows.column("padded_tokens"), NOT_RECORDED)


def prefill_waste(run: Run) -> Reading:
    """Read the share of the positions computed in prefills that nobody asked for."""
    rows = scored(run)
    return _share(_asked_prefill(rows), rows.column("padded_prefill_tokens"), NOT_APART)


def decode_waste(run: Run) -> Reading:
    """Read the share of the positions computed in decode steps that nobody asked for."""
    rows = scored(run)
    return _share(_asked_decode(rows), _padded_decode(rows), NOT_APART)


def time_weighted_waste(run: Run) -> Reading:
    """Read the share of the engine's time that went into positions that nobody asked for.

    Each moment of the engine is split evenly among the requests in it. A request's share of the time of its
    prefill counts as wasted in the proportion of its padded to its computed prefill positions, and its share
    of the time of its decoding likewise.
    """
    rows = scored(run)
    prefill, decode = rows.column("padded_prefill_tokens"), _padded_decode(rows)
    spent = _engine_clock(run)
    first_s = rows.column("first_token_s")
    prefill_s = spent(first_s) - spent(first_s - rows.column("prefill_s"))
    decode_s = spent(first_s + rows.column("decode_s")) - spent(first_s)
    known = np.isfinite(prefill_s) & np.isfinite(decode_s) & np.isfinite(prefill)
    if not known.any():
        return Reading(value=None, why=NOT_APART)
    wasted_s = (
        _part(prefill, _asked_prefill(rows)) * prefill_s + _part(decode, _asked_decode(rows)) * decode_s
    )
    total_s = float((prefill_s + decode_s)[known].sum())
    if total_s <= 0:
        return Reading(value=None, why=NO_TOKENS)
    return Reading(value=float(wasted_s[known].sum()) / total_s, n=int(known.sum()))


def _engine_clock(run: Run) -> Callable[[Array], Array]:
    """Return what maps a time to the seconds of the engine that one request present throughout would own.

    It runs at the speed of one over the number of requests in the engine, so that the requests' spans on it
    sum to the time in which the engine was at work.
    """
    first_s = column(run.requests, "first_token_s")
    start_s, end_s = first_s - column(run.requests, "prefill_s"), first_s + column(run.requests, "decode_s")
    served = np.isfinite(start_s) & np.isfinite(end_s)
    start_s, end_s = np.sort(start_s[served]), np.sort(end_s[served])
    moments_s = np.unique(np.concatenate((start_s, end_s)))
    if len(moments_s) == 0:
        return lambda t_s: np.full_like(t_s, np.nan)
    present = np.searchsorted(start_s, moments_s, "right") - np.searchsorted(end_s, moments_s, "right")
    speed = 1.0 / np.maximum(present[:-1], 1)
    owned_s = np.concatenate(([0.0], np.cumsum(speed * np.diff(moments_s))))

    def spent(t_s: Array) -> Array:
        found: Array = np.interp(t_s, moments_s, owned_s)
        return found

    return spent


def _asked_prefill(rows: Scored) -> Array:
    return rows.column("prompt_tokens")


def _asked_decode(rows: Scored) -> Array:
    steps: Array = np.maximum(rows.column("output_tokens") - 1, 0)
    return steps


def _padded_decode(rows: Scored) -> Array:
    padded: Array = rows.column("padded_tokens") - rows.column("padded_prefill_tokens")
    return padded


def _part(padded: Array, asked: Array) -> Array:
    """Return the share of padding in each request's computed positions; 0 where nothing was computed."""
    computed = padded + asked
    part: Array = np.divide(padded, computed, out=np.zeros_like(computed), where=computed > 0)
    return part


def _share(asked: Array, padded: Array, why: str) -> Reading:
    known = np.isfinite(padded)
    if not known.any():
        return Reading(value=None, why=why)
    total = float((asked + padded)[known].sum())
    if total == 0:
        return Reading(value=None, why=NO_TOKENS)
    return Reading(value=float(padded[known].sum()) / total, n=int(known.sum()))
