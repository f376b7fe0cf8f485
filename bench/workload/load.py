"""At which rate latency is measured: one rate for all systems of an experiment.

"Moderate load" must mean the same for both sides of a comparison. By default it is a share of what
the baseline can serve; a system that serves more is then measured at the same rate, not at its own.
"""

from __future__ import annotations

import msgspec

from bench.config import Positive
from bench.errors import RunFailed
from bench.protocols import Load


class FractionOfBaselineCapacity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class FixedRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`rps` requests per second, whatever the systems can serve."""

    rps: Positive

    def rate_rps(self, baseline_capacity_rps: float | None, workload_rps: float) -> float:
        """Return the rate in requests per second."""
        return self.rps


class RequestsPerDay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The workload's own `requests_per_day`, spread evenly over the day."""

    def rate_rps(self, baseline_capacity_rps: float | None, workload_rps: float) -> float:
        """Return the rate in requests per second."""
        return workload_rps


LOADS: dict[str, type[Load]] = {
    "fraction_of_baseline_capacity": FractionOfBaselineCapacity,
    "rate": FixedRate,
    "requests_per_day": RequestsPerDay,
}
"""The `kind`s of `[load]`."""
