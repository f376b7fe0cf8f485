"""Queues as a policy sees them: by hand for an example, drawn for a property."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import strategies as st

from bench.protocols import Policy
from bench.records import Request
from bench.serving.policies import (
    POLICIES,
    BucketBatching,
    ContinuousBatching,
    Deadline,
    DynamicBatching,
    NoBatching,
    StaticBatching,
)


class Waits(msgspec.Struct, frozen=True):
    request: Request
    sent_s: float


def waits(
    uid: int, sent_s: float, prompt_tokens: int = 4, output_tokens: int = 3, due_s: float | None = None
) -> Waits:
    prompt_ids = tuple(range(1, prompt_tokens + 1))
    due_s = sent_s if due_s is None else due_s
    return Waits(Request(uid=uid, due_s=due_s, prompt_ids=prompt_ids, output_tokens=output_tokens), sent_s)


def waiting(*sent_s: float) -> list[Waits]:
    return [waits(uid, t) for uid, t in enumerate(sent_s)]


def of_lengths(*prompt_tokens: int, sent_s: float = 0.0) -> list[Waits]:
    return [waits(uid, sent_s, n) for uid, n in enumerate(prompt_tokens)]


MS = st.one_of(st.just(0.0), st.floats(0, 5000))


def _ascending(most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(1, most), max_size=4).map(lambda found: tuple(sorted(found)))


@st.composite
def _dynamic(draw: st.DrawFn) -> DynamicBatching:
    max_size = draw(st.integers(1, 12))
    return DynamicBatching(
        max_size=max_size,
        max_wait_ms=draw(MS),
        preferred_sizes=draw(_ascending(max_size)),
        max_batch_tokens=draw(st.none() | st.integers(1, 400)),
        look_ahead=draw(st.integers(1, 4)),
        settle_ms=draw(MS),
        deadline=draw(st.none() | st.just(Deadline(ms=900, base_ms=50, per_request_ms=20))),
    )


STRATEGIES: dict[str, st.SearchStrategy[Policy]] = {
    "none": st.builds(NoBatching),
    "static": st.builds(StaticBatching, size=st.integers(1, 12)),
    "dynamic": st.builds(DynamicBatching, max_size=st.integers(1, 12), max_wait_ms=MS) | _dynamic(),
    "bucket": st.builds(
        BucketBatching,
        max_size=st.integers(1, 12),
        max_wait_ms=MS,
        edges=st.none() | _ascending(60).filter(bool),
    ),
    "continuous": st.builds(
        ContinuousBatching,
        max_size=st.integers(1, 12),
        max_batch_tokens=st.none() | st.integers(1, 400),
        prefill_chunk=st.none() | st.integers(1, 64),
    ),
}
"""How to draw each kind of policy."""
assert STRATEGIES.keys() == POLICIES.keys(), "every policy is under test"

ANY_POLICY = st.one_of(*STRATEGIES.values())


@st.composite
def _queue(draw: st.DrawFn) -> Sequence[Waits]:
    times = sorted(draw(st.lists(st.floats(0, 10), min_size=1, max_size=40)))
    lengths = st.tuples(st.integers(1, 80), st.integers(1, 40))
    return [waits(uid, t, *draw(lengths)) for uid, t in enumerate(times)]


QUEUES = _queue()
"""What waits, oldest first, sent between 0 and 10 s."""


def class_of(policy: Policy, request: Request) -> object:
    """Return what separates requests that the policy may serve out of their order."""
    if isinstance(policy, BucketBatching):
        return policy.bucket(len(request.prompt_ids))
    if isinstance(policy, DynamicBatching) and policy.look_ahead > 1:
        return len(request.prompt_ids), request.output_tokens
    return None
