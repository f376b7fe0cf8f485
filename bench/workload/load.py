"""At which rate latency is measured: one rate for all systems of an experiment, or so many clients.

"Moderate load" must mean the same for both sides of a comparison. By default it is a share of what
the baseline can serve; a system that serves more is then measured at the same rate, not at its own.

All loads but one are open: requests come when they are due, however slow the system is, as users do who do
not know of one another. In a closed loop a slow system is asked less often: each client waits for its answer.
That is how batch jobs and agents behave, and how latency is made to look good where it is not: while the
system stalls, those who would have come meanwhile are never sent (coordinated omission).
"""

from __future__ import annotations

import msgspec

from bench.config import NonNegative, Positive, PositiveInt
from bench.errors import RunFailed
from bench.protocols import Load
from bench.workload.trace import read_trace


class _Open(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load that knows no clients: requests come at a rate."""

    @property
    def clients(self) -> int | None:
        """None: nobody waits for an answer."""
        return None

    @property
    def think_s(self) -> float:
        """0: nobody waits for an answer."""
        return 0.0


class FractionOfBaselineCapacity(_Open, frozen=True):
    """`fraction` of the baseline's measured capacity. Above 1 the baseline is overloaded on purpose."""

    fraction: Positive = 0.7

    def rate_rps(self, baseline_capacity_rps: float | None, workload_rps: float) -> float:
        """Return the rate in requests per second; RunFailed where the capacity was not measured."""
        if not baseline_capacity_rps:
            raise RunFailed(
                "the baseline's capacity was not measured, so a fraction of it is unknown; "
                'see why its offline run failed, or fix the rate with load = { kind = "rate", rps = … }'
            )
        return self.fraction * baseline_capacity_rps


class FixedRate(_Open, frozen=True):
    """`rps` requests per second, whatever the systems can serve."""

    rps: Positive

    def rate_rps(self, baseline_capacity_rps: float | None, workload_rps: float) -> float:
        """Return the rate in requests per second."""
        return self.rps


class RequestsPerDay(_Open, frozen=True):
    """The workload's own `requests_per_day`, spread evenly over the day."""

    def rate_rps(self, baseline_capacity_rps: float | None, workload_rps: float) -> float:
        """Return the rate in requests per second."""
        return workload_rps


class TraceRate(_Open, frozen=True):
    """The mean rate of a whole trace, that at `path`, by default the one which the arrivals replay.

    All repeats are offered this one rate. A window that holds a part of the trace is stretched to it: its
    gaps are the trace's in their proportions, in real time only where it holds whole rounds.
    """

    path: str

    def __post_init__(self) -> None:
        """Read the trace, so that what is wrong with it is known before any run."""
        read_trace(self.path)

    def rate_rps(self, baseline_capacity_rps: float | None, workload_rps: float) -> float:
        """Return the rate in requests per second."""
        return read_trace(self.path).rate_rps


class ClosedLoop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`clients` that each send a request, wait for its answer, think for `think_s` and send the next one.

    The arrival law has no say. A request is due when its client is ready to send it: at the start, or
    `think_s` after the client's last answer, however that came out; latency counts from then on, so that a
    sender that is late does not hide it. It still says nothing of users who do not wait: while a system
    stalls, one late answer a client is all that is seen. By Little's law the rate that comes of it is
    `clients / (mean latency + think_s)`, another for each system: compare throughput, not latency.
    """

    clients: PositiveInt
    think_s: NonNegative = 0.0

    def rate_rps(self, baseline_capacity_rps: float | None, workload_rps: float) -> float:
        """Raise RunFailed: the rate of a closed loop is a result."""
        raise RunFailed("a closed loop has no rate that could be asked for; what is served is its rate")


LOADS: dict[str, type[Load]] = {
    "fraction_of_baseline_capacity": FractionOfBaselineCapacity,
    "rate": FixedRate,
    "requests_per_day": RequestsPerDay,
    "trace": TraceRate,
    "closed_loop": ClosedLoop,
}
"""The `kind`s of `[load]`."""
