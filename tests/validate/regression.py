"""The regression gate: how often it alarms when nothing changed, and how soon it finds what did.

`python -m tests.validate.regression`. A history is a row of gated runs of one machine. Each of its five
metrics has days that resemble their neighbours (an AR(1) process on the logarithm) and repeats that scatter
around the day. Three claims, each beside what a single-shot threshold does on the same runs:

- clean histories: few gate calls fail, and few histories of 100 runs have any that does;
- the same where days differ by more than half of the threshold;
- steps of 10 % and 20 % are found within three runs.

Beside them stands the rule that the p99 of 100 requests must not exceed 1.2 times the baseline's: even of
independent exponential latencies (an M/M/1 queue's) it fails one of seventeen clean runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from bench.analysis.effects import MATERIAL_PCT
from bench.analysis.regression import Chart, Judgement, Observed, scale_of
from tests.recorded import repeated
from tests.validate.recording import Check, record

SEED = 41
HISTORIES = 300
RUNS = 100
"""Runs of a clean history, the accepted one included."""
BEFORE, AFTER = 15, 15
"""Runs of a history with a step, before and from it on."""
SOON = 3
REPEATS = 5
REQUESTS, P99_FACTOR = 100, 1.2


class Noise(msgspec.Struct, frozen=True):
    """How a metric varies when nothing changed: standard deviations of logarithms.

    `day` is that of days, whose correlation with the next one is `alike`; `repeat` that of a run's repeats.
    """

    day: float
    repeat: float
    alike: float = 0.6


USUAL = (
    Noise(0.015, 0.015),
    Noise(0.02, 0.04),
    Noise(0.01, 0.01),
    Noise(0.002, 0.002),
    Noise(0.01, 0.01),
)
"""p50, p95, throughput, memory and energy of a machine of one's own."""
ROUGH = tuple(Noise(0.03, 0.03, alike) for alike in (0.0, 0.6, 0.6, 0.6, 0.9))
"""A shared machine: days differ by 3 %, in one metric for weeks."""


class Alarms(msgspec.Struct, frozen=True):
    """What clean histories came to: gate calls that failed, histories with any, and those of the naive rule.

    The naive rule fails a call whose figure is worse than the baseline's by more than the threshold.
    """

    calls: int
    failed: int
    histories: int
    naive_failed: int
    naive_histories: int


class Found(msgspec.Struct, frozen=True):
    """After how many runs of the new level a step was found; None where it was not."""

    delays: tuple[int | None, ...]

    @property
    def soon(self) -> float:
        """The share of steps that were found within three runs."""
        return sum(delay is not None and delay <= SOON for delay in self.delays) / len(self.delays)

    @property
    def median(self) -> float:
        """The median delay in runs, one never found counting as infinite."""
        return float(np.median([math.inf if delay is None else delay for delay in self.delays]))


def runs_of(noise: Noise, steps: Sequence[float], rng: np.random.Generator) -> Iterator[Observed]:
    """Yield one run for each of `steps`, by which its figures are larger."""
    day = rng.normal(0.0, noise.day)
    for number, step in enumerate(steps):
        repeats = (1.0 + step) * np.exp(day + rng.normal(0.0, noise.repeat, REPEATS))
        yield Observed(str(number), repeated(*repeats.tolist(), source="simulated"))
        day = noise.alike * day + rng.normal(0.0, noise.day * math.sqrt(1.0 - noise.alike**2))


def judged(runs: Iterator[Observed], material_pct: float = MATERIAL_PCT) -> Iterator[tuple[Judgement, bool]]:
    """Accept the first run, and yield what the gate and the naive rule say of each other one."""
    chart, baseline = Chart(scale_of("lower", share=False, material_pct=material_pct)), next(runs)
    chart.accept(baseline)
    limit = baseline.figure * (1.0 + material_pct / 100.0)
    for run in runs:
        yield chart.add(run), run.figure > limit


def clean(noises: Sequence[Noise], histories: int, seed: int) -> Alarms:
    """Gate histories in which nothing changed; a call fails where any of its metrics does."""
    rng = np.random.default_rng(seed)
    failed, naive = (np.zeros((histories, RUNS - 1), bool) for _ in range(2))
    for history in range(histories):
        for noise in noises:
            for i, (judgement, is_naive) in enumerate(judged(runs_of(noise, [0.0] * RUNS, rng))):
                failed[history, i] |= judgement.outcome == "regressed"
                naive[history, i] |= is_naive
    return Alarms(
        failed.size, int(failed.sum()), int(failed.any(1).sum()), int(naive.sum()), int(naive.any(1).sum())
    )


def stepped(
    noise: Noise, step: float, histories: int, seed: int, material_pct: float = MATERIAL_PCT
) -> Found:
    """Gate histories of one metric with a step, and say after how many runs each was found."""
    rng = np.random.default_rng(seed)
    delays: list[int | None] = []
    for _ in range(histories):
        outcomes = judged(runs_of(noise, [0.0] * BEFORE + [step] * AFTER, rng), material_pct)
        after = [judgement.outcome for judgement, _ in outcomes][BEFORE - 1 :]
        delays.append(after.index("regressed") + 1 if "regressed" in after else None)
    return Found(tuple(delays))


def single_shot(samples: int, seed: int) -> float:
    """Return how often the p99 of 100 independent exponential latencies is above 1.2 times the true one."""
    rng = np.random.default_rng(seed)
    p99 = np.percentile(rng.standard_exponential((samples, REQUESTS)), 99, axis=1)
    return float(np.mean(p99 > P99_FACTOR * -math.log(0.01)))


def checks(histories: int = HISTORIES) -> dict[str, Check]:
    """Simulate everything and hold it against the bounds."""
    found: dict[str, Check] = {}

    def claim(name: str, value: float, bound: float, n: int, *, least: bool = False) -> None:
        direction = "at least" if least else "at most"
        found[f"regression, {name}"] = Check(value=value, bound=bound, direction=direction, n=n, seed=SEED)  # type: ignore[arg-type]

    for kind, noises, per_call, per_history in (("usual", USUAL, 0.001, 0.02), ("rough", ROUGH, 0.01, 0.2)):
        alarms = clean(noises, histories, SEED)
        n, calls = histories, alarms.calls
        claim(
            f"{kind} days: share of clean gate calls of 5 metrics that fail",
            alarms.failed / calls,
            per_call,
            calls,
        )
        claim(
            f"{kind} days: share of clean histories of {RUNS} runs with any",
            alarms.histories / n,
            per_history,
            n,
        )
        claim(
            f"{kind} days: the same by a single shot of {MATERIAL_PCT:g} %, for comparison",
            alarms.naive_failed / calls,
            1.0,
            calls,
        )
        claim(f"{kind} days: histories by a single shot, for comparison", alarms.naive_histories / n, 1.0, n)
    for step, soon, median in ((0.1, 0.75, 2.0), (0.2, 0.95, 2.0)):
        steps = stepped(USUAL[0], step, histories, SEED)
        claim(f"step of {step:.0%}: share found within {SOON} runs", steps.soon, soon, histories, least=True)
        claim(f"step of {step:.0%}: runs until it is found, median", steps.median, median, histories)
    equal = stepped(USUAL[0], 0.05, histories, SEED)
    claim(
        "step of 5%, the threshold itself: share found within 3 runs, for comparison",
        equal.soon,
        1.0,
        histories,
    )
    finer = stepped(USUAL[2], 0.05, histories, SEED, material_pct=2.0)
    claim(
        "step of 5% with --material 2, days of 1 %: share found within 3 runs, for comparison",
        finer.soon,
        1.0,
        histories,
    )
    shot = single_shot(40_000, SEED)
    claim(
        f"p99 of {REQUESTS} requests above {P99_FACTOR:g} times the true one, for comparison",
        shot,
        1.0,
        40_000,
    )
    return found


def main() -> None:
    """Run, print a line per claim and record them."""
    found = checks()
    for name, check in found.items():
        print(f"{name}: {check}")
    record(found)


if __name__ == "__main__":
    main()
