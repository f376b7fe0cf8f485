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

    The keys of `checked` are the names that `allow_different` accepts.
    """

    checked: dict[str, Any]
    settings: dict[str, Any]
    memory_total_gb: float | None = None


class MetricSet(msgspec.Struct, frozen=True, kw_only=True):
    """One system's metrics, from its runs or from a bare CSV.

    `origin` is the file or folder, for messages. A bare CSV has no `context`: its figures are taken as
    stated. `saturated` means that the queue grew at the common rate in most repeats.
    """

    name: str
    origin: str
    values: dict[str, Value]
    context: Context | None = None
    saturated: bool = False
    doubts: tuple[Doubt, ...] = ()


def missing(why: str) -> Value:
    """Return a value that was not measured, with the reason."""
    return Value(value=None, source="missing", note=why)
