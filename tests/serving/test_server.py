"""The server on real threads: every future is answered, whoever submits and whatever breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from bench.clock import WallClock
from bench.model.fake import FailOn, FakeEngine
from bench.protocols import Admission, Policy, Waiting
from bench.records import Completion, Request
from bench.serving.policies import DynamicBatching, NoBatching
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
    engine = FakeEngine(clock, decode_s=decode_s, fail_on=fail_on)
    policy = policy or DynamicBatching(max_size=8, max_wait_ms=2)
    return Server(policy, engine, clock, queue_limit=queue_limit, timeout_s=timeout_s), clock


def statuses(futures: Sequence[Future[Completion]]) -> list[str]:
    return [future.result(timeout=PATIENCE_S).status for future in futures]


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
    futures: dict[int, Future[Completion]] = {}
    answers: list[int] = []

    def send(first_uid: int) -> None:
        for uid in range(first_uid, first_uid + 50):
            future = server.submit(request(uid, due_s=clock.now_s()))
            future.add_done_callback(lambda done: answers.append(done.result().uid))
            futures[uid] = future

    with server:
        senders = [threading.Thread(target=send, args=(1000 * k,)) for k in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert server.drain(PATIENCE_S)
    assert sorted(answers) == sorted(futures)
    for uid, future in futures.items():
        outcome = future.result(timeout=0)
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
        assert late.result(timeout=0).status == "rejected"
        gate.opened.set()
        assert server.drain(PATIENCE_S)
    assert statuses(waiting) == ["ok"] * 3


def test_draining_does_not_wait_for_the_window() -> None:
    server, _ = make_server(DynamicBatching(max_size=8, max_wait_ms=60_000))
    with server:
        future = server.submit(request(0))
        assert server.drain(PATIENCE_S)
    assert future.result(timeout=0).admit_reason == "drain"


def test_close_rejects_what_waits_lets_the_running_end_and_may_be_repeated() -> None:
    gate = Gate()
    server, _ = make_server(NoBatching(), fail_on=gate)
    server.start()
    futures = [server.submit(request(uid)) for uid in range(3)]
    assert gate.entered.wait(PATIENCE_S)
    closer = threading.Thread(target=server.close)
    closer.start()
    assert statuses(futures[1:]) == ["rejected", "rejected"]
    gate.opened.set()
    closer.join(PATIENCE_S)
    assert statuses(futures) == ["ok", "rejected", "rejected"]
    server.close()
    assert server.submit(request(9)).result(timeout=0).status == "rejected"


def test_closing_a_server_that_never_started_answers_what_waits() -> None:
    server, _ = make_server()
    future = server.submit(request(0))
    server.close()
    assert future.result(timeout=0).status == "rejected"


def test_an_engine_that_raises_fails_its_request_and_serves_the_next() -> None:
    server, clock = make_server(fail_on=poisoned(1))
    with server:
        futures = [server.submit(request(uid, due_s=clock.now_s())) for uid in range(6)]
        assert server.drain(PATIENCE_S)
        assert server.error is None
    assert statuses(futures) == ["ok", "error", "ok", "ok", "ok", "ok"]


@pytest.mark.parametrize("error", [SystemExit("stop"), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_the_death_of_the_engine_answers_everyone_and_is_reported_by_drain(error: BaseException) -> None:
    gate = Gate(error)
    server, clock = make_server(DynamicBatching(max_size=2, max_wait_ms=0), fail_on=gate)
    with server:
        futures = [server.submit(request(0, due_s=clock.now_s()))]
        assert gate.entered.wait(PATIENCE_S)
        futures += [server.submit(request(uid, due_s=clock.now_s())) for uid in range(1, 6)]
        gate.opened.set()
        assert statuses(futures) == ["error"] * 6
        with pytest.raises(type(error)):
            server.drain(PATIENCE_S)
        assert server.submit(request(9)).result(timeout=0).status == "rejected"
    assert server.error is error
    assert type(error).__name__ in (futures[-1].result(timeout=0).error or "")


def test_the_death_of_the_loop_by_a_defect_answers_everyone() -> None:
    class Defective:
        max_batch = 1

        def admit(
            self, waiting: Sequence[Waiting], running: int, now_s: float, *, draining: bool
        ) -> Admission:
            raise ZeroDivisionError("a defect")

    server, _ = make_server(Defective())
    futures = [server.submit(request(uid)) for uid in range(3)]
    with server:
        assert statuses(futures) == ["error"] * 3
        with pytest.raises(ZeroDivisionError, match="a defect"):
            server.drain(PATIENCE_S)


def test_an_idle_server_uses_no_processor_time() -> None:
    server, _ = make_server()
    with server:
        server.submit(request(0)).result(timeout=PATIENCE_S)
        before_s = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before_s < 0.03


def test_the_window_is_ended_by_a_timer_and_not_by_the_next_arrival() -> None:
    server, clock = make_server(DynamicBatching(max_size=8, max_wait_ms=50))
    with server:
        outcome = server.submit(request(0, due_s=clock.now_s())).result(timeout=PATIENCE_S)
    assert outcome.admit_reason == "window"
    assert outcome.sent_s is not None
    assert outcome.admitted_s is not None
    assert 0.05 <= outcome.admitted_s - outcome.sent_s < 1.0


def test_a_waiting_request_times_out_by_a_timer() -> None:
    server, clock = make_server(DynamicBatching(max_size=8, max_wait_ms=60_000), timeout_s=0.05)
    with server:
        outcome = server.submit(request(0, due_s=clock.now_s())).result(timeout=PATIENCE_S)
    assert (outcome.status, outcome.first_token_s) == ("timeout", None)


def test_a_full_queue_rejects_while_the_engine_is_busy() -> None:
    gate = Gate()
    server, _ = make_server(NoBatching(), queue_limit=2, fail_on=gate)
    with server:
        futures = [server.submit(request(0))]
        assert gate.entered.wait(PATIENCE_S)
        futures += [server.submit(request(uid)) for uid in range(1, 4)]
        gate.opened.set()
        assert server.drain(PATIENCE_S)
    assert statuses(futures) == ["ok", "ok", "ok", "rejected"]


def test_a_client_may_close_the_server_from_its_callback() -> None:
    server, _ = make_server()
    future = server.submit(request(0))
    closed = threading.Event()

    def close(_: Future[Completion]) -> None:
        server.close()
        closed.set()

    future.add_done_callback(close)
    with server:
        assert closed.wait(PATIENCE_S)
        assert server.drain(PATIENCE_S)
