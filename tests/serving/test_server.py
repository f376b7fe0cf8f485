"""The server on real threads: every ticket is answered, whoever submits and whatever breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from bench.clock import WallClock
from bench.model.fake import FailOn, FakeEngine
from bench.protocols import Admission, Policy, Running, Waiting
from bench.records import Failure, Generation, Request, ServiceLaw
from bench.serving.policies import ContinuousBatching, DynamicBatching, NoBatching
from bench.serving.queue import Ticket
from bench.serving.server import Server

from .traffic import assert_stages_sum_to_latency, poisoned, request

PATIENCE_S = 10.0


def make_server(
    policy: Policy | None = None,
    *,
    decode_s: float = 0.001,
    queue_limit: int = 1000,
    timeout_s: float = 60.0,
    fail_on: FailOn = lambda batch: None,
) -> tuple[Server, WallClock]:
    clock = WallClock()
    engine = FakeEngine(clock, ServiceLaw(decode_s=decode_s), fail_on=fail_on)
    policy = policy or DynamicBatching(max_size=8, max_wait_ms=2)
    return Server(policy, engine, clock, queue_limit=queue_limit, timeout_s=timeout_s), clock


def statuses(tickets: Sequence[Ticket]) -> list[str]:
    return [ticket.result(PATIENCE_S).status for ticket in tickets]


class Gate:
    """Holds the engine inside a batch until opened, so that a test decides what happens meanwhile."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self._error = error

    def __call__(self, batch: Sequence[Request]) -> BaseException | None:
        self.entered.set()
        assert self.opened.wait(PATIENCE_S)
        return self._error


def test_requests_from_several_threads_each_get_their_own_answer_once() -> None:
    server, clock = make_server()
    tickets: dict[int, Ticket] = {}
    answers: list[int] = []

    def send(first_uid: int) -> None:
        for uid in range(first_uid, first_uid + 50):
            tickets[uid] = server.submit(
                request(uid, due_s=clock.now_s()), lambda ticket: answers.append(ticket.request.uid)
            )

    with server:
        senders = [threading.Thread(target=send, args=(1000 * k,)) for k in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert server.drain(PATIENCE_S)
    assert sorted(answers) == sorted(tickets)
    for uid, ticket in tickets.items():
        outcome = ticket.result(0)
        assert (outcome.uid, outcome.status) == (uid, "ok")
        assert_stages_sum_to_latency(outcome)


def test_drain_serves_what_waits_and_lets_nothing_more_in() -> None:
    gate = Gate()
    server, _ = make_server(NoBatching(), fail_on=gate)
    with server:
        waiting = [server.submit(request(uid)) for uid in range(3)]
        assert gate.entered.wait(PATIENCE_S)
        assert not server.drain(0.02)
        late = server.submit(request(3))
        assert late.result(0).status == "rejected"
        gate.opened.set()
        assert server.drain(PATIENCE_S)
    assert statuses(waiting) == ["ok"] * 3


def test_draining_does_not_wait_for_the_window() -> None:
    server, _ = make_server(DynamicBatching(max_size=8, max_wait_ms=60_000))
    with server:
        ticket = server.submit(request(0))
        assert server.drain(PATIENCE_S)
    assert ticket.result(0).admit_reason == "drain"


def test_close_rejects_what_waits_lets_the_running_end_and_may_be_repeated() -> None:
    gate = Gate()
    server, _ = make_server(NoBatching(), fail_on=gate)
    server.start()
    tickets = [server.submit(request(uid)) for uid in range(3)]
    assert gate.entered.wait(PATIENCE_S)
    closer = threading.Thread(target=server.close)
    closer.start()
    assert statuses(tickets[1:]) == ["rejected", "rejected"]
    gate.opened.set()
    closer.join(PATIENCE_S)
    assert statuses(tickets) == ["ok", "rejected", "rejected"]
    server.close()
    assert server.submit(request(9)).result(0).status == "rejected"


def test_closing_a_server_that_never_started_answers_what_waits() -> None:
    server, _ = make_server()
    ticket = server.submit(request(0))
    server.close()
    assert ticket.result(0).status == "rejected"


def test_an_engine_that_raises_fails_its_request_and_serves_the_next() -> None:
    server, clock = make_server(fail_on=poisoned(1))
    with server:
        tickets = [server.submit(request(uid, due_s=clock.now_s())) for uid in range(6)]
        assert server.drain(PATIENCE_S)
        assert server.error is None
    assert statuses(tickets) == ["ok", "error", "ok", "ok", "ok", "ok"]


@pytest.mark.parametrize("error", [SystemExit("stop"), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_the_death_of_the_engine_answers_everyone_and_is_reported_by_drain(error: BaseException) -> None:
    gate = Gate(error)
    server, clock = make_server(DynamicBatching(max_size=2, max_wait_ms=0), fail_on=gate)
    with server:
        tickets = [server.submit(request(0, due_s=clock.now_s()))]
        assert gate.entered.wait(PATIENCE_S)
        tickets += [server.submit(request(uid, due_s=clock.now_s())) for uid in range(1, 6)]
        gate.opened.set()
        assert statuses(tickets) == ["error"] * 6
        with pytest.raises(type(error)):
            server.drain(PATIENCE_S)
        assert server.submit(request(9)).result(0).status == "rejected"
    assert server.error is error
    assert type(error).__name__ in (tickets[-1].result(0).error or "")


def test_the_death_of_the_loop_by_a_defect_answers_everyone() -> None:
    class Defective:
        max_batch = 1
        backlog = 1
        joins = False
        prefill_chunk = None

        def admit(
            self, waiting: Sequence[Waiting], running: Running, now_s: float, *, draining: bool
        ) -> Admission:
            raise ZeroDivisionError("a defect")

    server, _ = make_server(Defective())
    tickets = [server.submit(request(uid)) for uid in range(3)]
    with server:
        assert statuses(tickets) == ["error"] * 3
        with pytest.raises(ZeroDivisionError, match="a defect"):
            server.drain(PATIENCE_S)


def test_an_idle_server_uses_no_processor_time() -> None:
    server, _ = make_server()
    with server:
        server.submit(request(0)).result(PATIENCE_S)
        before_s = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before_s < 0.03


def test_the_window_is_ended_by_a_timer_and_not_by_the_next_arrival() -> None:
    server, clock = make_server(DynamicBatching(max_size=8, max_wait_ms=50))
    with server:
        outcome = server.submit(request(0, due_s=clock.now_s())).result(PATIENCE_S)
    assert outcome.admit_reason == "window"
    assert outcome.sent_s is not None
    assert outcome.admitted_s is not None
    assert 0.05 <= outcome.admitted_s - outcome.sent_s < 1.0


def test_a_waiting_request_times_out_by_a_timer() -> None:
    server, clock = make_server(DynamicBatching(max_size=8, max_wait_ms=60_000), timeout_s=0.05)
    with server:
        outcome = server.submit(request(0, due_s=clock.now_s())).result(PATIENCE_S)
    assert (outcome.status, outcome.first_token_s) == ("timeout", None)


def test_a_full_queue_rejects_while_the_engine_is_busy() -> None:
    gate = Gate()
    server, _ = make_server(NoBatching(), queue_limit=2, fail_on=gate)
    with server:
        tickets = [server.submit(request(0))]
        assert gate.entered.wait(PATIENCE_S)
        tickets += [server.submit(request(uid)) for uid in range(1, 4)]
        gate.opened.set()
        assert server.drain(PATIENCE_S)
    assert statuses(tickets) == ["ok", "ok", "ok", "rejected"]


def test_a_client_may_close_the_server_from_its_callback() -> None:
    server, _ = make_server()
    closed = threading.Event()

    def close(_: Ticket) -> None:
        server.close()
        closed.set()

    server.submit(request(0), close)
    with server:
        assert closed.wait(PATIENCE_S)
        assert server.drain(PATIENCE_S)


def test_abandoning_ends_the_engine_after_its_step_and_answers_what_ran() -> None:
    clock = WallClock()
    closed = threading.Event()

    class Endless(FakeEngine):
        joins = True
        steps = 0

        def step(self, until_s: float) -> list[Generation | Failure]:
            self.steps += 1
            time.sleep(0.01)
            return []

        def close(self) -> None:
            closed.set()

    engine = Endless(clock)
    server = Server(ContinuousBatching(max_size=4), engine, clock, queue_limit=9, timeout_s=60.0)
    server.start()
    tickets = [server.submit(request(uid, due_s=clock.now_s())) for uid in range(6)]
    while engine.steps < 3:
        time.sleep(0.005)
    server.abandon()
    assert [ticket.result(PATIENCE_S).status for ticket in tickets] == ["error"] * 4 + ["rejected"] * 2
    assert closed.wait(PATIENCE_S)
    assert engine.steps < 10
