"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.records import Event

_PLAIN_EVERY_S = 10.0


class RunProgress:
    """Shows events; use as a context manager and pass `watch` to the run.

    `planned_s` names the jobs in their order with their planned seconds, by which the overall bar counts
    and its estimate is made; a job that is not run again counts as done. With `quiet` nothing is shown.
    Everything goes to `console` (stderr), so that stdout holds results only.
    """

    def __init__(self, console: Console, *, planned_s: Mapping[str, float], quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._live = console.is_terminal and not quiet
        self._planned_s = planned_s
        self._order = list(planned_s)
        self._job = ""
        self._phase = ""
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
        self._all: TaskID = self._bars.add_task("all jobs", total=sum(planned_s.values()), detail="")
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
            self._bars.update(self._all, completed=sum(self._planned_s.values()))
        self._bars.remove_task(self._now)
        self._bars.stop()

    def watch(self, event: Event) -> None:
        """Show one event."""
        if self._quiet:
            return
        news = (event.job, event.phase) != (self._job, self._phase)
        self._job, self._phase = event.job, event.phase
        if self._live:
            self._show_bars(event, news=news)
        else:
            self._show_line(event, news=news)

    def done_s(self, event: Event) -> float:
        """Return the planned seconds that are done: those of the jobs before, and a share of this one's."""
        before = self._order[: self._order.index(event.job)]
        share = min(event.elapsed_s / event.total_s, 1.0) if event.total_s else 0.0
        share = share if event.done is None else event.done
        return sum(self._planned_s[job] for job in before) + share * self._planned_s[event.job]

    def _place(self, event: Event) -> str:
        return f"{self._order.index(event.job) + 1}/{len(self._order)}"

    def _show_bars(self, event: Event, *, news: bool) -> None:
        if news:
            self._bars.reset(self._now)
        # A phase of unknown length (loading, quality) does not move the bar back.
        done_s = max(self.done_s(event), self._bars.tasks[self._all].completed)
        self._bars.update(self._all, completed=done_s, detail=f"job {self._place(event)}")
        self._bars.update(
            self._now,
            description=escape(f"{event.job}: {event.phase}"),
            total=event.total_s,
            completed=event.elapsed_s,
            detail=escape(event.detail),
        )

    def _show_line(self, event: Event, *, news: bool) -> None:
        now_s = time.monotonic()
        if not news and now_s - self._last_plain_s < _PLAIN_EVERY_S:
            return
        self._last_plain_s = now_s
        line = f"[{self._place(event)}] {event.job}: {event.phase}"
        if event.total_s:
            line += f" {event.elapsed_s:.0f}/{event.total_s:.0f} s"
        self._console.print(f"{line}  {event.detail}".rstrip(), markup=False, highlight=False)


class PhaseProgress:
    """Shows the phases of one piece of work that has no jobs; use as a context manager and pass `emit` to it.

    On a terminal a bar, elsewhere a line whenever the phase changes; with `quiet` nothing.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._phase = ""
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._now = self._bars.add_task("", total=None, detail="")

    def __enter__(self) -> PhaseProgress:
        """Start the live view."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the live view."""
        self._bars.stop()

    def emit(
        self,
        phase: str,
        elapsed_s: float = 0.0,
        total_s: float | None = None,
        detail: str = "",
        done: float | None = None,
    ) -> None:
        """Show where the work is; the bar is the phase's."""
        if self._quiet:
            return
        if phase != self._phase and not self._console.is_terminal:
            self._console.print(phase, markup=False, highlight=False)
        if phase != self._phase:
            self._bars.reset(self._now)
        self._phase = phase
        self._bars.update(
            self._now, description=escape(phase), total=total_s, completed=elapsed_s, detail=escape(detail)
        )
