"""Closed-loop traffic: each client sends again when it has its answer, and not before."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bench.clock import WallClock
from bench.model.fake import FakeEngine
from bench.records import ServiceLaw
from bench.run.closed import drive_closed
from bench.run.drive import Drive
from tests.run.driving import quiet, subject


def driven(clients: int, think_s: float, step_s: float = 0.004, **protocol: Any) -> Drive:
    clock = WallClock()
    drive = Drive(clock)
    tested = subject(FakeEngine(clock, ServiceLaw(decode_s=step_s)), clock, **protocol)
    drive_closed(drive, tested, quiet, clients=clients, think_s=think_s, repeat=1)
    return drive


def test_there_are_never_more_requests_under_way_than_clients() -> None:
    drive = driven(3, 0.0)
    spans = [
        (c.sent_s, c.done_s) for c in drive.completions() if c.sent_s is not None and c.done_s is not None
    ]
    assert len(spans) > 20
    for sent_s, _ in spans:
        assert sum(start <= sent_s < end for start, end in spans) <= 3


def test_a_request_is_due_when_its_client_was_ready() -> None:
    drive = driven(1, 0.02)
    rows = sorted(drive.completions(), key=lambda c: c.due_s)
    for before, after in itertools.pairwise(rows):
        assert before.done_s is not None
        assert after.due_s == pytest.approx(before.done_s + 0.02, abs=1e-6)


def test_the_rate_is_that_of_littles_law() -> None:
    drive = driven(2, 0.05, window_s=1.0)
    window = drive.window
    assert window is not None
    scored = [c for c in drive.completions() if window.start_s <= c.due_s < window.end_s]
    latency_s = sum(c.done_s - c.due_s for c in scored if c.done_s is not None) / len(scored)
    assert len(scored) / 1.0 == pytest.approx(2 / (latency_s + 0.05), rel=0.15)
    assert all(c.status == "ok" for c in scored)
    assert drive.facts["due_in_window"] == len(scored)


def test_an_engine_that_hangs_is_given_up_at_the_timeout() -> None:
    drive = driven(2, 0.0, step_s=3.0, timeout_s=0.2, window_s=0.3)
    assert drive.clock.now_s() < 3
    assert {c.status for c in drive.completions()} == {"timeout"}
