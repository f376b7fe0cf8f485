"""What a person sees while a run goes on: the same figures on a terminal and in plain lines, or nothing."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.records import Event, Figures
from bench.report.progress import RunProgress

PLANNED_S = {"baseline.offline": 20.0, "optimized.offline": 20.0, "baseline.1": 60.0, "optimized.1": 60.0}
KNOWN = Figures(
    rate_rps=24.0,
    completed=812,
    due=1440,
    p50_ms=412.3,
    p95_ms=655.2,
    queued=3,
    running=8,
    tokens_per_s=1204.2,
    power_w=312.3,
    gpu_memory_gb=18.21,
    host_memory_gb=1.2,
)
WINDOW = Event(
    job="baseline.1", phase="window", elapsed_s=34.0, total_s=60.0, done=0.5, figures=KNOWN, detail="[bold]"
)


class Watched:
    """A run that is watched on a clock of its own, and what has been said of it."""

    def __init__(self, *, quiet: bool = False, terminal: bool = False, at_most: bool = False) -> None:
        self.now_s = 100.0
        self.out = io.StringIO()
        self.console = Console(file=self.out, width=80, force_terminal=terminal, color_system=None)
        self.progress = RunProgress(
            self.console, planned_s=PLANNED_S, quiet=quiet, at_most=at_most, now_s=lambda: self.now_s
        )

    def tell(self, event: Event, after_s: float = 0.0) -> None:
        self.now_s += after_s
        self.progress.watch(event)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()

    def view(self, width: int = 80) -> list[str]:
        """Return the live view as it is drawn now."""
        drawn = io.StringIO()
        Console(file=drawn, width=width, color_system=None).print(self.progress)
        return [line.rstrip() for line in drawn.getvalue().splitlines()]


def test_the_live_view_has_every_figure_in_its_place() -> None:
    run = Watched(terminal=True)
    run.tell(WINDOW)
    assert [line.lstrip("━╸╺ ") for line in run.view()] == [
        "[3/4] baseline.1: window  34/60 s",
        "of this phase",
        "44 %, left: job 0:30, all 1:30 plus loading",
        "answered    812/1,440     p50 so far  412 ms        queued      3",
        "offered     24 req/s      p95 so far  655 ms        running     8",
        "tokens      1,204/s       GPU memory  18.2 GB       power       312 W",
        "[bold]",
    ]


def test_what_is_not_known_is_a_dash_and_the_memory_of_a_run_without_a_gpu_is_the_hosts() -> None:
    run = Watched(terminal=True)
    run.tell(Event(job="baseline.1", phase="window", total_s=60.0, figures=Figures(host_memory_gb=1.234)))
    assert run.view()[3:] == [
        "answered    -             p50 so far  -             queued      -",
        "offered     -             p95 so far  -             running     -",
        "tokens      -             host memory 1.23 GB       power       -",
    ]


def test_failures_are_said_where_there_are_any() -> None:
    run = Watched(terminal=True)
    run.tell(Event(job="baseline.1", phase="window", total_s=60.0, figures=Figures(completed=9, failed=2)))
    assert run.view()[-1] == "2 of the answered failed"


@pytest.mark.parametrize("width", [20, 30, 55, 79, 80, 200])
def test_no_figure_is_lost_and_no_line_too_long_in_a_terminal_of_any_width(width: int) -> None:
    run = Watched(terminal=True)
    run.tell(WINDOW)
    lines = run.view(width)
    assert max(map(len, lines)) <= width
    for figure in ("412 ms", "655 ms", "312 W", "18.2 GB", "1,204/s", "812/1,440", "24 req/s"):
        assert any(figure in line for line in lines), figure


def test_the_live_view_leaves_nothing_but_how_the_jobs_ended_and_the_cursor() -> None:
    run = Watched(terminal=True)
    with run.progress:
        run.tell(Event(job="baseline.offline", phase="load"))
        run.tell(Event(job="baseline.offline", phase="complete", done=1.0), after_s=65.0)
        run.tell(Event(job="optimized.offline", phase="failed", done=1.0, detail="no [kernel]"), after_s=5.0)
    text = run.out.getvalue()
    assert "[1/4] baseline.offline: complete in 1:05" in text
    assert "[2/4] optimized.offline: failed after 0:00: no [kernel]" in text
    assert text.rstrip("\r").rpartition("\x1b[?25")[2].startswith("h"), "the cursor is back"


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    run = Watched(terminal=True)
    with run.progress:
        run.tell(Event(job="baseline.offline", phase="load"))
    assert run.out.getvalue() == "[1/4] baseline.offline: load\n"


def test_each_phase_is_a_plain_line_and_then_every_ten_seconds_one() -> None:
    run = Watched()
    run.tell(Event(job="baseline.offline", phase="load"))
    run.tell(Event(job="baseline.offline", phase="offline", elapsed_s=1, total_s=20), after_s=1)
    run.tell(Event(job="baseline.offline", phase="offline", elapsed_s=9, total_s=20), after_s=8)
    run.tell(Event(job="baseline.offline", phase="offline", elapsed_s=11, total_s=20), after_s=2)
    run.tell(Event(job="baseline.offline", phase="complete", done=1.0), after_s=19)
    run.tell(WINDOW)
    assert run.lines == [
        "[1/4] baseline.offline: load",
        "[1/4] baseline.offline: offline 1/20 s  left: job 0:19, all 2:39 plus loading",
        "[1/4] baseline.offline: offline 11/20 s  left: job 0:09, all 2:29 plus loading",
        "[1/4] baseline.offline: complete in 0:30",
        "[3/4] baseline.1: window 34/60 s  [bold]  answered 812/1,440, offered 24 req/s, tokens 1,204/s, "
        "p50 so far 412 ms, p95 so far 655 ms, GPU memory 18.2 GB, queued 3, running 8, power 312 W  "
        "left: job 0:30, all 1:40",
    ]


def test_quiet_says_nothing_and_asks_nobody() -> None:
    run = Watched(quiet=True, terminal=True)
    with run.progress:
        run.tell(WINDOW)
    assert run.out.getvalue() == ""
    assert run.progress.watcher is None


def test_the_time_left_has_loading_as_soon_as_a_job_has_shown_it() -> None:
    run = Watched()
    run.tell(Event(job="baseline.offline", phase="load"))
    run.tell(Event(job="baseline.offline", phase="complete", done=1.0), after_s=32.0)  # 12 s beyond the plan
    run.tell(Event(job="optimized.offline", phase="load"))
    assert run.view()[1].endswith("12 %, left: job 0:32, all 2:56"), "32 s, and twice 60 s with at least 12 s"
    run.now_s += 10.0
    assert "left: job 0:22" in run.view()[1], "it counts down while the model loads"


def test_where_a_run_may_end_sooner_the_time_left_is_a_bound() -> None:
    run = Watched(at_most=True)
    run.tell(WINDOW)
    assert run.lines[0].endswith("all at most 1:30 plus loading")


def test_a_phase_of_unknown_length_does_not_move_the_whole_back() -> None:
    run = Watched()
    run.tell(Event(job="baseline.offline", phase="offline", elapsed_s=20, total_s=20))
    run.tell(Event(job="baseline.offline", phase="quality"))
    assert "12 %, left: unknown, then 2:20 plus loading" in run.view()[1]


def test_past_its_plan_a_job_shows_how_long_it_lasts_and_that_nobody_knows_what_is_left() -> None:
    run = Watched()
    saturated = Event(job="baseline.offline", phase="offline", elapsed_s=45, total_s=20, figures=Figures())
    run.tell(saturated)
    assert run.view()[0] == "[1/4] baseline.offline: offline  45 s, planned 20 s"
    assert run.lines[-1].startswith("[1/4] baseline.offline: offline 45 s, planned 20 s  ")
    assert run.lines[-1].endswith("left: unknown, then 2:20 plus loading")
    drain = Event(job="optimized.1", phase="drain", elapsed_s=0.5, done=1.0, figures=Figures())
    run.tell(drain)
    run.now_s += 26.0
    assert run.view()[:2] == ["[4/4] optimized.1: drain  0:26", "━" * 28 + " 100 %, left: unknown"]
    assert run.lines[-1].endswith("left: unknown"), "and no job follows"
    run.tell(Event(job="optimized.1", phase="complete", done=1.0))
    assert run.view()[1].endswith("left: job 0:00, all 0:00")


def test_work_that_is_no_run_shows_its_phases_without_a_place() -> None:
    run = Watched()
    run.progress = RunProgress(run.console, planned_s={"self-test": 60.0}, now_s=lambda: run.now_s)
    emit = run.progress.emit_as("self-test")
    emit("load")
    emit("pairs", 30.0, 60.0, "6 of 12 rounds")
    assert run.lines == ["self-test: load", "self-test: pairs 30/60 s  6 of 12 rounds  left: 0:30"]
    run.now_s += 40.0
    assert run.view()[1].endswith("left: unknown")
