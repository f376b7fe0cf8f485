"""What queue, policy and loop cost by themselves, and how near the server comes to an ideal one.

`python -m tests.perf.queueing`. Four questions, each a ratio of two things measured in turn:

- inline: CPU time per request through submit, look, admit and answer, with a model that does nothing, over
  that of a bare deque with the same three stamps; the floor for Python code.
- across threads: the same with the sender on another thread than the loop, over the textbook batcher
  (`queue.Queue`, `concurrent.futures.Future`).
- open loop: p50 at 1,000 requests/s with a model of 5 ms + 0.1 ms a request, over that of a server without
  any overhead, simulated on the same arrivals.
- closed loop: throughput with 16 and 256 blocking clients, over `n / (5 ms + 0.1 ms · n)` for the largest
  batch n that they can fill. A batcher that takes whatever waits halves it for 16 clients: they fall into
  two cohorts that take turns.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from bench.clock import VirtualClock, WallClock
from bench.model.fake import FakeEngine
from bench.records import Generation, Request, ServiceLaw
from bench.serving.loop import EngineLoop, simulate
from bench.serving.policies import DynamicBatching
from bench.serving.queue import RequestQueue
from bench.serving.server import Server
from bench.units import to_ms
from bench.workload.pacing import Pacer

from .recording import Entry, record, summarize

N = 64 * 200
BATCH = 64
REPEATS = 15
LAW = ServiceLaw(prefill_s=0.005, prefill_s_per_token=0.0001)
LARGEST = 32
GREEDY = DynamicBatching(max_size=LARGEST, max_wait_ms=0)
SETTLING = DynamicBatching(max_size=LARGEST, max_wait_ms=0, settle_ms=0.5)
OPEN_RPS, OPEN_S, OPEN_LOOPS = 1_000.0, 6.0, 7
CLOSED_S, CLOSED_LOOPS = 3.0, 7
US_PER_S = 1e6


def request(uid: int, due_s: float = 0.0) -> Request:
    """Return a request of one token each way."""
    return Request(uid=uid, due_s=due_s, prompt_ids=(1,), output_tokens=1)


REQUESTS = [request(uid) for uid in range(N)]
ANSWERS = [Generation(uid=uid, token_ids=(1,), token_s=(0.0,), finished_s=0.0) for uid in range(N)]


class Null:
    """An engine that answers at once."""

    max_context = 4096
    joins = False
    facts: dict[str, Any] = {}

    def __init__(self) -> None:
        self._batch: Sequence[Request] = ()

    def prepare(self) -> None:
        """Nothing to prepare."""

    def admit(self, batch: Sequence[Request]) -> None:
        """Remember the batch."""
        self._batch = batch

    def step(self, until_s: float) -> Sequence[Generation]:
        """Answer it."""
        return [ANSWERS[each.uid] for each in self._batch]

    def clear(self) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        """Nothing to release."""


def bare_deque() -> float:
    """Return the CPU seconds for putting, taking and stamping `N` requests without anything else."""
    waiting: deque[tuple[Request, float]] = deque()
    done: list[tuple[Request, float, float, float]] = []
    now_s = time.perf_counter
    started_s = time.thread_time()
    for first in range(0, N, BATCH):
        for uid in range(first, first + BATCH):
            waiting.append((REQUESTS[uid], now_s()))
        admitted_s = now_s()
        batch = [waiting.popleft() for _ in range(BATCH)]
        done_s = now_s()
        for each, sent_s in batch:
            done.append((each, sent_s, admitted_s, done_s))
    return time.thread_time() - started_s


def inline() -> float:
    """Return the CPU seconds for `N` requests through queue, policy and loop on one thread."""
    clock = WallClock()
    inbox = RequestQueue(clock, N)
    loop = EngineLoop(inbox, DynamicBatching(max_size=BATCH, max_wait_ms=0), Null(), clock, 60.0)
    turn = loop._turn
    started_s = time.thread_time()
    for first in range(0, N, BATCH):
        for uid in range(first, first + BATCH):
            inbox.submit(REQUESTS[uid])
        turn()
    return time.thread_time() - started_s


def threaded() -> float:
    """Return the CPU seconds of both threads for `N` requests through a server with a null model."""
    server = Server(
        DynamicBatching(max_size=BATCH, max_wait_ms=0), Null(), WallClock(), queue_limit=N, timeout_s=60.0
    )
    server.start()
    started_s = time.process_time()
    for each in REQUESTS:
        server.submit(each)
    server.drain()
    return time.process_time() - started_s


def textbook() -> float:
    """Return the CPU seconds of both threads for the batcher that one would write by the book."""
    inbox: queue.Queue[tuple[Request, Future[Generation]] | None] = queue.Queue()

    def serve() -> None:
        while (first := inbox.get()) is not None:
            batch = [first]
            while len(batch) < BATCH:
                try:
                    item = inbox.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    inbox.put(None)
                    break
                batch.append(item)
            for each, future in batch:
                future.set_result(ANSWERS[each.uid])

    thread = threading.Thread(target=serve)
    thread.start()
    started_s = time.process_time()
    for each in REQUESTS:
        inbox.put((each, Future()))
    inbox.put(None)
    thread.join()
    return time.process_time() - started_s


def open_loop(seed: int) -> tuple[float, float]:
    """Return the p50 in seconds through the server, and that of the ideal server on the same arrivals."""
    gaps = np.random.default_rng(seed).exponential(1 / OPEN_RPS, round(OPEN_RPS * OPEN_S))
    due_s = np.cumsum(gaps).tolist()
    virtual = VirtualClock()
    ideal = simulate(
        [request(uid, due) for uid, due in enumerate(due_s)],
        GREEDY,
        FakeEngine(virtual, LAW),
        virtual,
        queue_limit=N,
        timeout_s=math.inf,
    )
    clock = WallClock()
    server = Server(GREEDY, FakeEngine(clock, LAW), clock, queue_limit=N, timeout_s=math.inf)
    server.start()
    pacer = Pacer(clock, server.submit)
    start_s = clock.now_s() + 0.2
    pacer.start([request(uid, start_s + due) for uid, due in enumerate(due_s)])
    pacer.join()
    server.drain()
    ours = [ticket.completion() for ticket in pacer.answers]
    return _p50_s(ours), _p50_s(ideal)


def _p50_s(outcomes: Sequence[Any]) -> float:
    return float(np.median([outcome.done_s - outcome.due_s for outcome in outcomes]))


def closed_loop(clients: int) -> float:
    """Return the throughput with `clients` blocking threads, over the ideal one."""
    clock = WallClock()
    server = Server(SETTLING, FakeEngine(clock, LAW), clock, queue_limit=N, timeout_s=math.inf)
    server.start()
    served = [0] * clients
    stop_s = clock.now_s() + CLOSED_S

    def client(number: int) -> None:
        uid = number
        while clock.now_s() < stop_s:
            server.submit(request(uid, clock.now_s())).result()
            served[number] += 1
            uid += clients

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    started_s = clock.now_s()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = clock.now_s() - started_s
    server.drain()
    size = min(clients, LARGEST)
    ideal_rps = size / (LAW.prefill_s + LAW.prefill_s_per_token * size)
    return sum(served) / took_s / ideal_rps


def paired(ours: Callable[[], float], other: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Return the ratios of interleaved pairs, and the seconds of `ours`."""
    ratios, mine_s = [], []
    for number in range(REPEATS):
        first, second = (ours, other) if number % 2 else (other, ours)
        times = {first: first(), second: second()}
        ratios.append(times[ours] / times[other])
        mine_s.append(times[ours])
    return ratios, mine_s


def main() -> None:
    """Measure, print a line each and record them."""
    entries: dict[str, Entry] = {}
    for name, ours, other, unit in (
        ("queue: inline", inline, bare_deque, "CPU time over that of a bare deque with stamps"),
        ("queue: threaded", threaded, textbook, "CPU time over that of queue.Queue with futures"),
    ):
        ratios, mine_s = paired(ours, other)
        entries[name] = summarize(ratios, unit)
        each_us = [took_s / N * US_PER_S for took_s in mine_s]
        entries[f"{name}, per request"] = summarize(each_us, "CPU time over 1 us")
    pairs = [open_loop(seed) for seed in range(OPEN_LOOPS)]
    late_ms = [to_ms(ours_s - ideal_s) for ours_s, ideal_s in pairs]
    entries["open loop: p50"] = summarize([o / i for o, i in pairs], "p50 over that of the ideal server")
    entries["open loop: p50 beyond ideal"] = summarize(late_ms, "difference over 1 ms")
    for clients in (16, 256):
        shares = [closed_loop(clients) for _ in range(CLOSED_LOOPS)]
        entries[f"closed loop: {clients} clients"] = summarize(shares, "throughput over the ideal")
    for name, entry in entries.items():
        print(f"{entry.line(name)}; {entry.unit}")
    record(entries)


if __name__ == "__main__":
    main()
