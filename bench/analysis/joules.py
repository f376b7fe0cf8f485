"""What metering a span gives: joules with what sampling leaves open of them, or why there are none.

Two doubts are kept apart. *Sampling* leaves open where in time a tick fell and what the power did between
two readings: `low` and `high` bound that. The *sensor's gain* is off by up to 5 % whatever is done here;
it is the same in every run on one card, so it cancels where these are compared.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.analysis.recorded import length_s
from bench.records import Interval

EnergySource = Literal["counter", "instant_poll", "avg_poll", "rapl"]
Scope = Literal["gpu", "module", "host"]
"""Whose energy it is: the GPU's board, the module with CPU and GPU, or the whole host's packages."""

SENSOR_GAIN = 0.05
"""How far a GPU's power sensor may be off: 5 %, as nvml.h claims of old ones. Against a meter in the supply
line most newer boards were 2 to 6 % below, single older ones 8 % below and 13 % above (Yang et al., SC24)."""
WINDOW_SHORT = "window_short"
"""How the reason begins where a span is too short to be metered."""
MIN_TICKS = 10
"""Fewer ticks of the counter, or fewer readings of the power, are too few for a span."""


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of one device over the span that was actually metered.

    `low` and `high` bound what sampling leaves open of `joules` over exactly this `span`; `gain` is the
    sensor's own error as a share, None where nobody states it. `ticks` lie in the span, `tick_s` apart;
    those at its ends are timed to `timed_s`, and are `aligned` where that is sharp. `instead` says why
    the counter was not used, `distrusted` that it was there and lied. The `scope` is that of these joules,
    whatever another reading of the same GPU covers.
    """

    joules: float
    span: Interval
    low: float
    high: float
    source: EnergySource
    method: str
    scope: Scope = "gpu"
    gain: float | None = SENSOR_GAIN
    ticks: int | None = None
    tick_s: float | None = None
    timed_s: float | None = None
    aligned: bool = False
    instead: str = ""
    distrusted: bool = False

    @property
    def power_w(self) -> float:
        """The mean power over the span."""
        return self.joules / length_s(self.span)

    @property
    def open_share(self) -> float:
        """Half of what sampling leaves open, as a share of the joules."""
        return (self.high - self.low) / 2.0 / self.joules if self.joules > 0 else 0.0


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Why a series gives no energy; `distrusted` where it is there and cannot be true.

    `coarse` is what it gives where only its ends are timed too coarsely: still better than power samples that
    leave more open.
    """

    why: str
    distrusted: bool = False
    coarse: Energy | None = None
