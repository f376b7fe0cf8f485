"""Everything that is known of a measurement, in one value: what a result page and its figures are made of.

It is put together from run folders (`run.evaluation`) and read by pure functions only: the figures
(`analysis.figures`), their charts and the page (`report`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from bench.analysis.comparison import Comparison
from bench.analysis.decide import Verdict
from bench.analysis.system import Assumed, MetricSet, SystemRuns
from bench.config import Objectives


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison and the verdict on it."""

    comparison: Comparison
    verdict: Verdict


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where figures come from: a run folder, how it was made, and by which command it is made again.

    `written` is the experiment file as it stood, `rate_note` says where the common rate comes from, `rounds`
    how repeats that were looked at as they went have ended; empty where there is nothing to say.
    """

    folder: str
    config_file: str
    command: tuple[str, ...]
    provenance: dict[str, Any]
    written: dict[str, Any]
    rate_rps: float | None = None
    rate_note: str = ""
    rounds: str = ""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The systems of one or more run folders, what they were compared to, and by which terms.

    `systems` (recorded jobs) and `sets` (metrics) have the same names in the same order, the first run's
    baseline first; where two runs have a system of one name, the run's name stands before it. `pairs` are
    every other system of a run against that run's baseline. `doubts` say what is against putting several
    runs on one page.
    """

    title: str
    systems: dict[str, SystemRuns]
    sets: dict[str, MetricSet]
    pairs: tuple[Judged, ...]
    origins: tuple[Origin, ...]
    objectives: Objectives
    assumed: Assumed
    doubts: tuple[str, ...] = ()

    @property
    def invalid(self) -> dict[str, str]:
        """The systems with an INVALID run, and what was wrong: nothing may be claimed of them."""
        return {name: said for name, own in self.sets.items() if own.client and (said := own.client.warning)}
