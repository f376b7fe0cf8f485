"""Failures of the same requests in two systems: who failed where the other did not.

Requests that both systems were sent are pairs, and only those that ended differently say anything: McNemar's
test (Psychometrika 12, 1947), exact, by the binomial distribution of who failed alone. It takes pairs as
independent, which neighbours in a queue are not: fifty timeouts in a row are one event. So a system is said
to fail more only if the difference of the rates, too, is above zero with its whole interval over the
segments, which are independent of one another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from bench.analysis.proportions import mcnemar
from bench.analysis.recorded import Scored, scored
from bench.analysis.stats import CONFIDENCE, Array, t_quantile
from bench.records import Run
from bench.units import PERCENT


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one segment that both systems were sent: how many failed where."""

    compared: int
    both: int = 0
    only_baseline: int = 0
    only_candidate: int = 0


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of failure over all segments.

    `p` is McNemar's two-sided significance; `low` and `high` bound the difference of the rates (candidate
    minus baseline) over the segments, None from fewer than two.
    """

    what: str
    compared: int
    both: int
    only_baseline: int
    only_candidate: int
    p: float
    low: float | None
    high: float | None
    confidence: float

    @property
    def baseline_rate(self) -> float:
        """The share of the compared requests that failed in the baseline."""
        return (self.both + self.only_baseline) / self.compared if self.compared else 0.0

    @property
    def candidate_rate(self) -> float:
        """The share of the compared requests that failed in the candidate."""
        return (self.both + self.only_candidate) / self.compared if self.compared else 0.0

    @property
    def more(self) -> bool:
        """Whether the candidate surely fails more: by its requests, and by its segments."""
        return self.suspected and self.low is not None and self.low > 0

    @property
    def suspected(self) -> bool:
        """Whether the candidate fails more by its requests, be it in one segment alone."""
        return self.p <= 1.0 - self.confidence and self.candidate_rate > self.baseline_rate

    @property
    def text(self) -> str:
        """Who failed more, in words."""
        return (
            f"more {self.what}: {self.candidate_rate * PERCENT:.2g} % against "
            f"{self.baseline_rate * PERCENT:.2g} %, {self.only_candidate} requests failed with the "
            f"candidate alone and {self.only_baseline} with the baseline alone (McNemar p = {self.p:.2g})"
        )


def failures(what: str, segments: Sequence[Segment], confidence: float = CONFIDENCE) -> Failures:
    """Return what all segments together say of one kind of failure."""
    only_baseline = sum(segment.only_baseline for segment in segments)
    only_candidate = sum(segment.only_candidate for segment in segments)
    low, high = _difference(segments, confidence)
    return Failures(
        what=what,
        compared=sum(segment.compared for segment in segments),
        both=sum(segment.both for segment in segments),
        only_baseline=only_baseline,
        only_candidate=only_candidate,
        p=mcnemar(only_baseline, only_candidate),
        low=low,
        high=high,
        confidence=confidence,
    )


def segment_of(baseline: Run, candidate: Run, *, timeouts_only: bool = False) -> Segment:
    """Return how the requests that were scored in both runs ended; they are paired by their number."""
    one, two = _failed(scored(baseline), timeouts_only), _failed(scored(candidate), timeouts_only)
    common = one.keys() & two.keys()
    return Segment(
        compared=len(common),
        both=sum(one[uid] and two[uid] for uid in common),
        only_baseline=sum(one[uid] and not two[uid] for uid in common),
        only_candidate=sum(two[uid] and not one[uid] for uid in common),
    )


def _failed(rows: Scored, timeouts_only: bool) -> Mapping[int, bool]:
    """Return for each request's number whether it failed, in any way or by running out of time."""
    status = np.array(rows.table.column("status").to_pylist())
    failed: Array = status == "timeout" if timeouts_only else ~rows.ok
    return dict(zip(rows.table.column("uid").to_pylist(), failed.tolist(), strict=True))


def _difference(segments: Sequence[Segment], confidence: float) -> tuple[float | None, float | None]:
    """Return Student's interval of the mean difference of the rates over the segments."""
    rates = [(s.only_candidate - s.only_baseline) / s.compared for s in segments if s.compared]
    n = len(rates)
    if n < 2:
        return None, None
    mean = math.fsum(rates) / n
    deviation = math.sqrt(math.fsum((rate - mean) ** 2 for rate in rates) / (n - 1))
    half = t_quantile(n - 1, confidence) * deviation / math.sqrt(n)
    return mean - half, mean + half
