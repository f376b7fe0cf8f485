"""Queueing systems by the thousand, as recorded runs: the ground truth for intervals and tests.

Each system is a queue in numpy: one server (Lindley's recursion) or a server of greedy batches. Both sides of
a pair get the same arrivals and lengths, as repeats of one number do; every request's time, and every
process's speed, has noise of its own, so that two equal systems never measure the same. What comes out is
`SystemRuns` as read from a folder: requests, a saturated run, and an energy counter.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from bench.analysis.system import SystemRuns
from bench.records import Interval, Run, RunMeta
from bench.store import SCHEMA

Array = np.ndarray[Any, np.dtype[Any]]

REQUEST_S = 0.1
"""Mean service time of a request alone."""
REQUEST_NOISE = 0.05
"""Coefficient of variation of what a machine adds to the time of each request …"""
PROCESS_NOISE = 0.01
"""… and to the speed of each process."""
WARM_SHARE = 1.0 / 3.0
"""Of the window's requests, as many come before it."""
TOKENS = 200
"""Output tokens of a request of mean length."""
SATURATED = 400
"""Requests of a saturated run."""
IDLE_W, BUSY_W = 100.0, 400.0
COUNTER_HZ = 1.0


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of queue: how requests arrive, how their lengths vary, and how many are served together.

    A batch of more than one takes `fixed` of its longest request's time, and the rest of every one's.
    """

    name: str
    arrivals: Literal["poisson", "steady"]
    cv: float
    batch: int = 1
    fixed: float = 0.8


KINDS = (
    Kind(name="single, Poisson arrivals", arrivals="poisson", cv=0.4),
    Kind(name="single, steady arrivals", arrivals="steady", cv=0.4),
    Kind(name="single, Poisson arrivals, lengths exponential", arrivals="poisson", cv=1.0),
    Kind(name="batches up to 8, Poisson arrivals", arrivals="poisson", cv=0.4, batch=8),
)


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What both systems of each pair get: due times and lengths, a row per pair and repeat.

    Scored are the requests due in the `window`, a part of the row.
    """

    kind: Kind
    repeats: int
    rate_rps: float
    due_s: Array
    lengths: Array
    window: Interval


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: latencies and busy seconds so far per request, and saturated batches."""

    traffic: Traffic
    started_s: Array
    done_s: Array
    saturated_s: Array

    def runs(self, pair: int, name: str) -> SystemRuns:
        """Return the runs of one pair's system, as a folder would give them back."""
        return _runs(self, pair, name)

    def latency_s(self) -> Array:
        """Return the latencies of the requests in the window; NaN elsewhere."""
        due_s, window = self.traffic.due_s, self.traffic.window
        inside = (due_s >= window.start_s) & (due_s < window.end_s)
        return np.where(inside, self.done_s - due_s, np.nan)


def lengths(kind: Kind, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return service times with mean `REQUEST_S`: lognormal, or exponential for a coefficient of 1."""
    if kind.cv == 1.0:
        return REQUEST_S * rng.standard_exponential(shape)
    sigma = np.sqrt(np.log(1.0 + kind.cv**2))
    drawn: Array = REQUEST_S * np.exp(sigma * rng.standard_normal(shape) - sigma**2 / 2.0)
    return drawn


def capacity_rps(kind: Kind) -> float:
    """Return what a system of this kind answers per second when saturated, on average."""
    drawn = lengths(kind, (100_000, kind.batch), np.random.default_rng(0))
    return kind.batch / float(_batch_s(kind, drawn).mean())


def traffic(kind: Kind, load: float, n: int, pairs: int, repeats: int, rng: np.random.Generator) -> Traffic:
    """Draw the traffic of `pairs` pairs with about `n` requests in each window, at a share of capacity."""
    rate_rps = load * capacity_rps(kind)
    warm = round(WARM_SHARE * n)
    shape = (pairs * repeats, warm + n + n // 10 + 10)
    if kind.arrivals == "poisson":
        due_s = np.cumsum(rng.standard_exponential(shape), axis=1) / rate_rps
    else:
        due_s = (np.arange(shape[1]) + 0.5 + rng.uniform(-0.1, 0.1, shape)) / rate_rps
    window = Interval(start_s=warm / rate_rps, end_s=(warm + n) / rate_rps)
    return Traffic(
        kind=kind,
        repeats=repeats,
        rate_rps=rate_rps,
        due_s=due_s,
        lengths=lengths(kind, shape, rng),
        window=window,
    )


def serve(
    drawn: Traffic, rng: np.random.Generator, *, faster: float = 0.0, processes: float = PROCESS_NOISE
) -> Served:
    """Serve every row in a process of its own, `faster` by a share of every time."""
    rows = len(drawn.due_s)
    speed = np.exp(processes * rng.standard_normal((rows, 1))) * (1.0 - faster)
    noise = np.exp(REQUEST_NOISE * rng.standard_normal(drawn.lengths.shape))
    started_s, done_s = _served(drawn.kind, drawn.due_s, drawn.lengths * speed * noise)
    pairs, size = rows // drawn.repeats, drawn.kind.batch
    shape = (pairs, SATURATED // size, size)
    alone = lengths(drawn.kind, shape, rng) * np.exp(REQUEST_NOISE * rng.standard_normal(shape))
    process = np.exp(processes * rng.standard_normal((pairs, 1))) * (1.0 - faster)
    saturated_s = np.cumsum(_batch_s(drawn.kind, alone) * process, axis=1)
    return Served(traffic=drawn, started_s=started_s, done_s=done_s, saturated_s=saturated_s)


def _runs(served: Served, pair: int, name: str) -> SystemRuns:
    drawn = served.traffic
    rows = range(pair * drawn.repeats, (pair + 1) * drawn.repeats)
    windows = [
        _run(
            name,
            repeat=i + 1,
            requests=_requests(
                drawn.due_s[row], served.started_s[row], served.done_s[row], drawn.lengths[row]
            ),
            telemetry=_counter(served.started_s[row], served.done_s[row], drawn.window),
            offered_rps=drawn.rate_rps,
            window=drawn.window,
        )
        for i, row in enumerate(rows)
    ]
    return SystemRuns(name=name, offline=_saturated(served, pair, name), windows=windows)


def _batch_s(kind: Kind, times: Array) -> Array:
    """Return how long batches take whose requests alone take `times` (last axis; 0 where there is none)."""
    if kind.batch == 1:
        return times[..., 0]
    total: Array = kind.fixed * times.max(axis=-1) + (1.0 - kind.fixed) * times.sum(axis=-1)
    return total


def _served(kind: Kind, due_s: Array, times_s: Array) -> tuple[Array, Array]:
    if kind.batch == 1:
        gaps_s = np.diff(due_s, axis=1)
        steps = np.concatenate([np.zeros((len(due_s), 1)), times_s[:, :-1] - gaps_s], axis=1)
        walk = np.cumsum(steps, axis=1)
        started_s = due_s + walk - np.minimum.accumulate(walk, axis=1)
        return started_s, started_s + times_s
    return _in_batches(kind, due_s, times_s)


def _in_batches(kind: Kind, due_s: Array, times_s: Array) -> tuple[Array, Array]:
    """Serve greedily: whoever waits when the server is free, up to the largest batch; all rows in step."""
    rows, n, size = len(due_s), due_s.shape[1], kind.batch
    due_s = np.concatenate([due_s, np.full((rows, size), np.inf)], axis=1)
    times_s = np.concatenate([times_s, np.zeros((rows, size))], axis=1)
    started_s, done_s = np.full(due_s.shape, np.nan), np.full(due_s.shape, np.nan)
    first, free_s = np.zeros(rows, int), np.zeros(rows)
    while len(busy := np.flatnonzero(first < n)):
        ahead = first[busy, None] + np.arange(size)
        waiting = due_s[busy[:, None], ahead]
        start_s = np.maximum(free_s[busy], waiting[:, 0])
        joins = waiting <= start_s[:, None]
        end_s = start_s + _batch_s(kind, np.where(joins, times_s[busy[:, None], ahead], 0.0))
        who = np.broadcast_to(busy[:, None], joins.shape)[joins], ahead[joins]
        started_s[who] = np.broadcast_to(start_s[:, None], joins.shape)[joins]
        done_s[who] = np.broadcast_to(end_s[:, None], joins.shape)[joins]
        free_s[busy], first[busy] = end_s, first[busy] + joins.sum(axis=1)
    return started_s[:, :n], done_s[:, :n]


def _requests(due_s: Array, started_s: Array, done_s: Array, lengths: Array) -> pa.Table:
    n = len(due_s)
    tokens = 2 + np.rint(TOKENS * lengths / REQUEST_S).astype(np.int32)
    _, batch, sizes = np.unique(started_s, return_inverse=True, return_counts=True)
    return pa.table(
        {
            "uid": np.arange(n),
            "due_s": due_s,
            "sent_s": due_s,
            "admitted_s": started_s,
            "first_token_s": started_s + (done_s - started_s) / tokens,
            "output_tokens": tokens,
            "done_s": done_s,
            "batch_id": batch.astype(np.int32),
            "batch_size": sizes[batch].astype(np.int32),
            "status": pa.array(["ok"] * n),
        }
    )


def _saturated(served: Served, pair: int, name: str) -> Run:
    ends_s, size = served.saturated_s[pair], served.traffic.kind.batch
    done_s = np.repeat(ends_s, size)
    started_s = np.repeat(np.concatenate([[0.0], ends_s[:-1]]), size)
    facts = {"offline_started_s": 0.0, "offline_ended_s": float(ends_s[-1])}
    requests = _requests(np.zeros(len(done_s)), started_s, done_s, np.full(len(done_s), REQUEST_S))
    return _run(name, kind="offline", requests=requests, facts=facts)


def _counter(started_s: Array, done_s: Array, window: Interval) -> pa.Table:
    """Return an energy counter that counts idle and busy power without error, read densely at the edges."""
    edges = [at + d for at in (window.start_s, window.end_s) for d in (-5e-4, 5e-4)]
    grid = np.arange(window.start_s - 2.0, window.end_s + 2.0, 1.0 / COUNTER_HZ)
    t_s = np.unique(np.concatenate([grid, edges]))
    starts, first = np.unique(started_s, return_index=True)
    ends = done_s[first]
    before = np.concatenate([[0.0], np.cumsum(ends - starts)])
    last = np.searchsorted(starts, t_s, side="right")
    overrun = np.where(last > 0, np.clip(ends[last - 1] - t_s, 0.0, None), 0.0)
    joules = IDLE_W * (t_s - t_s[0]) + (BUSY_W - IDLE_W) * (before[last] - overrun)
    return pa.table(
        {
            "t_s": t_s,
            "read_s": np.full(len(t_s), 1e-4),
            "field": pa.array(["energy_j"] * len(t_s)),
            "value": joules - joules[0] + 1000.0,
            "gpu_uuid": pa.array(["GPU-1"] * len(t_s)),
        }
    )


_NO_TELEMETRY = pa.table(
    {
        "t_s": pa.array([], pa.float64()),
        "read_s": pa.array([], pa.float64()),
        "field": pa.array([], pa.string()),
        "value": pa.array([], pa.float64()),
        "gpu_uuid": pa.array([], pa.string()),
    }
)


def _run(
    system: str,
    *,
    requests: pa.Table,
    kind: Literal["offline", "window"] = "window",
    repeat: int = 0,
    telemetry: pa.Table = _NO_TELEMETRY,
    offered_rps: float | None = None,
    window: Interval | None = None,
    facts: dict[str, Any] | None = None,
) -> Run:
    meta = RunMeta(
        schema=SCHEMA,
        status="complete",
        source="simulated",
        kind=kind,
        system=system,
        repeat=repeat,
        config={},
        written={},
        provenance={},
        device="cuda",
        offered_rps=offered_rps,
        window=window,
        facts=facts or {},
    )
    return Run(folder=f"{system}.{repeat}", meta=meta, requests=requests, telemetry=telemetry)
