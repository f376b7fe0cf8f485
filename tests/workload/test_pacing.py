"""The pacer sends everything in order, never early, catches up after a stall and stops at once."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.clock import WallClock
from bench.records import Request
from bench.workload.pacing import SPIN_S, SWITCH_INTERVAL_S, Pacer, split_lag


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


def test_the_lag_of_a_request_behind_a_slow_one_is_the_pacers_and_its_sum_is_the_whole() -> None:
    clock = WallClock()

    def submit(request: Request) -> float:
        sent_s = clock.now_s()
        if request.uid == 0:
            time.sleep(0.1)
        return sent_s

    pacer = Pacer(clock, submit)
    requests = requests_due(clock.now_s(), clock.now_s() + 0.02, clock.now_s() + 0.4)
    pacer.start(requests)
    assert pacer.join(10)
    lags = [
        split_lag(request.due_s, pacer.ready_s[request.uid], sent_s)
        for request, sent_s in zip(requests, pacer.answers, strict=True)
    ]
    for request, sent_s, (pacer_s, interpreter_s) in zip(requests, pacer.answers, lags, strict=True):
        assert pacer_s + interpreter_s == pytest.approx(sent_s - request.due_s, abs=1e-9)
        assert min(pacer_s, interpreter_s) >= 0
    assert lags[1][0] > 0.07, "the sender was still busy with the first"
    assert lags[1][1] < 0.05, "and then sent at once"
    assert lags[2][0] == 0, "long before the third was due it was free again"


def test_waiting_for_the_interpreter_is_not_called_the_pacers() -> None:
    clock = WallClock()
    pacer = Pacer(clock, lambda request: clock.now_s())
    due_s = clock.now_s() + 0.5
    (request,) = requests = requests_due(due_s)
    pacer.start(requests)
    while not pacer.ready_s:
        time.sleep(0.001)
    clock.sleep_until(due_s - 0.02)
    # One call that keeps the interpreter beyond the due time: nobody can interrupt it.
    sum(range(20_000_000))
    kept_s = clock.now_s() - due_s
    assert pacer.join(10)
    pacer_s, interpreter_s = split_lag(request.due_s, pacer.ready_s[0], pacer.answers[0])
    assert pacer_s == 0
    assert interpreter_s == pytest.approx(pacer.answers[0] - request.due_s)
    assert interpreter_s > 0.9 * kept_s > 0.02


@given(st.floats(0, 1e4), st.floats(-10, 10), st.floats(0, 10))
def test_the_two_parts_are_never_negative_and_sum_to_the_lag(due_s: float, early: float, took: float) -> None:
    ready_s = due_s + early
    sent_s = max(due_s, ready_s) + took
    parts = split_lag(due_s, ready_s, sent_s)
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(sent_s - due_s, abs=1e-9)


def test_what_was_not_sent_has_no_answer_and_at_most_one_was_turned_to() -> None:
    pacer = Pacer(WallClock(), lambda request: request.uid)
    pacer.start(requests_due(0.0, 1000.0, 1001.0))
    pacer.join(0.05)
    pacer.stop()
    pacer.stop()
    pacer.join(10)
    assert list(pacer.ready_s) == [0, 1]


def test_the_facts_say_how_it_sent_and_how_long_its_thread_ran() -> None:
    clock = WallClock()
    pacer = Pacer(clock, lambda request: request.uid)
    pacer.start(requests_due(*(clock.now_s() + 0.01 + i / 100 for i in range(20))))
    assert pacer.join(10)
    facts = pacer.facts
    assert facts["spin_s"] == pytest.approx(SPIN_S)
    assert facts["switch_interval_s"] == SWITCH_INTERVAL_S
    assert facts["scheduling"] in ("real-time", "as usual")
    if facts["processor_s"] is None:
        assert facts["run_queue_s"] is None
        assert "schedstat" in facts["run_queue_why"]
    else:
        assert 0 < facts["processor_s"] < 0.2
        assert facts["run_queue_s"] >= 0


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies are Linux's")
def test_only_the_sending_thread_goes_first_and_what_it_starts_does_not() -> None:
    def scheduled() -> int:
        return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK

    def submit(request: Request) -> tuple[int, int]:
        child: list[int] = []
        thread = threading.Thread(target=lambda: child.append(scheduled()))
        thread.start()
        thread.join()
        return scheduled(), child[0]

    before = scheduled()
    pacer = Pacer(WallClock(), submit)
    pacer.start(requests_due(0.0))
    assert pacer.join(10)
    ((own, child),) = pacer.answers
    assert own == (os.SCHED_FIFO if pacer.facts["scheduling"] == "real-time" else before)
    assert child in (before, os.SCHED_OTHER)
    assert scheduled() == before


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies are Linux's")
def test_without_the_privilege_to_go_first_it_sends_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    pacer = Pacer(WallClock(), lambda request: request.uid)
    pacer.start(requests_due(0.0))
    assert pacer.join(10)
    assert pacer.answers == (0,)
    assert pacer.facts["scheduling"] == "as usual"


def test_it_spins_for_a_fiftieth_of_the_time_at_most() -> None:
    pacer = Pacer(WallClock(), lambda request: request.uid)
    pacer.start(requests_due(*(i / 1000 for i in range(11))))
    assert pacer.join(10)
    assert pacer.facts["spin_s"] == pytest.approx(20e-6)


def test_a_system_that_does_not_say_how_long_a_thread_waited_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bench.workload.pacing._SCHEDULING", tmp_path / "absent")
    pacer = Pacer(WallClock(), lambda request: request.uid)
    pacer.start(requests_due(0.0))
    assert pacer.join(10)
    assert pacer.facts["run_queue_s"] is None
    assert "absent" in pacer.facts["run_queue_why"]
