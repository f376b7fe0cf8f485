"""A system whose engine only takes time, under the traffic of an experiment that is over in a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.clock import WallClock
from bench.model.fake import FakeEngine
from bench.protocols import Tokenizer
from bench.records import Figures
from bench.run.assemble import Parts, assemble_written
from bench.run.drive import Subject

STEP_S = 0.002
OUTPUT_TOKENS = 5


class Ids:
    ordinary_ids: Sequence[int] = range(100)
    tokenizer: Tokenizer | None = None


def parts(
    *,
    capacity: Mapping[str, Any] | None = None,
    objectives: Mapping[str, Any] | None = None,
    **protocol: float,
) -> Parts:
    written: dict[str, Any] = {
        "name": "drive",
        "workload": {
            "requests_per_day": 1000,
            "input_tokens": {"kind": "constant", "tokens": 8},
            "output_tokens": {"kind": "constant", "tokens": OUTPUT_TOKENS},
        },
        "model": {"id": "tiny"},
        "systems": {"one": {"batching": {"kind": "dynamic", "max_size": 4, "max_wait_ms": 1}}},
        "capacity": capacity or {},
        "objectives": objectives or {},
        "protocol": {"warmup_s": 0.1, "window_s": 0.5, "offline_s": 0.3, "timeout_s": 5} | protocol,
    }
    return assemble_written(written, "drive.toml")


def subject(
    engine: FakeEngine,
    clock: WallClock,
    *,
    capacity: Mapping[str, Any] | None = None,
    objectives: Mapping[str, Any] | None = None,
    **protocol: float,
) -> Subject:
    built = parts(capacity=capacity, objectives=objectives, **protocol)
    return Subject(built, built.systems["one"].policy, engine, Ids(), clock)


def quiet(
    phase: str,
    elapsed_s: float = 0.0,
    total_s: float | None = None,
    detail: str = "",
    done: float | None = None,
    figures: Callable[[], Figures] | None = None,
) -> None:
    """Ignore progress."""
