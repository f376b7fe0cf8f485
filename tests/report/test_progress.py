"""Progress is a line per phase where there is no terminal, and silence when asked for."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.records import Event
from bench.report.progress import RunProgress

PLANNED_S = {"baseline.offline": 10.0, "optimized.offline": 10.0, "baseline.1": 60.0}


def shown(*events: Event, quiet: bool = False, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=terminal)
    with RunProgress(console, planned_s=PLANNED_S, quiet=quiet) as progress:
        for event in events:
            progress.watch(event)
    return out.getvalue()


def test_each_phase_is_one_plain_line_with_the_jobs_place() -> None:
    text = shown(
        Event(job="baseline.offline", phase="load"),
        Event(job="baseline.offline", phase="offline", elapsed_s=1, total_s=10),
        Event(job="baseline.offline", phase="offline", elapsed_s=2, total_s=10),
        Event(job="baseline.1", phase="window", elapsed_s=30, total_s=60, detail="7/9 done [bold]"),
    )
    assert text.splitlines() == [
        "[1/3] baseline.offline: load",
        "[1/3] baseline.offline: offline 1/10 s",
        "[3/3] baseline.1: window 30/60 s  7/9 done [bold]",
    ]


def test_quiet_shows_nothing() -> None:
    assert shown(Event(job="baseline.1", phase="load"), quiet=True) == ""


def test_a_terminal_sees_bars_with_the_job_and_an_estimate() -> None:
    event = Event(job="baseline.1", phase="window", elapsed_s=30, total_s=60, detail="5 done")
    text = shown(event, terminal=True)
    assert "job 3/3" in text
    assert "left" in text


@pytest.mark.parametrize(
    ("event", "done_s"),
    [
        (Event(job="baseline.offline", phase="load"), 0.0),
        (Event(job="optimized.offline", phase="offline", elapsed_s=5, total_s=10), 15.0),
        (Event(job="baseline.1", phase="window", elapsed_s=90, total_s=60), 80.0),
    ],
)
def test_the_whole_is_counted_in_planned_seconds(event: Event, done_s: float) -> None:
    progress = RunProgress(Console(file=io.StringIO()), planned_s=PLANNED_S)
    assert progress.done_s(event) == done_s
