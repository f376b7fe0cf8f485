"""What a person sees while something is measured: a live view on a terminal, plain lines elsewhere.

The live view keeps its place at the bottom and leaves nothing behind; what is said meanwhile stands above it.
A plain line comes with every phase and every ten seconds, with the same figures. Everything goes to stderr,
so that stdout holds results only; with `quiet` there is nothing at all, and nobody is even asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench.records import Event, Figures
from bench.report.sofar import cells, failed, in_line
from bench.report.timeleft import ENDED, TimeLeft, clock
from bench.units import PERCENT

_PLAIN_EVERY_S = 10.0
_REFRESH_PER_S = 2.0
"""No oftener than a job tells: drawing takes about 2 ms of a core that the system under test may want."""
_CELL = 26
"""Columns of a label with its value …"""
_LABEL = 12
"""… and of the label."""
_BAR = 30
_BESIDE = 52
"""Columns beside a bar, for what it says in words."""


class RunProgress:
    """Shows events; use as a context manager and pass `watcher` to the run.

    `planned_s` names the jobs in their order with their planned seconds, by which the overall bar counts
    and its estimate is made; where the jobs may be fewer, they are `at_most` these. With `quiet` nothing is
    shown. `now_s` is the clock of the time left.
    """

    def __init__(
        self,
        console: Console,
        *,
        planned_s: Mapping[str, float],
        quiet: bool = False,
        at_most: bool = False,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._quiet = quiet
        self._at_most = at_most
        self._now_s = now_s
        self._time = TimeLeft(planned_s)
        self._event: Event | None = None
        self._phase_s = self._event_s = self._line_s = 0.0
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal and not quiet:
            self._live = Live(
                self,
                console=console,
                refresh_per_second=_REFRESH_PER_S,
                transient=True,
                redirect_stdout=False,
            )

    @property
    def watcher(self) -> Callable[[Event], None] | None:
        """What a run is to tell its events; None with `quiet`, so that no job works out any figures."""
        return None if self._quiet else self.watch

    def __enter__(self) -> RunProgress:
        """Start the live view."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the live view; the terminal is as it was."""
        if self._live is not None:
            self._live.stop()

    def watch(self, event: Event) -> None:
        """Show one event."""
        if self._quiet:
            return
        now_s, before = self._now_s(), self._event
        self._time.note(event, now_s)
        if before is None or (event.job, event.phase) != (before.job, before.phase):
            self._phase_s, self._line_s = now_s, -_PLAIN_EVERY_S
        self._event, self._event_s = event, now_s
        if self._live is None or event.phase in ENDED:
            self._print_line(event, now_s)

    def emit_as(self, job: str) -> _Emitter:
        """Return what one piece of work in this process reports its phases to."""
        return _Emitter(self, job)

    def _print_line(self, event: Event, now_s: float) -> None:
        if now_s - self._line_s < _PLAIN_EVERY_S:
            return
        self._line_s = now_s
        self._console.print(self._line(event, now_s), markup=False, highlight=False, soft_wrap=True)

    def _line(self, event: Event, now_s: float) -> str:
        line = self._title(event)
        if event.phase in ENDED:
            line += f" {'in' if event.phase == 'complete' else 'after'} {clock(self._time.job_s(now_s))}"
            return f"{line}: {event.detail}" if event.detail else line
        if event.total_s or event.elapsed_s:
            line += f" {self._how_far(event, now_s)}"
        told = [event.detail, "" if event.figures is None else in_line(event.figures)]
        if event.total_s or event.figures is not None:
            told.append(f"left: {self._left(event, now_s)}")
        return "  ".join([line, *(text for text in told if text)])

    def _title(self, event: Event) -> str:
        number, n = self._time.place(event.job)
        return f"{f'[{number}/{n}] ' if n > 1 else ''}{event.job}: {event.phase}"

    def _elapsed_s(self, event: Event, now_s: float) -> float:
        """Return how long the phase lasts by now, be it planned or not."""
        return max(event.elapsed_s + now_s - self._event_s, 0.0)

    def _how_far(self, event: Event, now_s: float) -> str:
        """Return how long the phase lasts by now, of what is planned where that is not over."""
        elapsed_s = self._elapsed_s(event, now_s)
        if not event.total_s:
            return clock(elapsed_s if event.elapsed_s else now_s - self._phase_s)
        if round(elapsed_s) > round(event.total_s):
            return f"{elapsed_s:.0f} s, planned {event.total_s:.0f} s"
        return f"{elapsed_s:.0f}/{event.total_s:.0f} s"

    def _left(self, event: Event, now_s: float) -> str:
        """Return the time left of the job and of everything, or, where there is one job, of its phase."""
        if self._time.n == 1:
            of_phase_s = (event.total_s or 0.0) - self._elapsed_s(event, now_s)
            return clock(of_phase_s) if of_phase_s > 0.0 else "unknown"
        loading = "" if self._time.knows_loading else " plus loading"
        most = "at most " if self._at_most else ""
        left_s, later_s = self._time.job_left_s(now_s), self._time.later_s()
        if left_s is not None:
            return f"job {clock(left_s)}, all {most}{clock(left_s + later_s)}{loading}"
        return f"unknown, then {most}{clock(later_s)}{loading}" if later_s else "unknown"

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the live view as it is now, in whatever width there is."""
        event, now_s, width = self._event, self._now_s(), options.max_width
        if event is None:
            yield Text("starting", style="dim")
            return
        yield from self._bars(event, now_s, width)
        if event.figures is not None:
            yield _grid(event.figures, width)
            if event.figures.failed:
                yield Text(failed(event.figures), style="bold red")
        if event.detail:
            yield Text(event.detail, style="dim", overflow="ellipsis", no_wrap=True)

    def _bars(self, event: Event, now_s: float, width: int) -> Iterator[RenderableType]:
        """Yield the phase with its bar, and the whole with the time left; without bars where it is narrow."""
        part = min(self._elapsed_s(event, now_s) / event.total_s, 1.0) if event.total_s else 0.0
        share = part if self._time.n == 1 else self._time.share
        left = f"left: {self._left(event, now_s)}"
        yield Text(
            f"{self._title(event)}  {self._how_far(event, now_s)}",
            style="bold",
            overflow="ellipsis",
            no_wrap=True,
        )
        bar = min(_BAR, width - _BESIDE)
        if bar < _BAR // 3:
            yield Text(left, overflow="ellipsis", no_wrap=True)
            return
        whole = Table.grid(padding=(0, 1, 0, 0))
        if event.total_s and self._time.n > 1:
            whole.add_row(_bar(part, bar), Text("of this phase", style="dim"))
        whole.add_row(_bar(share, bar), Text(f"{share * PERCENT:.0f} %, {left}"))
        yield whole


class _Emitter:
    """Makes events of the phases of one piece of work (an `Emit`)."""

    def __init__(self, progress: RunProgress, job: str) -> None:
        self._progress, self._job = progress, job

    def __call__(
        self,
        phase: str,
        elapsed_s: float = 0.0,
        total_s: float | None = None,
        detail: str = "",
        done: float | None = None,
        figures: Callable[[], Figures] | None = None,
    ) -> None:
        """Show where the work is."""
        told = None if figures is None else figures()
        self._progress.watch(
            Event(
                job=self._job,
                phase=phase,
                elapsed_s=elapsed_s,
                total_s=total_s,
                detail=detail,
                done=done,
                figures=told,
            )
        )


def _bar(share: float, width: int) -> ProgressBar:
    return ProgressBar(1.0, share, width=width, complete_style="cyan", finished_style="cyan")


def _grid(figures: Figures, width: int) -> Table:
    """Return the figures in as many columns as there is room for, read from top to bottom."""
    n = max(1, min(3, width // _CELL))
    grid = Table.grid(padding=0)
    for _ in range(n):
        grid.add_column(width=_LABEL, no_wrap=True)
        grid.add_column(width=_CELL - _LABEL, no_wrap=True, overflow="ellipsis")
    known = cells(figures)
    rows = -(-len(known) // n)
    for number in range(rows):
        row: list[Text] = []
        for label, value in known[number::rows]:
            row += [Text(label, style="dim"), Text(value)]
        grid.add_row(*row)
    return grid
