"""The queue is bounded, answers refusals at once, and waits without using the processor."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from bench.clock import VirtualClock, WallClock
from bench.serving.outcomes import Refusal
from bench.serving.queue import RequestQueue, ScheduledQueue, Ticket

from .traffic import request


def uids(tickets: Sequence[Ticket]) -> list[int]:
    return [ticket.request.uid for ticket in tickets]


def test_what_was_submitted_waits_in_order_and_is_claimed_once() -> None:
    queue = RequestQueue(WallClock(), limit=10)
    for uid in range(4):
        queue.submit(request(uid))
    assert uids(queue.waiting) == [], "nothing moves between two looks"
    assert uids(queue.look()) == [0, 1, 2, 3]
    assert uids(queue.waiting) == [0, 1, 2, 3]
    assert queue.look() == ()
    assert uids(queue.claim([2])) == [2]
    assert uids(queue.claim([2, 0])) == [0, 3]
    assert uids(queue.claim([0])) == [1]
    assert uids(queue.waiting) == []


def test_a_ticket_is_answered_once_and_wakes_who_waits_for_it() -> None:
    queue = RequestQueue(WallClock(), limit=10)
    heard: list[int] = []
    ticket = queue.submit(request(7), lambda done: heard.append(done.request.uid))
    with pytest.raises(TimeoutError, match="request 7"):
        ticket.result(0.01)
    assert not ticket.done
    timer = threading.Timer(0.05, queue.discard)
    timer.start()
    assert ticket.result(10.0).status == "rejected"
    assert (ticket.done, heard) == (True, [7])
    with pytest.raises(RuntimeError, match="answered twice"):
        ticket.answer(Refusal("error", "again", 1.0))
    timer.join()


def test_a_full_queue_rejects_at_once_and_has_room_again_after_a_claim() -> None:
    queue = RequestQueue(WallClock(), limit=2)
    waiting = [queue.submit(request(uid)) for uid in range(2)]
    outcome = queue.submit(request(2)).result(0)
    assert (outcome.uid, outcome.status) == (2, "rejected")
    assert outcome.error == "the queue is full (2 waiting)"
    assert outcome.sent_s is not None
    assert outcome.done_s is not None
    assert 0 <= outcome.done_s - outcome.sent_s < 0.1
    assert not any(ticket.done for ticket in waiting)
    queue.look()
    queue.claim([0])
    assert not queue.submit(request(3)).done


def test_a_closed_queue_rejects_but_keeps_what_waits() -> None:
    queue = RequestQueue(WallClock(), limit=2)
    waiting = queue.submit(request(0))
    queue.close()
    assert queue.submit(request(1)).result(0).error == "the queue is closed"
    assert not waiting.done
    queue.look()
    assert queue.draining
    queue.discard()
    assert waiting.result(0).status == "rejected"


def test_wait_returns_at_once_for_news_since_the_last_look_and_only_then() -> None:
    clock = WallClock()
    queue = RequestQueue(clock, limit=2)
    queue.submit(request(0))
    queue.wait(None)
    queue.look()
    until_s = clock.now_s() + 0.05
    queue.wait(until_s)
    assert clock.now_s() >= until_s


@pytest.mark.parametrize("event", ["submit", "close"])
def test_wait_is_ended_by_an_arrival_and_by_closing(event: str) -> None:
    queue = RequestQueue(WallClock(), limit=2)
    act = queue.close if event == "close" else lambda: queue.submit(request(0))
    timer = threading.Timer(0.05, act)
    timer.start()
    started_s = time.perf_counter()
    queue.wait(None)
    assert time.perf_counter() - started_s >= 0.04
    timer.join()


def test_waiting_costs_no_processor_time() -> None:
    clock = WallClock()
    queue = RequestQueue(clock, limit=2)
    before_s = time.thread_time()
    queue.wait(clock.now_s() + 0.3)
    assert time.thread_time() - before_s < 0.01


def test_a_wait_for_ever_and_a_day_is_possible() -> None:
    queue = RequestQueue(WallClock(), limit=2)
    timer = threading.Timer(0.02, queue.close)
    timer.start()
    queue.wait(1e12)
    queue.look()
    assert queue.draining
    timer.join()


def test_scheduled_requests_arrive_when_due_and_waiting_moves_the_clock() -> None:
    clock = VirtualClock()
    queue = ScheduledQueue([request(0, due_s=5.0), request(1, due_s=2.0)], clock, limit=10)
    assert uids(queue.look()) == []
    queue.wait(1.0)
    assert clock.now_s() == 1.0
    queue.wait(None)
    assert clock.now_s() == 2.0
    assert queue.next_arrival_s == 2.0
    assert uids(queue.look()) == [1]
    assert (queue.draining, queue.next_arrival_s) == (False, 5.0)
    queue.wait(9.0)
    queue.look()
    assert clock.now_s() == 5.0
    assert uids(queue.waiting) == [1, 0]
    assert [ticket.sent_s for ticket in queue.waiting] == [2.0, 5.0]
    assert queue.draining


def test_a_full_scheduled_queue_rejects_at_the_due_time() -> None:
    clock = VirtualClock()
    queue = ScheduledQueue([request(uid, due_s=uid) for uid in range(3)], clock, limit=1)
    clock.sleep_until(10.0)
    assert len(queue.look()) == 1
    outcomes = [ticket.result(0) for ticket in queue.tickets[1:]]
    assert [(o.status, o.done_s) for o in outcomes] == [("rejected", 1.0), ("rejected", 2.0)]


def test_closing_a_scheduled_queue_rejects_what_has_not_arrived() -> None:
    queue = ScheduledQueue([request(0), request(1, due_s=5.0)], VirtualClock(), limit=10)
    queue.close()
    assert not queue.tickets[0].done
    outcome = queue.tickets[1].result(0)
    assert (outcome.status, outcome.sent_s) == ("rejected", None)
    assert queue.draining


def test_a_sender_that_takes_its_own_back_while_the_queue_is_discarded_loses_nobody() -> None:
    # The sender comes between the closing and the emptying of the queue.
    queue = RequestQueue(WallClock(), limit=10)
    first = queue.submit(request(0))
    queue.look()
    late = Ticket(request(1), 0.0)
    queue._inbox.append(late)
    queue._closed = True
    queue._announce(late)
    queue.discard()
    assert [ticket.result(0).status for ticket in (first, late)] == ["rejected", "rejected"]
