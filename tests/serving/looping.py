"""The loop on virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bench.clock import VirtualClock
from bench.model.fake import FailOn, FakeEngine
from bench.protocols import Engine, Policy
from bench.records import Completion, Request, ServiceLaw
from bench.serving.loop import simulate
from bench.serving.policies import DynamicBatching


def serve(
    requests: Sequence[Request],
    policy: Policy | None = None,
    *,
    engine: Callable[[VirtualClock], Engine] | None = None,
    fail_on: FailOn = lambda batch: None,
    queue_limit: int = 10_000,
    timeout_s: float = math.inf,
) -> list[Completion]:
    """Serve on a machine whose every token takes 0.1 s, whatever the batch."""
    clock = VirtualClock()
    built = engine(clock) if engine else FakeEngine(clock, ServiceLaw(decode_s=0.1), fail_on=fail_on)
    policy = policy or DynamicBatching(max_size=8, max_wait_ms=0)
    return simulate(requests, policy, built, clock, queue_limit=queue_limit, timeout_s=timeout_s)
