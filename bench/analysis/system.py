"""What is analysed: one system's recorded runs, the assumptions that scale them, and what comes out.

A *system* is measured by one saturated run (`offline`: capacity, and the quality pass) and several
open-loop runs at the common rate (`windows`: latency, memory, energy), one per repeat. Everything in
this package is a pure function of these records.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bench.analysis.looks import look_confidence
from bench.analysis.output_quality import OutputQuality
from bench.analysis.stats import CONFIDENCE
from bench.config import Embodied
from bench.records import Run, Value
from bench.units import to_ms

Level = Literal["VALID", "DEGRADED", "INVALID"]
MIN_P99 = 100
"""Fewer requests have no 99th percentile but their maximum."""


class SystemRuns(msgspec.Struct, frozen=True, kw_only=True):
    """One system's jobs; `offline` and `capacity` are None where that job was not made."""

    name: str
    offline: Run | None
    windows: list[Run]
    capacity: Run | None = None

    @property
    def measured(self) -> list[Run]:
        """The repeats that were completed and have a scored window."""
        return [run for run in self.windows if run.meta.status == "complete" and run.meta.window is not None]

    @property
    def runs(self) -> list[Run]:
        """Every completed job: the saturated one first, then the capacity search."""
        first = [run for run in (self.offline, self.capacity) if run and run.meta.status == "complete"]
        return [*first, *self.measured]

    @property
    def confidence(self) -> float:
        """The confidence of an interval over the repeats: above 0.95 where each of them was a look.

        Whoever stops as soon as the verdict is settled looks after every repeat, from the first that may end.
        """
        protocol: dict[str, Any] = next((run.meta.config.get("protocol", {}) for run in self.windows), {})
        if protocol.get("stop") != "decided":
            return CONFIDENCE
        return look_confidence(protocol["min_repeats"], protocol["repeats"])

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
    """Figures that are assumed, never measured (see `config.Assumptions`), with price and grid resolved.

    `gpus` is the number of GPUs that one replica of the system occupies. A price that was looked up has
    `price_looked_up`, and `price_date` if the table dates it. `grid` says where the intensity is from. The
    `_range`s are [low, high] for the sensitivity band, None where nothing gives one.
    """

    usd_per_gpu_hour: Value
    requests_per_day: float
    price_looked_up: bool = False
    price_date: str | None = None
    usd_per_gpu_hour_range: tuple[float, float] | None = None
    kg_co2e_per_kwh: float | None = None
    kg_co2e_per_kwh_range: tuple[float, float] | None = None
    grid: str | None = None
    pue: float | None = None
    embodied: Embodied | None = None
    headroom: float = 0.7
    peak_to_mean: float = 1.0
    min_replicas: int = 1
    spare_replicas: int = 0
    gpus: int = 1


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one run, before the repeats are put together.

    `n` counts the requests behind it, `how` says how it was obtained, `why` why `value` is None. `low` and
    `high` bound what the meter leaves open of it, where it says so: they hold for this run alone, and what
    runs differ by comes on top.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    how: str = ""
    why: str = ""


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """A reason to distrust a result, and what would remove it."""

    key: str
    text: str
    remedy: str


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How late the harness sent `n` requests, at the tail, and what that is made of.

    The tail is p99, of fewer than `MIN_P99` requests the largest lag. `pacer_s`: the sender was busy with
    earlier requests; `interpreter_s`: it waited for the interpreter and a core. They sum to `tail_s`; None
    in runs that did not record them.
    """

    p99_s: float
    largest_s: float | None = None
    n: int | None = None
    pacer_s: float | None = None
    interpreter_s: float | None = None

    @property
    def tail_s(self) -> float:
        """The lag that is judged."""
        return self.p99_s if self.largest_s is None or not self._few else self.largest_s

    @property
    def in_words(self) -> str:
        """The lag with its parts, in ms."""
        text = f"{to_ms(self.tail_s):.3g} ms"
        if self.pacer_s is None or self.interpreter_s is None:
            return text
        return f"{text} (pacer {to_ms(self.pacer_s):.3g}, interpreter {to_ms(self.interpreter_s):.3g})"

    def called(self, what: str) -> str:
        """Return `what p99`, or `largest what` where that is the tail."""
        return f"largest {what}" if self._few else f"{what} p99"

    @property
    def _few(self) -> bool:
        return self.n is not None and self.n < MIN_P99


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What was wrong: how bad, `what: figure and limit`, what would remove it, and with whom.

    The client is the harness itself, which sends; the device is the GPU with its meter.
    """

    level: Level
    text: str
    remedy: str
    of: Literal["client", "device"] = "client"

    @property
    def what(self) -> str:
        """What was wrong, without figures."""
        return self.text.partition(":")[0]


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on the client and the device of one run (see `validity`, `device`), by the worst fault.

    `due` requests were due inside the window, `unfinished` of these were sent and came to no end. `sent`
    were sent inside it, and that over its length is `realised_rps`. Beside `asked_rps` it holds the scatter
    of the drawn schedule as well, which is nobody's fault.
    """

    level: Level
    faults: tuple[Fault, ...] = ()
    asked_rps: float | None = None
    realised_rps: float | None = None
    due: int | None = None
    sent: int | None = None
    lag: Lag | None = None
    unfinished: int = 0

    @property
    def reasons(self) -> str:
        """What was wrong, in words; empty where nothing was."""
        return "; ".join(fault.text for fault in self.faults)

    @property
    def recommendation(self) -> str:
        """What to do about it, in words; empty where nothing was wrong."""
        return "; ".join(dict.fromkeys(fault.remedy for fault in self.faults))

    @property
    def whose(self) -> str:
        """Whose faults made the level: the client, the device, or both."""
        at_fault = dict.fromkeys(fault.of for fault in self.faults if fault.level == self.level)
        return " and ".join(at_fault) or "client"

    @property
    def warning(self) -> str:
        """What every figure of an INVALID run must say, without figures; else empty."""
        if self.level != "INVALID":
            return ""
        worst = dict.fromkeys(fault.what for fault in self.faults if fault.level == "INVALID")
        return f"INVALID {self.whose}: {', '.join(worst)}"

    @property
    def in_words(self) -> str:
        """One line: level, rate, lag, what was unfinished, and what was wrong with the device."""
        parts: list[str] = [self.level]
        if self.asked_rps is not None and self.realised_rps is not None:
            counts = "" if self.due is None else f" ({self.due} due, {self.sent} sent)"
            parts.append(f"realised {self.realised_rps:.3g} of {self.asked_rps:.3g} requests/s{counts}")
        if self.lag is not None:
            parts.append(f"{self.lag.called('lag')} {self.lag.in_words}")
        if self.unfinished:
            parts.append(f"{self.unfinished} unfinished")
        parts += [fault.text for fault in self.faults if fault.of == "device"]
        return ", ".join(parts)


class Batching(msgspec.Struct, frozen=True, kw_only=True):
    """How the scored requests of all repeats went together.

    `sizes` are shares of the admissions, by how many requests ran once these had joined; `admitted` and
    `waited` are shares of the requests, by why they went when they did and why they were last left waiting.
    """

    p50_size: float
    p90_size: float
    sizes: dict[str, float]
    admitted: dict[str, float] = {}
    waited: dict[str, float] = {}


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The circumstances that two results must share to be comparable, and the system's own settings.

    The keys of `checked` are the names that `allow_different` accepts; None is unknown. `mixed` are those
    in which the system's own runs differ. The rest may differ and is then doubted (see `unalike`): `cards`
    and `energy_sources` are those of the repeats, `power_capped` is a share of the time.
    """

    checked: dict[str, Any]
    settings: dict[str, Any]
    memory_total_gb: float | None = None
    mixed: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    energy_sources: tuple[str, ...] = ()
    sm_clock_mhz: float | None = None
    power_capped: float | None = None


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
    failed that its p95 latency is infinite. `client` is the worst verdict on client and device of any run.
    `quality` is all that was found about its outputs, of which `values` has the headlines. `window_s` is the
    window that would resolve its percentiles (see `longer`).
    """

    name: str
    origin: str
    values: dict[str, Value]
    context: Context | None = None
    bare: bool = False
    jobs: Jobs = Jobs()
    saturated: bool = False
    p95_unbounded: bool = False
    client: Validity | None = None
    batching: Batching | None = None
    quality: OutputQuality | None = None
    window_s: float | None = None
    doubts: tuple[Doubt, ...] = ()


def missing(why: str) -> Value:
    """Return a value that was not measured, with the reason."""
    return Value(value=None, source="missing", note=why)
