"""Open-loop traffic: how the warm-up ends, what is scored, and when a window is ended early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bench.clock import WallClock
from bench.errors import RunFailed
from bench.model.fake import FakeEngine
from bench.records import Request, ServiceLaw
from bench.run.drive import Drive
from bench.run.observe import Observer
from bench.run.window import drive_window
from tests.run.driving import STEP_S, quiet, subject


def driven(rate_rps: float, law: ServiceLaw, **protocol: Any) -> Drive:
    clock = WallClock()
    drive = Drive(clock)
    drive_window(
        drive, subject(FakeEngine(clock, law), clock, **protocol), quiet, rate_rps=rate_rps, repeat=1
    )
    return drive


def test_a_warm_up_that_has_converged_ends_before_its_longest_time() -> None:
    drive = driven(200, ServiceLaw(decode_s=STEP_S), warmup_s=0.3, max_warmup_s=20)
    assert drive.facts["warmup"]["converged"] is True
    assert 0.3 <= drive.facts["warmup"]["took_s"] < 10


def test_a_warm_up_too_short_to_converge_says_so_and_ends_in_its_longest_time() -> None:
    drive = driven(10, ServiceLaw(decode_s=STEP_S), warmup_s=0.1, max_warmup_s=0.4)
    assert drive.facts["warmup"]["converged"] is False
    assert drive.facts["warmup"]["took_s"] == pytest.approx(0.4, abs=0.3)


def test_what_is_scored_does_not_depend_on_how_long_the_warm_up_took() -> None:
    def scored(longest_s: float) -> list[tuple[float, int]]:
        drive = driven(40, ServiceLaw(decode_s=STEP_S), warmup_s=0.1, max_warmup_s=longest_s)
        window = drive.window
        assert window is not None
        return [
            (round(c.due_s - window.start_s, 6), c.prompt_tokens)
            for c in sorted(drive.completions(), key=lambda c: c.due_s)
            if window.start_s <= c.due_s < window.end_s
        ]

    assert scored(0.1) == scored(0.6)


def test_an_overload_is_recognised_and_ended_before_the_window_is_over() -> None:
    # Four requests at a time take 0.1 s: 40 a second are served, 120 come.
    drive = driven(120, ServiceLaw(decode_s=0.02), warmup_s=0.5, window_s=20, timeout_s=30)
    assert drive.facts["stopped_early"]
    assert drive.window is not None
    assert drive.window.end_s - drive.window.start_s < 15


def test_a_steady_system_is_not_ended_early() -> None:
    drive = driven(40, ServiceLaw(decode_s=STEP_S), warmup_s=0.5, window_s=2)
    assert drive.facts["stopped_early"] is None


def test_the_scored_schedule_is_shown_before_any_traffic_and_may_be_refused() -> None:
    clock = WallClock()
    drive = Drive(clock)
    shown: list[tuple[str, int]] = []

    def refuse(name: str, requests: Sequence[Request]) -> None:
        shown.append((name, len(requests)))
        raise RunFailed("another schedule")

    tested = replace(subject(FakeEngine(clock), clock), on_drawn=refuse)
    with pytest.raises(RunFailed, match="another schedule"):
        drive_window(drive, tested, quiet, rate_rps=40, repeat=3)
    assert drive.tickets == []
    assert shown[0][0] == "3"
    assert shown[0][1] > 20


class Meter:
    """Notes when the counter was to be read densely; loses its device when told to."""

    def __init__(self, clock: WallClock, lost_at_s: float = 1e9) -> None:
        self.clock, self.lost_at_s = clock, lost_at_s
        self.asked_s: list[float] = []

    def sharpen(self, until_s: float) -> None:
        self.asked_s.append(self.clock.now_s())

    def recent(self, field: str, since_s: float) -> list[float]:
        return []

    def check(self) -> None:
        if self.clock.now_s() > self.lost_at_s:
            raise RunFailed("the gpu was lost")


def test_the_counter_is_read_densely_at_both_edges_of_the_window_and_of_idle_spans() -> None:
    clock = WallClock()
    drive = Drive(clock)
    meter = Meter(clock)
    tested = replace(
        subject(FakeEngine(clock, ServiceLaw(decode_s=STEP_S)), clock, idle_s=1.2, window_s=1.2),
        observer=Observer(clock, meter, tick_s=0.1, meters_power=True),
    )
    drive_window(drive, tested, quiet, rate_rps=40, repeat=1)
    assert drive.window is not None
    spans = [drive.window, *drive.idle.values()]
    assert set(drive.idle) == {"resident", "resident_after"}
    for span in spans:
        assert any(0 <= asked_s - span.start_s < 0.6 for asked_s in meter.asked_s)
        assert any(-0.2 < span.end_s - asked_s <= 0.2001 for asked_s in meter.asked_s)


def test_no_request_is_under_way_in_an_idle_span() -> None:
    clock = WallClock()
    drive = Drive(clock)
    tested = replace(
        subject(FakeEngine(clock, ServiceLaw(decode_s=STEP_S)), clock, idle_s=0.3),
        observer=Observer(clock, Meter(clock), tick_s=0.05, meters_power=True),
    )
    drive_window(drive, tested, quiet, rate_rps=40, repeat=1)
    for span in drive.idle.values():
        for c in drive.completions():
            if c.sent_s is not None and c.done_s is not None:
                assert c.done_s <= span.start_s or c.sent_s >= span.end_s


def test_a_lost_device_ends_the_load_and_what_was_measured_is_kept() -> None:
    clock = WallClock()
    drive = Drive(clock)
    tested = replace(
        subject(FakeEngine(clock, ServiceLaw(decode_s=STEP_S)), clock, window_s=20),
        observer=Observer(clock, Meter(clock, lost_at_s=1.0)),
    )
    with pytest.raises(RunFailed, match="lost"):
        drive_window(drive, tested, quiet, rate_rps=40, repeat=1)
    assert clock.now_s() < 15
    assert any(c.status == "ok" for c in drive.completions())
