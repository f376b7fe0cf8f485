"""Intervals and tests under queueing: false alarms on equal systems, power on unequal ones, and coverage.

`python -m tests.validate inference`. Pairs of simulated queues (`queues`) go through the functions that make
and compare the figures of recorded runs: percentiles, saturated throughput, energy from a counter, `change`.
Beside them the naive rules judge the same requests, each system on traffic of its own, as is usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from bench.analysis.capacity import throughput
from bench.analysis.change import change
from bench.analysis.energy import per_1k
from bench.analysis.latency import latencies
from bench.analysis.percentiles import percentile_over_repeats
from bench.analysis.system import SystemRuns
from bench.config import Objectives
from bench.records import Value
from tests.validate.queues import KINDS, Array, Kind, Served, serve, traffic
from tests.validate.recording import Check, record

LOADS = (0.3, 0.7, 0.85)
WINDOW = {0.3: 500, 0.7: 1000, 0.85: 2000}
"""Load to requests in a window: the nearer to 1, the longer it takes to see anything."""
SHORT = 500
"""Requests in a window that is too short for a load of 0.85."""
PAIRS, SHORT_PAIRS, POWER_PAIRS = 250, 60, 40
"""Pairs of each kind at each load; there are four kinds."""
REPEATS = 5
CHANGES = (0.05, 0.10, 0.20)
LONG = 12_000
"""Requests of a window in which neither its beginning nor its length shows."""
SEED = 1_998
LEVEL, COVERAGE, RESOLVED = 0.05, 0.90, 0.90
ERRORS = 2.0
"""Standard errors of the simulation itself that a share may be off by."""

Better = Literal["lower", "higher"]
FIGURES: Mapping[str, tuple[Better, Callable[[SystemRuns], Value]]] = {
    "p50": ("lower", lambda system: percentile_over_repeats(system, latencies, 0.50)),
    "p95": ("lower", lambda system: percentile_over_repeats(system, latencies, 0.95)),
    "throughput": ("higher", lambda system: throughput(system, Objectives())),
    "energy": ("lower", per_1k),
}
SHARES = {"p50": 0.50, "p95": 0.95}

Figures = dict[str, Value]


class Trials(msgspec.Struct):
    """What came of pairs of one load: calls by figure, and coverage of what was stated."""

    pairs: int = 0
    called: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(FIGURES, 0))
    resolved: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(FIGURES, 0))
    covered: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(SHARES, 0))
    covered_changes: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(SHARES, 0))

    def share(self, of: dict[str, int], name: str, among: dict[str, int] | None = None) -> float:
        """Return a count over the pairs, or over those of another count; NaN of none."""
        total = self.pairs if among is None else among[name]
        return of[name] / total if total else float("nan")


def figures_of(served: Served, pair: int, name: str) -> Figures:
    """Return what the harness makes of one system's runs."""
    system = served.runs(pair, name)
    return {key: measure(system) for key, (_, measure) in FIGURES.items()}


def truth(kind: Kind, load: float, *, faster: float = 0.0, long: int = LONG) -> dict[str, float]:
    """Return the percentiles of the queue in the long run, in ms, averaged over processes."""
    rng = np.random.default_rng([SEED, 7])
    drawn = traffic(kind, load, long, 16, REPEATS, rng)
    latency_s = serve(drawn, rng, faster=faster).latency_s()
    return {
        key: float(np.nanquantile(latency_s, share, axis=1).mean()) * 1e3 for key, share in SHARES.items()
    }


def equal_pairs(
    kind: Kind, load: float, n: int, pairs: int, seed: Sequence[int], *, long: int = LONG
) -> tuple[Trials, Naive]:
    """Judge pairs of equal systems, by the harness and by the naive rules."""
    rng = np.random.default_rng(seed)
    drawn = traffic(kind, load, n, pairs, REPEATS, rng)
    one, two = serve(drawn, rng), serve(drawn, rng)
    known, trials = truth(kind, load, long=long), Trials()
    for pair in range(pairs):
        sides = figures_of(one, pair, "baseline"), figures_of(two, pair, "optimized")
        _count(trials, sides, known)
    return trials, naive(one.latency_s(), known)


def _count(trials: Trials, sides: tuple[Figures, Figures], known: Mapping[str, float]) -> None:
    trials.pairs += 1
    for key, (better, _) in FIGURES.items():
        found = change(sides[0][key], sides[1][key], better)
        trials.called[key] += found.direction in ("better", "worse")
        trials.resolved[key] += found.direction not in ("not resolved", "not comparable")
        if key in SHARES and found.low is not None and found.high is not None:
            value = sides[0][key]
            assert value.low is not None
            assert value.high is not None
            trials.covered[key] += value.low <= known[key] <= value.high
            trials.covered_changes[key] += found.low <= 0.0 <= found.high


class Power(msgspec.Struct):
    """How often a true change was called for the better, and how often its interval held it."""

    pairs: int = 0
    called: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(FIGURES, 0))
    stated: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(SHARES, 0))
    covered: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(SHARES, 0))


def unequal_pairs(kind: Kind, load: float, n: int, pairs: int, seed: Sequence[int]) -> dict[float, Power]:
    """Judge pairs of which the second needs less time for everything, by each of `CHANGES`."""
    rng = np.random.default_rng(seed)
    drawn = traffic(kind, load, n, pairs, REPEATS, rng)
    one, known = serve(drawn, rng), truth(kind, load)
    before = [figures_of(one, pair, "baseline") for pair in range(pairs)]
    found = {faster: Power(pairs=pairs) for faster in CHANGES}
    for faster, power in found.items():
        two, then = serve(drawn, rng, faster=faster), truth(kind, load, faster=faster)
        for pair in range(pairs):
            _count_called(power, before[pair], figures_of(two, pair, "optimized"), known, then)
    return found


def _count_called(
    power: Power, one: Figures, two: Figures, known: Mapping[str, float], then: Mapping[str, float]
) -> None:
    for key, (better, _) in FIGURES.items():
        found = change(one[key], two[key], better)
        power.called[key] += found.direction == "better"
        if key in SHARES and found.low is not None and found.high is not None:
            power.stated[key] += 1
            # The interval of the change is that of the ratio, times the baseline's figure as measured.
            assert one[key].value is not None
            ratio = then[key] / known[key] - 1.0
            power.covered[key] += found.low <= ratio * (one[key].value or 0.0) <= found.high


class Naive(msgspec.Struct):
    """How often the usual rules were wrong about equal systems, and how often their p95 interval held."""

    pairs: int
    t_test: int
    p99_ratio: int
    covered: int


def naive(latency_s: Array, known: Mapping[str, float]) -> Naive:
    """Judge neighbours among the rows as if their requests were independent: they are equal systems."""
    from scipy.stats import binom, ttest_ind

    rows = [row[np.isfinite(row)] for row in latency_s]
    pairs = list(zip(rows[::2], rows[1::2], strict=False))
    covered = 0
    for row in rows:
        ordered = np.sort(row)
        low, high = (int(binom.ppf(tail, len(row), 0.95)) for tail in (0.025, 0.975))
        covered += ordered[low - 1] * 1e3 <= known["p95"] <= ordered[min(high, len(row) - 1)] * 1e3
    ratios = [np.quantile(one, 0.99) / np.quantile(two, 0.99) for one, two in pairs]
    return Naive(
        pairs=len(pairs),
        t_test=sum(bool(ttest_ind(one, two, equal_var=False).pvalue < 0.05) for one, two in pairs),
        p99_ratio=sum(max(ratio, 1.0 / ratio) > 1.5 for ratio in ratios),
        covered=covered,
    )


def main() -> None:
    """Simulate everything, print the tables as Markdown, and record the claims."""
    equal = {
        (kind.name, load): equal_pairs(kind, load, WINDOW[load], PAIRS, [SEED, i, j])
        for i, kind in enumerate(KINDS)
        for j, load in enumerate(LOADS)
    }
    short = [equal_pairs(kind, 0.85, SHORT, SHORT_PAIRS, [SEED, i, 9])[0] for i, kind in enumerate(KINDS)]
    by_load = {load: _together([equal[kind.name, load][0] for kind in KINDS]) for load in LOADS}
    print("\n".join(_equal_table(by_load, _together(short))))
    print("\n".join(_coverage_table(equal)))
    print("\n".join(_naive_table({load: [equal[kind.name, load][1] for kind in KINDS] for load in LOADS})))
    unequal = {
        load: [
            unequal_pairs(kind, load, WINDOW[load], POWER_PAIRS, [SEED, 5, i, j])
            for i, kind in enumerate(KINDS)
        ]
        for j, load in enumerate(LOADS)
    }
    power = {(load, by): _sum([one[by] for one in unequal[load]]) for by in CHANGES for load in LOADS}
    print("\n".join(_power_table(power)))
    checks = dict(_claims(by_load, _together(short), power))
    for name, check in checks.items():
        print(f"{name}: {check}")
    record(checks)


def _together(parts: Sequence[Trials]) -> Trials:
    total = Trials(pairs=sum(part.pairs for part in parts))
    for name in ("called", "resolved", "covered", "covered_changes"):
        counts = getattr(total, name)
        for key in counts:
            counts[key] = sum(getattr(part, name)[key] for part in parts)
    return total


def _sum(parts: Sequence[Power]) -> Power:
    total = Power(pairs=sum(part.pairs for part in parts))
    for name in ("called", "stated", "covered"):
        counts = getattr(total, name)
        for key in counts:
            counts[key] = sum(getattr(part, name)[key] for part in parts)
    return total


def _claims(
    by_load: Mapping[float, Trials], short: Trials, power: Mapping[tuple[float, float], Power]
) -> Iterator[tuple[str, Check]]:
    for load, trials in by_load.items():
        at, n = f"at load {load:g}", trials.pairs
        slack = ERRORS * (LEVEL * (1.0 - LEVEL) / n) ** 0.5
        for key in FIGURES:
            name = f"A/A {at}: share of equal pairs in which {key} is called different"
            yield name, _check(trials.share(trials.called, key), LEVEL + slack, "at most", n)
        for key in SHARES:
            name = f"coverage {at}: share of stated 95 % intervals of {key} that hold it"
            yield name, _check(trials.share(trials.covered, key, trials.resolved), COVERAGE, "at least", n)
            if load <= 0.7:
                name = f"resolved {at}: share of windows whose {key} has an interval"
                yield name, _check(trials.share(trials.resolved, key), RESOLVED, "at least", n)
    wrong = short.resolved["p95"] - short.covered["p95"]
    name = f"load 0.85 in windows of {SHORT}: share of p95 intervals that are stated and do not hold it"
    yield name, _check(wrong / short.pairs, LEVEL, "at most", short.pairs)
    stated = sum(sum(found.stated.values()) for found in power.values())
    covered = sum(sum(found.covered.values()) for found in power.values())
    name = "true changes of 5, 10 and 20 %: share of 95 % intervals of p50 and p95 changes that hold them"
    yield name, _check(covered / stated, COVERAGE, "at least", stated)


def _check(value: float, bound: float, direction: Literal["at most", "at least"], n: int) -> Check:
    return Check(value=value, bound=bound, direction=direction, n=n, seed=SEED)


def _equal_table(by_load: Mapping[float, Trials], short: Trials) -> Iterator[str]:
    yield (
        "\n| equal systems, load | pairs | "
        + " | ".join(f"{key} called" for key in FIGURES)
        + " | p95 resolved |"
    )
    yield "|---|---:|" + "---:|" * (len(FIGURES) + 1)
    rows = [
        *((f"{load:g}", trials) for load, trials in by_load.items()),
        (f"0.85, windows of {SHORT}", short),
    ]
    for name, trials in rows:
        called = " | ".join(f"{trials.share(trials.called, key):.1%}" for key in FIGURES)
        yield f"| {name} | {trials.pairs} | {called} | {trials.share(trials.resolved, 'p95'):.0%} |"


def _coverage_table(equal: Mapping[tuple[str, float], tuple[Trials, Naive]]) -> Iterator[str]:
    yield "\n| coverage of stated intervals | load | p50 | p95 | p95 resolved | p95 change |"
    yield "|---|---:|---:|---:|---:|---:|"
    for (kind, load), (trials, _) in equal.items():
        p50, p95 = (trials.share(trials.covered, key, trials.resolved) for key in SHARES)
        changes = trials.share(trials.covered_changes, "p95", trials.resolved)
        resolved = trials.share(trials.resolved, "p95")
        yield f"| {kind} | {load:g} | {p50:.1%} | {p95:.1%} | {resolved:.0%} | {changes:.1%} |"


def _naive_table(found: Mapping[float, Sequence[Naive]]) -> Iterator[str]:
    yield "\n| naive rules on equal systems, load | t-test | p99 ratio > 1.5 | p95 interval holds |"
    yield "|---|---:|---:|---:|"
    for load, parts in found.items():
        pairs = sum(part.pairs for part in parts)
        t_test, ratio = (
            sum(getattr(part, name) for part in parts) / pairs for name in ("t_test", "p99_ratio")
        )
        covered = sum(part.covered for part in parts) / (2 * pairs)
        yield f"| {load:g} | {t_test:.0%} | {ratio:.0%} | {covered:.0%} |"


def _power_table(power: Mapping[tuple[float, float], Power]) -> Iterator[str]:
    yield "\n| all times shorter by | load | " + " | ".join(f"{key} called better" for key in FIGURES) + " |"
    yield "|---|---:|" + "---:|" * len(FIGURES)
    for (load, faster), found in power.items():
        called = " | ".join(f"{found.called[key] / found.pairs:.0%}" for key in FIGURES)
        yield f"| {faster:.0%} | {load:g} | {called} |"


if __name__ == "__main__":
    main()
