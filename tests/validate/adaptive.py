"""Repeats that end when the verdict is settled, and A/B replays: error rates, and the time that is saved.

`python -m tests.validate adaptive`. Two simulations, whose truth is known:

- *Length.* Repeats of a pair of systems are drawn log-normal: of every figure the two share a scatter (their
  traffic was the same) and have one of their own (`SCATTER`; that of latency is what the repeats of a real
  model on a CPU scattered by). Energy truly falls by a given share, nothing else changes. Each pair is judged
  by the very path of a run (`compare`, `decide`, `standing`) three ways: a fixed number of repeats, judged
  once; up to ten, looked at from the third on at the confidence for all looks; and likewise at 95 % each, as
  whoever peeks does. At a fall of 5 %, the material threshold itself, any conclusion counts as false.
- *A/B.* Segments of one trace on two equal queues (`queues`) at three loads: how often is the result of the
  replay's own rules something else than hold or extend; and how often is a true change found. Equal ones also
  with a look after every segment from the fourth on and requests that fail: some by chance, and those that
  take longest by running out of time, which come in bursts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from bench.analysis.abtest import Compared, Decision, Evidence, Measured, Plan, compare_metric, conclude
from bench.analysis.compare import compare
from bench.analysis.comparison import QUALITY
from bench.analysis.decide import decide
from bench.analysis.failures import Failures, Segment, failures
from bench.analysis.looks import look_confidence
from bench.analysis.metrics import REQUIRED
from bench.analysis.settled import standing
from bench.analysis.stats import CONFIDENCE
from bench.analysis.system import MetricSet, missing
from bench.config import Objectives
from bench.units import to_ms
from tests.analysis.pairs import metrics
from tests.recorded import ASSUMED, LIMITS, repeated
from tests.validate.queues import KINDS, serve, traffic
from tests.validate.recording import Check, record

SEED = 5_300
TRIALS = 1_000
FIRST, MOST = 3, 10
CHANGES = (0.0, 5.0, 10.0, 20.0, 50.0)
"""By how many percent energy truly falls."""
SAVES = {0.0: 0.0, 10.0: 0.0, 20.0: 0.15, 50.0: -0.1}
"""The least share of the rounds saved against the fixed length that is as sure, by the true fall."""
THRESHOLD = 5.0
"""The material threshold: at this change every conclusion is counted as false."""
ENERGY = "estimated_energy_kwh_per_1k_requests"
SCATTER = {
    "p50_latency_ms": (200.0, 0.14, 0.08),
    "p95_latency_ms": (400.0, 0.14, 0.10),
    "average_memory_gb": (20.0, 0.0, 0.005),
    ENERGY: (0.03, 0.04, 0.03),
}
"""The median of each figure, and the standard deviations of its logarithm: shared by a pair, and its own."""
JUDGED = {*REQUIRED, *QUALITY, "error_rate"}
"""What gates and effects look at."""
OBJECTIVES = Objectives(p95_latency_ms=2000)
LOADS = (0.3, 0.7, 0.85)
SEGMENTS, REQUESTS = 8, 300
AB_TRIALS = 1_000
AB_CHANGES = (0.0, 5.0, 10.0, 20.0)
FIRST_SEGMENTS = 4
"""The first look of replays that are looked at often."""
FAILING = 0.01
"""Where requests fail: the share of them that does by chance, and about as many run out of time."""
INFINITE_S = 1e9
"""The latency of a request that failed, in place of infinity, of which numpy takes no quantile."""

Array = np.ndarray[Any, np.dtype[Any]]
Drawn = Mapping[str, tuple[Array, Array]]


class Outcome(msgspec.Struct, frozen=True):
    """What a comparison came to after so many rounds, and whether more would change it."""

    adopted: bool
    held: bool
    settled: bool
    rounds: int


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of trials with a false conclusion, and with none; and the mean number of rounds."""

    wrong: float
    open: float
    rounds: float


class Ways(msgspec.Struct, frozen=True, kw_only=True):
    """The ways to end a comparison: fixed lengths, when it is settled, and by peeking."""

    fixed: dict[int, Rates]
    decided: Rates
    peeking: Rates

    @property
    def as_sure(self) -> int:
        """The shortest fixed length that concludes rightly as often as the one that ends when settled."""
        unsure = self.decided.wrong + self.decided.open
        return next((n for n, found in self.fixed.items() if found.wrong + found.open <= unsure), MOST)

    @property
    def saved(self) -> float:
        """The share of the rounds saved against that length."""
        return 1.0 - self.decided.rounds / self.as_sure


def rounds_of(change_pct: float, rng: np.random.Generator) -> Drawn:
    """Draw the figures of `MOST` rounds of a pair whose energy truly falls by `change_pct`."""
    drawn = {}
    for name, (median, shared, own) in SCATTER.items():
        common = shared * rng.standard_normal(MOST)
        old, new = (median * np.exp(common + own * rng.standard_normal(MOST)) for _ in range(2))
        drawn[name] = old, new * (1.0 - change_pct / 100.0) if name == ENERGY else new
    return drawn


def judged(drawn: Drawn, made: int, confidence: float) -> Outcome:
    """Return what the first rounds of a pair come to at a confidence of each interval."""
    old, new = (
        side(name, {key: pair[i][:made] for key, pair in drawn.items()}, confidence)
        for i, name in enumerate(("baseline", "optimized"))
    )
    comparison = compare(old, new, ASSUMED, OBJECTIVES)
    verdict = decide(comparison, OBJECTIVES, LIMITS)
    return Outcome(
        adopted=verdict.decision.startswith("adopt"),
        held=verdict.decision in ("hold", "reject"),
        settled=standing(comparison, verdict, OBJECTIVES).settled,
        rounds=made,
    )


def ended(looks: Iterable[Outcome]) -> Outcome:
    """Return the look at which it is settled, else the last."""
    for look in looks:
        if look.settled:
            break
    return look


def side(name: str, figures: Mapping[str, Array], confidence: float) -> MetricSet:
    """Return a system's metrics with these figures of its repeats; of the others, what is judged at all."""
    measured = metrics(name)
    known = {key: value for key, value in measured.values.items() if key in JUDGED}
    values = {
        key: repeated(*figure.tolist(), confidence=confidence, source="simulated")
        for key, figure in figures.items()
    }
    return msgspec.structs.replace(measured, values=known | values)


def lengths(change_pct: float, trials: int, seed: int = SEED) -> Ways:
    """Return how each way of ending does at one true change, all of the same drawn rounds."""
    rng = np.random.default_rng([seed, round(change_pct)])
    confidence = look_confidence(FIRST, MOST)
    fixed: dict[int, list[Outcome]] = {made: [] for made in range(FIRST, MOST + 1)}
    decided, peeking = [], []
    for _ in range(trials):
        drawn = rounds_of(change_pct, rng)
        plain = [judged(drawn, made, CONFIDENCE) for made in fixed]
        for look in plain:
            fixed[look.rounds].append(look)
        peeking.append(ended(plain))
        decided.append(ended(judged(drawn, made, confidence) for made in fixed))
    return Ways(
        fixed={made: rates(found, change_pct) for made, found in fixed.items()},
        decided=rates(decided, change_pct),
        peeking=rates(peeking, change_pct),
    )


def rates(outcomes: list[Outcome], change_pct: float) -> Rates:
    """Return the shares: on the threshold any conclusion is false, below it an adoption, above it a hold."""
    wrong = sum(
        (one.adopted and change_pct <= THRESHOLD) or (one.held and change_pct >= THRESHOLD)
        for one in outcomes
    )
    n = len(outcomes)
    return Rates(
        wrong=wrong / n,
        open=sum(not one.adopted and not one.held for one in outcomes) / n,
        rounds=sum(one.rounds for one in outcomes) / n,
    )


def replays(
    load: float,
    change_pct: float,
    trials: int,
    *,
    first: int = SEGMENTS,
    failing: float = 0.0,
    seed: int = SEED,
) -> dict[Decision, float]:
    """Return the share of each result of A/B replays of two queues, whose candidate takes less time.

    The candidate's service times are shorter by `change_pct`, so that its latencies are by at least as much.
    Looks are taken from `first` segments on, until there is a result.
    """
    plan = Plan(
        baseline="old",
        candidate="new",
        metric="p95_latency_ms",
        mde_pct=10.0,
        power=0.8,
        tolerated_pct=20.0,
        pairs=first,
        most_pairs=SEGMENTS,
        asked=first,
    )
    rng = np.random.default_rng([seed, round(100 * load), round(change_pct)])
    drawn = traffic(KINDS[0], load, REQUESTS, trials, SEGMENTS, rng)
    sides = [
        served.latency_s().reshape(trials, SEGMENTS, -1)
        for served in (serve(drawn, rng), serve(drawn, rng, faster=change_pct / 100.0))
    ]
    if failing:
        timeout_s = np.nanquantile(sides[0], 1.0 - failing)
        for latency_s in sides:
            latency_s[latency_s > timeout_s] = INFINITE_S
            latency_s[~np.isnan(latency_s) & (rng.random(latency_s.shape) < failing)] = INFINITE_S
    found = {
        share: [np.nanquantile(latency_s, share, axis=2) for latency_s in sides] for share in (0.5, 0.95)
    }
    failed = [latency_s == INFINITE_S for latency_s in sides]
    counts: dict[Decision, int] = dict.fromkeys(("rollout", "extend", "hold", "reject"), 0)
    for trial in range(trials):
        for made in range(first, SEGMENTS + 1):
            evidence = Evidence(
                rows=tuple(
                    latency_row(share, (old[trial, :made], new[trial, :made]), plan)
                    for share, (old, new) in found.items()
                ),
                failures=(failures_of(failed[0][trial, :made], failed[1][trial, :made], plan.confidence),),
                pairs=made,
            )
            decision = conclude(evidence, plan).decision
            if decision != "extend":
                break
        counts[decision] += 1
    return {decision: count / trials for decision, count in counts.items()}


def latency_row(share: float, sides_s: tuple[Array, Array], plan: Plan) -> Compared:
    """Return a latency percentile of both systems over the segments; it may be infinite in some."""
    infinite = [bool((side_s > INFINITE_S / 100.0).any()) for side_s in sides_s]
    old, new = (
        missing("too many requests failed")
        if is_infinite
        else repeated(*(to_ms(1.0) * side_s).tolist(), confidence=plan.confidence, source="simulated")
        for side_s, is_infinite in zip(sides_s, infinite, strict=True)
    )
    return compare_metric(
        Measured(
            name=f"p{share * 100:g}_latency_ms",
            label=f"p{share * 100:g} latency",
            unit="ms",
            better="lower",
            baseline=old,
            candidate=new,
            unbounded=infinite[1] and not infinite[0],
        ),
        plan,
    )


def failures_of(old: Array, new: Array, confidence: float) -> Failures:
    """Return what segments say of failures, given which requests failed where."""
    segments = [
        Segment(
            compared=REQUESTS,
            both=int((one & two).sum()),
            only_baseline=int((one & ~two).sum()),
            only_candidate=int((two & ~one).sum()),
        )
        for one, two in zip(old, new, strict=True)
    ]
    return failures("errors", segments, confidence)


def main() -> None:
    """Simulate both, print them as Markdown tables, and record the claims."""
    checks = _lengths() | _replays()
    for name, check in checks.items():
        print(f"{name}: {check}")
    record(checks)


def _lengths() -> dict[str, Check]:
    """Print the table of lengths and return its claims."""
    own = 100.0 * SCATTER[ENERGY][2]
    print(
        f"\nOf {TRIALS} pairs each; looks from round {FIRST} to {MOST}; energy's own scatter is {own:g} %.\n"
    )
    heads = ("true fall", f"{MOST} rounds: wrong", "open", "decided: wrong", "open", "rounds")
    _row(*heads, "fixed length as sure", "saved against it", "peeking: wrong")
    _row(*["---:"] * 9)
    table = {change: lengths(change, TRIALS) for change in CHANGES}
    for change, found in table.items():
        whole, decided = found.fixed[MOST], found.decided
        _row(
            f"{change:g} %",
            f"{whole.wrong:.1%}",
            f"{whole.open:.1%}",
            f"{decided.wrong:.1%}",
            f"{decided.open:.1%}",
            f"{decided.rounds:.1f}",
            *(("-", "-") if change == THRESHOLD else (f"{found.as_sure}", f"{found.saved:.0%}")),
            f"{found.peeking.wrong:.1%}",
        )
    bound = 0.05 + 2.0 * (0.05 * 0.95 / TRIALS) ** 0.5
    claims = {
        "adaptive length: false verdicts where they are most frequent": Check(
            value=max(found.decided.wrong for found in table.values()),
            bound=bound,
            direction="at most",
            n=TRIALS,
            seed=SEED,
        ),
        "adaptive length: false verdicts there with 95 % at each look (to be avoided)": Check(
            value=table[THRESHOLD].peeking.wrong, bound=bound, direction="at least", n=TRIALS, seed=SEED
        ),
    }
    for change, least in SAVES.items():
        name = (
            f"adaptive length: rounds saved against a fixed length as sure, energy truly down by {change:g} %"
        )
        claims[name] = Check(
            value=table[change].saved, bound=least, direction="at least", n=TRIALS, seed=SEED
        )
    return claims


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def _replays() -> dict[str, Check]:
    """Print the table of A/B replays and return its claims."""
    print(f"\nOf {AB_TRIALS} replays each: {SEGMENTS} pairs of {REQUESTS} requests, to find 10 % of p95.\n")
    _row("load", "service faster by", "rollout", "extend", "hold", "reject")
    _row(*["---:"] * 6)
    checks: dict[str, Check] = {}
    equal = []
    for load in LOADS:
        for change in AB_CHANGES:
            found = replays(load, change, AB_TRIALS)
            _row(f"{load:g}", f"{change:g} %", *(f"{share:.1%}" for share in found.values()))
            if change == 0.0:
                equal.append(found)
            if change == 20.0:
                name = f"A/B: rollouts at load {load:g} of a candidate that is 20 % faster"
                checks[name] = Check(
                    value=found["rollout"], bound=0.8, direction="at least", n=AB_TRIALS, seed=SEED
                )
    looked = []
    for load in LOADS:
        looked.append(replays(load, 0.0, AB_TRIALS, first=FIRST_SEGMENTS, failing=FAILING))
        cells = (f"{share:.1%}" for share in looked[-1].values())
        _row(f"{load:g}, looks from {FIRST_SEGMENTS} pairs on, failures", "0 %", *cells)
    error = 2.0 * (0.05 * 0.95 / AB_TRIALS) ** 0.5
    for name, each in (
        ("A/A: rollouts and rejections of two equal systems, the worst of three loads", equal),
        ("A/A: the same with a look after every segment and requests that fail", looked),
    ):
        false = max(found["rollout"] + found["reject"] for found in each)
        checks[name] = Check(
            value=false, bound=0.05 + error, direction="at most", n=len(LOADS) * AB_TRIALS, seed=SEED
        )
    return checks


if __name__ == "__main__":
    main()
