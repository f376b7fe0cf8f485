"""The capacity validation in a few seconds: its closed form, its bisection, and one search."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.clock import VirtualClock
from bench.model.fake import FakeEngine
from bench.records import Request
from bench.serving.loop import simulate
from tests.validate.capacity import (
    PROBE_S,
    SERVERS,
    WARM_S,
    batched,
    bisect,
    by_bisection,
    md1_rate,
    search,
    serve,
    wait_below,
)


def test_the_closed_form_is_that_of_a_long_simulation() -> None:
    server = SERVERS["M/D/1, p95"]
    rate_rps = md1_rate(server)
    assert rate_rps == pytest.approx(80.96, abs=0.01)
    margins = [serve(server, rate_rps, draw, 7, 200.0).margin for draw in range(4)]
    assert np.mean([margin for margin in margins if margin is not None]) == pytest.approx(0.0, abs=0.12)


def test_nobody_waits_with_the_probability_that_the_server_is_idle() -> None:
    assert wait_below(0.0, 0.7) == pytest.approx(0.3)
    assert wait_below(20.0, 0.5) == pytest.approx(1.0)


def test_bisection_doubles_until_it_fails_and_halves_until_it_is_narrow() -> None:
    asked: list[float] = []

    def passes(rate_rps: float) -> bool:
        asked.append(rate_rps)
        return rate_rps <= 77.0

    assert bisect(passes, 40.0, 0.05) == pytest.approx(75.0)
    assert asked[:4] == [40.0, 80.0, 60.0, 70.0]
    assert bisect(passes, 320.0, 0.05) == pytest.approx(75.0)


def test_a_search_on_the_loop_finds_it_and_ends_overloaded_probes_early() -> None:
    found, trials = search(SERVERS["M/D/1, no objective"], 1)
    assert found.capacity.value == pytest.approx(100.0, rel=0.01)
    assert found.capacity.source == "simulated"
    overloaded = [t for t in trials if not t.stable]
    assert overloaded
    assert all(t.stopped and t.seconds < 45.0 for t in overloaded)


def test_the_recursion_of_batches_answers_when_the_serving_loop_does() -> None:
    server = SERVERS["batches of 8, p95"]
    due_s = np.cumsum(np.random.default_rng(5).exponential(1.0 / 90.0, 500))
    requests = [
        Request(uid=i, due_s=due, prompt_ids=range(1), output_tokens=1)
        for i, due in enumerate(due_s.tolist())
    ]
    clock = VirtualClock()
    engine = FakeEngine(clock, server.law)
    done = simulate(requests, server.policy, engine, clock, queue_limit=500, timeout_s=math.inf)
    assert batched(server, due_s) == pytest.approx([one.done_s for one in done], abs=1e-9)


def test_bisection_is_charged_what_its_probes_took() -> None:
    server = SERVERS["M/D/1, no objective"]
    found = by_bisection(server, seeds=1)
    assert found.seconds < found.probes * (WARM_S + PROBE_S), "overloaded probes end early"
