"""How much further running settles a verdict follows the interval that it was judged by."""

from __future__ import annotations

import math
import statistics

import msgspec
import pytest

from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.effects import effect
from bench.analysis.further import to_settle
from bench.analysis.gate import MORE_THAN_ONE, ON_THRESHOLD, negated, repeats_to_settle
from bench.analysis.stats import t_quantile
from bench.analysis.system import MetricSet
from bench.records import Value
from tests.analysis.pairs import FASTER, metrics
from tests.recorded import ASSUMED, repeated

MEMORY, THROUGHPUT = "average_memory_gb", "throughput_requests_per_sec"
TRAFFIC = (1.0, 1.5, 0.7, 1.2)
OWN = (1.02, 0.97, 1.05, 0.96)


def left_open(value: Value, by: float = 2.0) -> Value:
    """Return the value with an interval that its meter leaves wider."""
    assert value.low is not None
    assert value.high is not None
    return msgspec.structs.replace(value, low=value.low - by, high=value.high + by)


def pair(name: str, old: Value, new: Value) -> Comparison:
    def side(system: str, value: Value) -> MetricSet:
        measured = metrics(system)
        return msgspec.structs.replace(measured, values=measured.values | {name: value})

    return compare(side("baseline", old), side("optimized", new), ASSUMED)


def answer(comparison: Comparison, threshold_pct: float, name: str = MEMORY) -> str:
    return to_settle(comparison, effect(comparison.row(name)), threshold_pct)


def needed(deviation: float, n: int, distance: float, confidence: float = 0.95) -> int:
    return next(
        m for m in range(n + 1, 999) if t_quantile(m - 1, confidence) * deviation / math.sqrt(m) <= distance
    )


@pytest.mark.parametrize("confidence", [0.95, 0.98])
def test_what_the_pairs_share_does_not_count_and_the_looks_do(confidence: float) -> None:
    old = repeated(*(20.0 * t for t in TRAFFIC), confidence=confidence)
    new = repeated(
        *(20.0 * 0.93 * t * own for t, own in zip(TRAFFIC, OWN, strict=True)), confidence=confidence
    )
    comparison = pair(MEMORY, old, new)
    logs = [math.log(0.93 * own) for own in OWN]
    mean = math.fsum(logs) / 4
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in logs) / 3)
    change = comparison.row(MEMORY).change
    assert change.pct_change is not None
    distance = abs(math.log1p(change.pct_change / 100) - math.log(0.95))
    expected = needed(deviation, 4, distance, confidence)
    assert answer(comparison, 5.0) == f"about {expected} repeats instead of 4 would settle it"


def test_what_the_meter_leaves_open_is_not_for_repeats_to_settle() -> None:
    old, new = left_open(repeated(20.0, 20.1, 19.9)), left_open(repeated(18.0, 18.1, 17.9))
    assert "the meter leaves more open" in answer(pair(MEMORY, old, new), 5.0)
    one = left_open(repeated(20.0, 20.1, 19.9))
    assert "the meter leaves more open" in repeats_to_settle(one, 21.0)
    assert repeats_to_settle(repeated(20.0, 22.0, 18.0), 22.0).startswith("about ")


def test_the_repeats_that_a_gate_needs_are_enough_once_they_are_there() -> None:
    two = repeated(2350.0, 3740.0)
    assert repeats_to_settle(two, 5000.0) == "about 5 repeats instead of 2 would settle it"
    deviation = statistics.stdev((2350.0, 3740.0))
    for more, within in ((5, True), (4, False)):
        signs = ((1.0, -1.0) * 3)[: more - more % 2] + (0.0,) * (more % 2)
        scale = deviation / statistics.stdev(signs)
        high = repeated(*(3045.0 + scale * sign for sign in signs)).high
        assert high is not None
        assert (high <= 5000.0) == within
    assert repeats_to_settle(negated(two), -5000.0) == repeats_to_settle(two, 5000.0)
    assert repeats_to_settle(repeated(0.0, 0.02, 0.01), 0.015).startswith("about ")


def test_a_figure_on_its_threshold_is_not_promised_an_answer() -> None:
    old, new = repeated(20.0, 21.0, 19.0), repeated(19.0, 19.1, 18.9)
    assert answer(pair(MEMORY, old, new), 5.0) == ON_THRESHOLD


def once(value: float, low: float, high: float) -> Value:
    return Value(value=value, source="measured", note="", low=low, high=high, n=10)


def test_a_capacity_asks_for_a_narrower_search_and_a_saturated_run_for_a_longer_one() -> None:
    comparison = pair(THROUGHPUT, once(2.0, 1.9, 2.1), once(2.2, 2.09, 2.31))
    assert answer(comparison, 5.0, THROUGHPUT).startswith("protocol.offline_s about ")
    context = comparison.baseline.context
    assert context is not None
    searched = msgspec.structs.replace(context, checked=context.checked | {"throughput": "capacity"})
    side = msgspec.structs.replace(comparison.baseline, context=searched)
    found = answer(msgspec.structs.replace(comparison, baseline=side), 5.0, THROUGHPUT)
    assert found.startswith("capacity.tolerance = 0.03")
    assert "the searches came to 0.05" in found


def test_what_processes_differ_by_is_not_for_a_longer_job_to_settle() -> None:
    old, new = once(2.0, 1.9, 2.1), once(2.2, 2.09, 2.31)
    assert answer(pair(THROUGHPUT, old, new), 5.0, THROUGHPUT).startswith("protocol.offline_s about ")
    noisy = [msgspec.structs.replace(value, between_processes=0.02) for value in (old, new)]
    found = answer(pair(THROUGHPUT, noisy[0], noisy[1]), 5.0, THROUGHPUT)
    assert found.startswith("processes differ too much for one job per system")


def test_the_blocks_of_one_repeat_are_not_taken_for_repeats() -> None:
    figures = (20.0, 20.5, 19.5)
    one = msgspec.structs.replace(repeated(*figures), repeats={1: 20.0}, blocks=dict(enumerate(figures)))
    lower = msgspec.structs.replace(one, value=19.0, low=18.5, high=19.5, repeats={1: 19.0})
    assert answer(pair(MEMORY, one, lower), 5.0) == MORE_THAN_ONE
    assert repeats_to_settle(one, 20.4) == MORE_THAN_ONE


def test_without_any_interval_more_repeats_are_asked_for_where_repeats_decide() -> None:
    comparison = compare(metrics("baseline", {MEMORY: (20.0,)}), metrics("optimized", FASTER), ASSUMED)
    assert answer(comparison, 5.0) == MORE_THAN_ONE
    alone = pair(THROUGHPUT, Value(value=2.0, source="measured", note=""), once(2.2, 2.1, 2.3))
    assert answer(alone, 5.0, THROUGHPUT) == ""
