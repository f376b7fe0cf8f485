"""The Pareto set: dominance is claimed only as far as the intervals carry it, and somebody is always left."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.analysis.metrics import Better
from bench.analysis.pareto import Pareto, pareto
from bench.analysis.system import MetricSet, Validity
from bench.config import Quality
from bench.records import Value
from tests.analysis.many import by_name, system

P95, MEMORY, RPS, ENERGY = (
    "p95_latency_ms",
    "average_memory_gb",
    "throughput_requests_per_sec",
    "estimated_energy_kwh_per_1k_requests",
)
AXES: tuple[tuple[str, Better], ...] = ((P95, "lower"), (RPS, "higher"))


def of(*systems: MetricSet, axes: tuple[tuple[str, Better], ...] = AXES, material_pct: float = 5.0) -> Pareto:
    return pareto(by_name(*systems), axes, material_pct=material_pct)


def around(level: float, spread: float) -> tuple[float, ...]:
    return level * (1 - spread), level * (1 + spread), level


def test_a_system_that_is_worse_in_one_and_better_in_none_is_dominated_and_by_whom_is_said() -> None:
    found = of(
        system("fast", p95=100.0, throughput=10.0),
        system("big", p95=200.0, throughput=20.0),
        system("bad", p95=210.0, throughput=10.0),
    )
    assert found.at("front") == ("fast", "big")
    bad = found.standings["bad"]
    assert bad.place == "dominated"
    assert {rival.name for rival in bad.by} == {"fast", "big"}
    fast = next(rival for rival in bad.by if rival.name == "fast")
    assert fast.in_words == "fast (p95 latency -52.4 %)"


def test_an_immaterial_loss_does_not_save_a_dominated_system() -> None:
    found = of(system("a", p95=103.0, throughput=20.0), system("b", p95=100.0, throughput=10.0))
    assert found.at("dominated") == ("b",)
    strict = of(
        system("a", p95=103.0, throughput=20.0), system("b", p95=100.0, throughput=10.0), material_pct=0.0
    )
    assert strict.at("front") == ("a", "b")


def test_equal_systems_are_all_on_the_front() -> None:
    assert of(*(system(n, p95=100.0, throughput=10.0) for n in "abc")).at("front") == ("a", "b", "c")


def test_an_interval_that_leaves_dominance_open_leaves_the_system_undecided_and_is_named() -> None:
    noisy = system("noisy", p95=around(95.0, 0.3), throughput=20.0)
    found = of(noisy, system("small", p95=around(100.0, 0.01), throughput=10.0))
    assert found.at("front") == ("noisy",)
    assert found.at("undecided") == ("small",)
    (rival,) = found.standings["small"].perhaps_by
    assert rival.name == "noisy"
    assert [step.axis.name for step in rival.steps] == [P95]


def test_what_only_the_better_figure_leaves_open_names_that_one() -> None:
    found = of(
        system("noisy", p95=around(95.0, 0.03), throughput=10.0),
        system("b", p95=around(100.0, 0.0), throughput=10.0),
    )
    (rival,) = found.standings["b"].perhaps_by
    assert rival.in_words.startswith("noisy (p95 latency -5.0 %")


def test_repeats_in_pairs_decide_what_their_common_scatter_would_hide() -> None:
    traffic = (1.0, 1.4, 0.7, 1.2)
    found = of(
        system("a", p95=[80 * t for t in traffic], throughput=10.0),
        system("b", p95=[100 * t for t in traffic], throughput=10.0),
    )
    assert found.at("dominated") == ("b",)


def test_a_figure_that_is_not_resolved_decides_nothing() -> None:
    waves = Value(value=50.0, source="measured", note="", unresolved="too few waves")
    found = of(system("a", p95=waves, throughput=20.0), system("b", p95=100.0, throughput=10.0))
    assert found.at("undecided") == ("b",)
    (rival,) = found.standings["b"].perhaps_by
    assert "p95 latency -50.0 %, not resolved" in rival.in_words
    assert [step.unresolved for step in rival.steps if step.axis.name == P95] == ["too few waves"]


def test_a_system_that_lacks_a_figure_or_was_driven_badly_is_left_out_with_the_reason() -> None:
    late = msgspec.structs.replace(system("late", p95=1.0, throughput=99.0), client=Validity(level="INVALID"))
    found = of(system("a", p95=100.0, throughput=10.0), system("slow", p95="saturated", throughput=1.0), late)
    assert tuple(found.standings) == ("a",)
    assert found.excluded["slow"] == "no p95 latency: saturated"
    assert found.excluded["late"].startswith("its run is INVALID")


def test_a_point_value_is_taken_where_there_is_no_interval_and_the_axis_says_so() -> None:
    found = of(
        system("a", p95=90.0, throughput=(10.0, 11.0)), system("b", p95=100.0, throughput=(10.0, 10.5))
    )
    assert found.point_axes == (P95,)


def test_the_usual_axes_are_those_that_half_of_the_systems_have() -> None:
    sets = by_name(
        system("a", p95=1.0, throughput=2.0, memory=3.0, energy=4.0),
        system("b", p95=1.0, throughput=2.0, memory=3.0, energy="no meter"),
        system("c", p95=1.0, throughput=2.0, memory=3.0, energy="no meter", cost="no price"),
    )
    found = pareto(sets)
    assert [axis.name for axis in found.axes] == [P95, RPS, MEMORY]
    assert found.without[ENERGY] == "1 of 3 systems have it"
    assert found.without["mean_kl"] == "not among the metrics"
    assert found.without["cost_per_1k_requests_usd"] == "no price"


def test_a_cost_stands_for_throughput_too() -> None:
    sets = by_name(*(system(name, p95=1.0, throughput=2.0, cost=3.0) for name in "ab"))
    assert [axis.name for axis in pareto(sets).axes] == [P95, "cost_per_1k_requests_usd"]


def test_quality_is_immaterial_up_to_what_the_experiment_tolerates() -> None:
    axes: tuple[tuple[str, Better], ...] = (("mean_kl", "lower"), (P95, "lower"))
    sets = by_name(system("fp16", kl=0.0, p95=100.0), system("int8", kl=2e-3, p95=50.0))
    assert pareto(sets, axes).at("dominated") == ("fp16",)
    strict = pareto(sets, axes, quality=Quality(max_mean_kl=1e-3))
    assert strict.at("front") == ("fp16", "int8")
    assert strict.axes[0].tolerance_in_words == "0.001 nats"


def test_a_figure_of_zero_is_compared_by_differences() -> None:
    axes: tuple[tuple[str, Better], ...] = (("error_rate", "lower"), (P95, "lower"))
    found = of(system("a", error_rate=0.0, p95=100.0), system("b", error_rate=0.2, p95=101.0), axes=axes)
    assert found.at("dominated") == ("b",)


def test_a_circle_of_immaterial_losses_leaves_all_on_the_front() -> None:
    axes: tuple[tuple[str, Better], ...] = ((P95, "lower"), (MEMORY, "lower"), (ENERGY, "lower"))
    big, small = 1.0, 1.0 / 1.08
    mid = 1.0 / 1.04
    found = of(
        system("a", p95=big, memory=mid, energy=small),
        system("b", p95=small, memory=big, energy=mid),
        system("c", p95=mid, memory=small, energy=big),
        axes=axes,
    )
    assert len(found.at("front")) == 3


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_the_direction_of_an_axis_is_as_chosen(better: Better) -> None:
    found = of(system("a", p95=1.0), system("b", p95=2.0), axes=((P95, better),))
    assert found.at("front") == (("a",) if better == "lower" else ("b",))


FIGURES = st.lists(
    st.tuples(
        st.floats(0.5, 2.0), st.floats(0.5, 2.0), st.floats(0.0, 0.1), st.floats(0.0, 0.2), st.booleans()
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=60, deadline=None)
@given(FIGURES, st.sampled_from([0.0, 5.0, 30.0]))
def test_somebody_is_always_left_and_the_order_of_the_systems_changes_nothing(
    figures: list[tuple[float, float, float, float, bool]], material_pct: float
) -> None:
    axes: tuple[tuple[str, Better], ...] = (*AXES, ("error_rate", "lower"))
    systems = [
        system(f"s{i}", p95=around(a, spread) if noisy else a, throughput=b, error_rate=round(errors, 1))
        for i, (a, b, errors, spread, noisy) in enumerate(figures)
    ]
    found = of(*systems, axes=axes, material_pct=material_pct)
    assert found.at("front") or found.at("undecided")
    if not any(noisy for *_, noisy in figures):
        assert found.at("front"), "exact figures leave nothing open"
        assert not found.at("undecided")
    again = of(*reversed(systems), axes=axes, material_pct=material_pct)
    assert {name: standing.place for name, standing in again.standings.items()} == {
        name: standing.place for name, standing in found.standings.items()
    }
    for name, standing in found.standings.items():
        for rival in standing.by:
            assert name not in {other.name for other in found.standings[rival.name].by}
        assert (standing.place == "dominated") == bool(standing.by)
