"""The validation of intervals and tests in a few seconds, and that it would notice ones that do not hold."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.change import change
from bench.analysis.latency import latencies
from bench.analysis.percentiles import percentile_over_repeats
from bench.analysis.relaxation import relaxation_of
from tests.validate.few import coverage, passed
from tests.validate.inference import equal_pairs, figures_of
from tests.validate.queues import KINDS, Array, Kind, capacity_rps, serve, traffic

SINGLE, STEADY, _, BATCHES = KINDS


@pytest.mark.parametrize("kind", [SINGLE, BATCHES])
def test_equal_systems_are_hardly_ever_called_different_where_the_naive_rules_do(kind: Kind) -> None:
    found, naive = equal_pairs(kind, 0.7, 600, 6, [4], long=2_000)
    assert sum(found.called.values()) <= 4, "of 24, at 5 % each"
    assert found.resolved["p50"] == 6
    assert found.covered["p95"] >= 0.7 * found.resolved["p95"]
    assert naive.t_test >= 0.4 * naive.pairs
    assert naive.covered <= 0.7 * 2 * naive.pairs


def test_a_window_too_short_for_its_load_has_no_interval_of_p95_and_no_direction() -> None:
    rng = np.random.default_rng(1)
    drawn = traffic(SINGLE, 0.9, 300, 1, 5, rng)
    sides = [figures_of(serve(drawn, rng), 0, name) for name in ("baseline", "optimized")]
    p95 = sides[0]["p95"]
    assert p95.value is not None
    assert (p95.low, p95.high) == (None, None)
    assert "relaxation times" in p95.unresolved
    assert "not resolved" in p95.note
    changed = change(p95, sides[1]["p95"], "lower")
    assert changed.direction == "not resolved"
    assert changed.delta is not None
    assert changed.low is None


def test_few_requests_state_no_interval_of_p95_and_pass_no_gate_by_luck() -> None:
    few, enough = (coverage(STEADY, 0.2, n, 30, [5]) for n in (20, 80))
    assert few.stated == 0
    assert enough.stated == 30
    assert few.held_by_any <= enough.held
    assert enough.held >= 0.8
    ours, by_any = passed(10, 60, [6])
    assert ours == 0.0
    assert by_any > 0.03, "the others pass by luck"


def test_a_window_holds_more_relaxation_times_with_steadier_arrivals_lower_load_and_length() -> None:
    def times(kind: Kind, load: float, n: int) -> float:
        rng = np.random.default_rng(2)
        found = relaxation_of(serve(traffic(kind, load, n, 1, 5, rng), rng).runs(0, "baseline"))
        assert found is not None
        assert found.utilisation == pytest.approx(load, rel=0.1)
        return found.times

    # Poisson arrivals and lengths of 0.4: n (1 - ρ)² / (1 + 0.16).
    assert times(SINGLE, 0.5, 1_000) == pytest.approx(1_000 * 0.25 / 1.16, rel=0.35)
    assert times(SINGLE, 0.5, 4_000) > 2.5 * times(SINGLE, 0.5, 1_000)
    assert times(SINGLE, 0.8, 1_000) < 0.4 * times(SINGLE, 0.5, 1_000)
    assert times(STEADY, 0.8, 1_000) > 3.0 * times(SINGLE, 0.8, 1_000)


def test_the_blocks_of_one_repeat_give_an_interval_that_is_paired_on_the_schedule() -> None:
    rng = np.random.default_rng(3)
    drawn = traffic(SINGLE, 0.5, 1_500, 1, 1, rng)
    one, two = serve(drawn, rng).runs(0, "baseline"), serve(drawn, rng, faster=0.1).runs(0, "optimized")
    before, after = (percentile_over_repeats(side, latencies, 0.95) for side in (one, two))
    assert before.blocks is not None
    assert list(before.blocks) == [0, 1, 2, 3, 4]
    assert "from 5 blocks of one run" in before.note
    changed = change(before, after, "lower")
    assert changed.direction == "better"
    assert before.low is not None
    assert before.high is not None
    assert changed.low is not None
    assert changed.high is not None
    assert changed.high - changed.low < 0.7 * (before.high - before.low), "what both share has cancelled"


def test_simulated_batches_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(9)
    drawn = traffic(BATCHES, 0.8, 300, 2, 1, rng)
    served = serve(drawn, np.random.default_rng(10))
    for row in range(2):
        due_s, started_s, done_s = drawn.due_s[row], served.started_s[row], served.done_s[row]
        assert _breaches(due_s, started_s, done_s, BATCHES.batch) == []


def test_a_saturated_queue_answers_at_its_capacity() -> None:
    rng = np.random.default_rng(11)
    drawn = traffic(BATCHES, 3.0, 8_000, 1, 1, rng)
    done_s = np.sort(serve(drawn, rng).done_s[0])
    assert len(done_s) / done_s[-1] == pytest.approx(capacity_rps(BATCHES), rel=0.04)


def _breaches(due_s: Array, started_s: Array, done_s: Array, size: int) -> list[str]:
    """Return where greedy service is broken: a batch starts when the server is free and somebody waits."""
    found, first, free_s = [], 0, 0.0
    while first < len(due_s):
        start_s = max(free_s, float(due_s[first]))
        waiting = int(np.searchsorted(due_s, start_s, side="right"))
        last = min(waiting, first + size)
        if set(started_s[first:last]) != {start_s} or len(set(done_s[first:last])) != 1:
            found.append(f"batch of requests {first} to {last - 1}")
        first, free_s = last, float(done_s[first])
    return found
