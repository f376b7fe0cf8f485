"""Percentiles of short windows: coverage at the fewest requests that state an interval, and what gates pass.

`python -m tests.validate few`. At low load the queue forgets at once, and only the number of requests keeps a
window from showing p95: the percentile of a small sample errs low, in every repeat alike, and what is slow
once in fifteen requests may not be among ten of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from bench.analysis.gate import at_most
from bench.analysis.latency import latencies
from bench.analysis.percentiles import least_in_each, percentile_over_repeats
from bench.analysis.stats import level_interval
from bench.records import Value
from tests.validate.inference import COVERAGE, LEVEL, REPEATS, SEED, truth
from tests.validate.queues import KINDS, Kind, serve, traffic
from tests.validate.recording import Check, record

POISSON, STEADY, EXPONENTIAL, _ = KINDS
SHARE, LOADS = 0.95, (0.1, 0.3)
FEWER = (10, 26)
"""Requests of a repeat that state no interval; what theirs would be is shown beside."""
MORE = 1.25
"""Poisson windows hold now more, now fewer than on average."""
SYSTEMS = 250
GATES, GATE_REPEATS = 400, 3
SLOW_SHARE, FAST_S, SLOW_S, OBJECTIVE_MS = 0.07, 0.05, 0.2, 100.0
"""So many requests take twice the objective, the others half of it: p95 is twice the objective."""


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How many systems state p95 with an interval, which share of these holds it, and of any interval."""

    stated: int
    held: float
    held_by_any: float


def coverage(kind: Kind, load: float, n: int, systems: int, seed: Sequence[int]) -> Coverage:
    """Return how p95 of systems with `n` requests in each repeat is covered."""
    rng = np.random.default_rng(seed)
    served = serve(traffic(kind, load, n, systems, REPEATS, rng), rng)
    known = truth(kind, load)["p95"]
    values = [percentile_over_repeats(served.runs(i, "system"), latencies, SHARE) for i in range(systems)]
    held = [low <= known <= high for low, high in map(_ends, values) if low is not None and high is not None]
    own = np.nanquantile(served.latency_s(), SHARE, axis=1).reshape(systems, REPEATS) * 1e3
    plain = [level_interval(row.tolist()) for row in own]
    by_any = [(found.low or 0.0) <= known <= (found.high or 0.0) for found in plain]
    return Coverage(stated=len(held), held=_mean(held), held_by_any=_mean(by_any))


def passed(n: int, gates: int, seed: Sequence[int]) -> tuple[float, float]:
    """Return how often a gate passes half of the true p95: as the harness states it, and by any interval."""
    rng = np.random.default_rng(seed)
    drawn = traffic(STEADY, 0.01, n, gates, GATE_REPEATS, rng)
    slow = rng.random(drawn.lengths.shape) < SLOW_SHARE
    served = serve(msgspec.structs.replace(drawn, lengths=np.where(slow, SLOW_S, FAST_S)), rng)
    values = [percentile_over_repeats(served.runs(i, "system"), latencies, SHARE) for i in range(gates)]
    own = np.nanquantile(served.latency_s(), SHARE, axis=1).reshape(gates, GATE_REPEATS) * 1e3
    return (
        _mean([at_most("SLA", value, OBJECTIVE_MS, "").outcome == "pass" for value in values]),
        _mean([(level_interval(row.tolist()).high or 0.0) <= OBJECTIVE_MS for row in own]),
    )


def main() -> None:
    """Simulate, print the tables as Markdown, and record the claims."""
    least, checks = least_in_each(SHARE, REPEATS), {}
    print("\n| queue | load | requests in a repeat | p95 has an interval | holds | any interval holds |")
    print("|---|---:|---:|---:|---:|---:|")
    found = []
    for i, kind in enumerate((STEADY, POISSON, EXPONENTIAL)):
        enough = least if kind is STEADY else round(MORE * least)
        for j, load in enumerate(LOADS):
            for n in (*FEWER, enough):
                cell = coverage(kind, load, n, SYSTEMS, [SEED, 8, i, j, n])
                share = f"{cell.stated / SYSTEMS:.0%} | {cell.held:.1%}" if cell.stated else "0% | -"
                print(f"| {kind.name} | {load:g} | {n} | {share} | {cell.held_by_any:.1%} |")
                found.append((n, cell))
    stated = sum(cell.stated for _, cell in found)
    held = sum(cell.held * cell.stated for _, cell in found if cell.stated)
    too_few = sum(cell.stated for n, cell in found if n in FEWER)
    checks["few requests: share of stated 95 % intervals of p95 that hold it"] = Check(
        value=held / stated, bound=COVERAGE, direction="at least", n=stated, seed=SEED
    )
    checks["few requests: p95 intervals stated of too few"] = Check(
        value=too_few, bound=0, direction="at most", n=sum(n in FEWER for n, _ in found) * SYSTEMS, seed=SEED
    )
    print("\n| requests in a repeat | p95 of twice the objective passes | by any interval |")
    print("|---:|---:|---:|")
    enough = least_in_each(SHARE, GATE_REPEATS)
    for n in (10, 20, enough):
        ours, anys = passed(n, GATES, [SEED, 9, n])
        print(f"| {n} | {ours:.1%} | {anys:.1%} |")
        checks[f"few requests: share of p95 gates passed at twice the objective, {n} in a repeat"] = Check(
            value=ours, bound=LEVEL, direction="at most", n=GATES, seed=SEED
        )
    for name, check in checks.items():
        print(f"{name}: {check}")
    record(checks)


def _ends(value: Value) -> tuple[float | None, float | None]:
    return value.low, value.high


def _mean(truths: Sequence[bool]) -> float:
    return sum(truths) / len(truths) if truths else float("nan")


if __name__ == "__main__":
    main()
