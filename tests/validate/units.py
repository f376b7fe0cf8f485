"""What may be taken as independent: intervals of p95 from requests, blocks, bootstraps and repeats.

`python -m tests.validate.units` prints the tables of docs/statistics.md: for one queue with Poisson arrivals
the share of 95 % intervals that hold p95, and their half width; then changes between equal systems, paired
and not. It records nothing, as only the method in use makes claims (`inference`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import binom

from bench.analysis.stats import level_interval, t_quantile
from tests.validate.queues import KINDS, Array, serve, traffic

SETS, REPEATS, N, LONG = 200, 5, 1_000, 12_000
LOADS, PROCESSES = (0.3, 0.7, 0.85), (0.01, 0.05)
BLOCKS, BLOCK, RESAMPLES = 5, 50, 200
SHARE, SEED = 0.95, 77

Ends = tuple[float, float]


def of_requests(repeats: Array, rng: np.random.Generator) -> Ends:
    """Return the order statistics that hold p95 of independent requests."""
    ordered = np.sort(repeats.ravel())
    low, high = (int(binom.ppf(tail, len(ordered), SHARE)) for tail in (0.025, 0.975))
    return float(ordered[low - 1]), float(ordered[high])


def of_blocks(repeats: Array, rng: np.random.Generator) -> Ends:
    """Return batch means: five blocks of every repeat, all taken as independent."""
    figures = np.quantile(repeats.reshape(REPEATS * BLOCKS, -1), SHARE, axis=1)
    return _ends(figures)


def of_moving_blocks(repeats: Array, rng: np.random.Generator) -> Ends:
    """Return the percentile interval of a moving-block bootstrap within every repeat."""
    return _bootstrap(repeats, rng, hierarchical=False)


def of_both(repeats: Array, rng: np.random.Generator) -> Ends:
    """Return that of a hierarchical bootstrap: repeats first, then moving blocks within them."""
    return _bootstrap(repeats, rng, hierarchical=True)


def of_repeats(repeats: Array, rng: np.random.Generator) -> Ends:
    """Return Student's t over the repeats, on the logarithm: the method in use."""
    return _ends(np.quantile(repeats, SHARE, axis=1))


METHODS: dict[str, Callable[[Array, np.random.Generator], Ends]] = {
    "requests, order statistics": of_requests,
    "25 blocks, batch means": of_blocks,
    "moving-block bootstrap": of_moving_blocks,
    "hierarchical bootstrap": of_both,
    "5 repeats, Student's t": of_repeats,
}


def _ends(figures: Array) -> Ends:
    found = level_interval([float(figure) for figure in figures])
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def _bootstrap(repeats: Array, rng: np.random.Generator, *, hierarchical: bool) -> Ends:
    rows = np.arange(REPEATS) * np.ones((RESAMPLES, 1), int)
    if hierarchical:
        rows = rng.integers(0, REPEATS, (RESAMPLES, REPEATS))
    starts = rng.integers(0, N - BLOCK + 1, (RESAMPLES, REPEATS, N // BLOCK))
    places = (starts[..., None] + np.arange(BLOCK)).reshape(RESAMPLES, REPEATS, -1)
    drawn = np.quantile(repeats[rows[..., None], places], SHARE, axis=2).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Print both tables as Markdown."""
    print(
        "| 95 % intervals of p95 from | processes differ by | "
        + " | ".join(map("load {:g}".format, LOADS))
        + " |"
    )
    print("|---|---:|" + "---:|" * len(LOADS))
    pairs: list[str] = []
    for processes in PROCESSES:
        drawn = {load: _draw(load, processes) for load in LOADS}
        for name, method in METHODS.items():
            cells = [_judged(method, *drawn[load]) for load in LOADS]
            print(f"| {name} | {processes:.0%} | {' | '.join(cells)} |", flush=True)
        for name, paired in (("unpaired (Welch)", False), ("paired by repeat", True)):
            cells = [_changes(*drawn[load][:2], paired=paired) for load in LOADS]
            pairs.append(f"| {name} | {processes:.0%} | {' | '.join(cells)} |")
    print("\n| change of p95 between equal systems | processes differ by | load 0.3 | load 0.7 | load 0.85 |")
    print("|---|---:|" + "---:|" * len(LOADS))
    print("\n".join(pairs))


def _draw(load: float, processes: float) -> tuple[Array, Array, float]:
    """Return the latencies of equal systems, by set, repeat and request, and the true p95."""
    rng = np.random.default_rng([SEED, round(100 * load), round(100 * processes)])
    drawn = traffic(KINDS[0], load, N, SETS, REPEATS, rng)
    one, two = (_scored(serve(drawn, rng, processes=processes).latency_s()) for _ in range(2))
    for_ever = traffic(KINDS[0], load, LONG, 40, REPEATS, rng)
    latency_s = serve(for_ever, rng, processes=processes).latency_s()
    return one, two, float(np.nanquantile(latency_s, SHARE, axis=1).mean())


def _scored(latency_s: Array) -> Array:
    """Return the first `N` requests of each window, or as many as the shortest has, cut into whole blocks."""
    rows = [row[np.isfinite(row)] for row in latency_s]
    # A window of fewer is filled with its own last ones: so that all blocks are whole.
    whole = np.array([np.resize(row, N) if len(row) < N else row[:N] for row in rows])
    return whole.reshape(SETS, REPEATS, N)


def _judged(
    method: Callable[[Array, np.random.Generator], Ends], sets: Array, _: Array, true_s: float
) -> str:
    rng = np.random.default_rng(SEED)
    ends = np.array([method(repeats, rng) for repeats in sets])
    held = ((ends[:, 0] <= true_s) & (true_s <= ends[:, 1])).mean()
    half = np.median(ends[:, 1] - ends[:, 0]) / 2.0 / true_s
    return f"{held:.0%} (±{half:.0%})"


def _changes(one: Array, two: Array, *, paired: bool) -> str:
    before, after = (np.log(np.quantile(sets, SHARE, axis=2)) for sets in (one, two))
    if paired:
        error = (after - before).std(axis=1, ddof=1) / REPEATS**0.5
        half = t_quantile(REPEATS - 1.0) * error
    else:
        errors = [figures.std(axis=1, ddof=1) / REPEATS**0.5 for figures in (before, after)]
        degrees = (errors[0] ** 2 + errors[1] ** 2) ** 2 / (errors[0] ** 4 + errors[1] ** 4) * (REPEATS - 1.0)
        half = np.array([t_quantile(float(d)) for d in degrees]) * np.hypot(*errors)
    called = (np.abs(after.mean(axis=1) - before.mean(axis=1)) > half).mean()
    return f"{called:.0%} (±{np.median(half):.0%})"


if __name__ == "__main__":
    main()
