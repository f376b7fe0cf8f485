"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.records import Event

_PLAIN_EVERY_S = 10.0


class RunProgress:
    """Shows events; use as a context manager and pass `watch` to the run.

    The overall bar counts jobs by their planned seconds; its estimate learns from the jobs that are done.
    With `quiet` nothing is shown. Everything goes to `console` (stderr), so that stdout holds results only.
    """

    def __init__(self, console: Console, *, jobs: int, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._live = console.is_terminal and not quiet
        self._jobs = jobs
        self._job = ""
        self._phase = ""
        self._number = 0
        self._last_plain_s = 0.0
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not self._live,
        )
        self._all: TaskID = self._bars.add_task("all jobs", total=jobs, detail="")
        self._now: TaskID = self._bars.add_task("", total=None, detail="")

    def __enter__(self) -> RunProgress:
        """Start the live view."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the live view."""
        if kind is None:
            self._bars.update(self._all, completed=self._jobs)
        self._bars.remove_task(self._now)
        self._bars.stop()

    def watch(self, event: Event) -> None:
        """Show one event."""
        if self._quiet:
            return
        new_job, new_phase = event.job != self._job, event.phase != self._phase or event.job != self._job
        if new_job:
            self._number += 1
        self._job, self._phase = event.job, event.phase
        if self._live:
            self._show_bars(event)
        else:
            self._show_line(event, new_phase=new_phase)

    def _show_bars(self, event: Event) -> None:
        share = event.elapsed_s / event.total_s if event.total_s else 0.0
        done = self._number - 1 + min(share, 1.0)
        self._bars.update(self._all, completed=done, detail=f"job {self._number} of {self._jobs}")
        self._bars.update(
            self._now,
            description=escape(f"{event.job}: {event.phase}"),
            total=event.total_s,
            completed=event.elapsed_s,
            detail=escape(event.detail),
        )

    def _show_line(self, event: Event, *, new_phase: bool) -> None:
        now_s = time.monotonic()
        if not new_phase and now_s - self._last_plain_s < _PLAIN_EVERY_S:
            return
        self._last_plain_s = now_s
        place = f"[{self._number}/{self._jobs}] {event.job}: {event.phase}"
        if event.total_s:
            place += f" {event.elapsed_s:.0f}/{event.total_s:.0f} s"
        self._console.print(f"{place}  {event.detail}".rstrip(), markup=False, highlight=False)
