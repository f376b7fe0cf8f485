"""Which jobs an experiment consists of, and in which order they run.

A job is one system in one process of its own; its only product is a run folder. First every system
runs saturated (`offline`), which gives capacities and quality; then the repeats at the common rate,
alternating A B B A so that drift favours nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from bench.records import JobKind


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One (system, repeat) to be measured into `experiment_folder/name`.

    `rate_rps` is the common rate of a window job. `repeat` counts from 1; the offline job is 0.
    """

    experiment_folder: str
    system: str
    kind: JobKind
    repeat: int = 0
    rate_rps: float | None = None

    @property
    def name(self) -> str:
        """The folder's name: `baseline.offline`, `baseline.1`, …"""
        return f"{self.system}.{'offline' if self.kind == 'offline' else self.repeat}"

    @property
    def folder(self) -> Path:
        """Where the job writes."""
        return Path(self.experiment_folder) / self.name


def offline_jobs(folder: Path, systems: Sequence[str]) -> list[Job]:
    """Return the saturated job of each system, the baseline first."""
    return [Job(experiment_folder=str(folder), system=name, kind="offline") for name in systems]


def window_jobs(
    folder: Path,
    systems: Sequence[str],
    repeats: int,
    order: Literal["interleaved", "sequential"],
    rate_rps: float,
) -> list[Job]:
    """Return the repeats at `rate_rps`: A B B A … interleaved, A A … B B … sequential."""
    rounds = range(1, repeats + 1)
    if order == "sequential":
        pairs = [(name, r) for name in systems for r in rounds]
    else:
        pairs = [(name, r) for r in rounds for name in (systems if r % 2 else reversed(systems))]
    return [
        Job(experiment_folder=str(folder), system=name, kind="window", repeat=r, rate_rps=rate_rps)
        for name, r in pairs
    ]
