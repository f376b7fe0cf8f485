"""The choice under constraints: by the worse end of each interval, with what binds and the nearest miss."""

from __future__ import annotations

import pytest

from bench.analysis.selection import Constraint, Selection, select
from bench.analysis.shortnames import SHORT, directed_metric, metric_called, short_name
from bench.analysis.system import MetricSet
from bench.config import Quality
from bench.errors import ConfigError, ResultError
from bench.records import Value
from tests.analysis.many import by_name, system

P95, RPS, MEMORY = "p95_latency_ms", "throughput_requests_per_sec", "average_memory_gb"


def at_most(name: str, limit: float) -> Constraint:
    return Constraint(name=metric_called(name), bound="at most", limit=limit)


def at_least(name: str, limit: float) -> Constraint:
    return Constraint(name=metric_called(name), bound="at least", limit=limit)


def chosen(*systems: MetricSet, limits: tuple[Constraint, ...] = (), by: str | None = None) -> Selection:
    return select(by_name(*systems), limits, directed_metric(by) if by else None)


def test_the_best_of_those_that_fit_is_chosen_and_its_tightest_constraint_named() -> None:
    found = chosen(
        system("slow", p95=900.0, throughput=50.0, memory=10.0),
        system("good", p95=480.0, throughput=30.0, memory=10.0),
        system("weak", p95=100.0, throughput=10.0, memory=10.0),
        limits=(at_most("p95", 500), at_most("memory", 40)),
    )
    assert found.choice == "good"
    binding = found.candidates["good"].binding
    assert binding is not None
    assert binding.in_words == "p95 latency 480 against at most 500 ms"
    assert binding.margin == "4.0 % to spare"
    assert found.held_back == ("slow",), "it would be better, and breaks p95"
    assert found.that("breaks") == ("slow",)


def test_a_constraint_is_judged_by_the_worse_end_of_the_interval() -> None:
    found = chosen(
        system("wide", p95=(400.0, 520.0, 460.0), throughput=30.0),
        system("sure", p95=(400.0, 402.0, 398.0), throughput=20.0),
        system("over", p95=(700.0, 702.0, 698.0), throughput=40.0),
        limits=(at_most("p95", 500),),
    )
    assert (found.that("open"), found.that("fits"), found.that("breaks")) == (("wide",), ("sure",), ("over",))
    assert found.choice == "sure"
    assert found.held_back == ("over", "wide")
    assert "repeats instead of 3" in found.candidates["wide"].checks[0].settle


def test_at_least_is_judged_by_the_lower_end() -> None:
    found = chosen(
        system("wide", throughput=(9.0, 13.0, 11.0)),
        system("sure", throughput=(10.9, 11.0, 11.1)),
        limits=(at_least("throughput", 10),),
    )
    assert found.choice == "sure"
    check = found.candidates["wide"].checks[0]
    assert check.fit == "open"
    assert check.over > 0


def test_a_figure_that_is_not_resolved_leaves_its_constraint_open() -> None:
    waves = Value(value=400.0, source="measured", note="", unresolved="too few waves")
    found = chosen(system("a", p95=waves, throughput=1.0), limits=(at_most("p95", 500),))
    assert found.that("open") == ("a",)
    assert found.choice is None
    assert found.nearest == "a"


def test_a_break_of_a_figure_that_is_not_resolved_shows_its_size() -> None:
    waves = Value(value=281.0, source="measured", note="", unresolved="too few waves", high=300.0)
    near, far = (chosen(system("a", p95=waves), limits=(at_most("p95", x),)) for x in (150.0, 1.0))
    margins = [found.candidates["a"].checks[0].margin for found in (near, far)]
    assert (near.that("breaks"), far.that("breaks")) == (("a",), ("a",))
    assert margins == ["87.3 % beyond", "281 times the limit"]


def test_of_constraints_that_break_one_whose_figure_is_resolved_is_named() -> None:
    waves = Value(value=810.2, source="measured", note="", unresolved="too few waves")
    limits = (at_most("p95", 500), at_most("memory", 0.5))
    binding = chosen(system("a", p95=waves, memory=0.6), limits=limits).candidates["a"].binding
    assert binding is not None
    assert (binding.constraint.name, binding.margin) == (MEMORY, "20.0 % beyond")


def test_systems_that_the_interval_cannot_tell_from_the_best_are_ties() -> None:
    noise = (1.0, 1.2, 0.9, 1.05)
    found = chosen(
        system("best", throughput=[20 * x for x in noise]),
        system("tied", throughput=[19.9 * x for x in reversed(noise)]),
        system("worse", throughput=[15 * x for x in noise]),
    )
    assert found.choice == "best"
    assert found.tied_names == ("tied",)
    assert found.tied[0].text.startswith("throughput -0.5 %, ")


def test_point_values_tie_within_what_is_immaterial_and_say_that_they_are_ones() -> None:
    found = chosen(*(system(f"s{rps}", throughput=rps) for rps in (20.0, 19.5, 15.0)))
    assert found.choice == "s20.0"
    assert found.tied_names == ("s19.5",)
    assert found.on_points


def test_where_nothing_fits_the_nearest_miss_is_the_one_whose_worst_excess_is_smallest() -> None:
    found = chosen(
        system("late", p95=600.0, memory=10.0),
        system("large", p95=100.0, memory=44.0),
        system("both", p95=550.0, memory=60.0),
        limits=(at_most("p95", 500), at_most("memory", 40)),
    )
    assert found.choice is None
    assert found.nearest == "large"
    binding = found.candidates["large"].binding
    assert binding is not None
    assert binding.constraint.name == MEMORY
    assert binding.margin == "10.0 % beyond"


def test_a_system_without_a_constrained_figure_is_left_out_and_never_the_nearest() -> None:
    found = chosen(
        system("lost", p95="saturated at 3 requests/s", throughput=99.0),
        system("slow", p95=900.0, throughput=1.0),
        limits=(at_most("p95", 500),),
    )
    assert found.excluded == {"lost": "no p95 latency: saturated at 3 requests/s"}
    assert found.nearest == "slow"
    nobody = chosen(system("lost", p95="saturated"), limits=(at_most("p95", 500),))
    assert (nobody.choice, nobody.nearest) == (None, None)


def test_cost_decides_where_all_that_fit_have_one_and_else_throughput() -> None:
    dear, cheap = (
        system("dear", cost=3.0, throughput=20.0, p95=1.0),
        system("cheap", cost=1.0, throughput=10.0, p95=1.0),
    )
    assert chosen(dear, cheap).choice == "cheap"
    unpriced = system("unpriced", cost="no price", throughput=30.0, p95=1.0)
    assert chosen(dear, cheap, unpriced).choice == "unpriced"
    assert chosen(dear, cheap, unpriced, by="cost").choice == "cheap"
    assert chosen(dear, cheap, unpriced, by="cost").unranked == {"unpriced": "no cost per 1k: no price"}


def test_an_objective_may_be_any_metric_and_either_way() -> None:
    one, two = system("one", p95=1.0, mean_batch_size=1.0), system("two", p95=2.0, mean_batch_size=4.0)
    assert chosen(one, two, by="p95").choice == "one"
    assert chosen(one, two, by="p95:higher").choice == "two"
    assert chosen(one, two, by="mean_batch_size:higher").choice == "two"
    assert chosen(one, two).choice is None, "neither cost nor throughput is known"
    with pytest.raises(ResultError, match="no system has energy per 1k to choose by: no meter"):
        chosen(system("one", energy="no meter"), by="energy")


def test_an_objective_of_which_one_has_0_is_compared_by_differences() -> None:
    found = chosen(*(system(f"at {x}", error_rate=x) for x in (0.0, 0.001, 0.1)), by="errors")
    assert found.choice == "at 0.0"
    assert found.tied_names == ("at 0.001",), "within 5 % of the largest"
    assert found.tied[0].text == "error rate +0.001"
    tolerant = Quality(max_mean_kl=0.2)
    sets = by_name(system("reference", kl=0.0), system("near", kl=0.1), system("far", kl=0.3))
    assert select(sets, (), directed_metric("kl"), quality=tolerant).tied_names == ("near",)


def test_a_limit_of_zero_is_missed_by_the_figure_itself() -> None:
    found = chosen(system("a", error_rate=0.25, throughput=1.0), limits=(at_most("errors", 0.0),))
    assert found.nearest == "a"
    assert found.candidates["a"].checks[0].over == 0.25
    assert found.candidates["a"].checks[0].margin == "0.25 beyond", "a share of nothing is none"


def test_without_constraints_everything_fits_and_nothing_binds() -> None:
    found = chosen(system("a", throughput=1.0))
    assert found.choice == "a"
    assert found.candidates["a"].binding is None


def test_every_short_name_is_that_of_a_metric() -> None:
    for short, full in SHORT.items():
        assert metric_called(short) == metric_called(full) == full
        assert short_name(full) == short
    assert short_name("replicas") == "replicas"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("p96", "did you mean p99"),
        ("p95:down", "'down' is no direction; write p95:lower or p95:higher"),
        ("mean_power_w", "neither way of mean_power_w is better by itself"),
    ],
)
def test_an_unknown_metric_or_direction_is_refused_with_what_would_do(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        directed_metric(text)
