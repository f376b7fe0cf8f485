"""One probe of a capacity search, judged: was the queue stable, did the objectives hold, and how far off.

A probe is a window like that of any open-loop run, so it is looked at as one, by the functions that look at
those. Whether the queue is stable is judged apart from the objectives: the percentiles of a queue that grows
say how long the probe was, not how fast the system is.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import msgspec
import numpy as np

from bench.analysis import latency
from bench.analysis.probes import view_of
from bench.analysis.recorded import completions_between, length_s, scored, window_of
from bench.analysis.search import BLOCKS
from bench.analysis.stats import percentile
from bench.analysis.system import Level
from bench.analysis.validity import judge_validity
from bench.config import Objectives
from bench.records import Probe, Run
from bench.units import MS_PER_S

Binding = Literal["p95", "errors", "queue"]

MIN_BLOCK = 40
"""Fewer requests have no 95th percentile worth a standard error: two lie beyond it."""
DRAWN = 8
"""Requests by which a draw is recognised."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What one probe showed.

    `margin` is (p95 - limit) / limit, None where no limit is set or p95 is infinite, and `margin_error` its
    standard error by blocks of the probe. `binds` is what was not met: first the queue, as nothing is steady
    without it, then errors, then p95; None where all was met. `served_rps` are the requests answered per
    second of the window and `served_error` its standard error by blocks. `in_system` is how many were in
    there on average, and `little` that over what Little's law makes of the answers (None without any).
    `draw` is the same for the same draw of requests, at whatever rate and under whatever number; None where
    that is not known. `client` is the verdict on the sender, by its `faults`: an INVALID one did not offer
    this rate, whatever came of it.
    """

    rate_rps: float
    repeat: int
    seconds: float
    n: int
    stable: bool
    passed: bool
    binds: Binding | None
    margin: float | None
    margin_error: float | None
    served_rps: float
    served_error: float
    in_system: float
    little: float | None
    p50_ms: float | None
    p95_ms: float | None
    ttft_p95_ms: float | None
    goodput_rps: float | None
    error_rate: float | None
    stopped: str | None = None
    draw: str | None = None
    client: Level = "VALID"
    faults: str = ""

    @property
    def counts(self) -> bool:
        """Whether it says anything of the system: not where the client failed."""
        return self.client != "INVALID"

    @property
    def room(self) -> float | None:
        """Limit over p95: above one where the objective held; None without a margin."""
        return None if self.margin is None else 1.0 / max(1.0 + self.margin, 1e-9)


def trial(run: Run, probe: Probe, objectives: Objectives) -> Trial:
    """Judge one probe by the requests of `run` that belong to it: its warm-up and what was due since."""
    view = view_of(run, probe)
    growth = latency.growth(view)
    errors = latency.error_rate(view).value
    client = judge_validity(view)
    p95 = latency.latency_ms(0.95)(view).value
    limit_ms = objectives.p95_latency_ms
    margin = None if limit_ms is None or p95 is None else p95 / limit_ms - 1.0
    stable = probe.stopped is None and not growth.saturated
    binds: Binding | None = None
    if not stable:
        binds = "queue"
    elif errors is None or errors > objectives.max_error_rate:
        binds = "errors"
    elif limit_ms is not None and (margin is None or margin > 0):
        binds = "p95"
    return Trial(
        rate_rps=probe.rate_rps,
        repeat=probe.repeat,
        seconds=length_s(probe.window),
        n=scored(view).n,
        stable=stable,
        passed=binds is None,
        binds=binds,
        margin=margin,
        margin_error=None if limit_ms is None else _p95_error(view, limit_ms),
        served_rps=latency.completed_rps(view).value or 0.0,
        served_error=_served_error(view),
        in_system=growth.in_system,
        little=growth.little,
        p50_ms=latency.latency_ms(0.50)(view).value,
        p95_ms=p95,
        ttft_p95_ms=latency.ttft_ms(0.95)(view).value,
        goodput_rps=latency.goodput_rps(view, objectives).value,
        error_rate=errors,
        stopped=probe.stopped,
        draw=_draw(view),
        client=client.level,
        faults=client.reasons,
    )


def _draw(view: Run) -> str | None:
    """Return what tells a draw of requests from others at whatever rate; None with too few requests.

    These are the first gaps between due times, as shares of their mean, and the lengths: a trace that is
    replayed from its first row gives every repeat the same ones.
    """
    rows = scored(view)
    if rows.n <= DRAWN:
        return None
    gaps = np.diff(rows.due_s[: DRAWN + 1])
    gaps = np.round(gaps * DRAWN / max(float(gaps.sum()), 1e-9), 2) + 0.0
    lengths = [rows.column(name)[:DRAWN] for name in ("prompt_tokens", "output_tokens")]
    return " ".join(f"{number:g}" for number in np.concatenate([gaps, *lengths]))


def _served_error(view: Run) -> float:
    """Return the standard error of the answers per second, from those in blocks of the window."""
    window = window_of(view)
    edges = np.linspace(window.start_s, window.end_s, BLOCKS + 1)
    counts = [completions_between(view, *ends) for ends in itertools.pairwise(edges.tolist())]
    block_s = length_s(window) / BLOCKS
    return float(np.std(counts, ddof=1)) / math.sqrt(BLOCKS) / block_s


def _p95_error(view: Run, limit_ms: float) -> float | None:
    """Return the standard error of p95 as a share of the limit, from blocks of consecutive requests."""
    latency_s = scored(view).latency_s
    if len(latency_s) < BLOCKS * MIN_BLOCK or not np.isfinite(latency_s).all():
        return None
    blocks = [percentile(block, 0.95) for block in np.array_split(latency_s, BLOCKS)]
    return float(np.std(blocks, ddof=1)) / math.sqrt(BLOCKS) * MS_PER_S / limit_ms
