"""What is analysed: one system's recorded runs, the assumptions that scale them, and what comes out.

A *system* is measured by one saturated run (`offline`: capacity, and the quality pass) and several
open-loop runs at the common rate (`windows`: latency, memory, energy), one per repeat. Everything in
this package is a pure function of these records.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bench.records import Run, Value


class SystemRuns(msgspec.Struct, frozen=True, kw_only=True):
    """One system's jobs; `offline` is None where the saturated run was not made."""

    name: str
    offline: Run | None
    windows: list[Run]

    @property
    def measured(self) -> list[Run]:
        """The repeats that were completed and have a scored window."""
        return [run for run in self.windows if run.meta.status == "complete" and run.meta.window is not None]

    @property
    def runs(self) -> list[Run]:
        """Every completed job: the saturated one first."""
        offline = [self.offline] if self.offline and self.offline.meta.status == "complete" else []
        return [*offline, *self.measured]

    @property
    def jobs(self) -> Jobs:
        """How the jobs ended."""
        failed = [run.meta.error for run in self.windows if run.meta.status == "failed"]
        offline = self.offline.meta if self.offline and self.offline.meta.status == "failed" else None
        unsaid = "no error was recorded"
        return Jobs(
            repeats=len(self.windows),
            completed=len(self.measured),
            failed=len(failed),
            error=failed[0] or unsaid if failed else None,
            offline_error=offline.error or unsaid if offline else None,
        )


class Assumed(msgspec.Struct, frozen=True, kw_only=True):
    """Figures that are assumed, never measured (see `config.Assumptions`), with the price resolved.

    `gpus` is the number of GPUs that one replica of the system occupies.
    """

    usd_per_gpu_hour: Value
    requests_per_day: float
    kg_co2e_per_kwh: float = 0.40
    pue: float = 1.0
    headroom: float = 0.7
    peak_to_mean: float = 1.0
    gpus: int = 1


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one run, before the repeats are put together.

    `n` counts the requests behind it, `how` says how it was obtained, `why` why `value` is None.
    """

    value: float | None
    n: int | None = None
    how: str = ""
    why: str = ""


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """A reason to distrust a result, and what would remove it."""

    key: str
    text: str
    remedy: str


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The circumstances that two results must share to be comparable, and the system's own settings.

    The keys of `checked` are the names that `allow_different` accepts; None is unknown. `mixed` are those
    in which the system's own runs differ.
    """

    checked: dict[str, Any]
    settings: dict[str, Any]
    memory_total_gb: float | None = None
    mixed: tuple[str, ...] = ()


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """How a system's jobs ended: its repeats made, completed and failed, with the first failure's error.

    A repeat that somebody cancelled has neither completed nor failed. `offline_error` is the saturated
    run's, where that failed.
    """

    repeats: int = 0
    completed: int = 0
    failed: int = 0
    error: str | None = None
    offline_error: str | None = None


class MetricSet(msgspec.Struct, frozen=True, kw_only=True):
    """One system's metrics, from its runs or from a bare CSV.

    `origin` is the file or folder, for messages. A `bare` CSV has nothing but its figures, taken as
    stated. `context` is None for it, and for a system of which no job was completed. `saturated` means
    that the system cannot carry the common rate, `p95_unbounded` that so many requests of some repeat
    failed that its p95 latency is infinite.
    """

    name: str
    origin: str
    values: dict[str, Value]
    context: Context | None = None
    bare: bool = False
    jobs: Jobs = Jobs()
    saturated: bool = False
    p95_unbounded: bool = False
    doubts: tuple[Doubt, ...] = ()


def missing(why: str) -> Value:
    """Return a value that was not measured, with the reason."""
    return Value(value=None, source="missing", note=why)
