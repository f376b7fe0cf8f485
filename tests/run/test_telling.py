"""A running job tells how far it is: seldom, cheaply, and never a figure that it does not have."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from bench.clock import Clock, VirtualClock, WallClock
from bench.meters.sampling import STALE_S, Sampler
from bench.model.fake import FakeEngine
from bench.records import Event, Figures, Request, ServiceLaw
from bench.run.closed import drive_closed
from bench.run.drive import POLL_S, Drive, Subject, drive_offline
from bench.run.ends import Ends
from bench.run.sofar import RECENT_S, Histogram, Recent
from bench.run.telling import TELL_EVERY_S, Teller, told_to_nobody, without_waiting
from bench.run.window import drive_window
from bench.serving.outcomes import Refusal
from bench.serving.queue import Ticket
from tests.run.driving import OUTPUT_TOKENS, STEP_S, subject

MANY = Event(job="one.1", phase="window", detail="x" * 300, figures=Figures(completed=1, p95_ms=0.1))


class Told:
    """What a job told, on a clock that the test moves; the work of each figure counted."""

    def __init__(self, *, watched: bool = True) -> None:
        self.now_s = 0.0
        self.events: list[Event] = []
        self.asked = 0
        send = self.events.append if watched else None
        self.tell = Teller("one.1", send, now_s=lambda: self.now_s)

    def figures(self) -> Figures:
        self.asked += 1
        return Figures(completed=self.asked)


def test_a_phase_is_told_at_once_and_how_far_it_is_twice_a_second() -> None:
    told = Told()
    for at_ms in range(1000):  # a job that reports a thousand times a second
        told.now_s = at_ms / 1000
        told.tell("window", told.now_s, 1.0, figures=told.figures)
    told.tell("drain", 1.0, 1.0, figures=told.figures)
    told.tell("drain", 1.0, 1.0, "something to say", figures=told.figures)
    assert [(event.phase, event.elapsed_s) for event in told.events] == [
        ("window", 0.0),
        ("window", TELL_EVERY_S),
        ("drain", 1.0),
        ("drain", 1.0),
    ]
    assert told.asked == 4, "no figures are worked out that nobody sees"


def test_where_nobody_watches_nothing_is_worked_out() -> None:
    told = Told(watched=False)
    told.tell("window", figures=told.figures)
    assert told.asked == 0


@pytest.mark.parametrize("n", [1, 2, 7, 40, 5000])
def test_percentiles_so_far_are_those_of_all_latencies_to_one_percent(n: int) -> None:
    latencies_s = np.random.default_rng(n).lognormal(-1.0, 1.5, n)
    found = Histogram()
    for part in np.array_split(latencies_s, 3):
        found.add(part.tolist())
    exact = [float(np.quantile(latencies_s, share, method="inverted_cdf")) for share in (0.5, 0.95)]
    assert found.percentiles_s(0.5, 0.95) == pytest.approx(exact, rel=0.01)


def test_before_the_first_answer_there_is_no_percentile_and_no_rate() -> None:
    figures = Ends().so_far(1.0, rate_rps=5.0, due=10, queued=0, running=2)
    assert figures == Figures(rate_rps=5.0, completed=0, due=10, queued=0, running=2)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    recent = Recent()
    slow = [recent.per_s(now_s, 10 * now_s) for now_s in range(1, 60)]
    fast = [recent.per_s(now_s, 590 + 100 * (now_s - 59)) for now_s in range(60, 60 + int(RECENT_S))]
    assert slow[0] is None
    assert slow[-1] == pytest.approx(10)
    assert fast[-1] == pytest.approx(100)


def test_a_rate_of_batches_is_that_of_whole_ones_and_falls_only_where_one_is_late() -> None:
    recent = Recent()
    told = [recent.per_s(now_s, 1000 * (now_s // 20)) for now_s in range(70)]  # a batch every 20 s
    assert told[:20] == [None] * 20
    assert told[20:] == [pytest.approx(50)] * 50
    hung = [recent.per_s(now_s, 3000) or 0.0 for now_s in range(70, 1000)]
    assert hung[5] == pytest.approx(50)
    assert hung == sorted(hung, reverse=True)
    assert 0 < hung[-1] < 2


def test_a_reader_that_stops_or_is_gone_is_never_waited_for() -> None:
    reader, writer = multiprocessing.get_context("spawn").Pipe(duplex=False)
    send = without_waiting(writer)
    sending = threading.Thread(target=lambda: [send(MANY) for _ in range(2000)], daemon=True)
    sending.start()
    sending.join(20)
    assert not sending.is_alive(), "the pipe is full, and nobody reads"
    read = [reader.recv() for _ in range(50)]
    assert read == [MANY] * 50, "what was lost was lost whole"
    reader.close()
    send(MANY)
    writer.close()


def told_by_a_window(*, window_s: float) -> list[Event]:
    clock = WallClock()
    events: list[Event] = []
    tested = subject(FakeEngine(clock, ServiceLaw(decode_s=STEP_S)), clock, window_s=window_s)
    drive_window(Drive(clock), tested, Teller("one.1", events.append), rate_rps=40, repeat=1)
    return events


def test_a_window_tells_of_its_own_requests_alone_and_of_all_of_them_at_its_end() -> None:
    events = told_by_a_window(window_s=1.2)
    figures = [event.figures for event in events if event.phase == "window"]
    assert len(figures) >= 2
    assert all(each is not None and each.rate_rps == 40 and each.due == 48 for each in figures)
    completed = [each.completed for each in figures if each is not None and each.completed is not None]
    assert completed == sorted(completed)
    assert 0 < completed[-1] <= 48
    last = figures[-1]
    assert last is not None
    assert last.p50_ms is not None
    assert last.p95_ms is not None
    assert (OUTPUT_TOKENS - 1) * STEP_S * 1e3 * 0.99 <= last.p50_ms <= last.p95_ms < 1000
    assert last.tokens_per_s == pytest.approx(40 * OUTPUT_TOKENS, rel=0.5)
    drains = [event for event in events if event.phase == "drain"]
    assert all(event.total_s is None and event.elapsed_s < 1 for event in drains), "nobody knows how long"
    done = [event.done for event in events if event.done is not None]
    assert done == sorted(done), "the whole never goes back"


def test_an_engine_that_answers_nothing_has_a_queue_and_no_latency() -> None:
    clock = WallClock()
    events: list[Event] = []

    def tell_until_half(event: Event) -> None:
        events.append(event)
        if event.elapsed_s > 0.6:
            raise KeyboardInterrupt

    hung = subject(FakeEngine(clock, ServiceLaw(prefill_s=3.0)), clock, warmup_s=5)
    with pytest.raises(KeyboardInterrupt):
        drive_window(Drive(clock), hung, Teller("one.1", tell_until_half), rate_rps=40, repeat=1)
    last = events[-1].figures
    assert last is not None
    assert (last.completed, last.p50_ms, last.p95_ms, last.tokens_per_s) == (0, None, None, None)
    assert last.running is not None
    assert last.queued is not None
    assert last.running >= 1
    assert last.queued >= 5


def test_a_saturated_run_and_a_closed_loop_tell_what_they_know_and_no_rate() -> None:
    ways: list[Callable[[Drive, Subject, Teller], None]] = [
        drive_offline,
        lambda drive, tested, tell: drive_closed(drive, tested, tell, clients=2, think_s=0.0, repeat=1),
    ]
    for drive_it in ways:
        clock = WallClock()
        events: list[Event] = []
        tested = subject(FakeEngine(clock, ServiceLaw(decode_s=STEP_S)), clock, offline_s=0.8, window_s=0.8)
        drive_it(Drive(clock), tested, Teller("one.1", events.append))
        figures = [event.figures for event in events if event.figures is not None]
        assert figures[-1].completed
        assert figures[-1].tokens_per_s
        assert figures[-1].rate_rps is None


class Reading:
    """A meter of a modelled device, with a counter of joules and none of watts."""

    missing: Mapping[str, str] = {"power_w": "not here"}
    facts: Mapping[str, Any] = {}
    simulated = True

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def read(self) -> list[tuple[str, float, str | None]]:
        return [("rss_gb", 1.5, None), ("rapl_package_j", 70.0 * self.clock.now_s(), None)]

    def close(self) -> None:
        pass


def test_memory_and_power_are_the_meters_and_an_old_reading_is_none() -> None:
    clock = WallClock()
    sampler = Sampler({"host": Reading(clock)}, clock, 0.01)
    events: list[Event] = []
    moments = iter(range(10))
    tell = Teller("one.1", events.append, lambda: sampler, now_s=lambda: float(next(moments)))
    sampler.start()
    for _ in range(2):
        time.sleep(0.05)
        tell("window", figures=Figures)
    sampler.stop()
    first, second = (event.figures for event in events)
    assert first is not None
    assert second is not None
    assert (first.host_memory_gb, first.gpu_memory_gb) == (1.5, None)
    assert first.power_w is None, "one reading of a counter is no power yet"
    assert second.power_w == pytest.approx(70.0, rel=0.01)


def test_a_reading_is_told_no_longer_than_it_is_true() -> None:
    clock = VirtualClock()
    sampler = Sampler({"host": Reading(clock)}, clock, 1.0)
    sampler.start()
    while sampler.latest("rss_gb") is None:
        time.sleep(0.001)
    sampler.stop()
    clock.sleep_until(clock.now_s() + STALE_S + 1.1)
    assert sampler.latest("rss_gb") is None


def test_telling_costs_little_however_many_requests_there_were() -> None:
    ends = Ends()
    ends._uncounted_s = [0.1] * 100_000
    ends.so_far(0.0)
    cost_s = []
    for n in range(50):
        ends._uncounted_s = [0.1] * 20
        began_s = time.perf_counter()
        ends.so_far(float(n))
        cost_s.append(time.perf_counter() - began_s)
    assert min(cost_s) < 0.001, "of the half second between two tellings"


def test_the_self_tests_progress_is_told_like_a_runs() -> None:
    clock = WallClock()
    sampler = Sampler({}, clock, 0.1)
    ends = Ends()
    ticket = Ticket(Request(uid=0, due_s=0.0, prompt_ids=[1], output_tokens=1), 0.0, ends.tickets.append)
    ticket.answer(Refusal("rejected", "nobody serves it", 0.0))
    with told_to_nobody(ends, sampler, clock):
        time.sleep(1.2 * POLL_S)
    told = ends.so_far(clock.now_s())
    assert (told.completed, told.failed) == (1, 1), "it was looked at, as a run does before it tells"
