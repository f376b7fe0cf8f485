"""The figure of the changes: percent, interval, direction, and why a metric has none."""

from __future__ import annotations

import msgspec
import pytest

from bench.analysis.figures.changes import changes
from tests.analysis.figures.compared import evaluation, row, rows, uncompared
from tests.analysis.pairs import metrics
from tests.recorded import unpaired

FASTER = metrics("optimized", {"throughput_requests_per_sec": (3.0,), "p50_latency_ms": (800.0,) * 5})


def test_a_change_has_both_figures_its_percent_and_which_way_it_is() -> None:
    figure = changes(evaluation(metrics("baseline"), FASTER))
    throughput = row(figure, "changes", metric="throughput")
    assert (throughput["baseline"], throughput["optimized"]) == (2.0, 3.0)
    assert (throughput["pct"], throughput["direction"]) == (50.0, "better")
    p50 = row(figure, "changes", metric="p50 latency")
    assert (p50["pct"], p50["direction"], p50["system"]) == (100.0, "worse", "optimized")
    assert "1 better (throughput rises by 50.0 %), 1 worse (p50 latency rises by 100.0 %)" in figure.reading


def test_an_interval_lies_around_its_change_and_one_with_no_change_in_it_is_unclear() -> None:
    noisy = metrics("optimized", {"p95_latency_ms": (900.0, 1200.0, 950.0, 1150.0, 1000.0)})
    p95 = row(changes(evaluation(metrics("baseline"), noisy)), "changes", metric="p95 latency")
    low, pct, high = (p95[key] for key in ("low_pct", "pct", "high_pct"))
    assert isinstance(low, float)
    assert isinstance(pct, float)
    assert isinstance(high, float)
    assert low < 0 < pct < high
    assert p95["direction"] == "unclear"


def test_what_is_not_resolved_has_no_interval_and_says_so() -> None:
    value = msgspec.structs.replace(unpaired(2000.0, 2001.0), low=None, high=None, unresolved="few")
    lost = msgspec.structs.replace(FASTER, values=FASTER.values | {"p95_latency_ms": value})
    figure = changes(evaluation(metrics("baseline"), lost))
    p95 = row(figure, "changes", metric="p95 latency")
    assert (p95["low_pct"], p95["high_pct"], p95["direction"]) == (None, None, "not resolved")
    assert "2 unclear or not resolved" in figure.reading


def test_the_tolerated_worsening_lies_on_the_worse_side_of_what_decides_alone() -> None:
    figure = changes(evaluation(metrics("baseline"), FASTER))
    assert row(figure, "changes", metric="p50 latency")["tolerated_pct"] == 20.0
    assert row(figure, "changes", metric="throughput")["tolerated_pct"] == -20.0
    assert row(figure, "changes", metric="TPOT p50")["tolerated_pct"] is None
    assert figure.datasets["material"].rows == ({"low_pct": -5.0, "high_pct": 5.0},)


def test_a_metric_that_cannot_be_compared_is_left_out_with_its_reason() -> None:
    dark = metrics("optimized", {"estimated_energy_kwh_per_1k_requests": "no meter"})
    figure = changes(evaluation(metrics("baseline"), dark))
    assert not rows(figure, "changes", metric="energy per 1k")
    assert "energy per 1k is not compared with optimized: optimized: no meter." in figure.notes


def test_several_systems_follow_one_another_each_in_the_metrics_order() -> None:
    figure = changes(evaluation(metrics("baseline"), FASTER, metrics("other")))
    found = figure.datasets["changes"].rows
    assert [one["place"] for one in found] == list(range(len(found)))
    names = [one["system"] for one in found]
    assert names == ["optimized"] * names.count("optimized") + ["other"] * names.count("other")
    assert figure.systems == ("baseline", "optimized", "other")


@pytest.mark.parametrize("other", [(), ("optimized",)])
def test_without_a_pair_it_says_why_there_is_nothing(other: tuple[str, ...]) -> None:
    figure = changes(uncompared(metrics("baseline"), *(metrics(name) for name in other)))
    assert figure.missing
    assert not figure.datasets
