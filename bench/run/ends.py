"""What has been answered so far, taken in as it comes: a look costs the same however long a run lasts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bench.analysis.steadiness import converged, saturating
from bench.records import Figures, Generation
from bench.run.sofar import Histogram, Recent
from bench.serving.queue import Ticket
from bench.units import to_ms


@dataclass
class Ends:
    """Answered requests; `tickets` grows on the engine's thread, the rest when it is looked at.

    `due_before_s` counts those apart that were due before that time: `n_scored`, of which `n_failed` have no
    result. `longest_service_s` is the longest that an answered request spent in the engine, None before there
    is one.
    """

    tickets: list[Ticket] = field(default_factory=list)
    due_before_s: float = float("inf")
    n_scored: int = 0
    n_failed: int = 0
    longest_service_s: float | None = None
    _ended_s: list[float] = field(default_factory=list)
    _latency_s: list[float] = field(default_factory=list)
    _looked: int = 0
    _tokens: int = 0
    _uncounted_s: list[float] = field(default_factory=list)
    _latencies: Histogram = field(default_factory=Histogram)
    _recent_tokens: Recent = field(default_factory=Recent)

    def look(self) -> None:
        """Take in what has been answered since the last look."""
        tickets = self.tickets
        for index in range(self._looked, len(tickets)):
            ticket = tickets[index]
            is_scored = ticket.request.due_s < self.due_before_s
            self.n_scored += is_scored
            done_s = ticket.done_s
            if done_s is None:
                self.n_failed += is_scored
                continue
            latency_s = done_s - ticket.request.due_s
            self._ended_s.append(done_s)
            self._latency_s.append(latency_s)
            if is_scored:
                self._uncounted_s.append(latency_s)
            if isinstance(ticket.end, Generation):
                self._tokens += len(ticket.end.token_ids)
            if ticket.batch is not None:
                service_s = done_s - ticket.batch.admitted_s
                self.longest_service_s = max(self.longest_service_s or 0.0, service_s)

        self._looked = len(tickets)

    def is_steady(self) -> bool:
        """Say whether latencies have converged."""
        return converged(np.array(self._ended_s), np.array(self._latency_s))

    def so_far(
        self,
        now_s: float,
        *,
        rate_rps: float | None = None,
        due: int | None = None,
        queued: int | None = None,
        running: int | None = None,
    ) -> Figures:
        """Return what a person wants to see of it, with what else is known.

        Takes tens of microseconds however long the run is. To be asked for now and then, by one thread.
        """
        fresh_s, self._uncounted_s = self._uncounted_s, []
        self._latencies.add(fresh_s)
        p50_s, p95_s = self._latencies.percentiles_s(0.5, 0.95)
        return Figures(
            rate_rps=rate_rps,
            completed=self.n_scored,
            due=due,
            failed=self.n_failed,
            p50_ms=None if p50_s is None else to_ms(p50_s),
            p95_ms=None if p95_s is None else to_ms(p95_s),
            queued=queued,
            running=running,
            tokens_per_s=self._recent_tokens.per_s(now_s, self._tokens),
        )


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
