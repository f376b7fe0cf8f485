"""The error rate's interval knows how many requests were seen, and its gate says how many it needs."""

from __future__ import annotations

import msgspec
import pytest

from bench.analysis.gates import errors
from bench.analysis.metrics import METRICS
from bench.analysis.system import SystemRuns
from bench.config import Objectives
from bench.records import Value
from tests.analysis.pairs import pair
from tests.recorded import ASSUMED, OBJECTIVES, offline_run, steady, window_run

LIMIT = Objectives(max_error_rate=0.01)


def rate(*failed: int, n: int = 100) -> Value:
    """Return the error rate of repeats of `n` requests of which so many failed."""
    windows = []
    for i, count in enumerate(failed):
        requests = steady(n=n)
        for k in range(count):
            requests[k] = msgspec.structs.replace(requests[k], status="error", error="boom")
        windows.append(window_run(requests, repeat=i + 1))
    runs = SystemRuns(name="optimized", offline=offline_run(20.0), windows=windows)
    return METRICS["error_rate"].measure(runs, ASSUMED, OBJECTIVES)


@pytest.mark.parametrize("failed", [(0, 0, 0), (2, 2, 2)])
def test_repeats_that_agree_are_not_certain(failed: tuple[int, ...]) -> None:
    value = rate(*failed)
    assert value.low is not None
    assert value.high is not None
    assert value.high - value.low > 0.01, "three hundred requests know a per cent"


def test_a_share_stays_within_none_and_all() -> None:
    value = rate(0, 2, n=50)
    assert value.low == 0.0
    assert value.high is not None
    assert value.high < 1.0
    apart = rate(1, 99)
    assert apart.high == 1.0


def judged(value: Value) -> tuple[str, str, str]:
    comparison = pair()
    row = comparison.rows["error_rate"]
    rows = {**comparison.rows, "error_rate": msgspec.structs.replace(row, optimized=value)}
    gate = errors(msgspec.structs.replace(comparison, rows=rows), LIMIT)
    return gate.outcome, gate.text, gate.settle


def test_no_failure_at_all_passes_and_says_what_it_shows() -> None:
    outcome, text, _ = judged(rate(0, 0, 0, n=30))
    assert outcome == "pass"
    assert text == (
        "error rate 0 % against at most 1 %: "
        "none of the requests failed, which shows 4.1 % at most; 381 would"
    )
    assert judged(rate(0, 0, 0, 0, n=100))[1] == "error rate 0 % against at most 1 %"


def test_few_failures_in_few_requests_are_unclear_and_ask_for_requests() -> None:
    outcome, _, settle = judged(rate(2, 2, 2))
    assert (outcome, settle) == ("unclear", "about 381 requests in all would settle it")
    assert judged(rate(5, 5, 5))[0] == "fail"
    assert judged(rate(100, 100, 100))[1] == "error rate 100 % against at most 1 %"


def test_repeats_that_differ_ask_for_repeats() -> None:
    outcome, _, settle = judged(rate(0, 3))
    assert outcome == "unclear"
    assert "repeats instead of 2" in settle
