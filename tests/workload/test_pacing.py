"""The pacer sends everything in order, never early, catches up after a stall and stops at once."""

from __future__ import annotations

import gc
import sys
import threading
import time

import pytest

from bench.clock import WallClock
from bench.records import Request
from bench.workload.pacing import SWITCH_INTERVAL_S, Pacer


def requests_due(*due_s: float) -> list[Request]:
    return [Request(uid=i, due_s=t, prompt_ids=(1,), output_tokens=1) for i, t in enumerate(due_s)]


def test_every_request_is_sent_in_order_never_early_and_soon() -> None:
    clock = WallClock()
    pacer = Pacer(clock, lambda request: (request.uid, clock.now_s() - request.due_s))
    first_s = clock.now_s() + 0.02
    pacer.start(requests_due(*(first_s + 0.004 * i for i in range(50))))
    assert pacer.join(10)
    uids, lags_s = zip(*pacer.answers, strict=True)
    assert list(uids) == list(range(50))
    assert min(lags_s) >= 0
    assert min(lags_s) < 0.02  # the best of 50: other processes share the machine


def test_after_a_stall_the_overdue_requests_are_sent_at_once_and_none_is_dropped() -> None:
    clock = WallClock()

    def submit(request: Request) -> float:
        if request.uid == 0:
            time.sleep(0.2)
        return clock.now_s()

    pacer = Pacer(clock, submit)
    pacer.start(requests_due(0.0, 0.05, 0.1, 0.15, 0.4))
    assert pacer.join(10)
    stalled, *caught_up, last = pacer.answers
    assert len(caught_up) == 3
    assert max(caught_up) - stalled < 0.1
    assert last >= 0.4


def test_stop_ends_a_long_wait_at_once_and_nothing_more_is_sent() -> None:
    pacer = Pacer(WallClock(), lambda request: request.uid)
    pacer.start(requests_due(0.0, 1000.0))
    assert not pacer.join(0.05)
    started = time.perf_counter()
    pacer.stop()
    assert pacer.join(10)
    assert time.perf_counter() - started < 1.0
    assert pacer.answers == (0,)


def test_waiting_for_a_far_request_costs_no_processor_time() -> None:
    pacer = Pacer(WallClock(), lambda request: request.uid)
    pacer.start(requests_due(1000.0))
    time.sleep(0.05)
    before_s = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before_s < 0.03
    pacer.stop()
    pacer.join(10)


def test_the_interpreter_is_prompt_while_sending_and_as_before_afterwards() -> None:
    before = sys.getswitchinterval(), gc.get_freeze_count(), gc.isenabled()
    seen: list[tuple[float, int, bool]] = []
    pacer = Pacer(
        WallClock(),
        lambda _: seen.append((sys.getswitchinterval(), gc.get_freeze_count(), gc.isenabled())),
    )
    pacer.start(requests_due(0.0))
    pacer.join(10)
    [(interval_s, frozen, collecting)] = seen
    assert interval_s == pytest.approx(SWITCH_INTERVAL_S)
    assert frozen > before[1]
    assert collecting
    assert (sys.getswitchinterval(), gc.get_freeze_count(), gc.isenabled()) == before


def test_an_error_in_submit_ends_the_sending_and_reaches_the_caller() -> None:
    def submit(request: Request) -> int:
        if request.uid == 1:
            raise LookupError("no")
        return request.uid

    before_s = sys.getswitchinterval()
    pacer = Pacer(WallClock(), submit)
    pacer.start(requests_due(0.0, 0.0, 0.0))
    with pytest.raises(LookupError, match="no"):
        pacer.join(10)
    assert pacer.answers == (0,)
    assert sys.getswitchinterval() == before_s


def test_requests_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="in order of due_s"):
        Pacer(WallClock(), lambda request: request).start(requests_due(1.0, 0.5))


def test_a_pacer_sends_on_a_thread_of_its_own() -> None:
    pacer = Pacer(WallClock(), lambda _: threading.current_thread().name)
    pacer.start(requests_due(0.0))
    pacer.join(10)
    assert pacer.answers == ("pacer",)
