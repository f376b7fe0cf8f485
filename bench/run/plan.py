"""Which jobs an experiment consists of, and in which order they run.

A job is one system in one process of its own; its only product is a run folder. First every system
runs saturated (`offline`), which gives quality and a first idea of its capacity, then the search for the
capacity itself; last the repeats at the common rate, alternating A B B A so that drift favours nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from bench.records import JobKind


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One (system, repeat) to be measured into `experiment_folder/name`.

    `rate_rps` is the common rate of a window job (None for a closed loop), and where a capacity job begins to
    search. `repeat` counts from 1; the others are 0.
    """

    experiment_folder: str
    system: str
    kind: JobKind
    repeat: int = 0
    rate_rps: float | None = None

    @property
    def name(self) -> str:
        """The folder's name: `baseline.offline`, `baseline.capacity`, `baseline.1`, …"""
        return f"{self.system}.{self.repeat if self.kind == 'window' else self.kind}"

    @property
    def folder(self) -> Path:
        """Where the job writes."""
        return Path(self.experiment_folder) / self.name


def offline_jobs(folder: Path, systems: Sequence[str]) -> list[Job]:
    """Return the saturated job of each system, the baseline first."""
    return [Job(experiment_folder=str(folder), system=name, kind="offline") for name in systems]


def capacity_job(folder: Path, system: str, guess_rps: float) -> Job:
    """Return the job that searches a system's capacity, beginning near `guess_rps`."""
    return Job(experiment_folder=str(folder), system=system, kind="capacity", rate_rps=guess_rps)


def window_jobs(
    folder: Path,
    systems: Sequence[str],
    repeats: int,
    order: Literal["interleaved", "sequential"],
    rate_rps: float | None,
) -> list[Job]:
    """Return the repeats at `rate_rps`: A B B A … interleaved, A A … B B … sequential.

    In a closed loop there is no rate.
    """
    rounds = range(1, repeats + 1)
    if order == "sequential":
        pairs = [(name, r) for name in systems for r in rounds]
    else:
        pairs = [(name, r) for r in rounds for name in (systems if r % 2 else reversed(systems))]
    return [
        Job(experiment_folder=str(folder), system=name, kind="window", repeat=r, rate_rps=rate_rps)
        for name, r in pairs
    ]
