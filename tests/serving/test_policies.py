"""Policies are first come first served, within their bounds, and never let the oldest starve."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import choose
from bench.errors import ConfigError
from bench.protocols import Admission
from bench.records import Request
from bench.serving.policies import POLICIES, DynamicBatching, NoBatching

from .traffic import request


class Waits(msgspec.Struct, frozen=True):
    request: Request
    sent_s: float


def waiting(*sent_s: float) -> list[Waits]:
    return [Waits(request(uid), t) for uid, t in enumerate(sorted(sent_s))]


TIMES = st.lists(st.floats(0, 10), max_size=40)
DYNAMIC = st.builds(
    DynamicBatching, max_size=st.integers(1, 20), max_wait_ms=st.one_of(st.just(0.0), st.floats(0, 5000))
)


@given(policy=st.one_of(DYNAMIC, st.builds(NoBatching)), sent_s=TIMES, draining=st.booleans())
def test_a_batch_is_the_oldest_in_order_and_at_most_the_maximum(
    policy: DynamicBatching | NoBatching, sent_s: list[float], draining: bool
) -> None:
    answer = policy.admit(waiting(*sent_s), 0, 10.0, draining=draining)
    assert answer.take == tuple(range(len(answer.take)))
    assert len(answer.take) <= min(policy.max_batch, len(sent_s))
    assert bool(answer.reason) == bool(answer.take)


@given(policy=DYNAMIC, sent_s=TIMES.filter(bool), later_s=st.floats(0, 10))
def test_dynamic_holds_the_oldest_for_its_window_and_not_longer(
    policy: DynamicBatching, sent_s: list[float], later_s: float
) -> None:
    now_s = max(sent_s) + later_s
    answer = policy.admit(waiting(*sent_s), 0, now_s, draining=False)
    waited_ms = (now_s - min(sent_s)) * 1000
    if answer.take:
        assert answer.wake_s is None
        assert len(sent_s) >= policy.max_size or waited_ms >= policy.max_wait_ms - 1e-6
    else:
        assert len(sent_s) < policy.max_size
        assert waited_ms < policy.max_wait_ms + 1e-6
        assert answer.wake_s is not None
        assert answer.wake_s == pytest.approx(min(sent_s) + policy.max_wait_ms / 1000)
        assert answer.wake_s > now_s
        at_wake = policy.admit(waiting(*sent_s), 0, answer.wake_s, draining=False)
        assert (at_wake.take[0], at_wake.reason) == (0, "window")


@given(policy=DYNAMIC, sent_s=TIMES.filter(bool))
def test_draining_leaves_nothing_waiting_for_company(policy: DynamicBatching, sent_s: list[float]) -> None:
    answer = policy.admit(waiting(*sent_s), 0, 10.0, draining=True)
    assert len(answer.take) == min(len(sent_s), policy.max_size)


@given(policy=st.one_of(DYNAMIC, st.builds(NoBatching)), sent_s=TIMES)
def test_nothing_joins_while_something_runs_and_nothing_is_made_of_nothing(
    policy: DynamicBatching | NoBatching, sent_s: list[float]
) -> None:
    assert policy.admit(waiting(*sent_s), 1, 99.0, draining=True) == Admission()
    assert policy.admit([], 0, 99.0, draining=True) == Admission()


@pytest.mark.parametrize(
    ("sent_s", "now_s", "draining", "reason"),
    [
        ((0.0, 0.1, 0.2), 0.2, False, "size"),
        ((0.0, 0.1, 0.2), 9.0, True, "size"),
        ((0.0, 0.1), 0.5, False, "window"),
        ((0.0, 0.1), 0.5, True, "window"),
        ((0.0, 0.1), 0.4, True, "drain"),
        ((0.0, 0.1), 0.4, False, ""),
    ],
)
def test_dynamic_says_why_a_batch_goes(
    sent_s: tuple[float, ...], now_s: float, draining: bool, reason: str
) -> None:
    policy = DynamicBatching(max_size=3, max_wait_ms=500)
    assert policy.admit(waiting(*sent_s), 0, now_s, draining=draining).reason == reason


def test_no_batching_takes_one_at_once() -> None:
    answer = NoBatching().admit(waiting(0.0, 0.0), 0, 0.0, draining=False)
    assert answer == Admission(take=(0,), reason="idle")


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "none", "max_size": 4},
        {"kind": "dynamic", "max_size": 0, "max_wait_ms": 1},
        {"kind": "dynamic", "max_size": 4, "max_wait_ms": -1},
        {"kind": "dynamic", "max_size": 4},
    ],
)
def test_a_misplaced_or_impossible_option_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"systems\.a\.batching"):
        choose(POLICIES, table, "x.toml", "systems.a.batching")
