"""How long a run still takes: what is planned, and what jobs that have ended took beyond it.

Loading, quality and drain are in no plan. As soon as a job has ended, how much longer it took than planned is
expected of others of its kind, too; of another kind, at least what every kind took.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from bench.records import Event
from bench.units import HOUR_S, MINUTE_S

ENDED = frozenset({"complete", "failed", "stopping"})
"""Phases in which a job has ended; only the parent tells them."""


class TimeLeft:
    """Counts in planned seconds; `planned_s` names the jobs in their order.

    Jobs that are not run, as they are complete already, count as done once a later one has begun.
    """

    def __init__(self, planned_s: Mapping[str, float]) -> None:
        self._planned_s = planned_s
        self._order = list(planned_s)
        self._job = ""
        self._since_s = self._at_s = 0.0
        self._share = 0.0
        self._has_ended = False
        self._longer_s: dict[str, list[float]] = {}

    @property
    def n(self) -> int:
        """How many jobs there are."""
        return len(self._order)

    @property
    def knows_loading(self) -> bool:
        """Whether loading is part of the estimate."""
        return bool(self._longer_s)

    def place(self, job: str) -> tuple[int, int]:
        """Return the job's number and how many there are."""
        return self._order.index(job) + 1, len(self._order)

    def job_s(self, now_s: float) -> float:
        """Return how long the job at hand has run."""
        return now_s - self._since_s

    def note(self, event: Event, now_s: float) -> None:
        """Take in an event that came at `now_s`."""
        if event.job != self._job:
            self._job, self._since_s, self._share, self._has_ended = event.job, now_s, 0.0, False
        share = event.done
        if share is None:
            share = event.elapsed_s / event.total_s if event.total_s else 0.0
        # A phase of unknown length (loading, quality) does not move it back.
        self._share, self._at_s = max(self._share, min(share, 1.0)), now_s
        self._has_ended |= event.phase in ENDED
        if event.phase == "complete":
            longer_s = self.job_s(now_s) - self._planned_s[event.job]
            self._longer_s.setdefault(_kind(event.job), []).append(longer_s)

    @property
    def share(self) -> float:
        """The share of the planned seconds that is done: the jobs before, and a part of this one."""
        total_s = sum(self._planned_s.values())
        if not self._job or not total_s:
            return 0.0
        before = self._order[: self._order.index(self._job)]
        return (
            sum(map(self._planned_s.__getitem__, before)) + self._share * self._planned_s[self._job]
        ) / total_s

    def job_left_s(self, now_s: float) -> float | None:
        """Return how long the job at hand still takes; None past its plan, where nobody knows."""
        if self._has_ended:
            return 0.0
        left_s = (1.0 - self._share) * self._planned_s[self._job]
        if self._share == 0.0:  # still to be loaded, as far as is known
            return left_s + max(self._expected_longer_s(self._job) - self.job_s(now_s), 0.0)
        left_s -= now_s - self._at_s
        return left_s if left_s > 0.0 else None

    def later_s(self) -> float:
        """Return how long the jobs after this one take."""
        after = self._order[self._order.index(self._job) + 1 :]
        return sum(max(self._planned_s[job] + self._expected_longer_s(job), 0.0) for job in after)

    def _expected_longer_s(self, job: str) -> float:
        known = self._longer_s
        if (own := known.get(_kind(job))) is not None:
            return fmean(own)
        return min((fmean(others) for others in known.values()), default=0.0)


def clock(seconds: float) -> str:
    """Return a length of time as minutes and seconds, or with hours."""
    whole = round(seconds)
    minutes, rest = divmod(whole, int(MINUTE_S))
    if whole < HOUR_S:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _kind(job: str) -> str:
    """Return a job's kind by its name: `offline`, `capacity`, or a window's number as `window`."""
    last = job.rpartition(".")[2]
    return "window" if last.isdigit() else last
