"""Ratios of things measured side by side, and the one file that all benchmarks write their results into.

Each benchmark merges its entries into `results/perf/latest.json` by name, so that one can be measured anew
without the others. An entry is the median of the repeats' ratios with a 95 % interval of that median, and
says what it is a ratio of and on which machine it was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import provenance
from bench.analysis.paired import median_interval
from bench.store import write_json

LATEST = Path("results/perf/latest.json")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio as recorded: the median of `repeats`, its 95 % interval, and what it is a ratio of."""

    ratio: float
    low: float
    high: float
    repeats: int
    unit: str
    machine: str = msgspec.field(default_factory=provenance.cpu_model)

    def line(self, name: str) -> str:
        """Return the entry as a line for people."""
        return f"{name}: {self.ratio:.3f} (95 % {self.low:.3f} to {self.high:.3f}, {self.repeats} repeats)"


def summarize(ratios: Sequence[float], unit: str, *, threads: int | None = None) -> Entry:
    """Return the entry of `ratios`, one per repeat; `threads` of torch where it computed.

    Of fewer than six repeats, which have no interval at 95 %, it holds their extremes.
    """
    found = median_interval(ratios)
    processor = provenance.cpu_model()
    return Entry(
        ratio=found.median,
        low=min(ratios) if found.low is None else found.low,
        high=max(ratios) if found.high is None else found.high,
        repeats=len(ratios),
        unit=unit,
        machine=processor if threads is None else f"{processor}, {threads} thread{'s' * (threads > 1)}",
    )


def record(entries: Mapping[str, Entry], path: Path = LATEST) -> None:
    """Merge `entries` into the file, by name."""
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, known | dict(entries))
