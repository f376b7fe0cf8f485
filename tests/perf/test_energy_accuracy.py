"""The accuracy benchmark measures each way on the same cases, and records error and coverage."""

from __future__ import annotations

import pytest

from tests import fake_nvml
from tests.fake_nvml.accuracy import Outcome
from tests.fake_nvml.in_process import behind_binding
from tests.perf.energy_accuracy import Row, entries_of, measure, share_interval


def test_bench_is_truer_than_a_polling_trapezoid_on_the_same_bursts() -> None:
    if fake_nvml.compiler() is None:
        pytest.skip("no C compiler to build the modelled NVML library with")
    with behind_binding() as library:
        ours = measure(library, "bench, counter", "bursty", 10.0, seeds=4)
        polled = measure(library, "polling, A100", "bursty", 10.0, seeds=4)
    assert len(ours.outcomes) == len(polled.outcomes) == 4
    assert max(ours.errors) < 0.1 < max(polled.errors)
    assert ours.covered == 1.0
    assert polled.covered is None, "nothing is stated, so nothing can be held against it"


def test_error_worst_case_and_coverage_are_recorded_each() -> None:
    row = Row(
        [
            Outcome(joules=99.0, true_j=100.0, covered=False),
            Outcome(joules=103.0, true_j=100.0, covered=True),
        ],
        [],
    )
    entries = entries_of("x", row)
    assert [entries[name].ratio for name in ("x", "x, worst", "x, covered")] == pytest.approx([2.0, 3.0, 0.5])
    assert entries["x, covered"].repeats == 2
    assert "not aligned" in Row([], ["the counter is not aligned"]).line()
    assert entries_of("x", Row([], ["why"])) == {}


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert share_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert share_interval(1.0, 100) == pytest.approx((0.9630, 1.0), abs=1e-4)
