"""What fails in the engine, the policy or a callback: who is answered, and with which error."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial

import msgspec
import pytest

from bench.clock import VirtualClock
from bench.errors import EngineLost
from bench.model.fake import FakeEngine
from bench.protocols import Admission, Running, Waiting
from bench.records import Failure, Generation, Request, ServiceLaw
from bench.serving.loop import EngineLoop
from bench.serving.policies import DynamicBatching, NoBatching
from bench.serving.queue import RequestQueue, ScheduledQueue, Ticket
from tests.serving.looping import serve

from .traffic import Spoil, WrongEngine, poisoned, request, too_big_above


def test_a_request_that_expires_while_it_waits_for_a_retry_has_waited_to_its_end() -> None:
    engine = partial(FakeEngine, law=ServiceLaw(decode_s=0.1), fail_on=too_big_above(1))
    first, second = serve(
        [request(0, output_tokens=5), request(1)],
        DynamicBatching(max_size=2, max_wait_ms=0),
        engine=engine,
        timeout_s=0.3,
    )
    assert (first.admitted_s, second.admitted_s, second.batch_id) == (0.0, None, None)
    assert second.status == "timeout"
    assert "no retry was left" in (second.error or "")
    assert second.queue_s == second.done_s == first.done_s


def test_a_device_that_is_lost_ends_the_loop_and_answers_everybody() -> None:
    queue_requests = [request(uid) for uid in range(4)]
    calls: list[int] = []

    def lost(batch: Sequence[Request]) -> BaseException | None:
        calls.append(len(batch))
        return EngineLost("the GPU failed")

    clock = VirtualClock()
    queue = ScheduledQueue(queue_requests, clock, 10)
    loop = EngineLoop(queue, NoBatching(), FakeEngine(clock, fail_on=lost), clock, 60.0)
    with pytest.raises(EngineLost):
        loop.run()
    assert calls == [1], "nothing is tried again on a lost device"
    outcomes = [ticket.result(0) for ticket in queue.tickets]
    assert all(o.status == "error" and "the GPU failed" in (o.error or "") for o in outcomes)


def test_a_poisoned_request_fails_alone_with_its_error_and_its_neighbours_are_served() -> None:
    outcomes = serve([request(uid) for uid in range(8)], fail_on=poisoned(5))
    assert [o.status for o in outcomes] == ["ok"] * 5 + ["error"] + ["ok"] * 2
    assert outcomes[5].error == "ValueError: poison in [5]"
    assert outcomes[5].batch_size == 1
    assert all((o.admit_reason or "").startswith("retry after ValueError: poison in [") for o in outcomes)
    assert outcomes[0].batch_size == 4


def test_a_batch_that_does_not_fit_into_memory_is_served_in_smaller_ones() -> None:
    outcomes = serve([request(uid) for uid in range(8)], fail_on=too_big_above(3))
    assert [(o.status, o.batch_size) for o in outcomes] == [("ok", 2)] * 8


def test_a_retry_finds_the_memory_of_the_failed_batch_released() -> None:
    class Tensor:
        pass

    held: list[weakref.ref[Tensor]] = []
    alive_at_retry: list[bool] = []

    def generate(batch: Sequence[Request]) -> BaseException | None:
        alive_at_retry.extend(ref() is not None for ref in held)
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        if len(batch) > 1:
            raise MemoryError("this frame, and the tensor in it, hang on the traceback")
        return None

    outcomes = serve([request(uid) for uid in range(4)], fail_on=generate)
    assert [o.status for o in outcomes] == ["ok"] * 4
    assert len(held) == 7
    assert not any(alive_at_retry)


def test_a_queue_that_is_discarded_while_the_policy_decides_leaves_the_engine_alone() -> None:
    clock = VirtualClock()
    queue = RequestQueue(clock, limit=10)
    ran: list[Sequence[Request]] = []

    class DiscardedMeanwhile:
        max_batch = 1
        backlog = 1
        joins = False
        prefill_chunk = None

        def admit(
            self, waiting: Sequence[Waiting], running: Running, now_s: float, *, draining: bool
        ) -> Admission:
            queue.discard()
            return Admission(take=(0,), reason="idle")

    ticket = queue.submit(request(0))
    engine = FakeEngine(clock, fail_on=lambda batch: ran.append(batch))
    EngineLoop(queue, DiscardedMeanwhile(), engine, clock, 60.0).run()
    assert ticket.result(0).status == "rejected"
    assert ran == []


def test_requests_that_expire_during_a_failed_attempt_are_not_retried() -> None:
    ran: list[tuple[int, ...]] = []

    class SlowFailure(FakeEngine):
        def admit(self, batch: Sequence[Request]) -> None:
            ran.append(tuple(r.uid for r in batch))
            super().admit(batch)

        def step(self, until_s: float) -> Sequence[Generation | Failure]:
            super().step(until_s)
            raise RuntimeError("after all the work")

    outcomes = serve(
        [request(uid) for uid in range(4)],
        engine=lambda clock: SlowFailure(clock, ServiceLaw(decode_s=1.0)),
        timeout_s=3,
    )
    # Each attempt takes 2 s: at 2 s the first half is tried, at 4 s all are expired.
    assert ran == [(0, 1, 2, 3), (0, 1)]
    assert [(o.status, o.done_s) for o in outcomes] == [("timeout", 4.0)] * 4


def renamed(answer: Generation | Failure, uid: int) -> Generation | Failure:
    return msgspec.structs.replace(answer, uid=uid)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda answers: [], ""),
        (lambda answers: [*answers, answers[0]], " twice"),
        (lambda answers: [renamed(answer, 99) for answer in answers], "request 99 and it does not run"),
    ],
    ids=["none", "twice", "a stranger's"],
)
def test_an_engine_that_mixes_up_its_answers_fails_the_requests_that_it_had(
    spoil: Spoil, complaint: str
) -> None:
    outcomes = serve([request(uid) for uid in range(3)], engine=lambda clock: WrongEngine(clock, spoil))
    assert [o.status for o in outcomes] == ["error"] * 3
    assert all(complaint in (o.error or "") for o in outcomes)


def test_an_engine_that_forgets_one_answer_fails_that_request() -> None:
    outcomes = serve(
        [request(uid) for uid in range(3)],
        engine=lambda clock: WrongEngine(clock, lambda answers: [a for a in answers if a.uid != 1]),
    )
    assert [o.status for o in outcomes] == ["ok", "error", "ok"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_engine_answers_everything_and_goes_on_to_the_caller(
    error: type[BaseException],
) -> None:
    clock = VirtualClock()
    requests = [*(request(uid) for uid in range(4)), request(4, due_s=5.0)]
    queue = ScheduledQueue(requests, clock, limit=10)
    engine = FakeEngine(clock, fail_on=poisoned(1, error=error))
    loop = EngineLoop(queue, DynamicBatching(max_size=2, max_wait_ms=0), engine, clock, 60.0)
    with pytest.raises(error):
        loop.run()
    outcomes = [ticket.result(0) for ticket in queue.tickets]
    assert [o.status for o in outcomes] == ["error"] * 4 + ["rejected"]
    assert all(f"engine stopped: {error.__name__}" in (o.error or "") for o in outcomes[:4])


@pytest.mark.parametrize(
    "answer",
    [Admission(), Admission(wake_s=-1.0), Admission(take=(7,), reason="out of range")],
    ids=["never", "in the past", "nobody"],
)
def test_a_defective_policy_ends_the_loop_with_every_request_answered(answer: Admission) -> None:
    class Defective:
        max_batch = 1
        backlog = 1
        joins = False
        prefill_chunk = None

        def admit(
            self, waiting: Sequence[Waiting], running: Running, now_s: float, *, draining: bool
        ) -> Admission:
            return answer

    clock = VirtualClock()
    queue = ScheduledQueue([request(0), request(1)], clock, limit=10)
    with pytest.raises((RuntimeError, IndexError)):
        EngineLoop(queue, Defective(), FakeEngine(clock), clock, 60.0).run()
    assert [ticket.result(0).status for ticket in queue.tickets] == ["error", "error"]


def test_a_retry_that_comes_too_late_tells_the_failure_before_it() -> None:
    class SlowFailure(FakeEngine):
        def step(self, until_s: float) -> Sequence[Generation | Failure]:
            super().step(until_s)
            raise RuntimeError("after all the work")

    outcomes = serve(
        [request(uid) for uid in range(2)],
        engine=lambda clock: SlowFailure(clock, ServiceLaw(decode_s=1.0)),
        timeout_s=1.5,
    )
    assert {o.status for o in outcomes} == {"timeout"}
    assert all("after all the work" in (o.error or "") and o.admitted_s is None for o in outcomes)


def test_a_callback_that_raises_takes_nobody_elses_answer_with_it(caplog: pytest.LogCaptureFixture) -> None:
    def broken(ticket: Ticket) -> None:
        raise ZeroDivisionError(f"in the client of {ticket.request.uid}")

    clock = VirtualClock()
    queue = ScheduledQueue([request(uid) for uid in range(4)], clock, limit=10)
    for ticket in queue.tickets:
        ticket.on_done = broken
    policy = DynamicBatching(max_size=4, max_wait_ms=0)
    EngineLoop(queue, policy, FakeEngine(clock), clock, 60.0).run()
    assert [ticket.result(0).status for ticket in queue.tickets] == ["ok"] * 4
    assert "in the client of 3" in caplog.text
