"""Runs whose client kept its schedule, or did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.analysis.system import Validity
from bench.analysis.validity import judge_validity
from bench.records import Completion, Run, Sample
from tests.recorded import completion, steady, window_run

ASKED_RPS = 100.0


def sent(
    lag_s: float = 0.0, *, pacer_s: float = 0.0, latency_s: float = 0.5, n: int = 1000
) -> list[Completion]:
    """Return requests that were all sent `lag_s` late, `pacer_s` of it by the pacer."""
    return [
        completion(
            row.due_s,
            latency_s,
            sent_s=row.due_s + lag_s,
            pacer_lag_s=pacer_s,
            interpreter_lag_s=lag_s - pacer_s,
        )
        for row in steady(n=n)
    ]


def judged(requests: list[Completion], **changes: Any) -> Validity:
    return judge_validity(run(requests, **changes))


def run(requests: list[Completion], telemetry: Sequence[Sample] = (), **changes: Any) -> Run:
    return window_run(requests, telemetry, **({"offered_rps": ASKED_RPS} | changes))


INVALID = judge_validity(run(sent(0.03)))
