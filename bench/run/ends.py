"""What has been answered so far, taken in as it comes: a look costs the same however long a run lasts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bench.analysis.steadiness import converged, saturating
from bench.serving.queue import Ticket
from bench.units import to_ms

_SHOWN = 1000
"""So many of the last latencies are shown while a run goes on."""


@dataclass
class Ends:
    """Answered requests; `tickets` grows on the engine's thread, the rest when it is looked at.

    `due_before_s` counts those apart that were due before that time: `n_scored`. `longest_service_s` is the
    longest that an answered request spent in the engine, None before there is one.
    """

    tickets: list[Ticket] = field(default_factory=list)
    due_before_s: float = float("inf")
    n_scored: int = 0
    n_failed: int = 0
    longest_service_s: float | None = None
    _ended_s: list[float] = field(default_factory=list)
    _latency_s: list[float] = field(default_factory=list)
    _looked: int = 0

    def look(self) -> None:
        """Take in what has been answered since the last look."""
        tickets = self.tickets
        for index in range(self._looked, len(tickets)):
            ticket = tickets[index]
            self.n_scored += ticket.request.due_s < self.due_before_s
            done_s = ticket.done_s
            if done_s is None:
                self.n_failed += 1
                continue
            self._ended_s.append(done_s)
            self._latency_s.append(done_s - ticket.request.due_s)
            if ticket.batch is not None:
                service_s = done_s - ticket.batch.admitted_s
                self.longest_service_s = max(self.longest_service_s or 0.0, service_s)

        self._looked = len(tickets)

    def is_steady(self) -> bool:
        """Say whether latencies have converged."""
        return converged(np.array(self._ended_s), np.array(self._latency_s))

    def figures(self, expected: int | None = None) -> str:
        """Return what a person wants to see: how many of how many, and the latest latencies."""
        n = self.n_scored
        text = f"{n} done" if expected is None else f"{n}/{expected} done"
        if self._latency_s:
            p50_s, p95_s = np.percentile(self._latency_s[-_SHOWN:], [50, 95])
            text += f", p50 {to_ms(p50_s):.0f} ms, p95 {to_ms(p95_s):.0f} ms"
        return f"{text}, {self.n_failed} failed" if self.n_failed else text


@dataclass
class QueueWatch:
    """Looks at the number of requests in the system now and then, and says when it grows without end.

    All that is in there counts, whatever schedule it came by. Without a `dispersion` nothing can be said: a
    burst looks like an overload until it is over.
    """

    rate_rps: float
    dispersion: float | None
    _t_s: list[float] = field(default_factory=list)
    _in_system: list[float] = field(default_factory=list)

    def look(self, elapsed_s: float, in_system: int, longest_service_s: float | None) -> str | None:
        """Return why the traffic should end now; None while it should go on."""
        if self.dispersion is None:
            return None
        self._t_s.append(elapsed_s)
        self._in_system.append(float(in_system))
        return saturating(
            np.array(self._t_s),
            np.array(self._in_system),
            rate_rps=self.rate_rps,
            service_s=longest_service_s,
            dispersion=self.dispersion,
        )
