"""Which waiting requests go next: batching policies as pure functions, without threads or clocks.

A policy answers "these, for this reason" or "ask me again at that time, and this is what holds them". The
loop asks whenever the engine can take requests in, so a batch keeps growing while the engine is busy, and a
request's window is counted from when it entered the queue: under load it has long passed by the time the
engine is free again, and batching then costs no waiting at all.

Reasons to go: `idle`, `slot` (continuous), `size`, `budget` (no further request would fit), `window`,
`settle`, `deadline`, `drain`. Reasons to wait: `busy`, `size`, `budget`, `window`, `settle`.
"""

from __future__ import annotations

from bench.protocols import Policy
from bench.serving.policies.bucket import BucketBatching
from bench.serving.policies.continuous import ContinuousBatching
from bench.serving.policies.dynamic import Deadline, DynamicBatching
from bench.serving.policies.fixed import NoBatching, StaticBatching

__all__ = [
    "POLICIES",
    "BucketBatching",
    "ContinuousBatching",
    "Deadline",
    "DynamicBatching",
    "NoBatching",
    "StaticBatching",
]

POLICIES: dict[str, type[Policy]] = {
    "none": NoBatching,
    "static": StaticBatching,
    "dynamic": DynamicBatching,
    "bucket": BucketBatching,
    "continuous": ContinuousBatching,
}
"""The `kind`s of `[systems.NAME] batching`."""
