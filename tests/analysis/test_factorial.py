"""Which of several changes did what: known effects come back exactly, and what is not known is said."""

from __future__ import annotations

import itertools
import re
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.analysis.attribution import sentences
from bench.analysis.compare import compare
from bench.analysis.corners import changed_groups, cube
from bench.analysis.factorial import Effect, Factorial, factorial_of, factorials
from bench.analysis.system import MetricSet, Validity
from bench.records import Value
from tests.analysis.many import DYNAMIC, INT8, STEPS, by_name, system
from tests.analysis.sides import measured, with_figures
from tests.recorded import ASSUMED

P95 = "p95_latency_ms"
ENERGY = "estimated_energy_kwh_per_1k_requests"
NOISE = (1.0, 1.3, 0.8, 1.1)
"""What the traffic of each repeat does to every system alike."""


def square(*p95: Any, key: str = "p95", **more: Any) -> list[MetricSet]:
    """Return baseline, int8, dynamic and both with these figures."""
    corners = {"baseline": {}, "int8": INT8, "dynamic": DYNAMIC, "both": INT8 | DYNAMIC}
    return [
        system(name, settings, **{key: given}, **more)
        for (name, settings), given in zip(corners.items(), p95, strict=True)
    ]


def analysed(systems: list[MetricSet]) -> Factorial:
    found = factorial_of(systems[0], systems[-1], systems)
    assert found is not None
    return found


def shared(level: float) -> tuple[float, ...]:
    return tuple(level * noise for noise in NOISE)


def ends(effect: Effect) -> tuple[float, float]:
    assert effect.low_pct is not None
    assert effect.high_pct is not None
    return effect.low_pct, effect.high_pct


def test_main_effects_that_only_multiply_come_back_exactly_and_do_not_interact() -> None:
    found = analysed(square(shared(100), shared(150), shared(40), shared(60))).responses[P95]
    precision, batching, interaction = found.effects
    assert precision.of == ("precision",)
    assert precision.pct == pytest.approx(50)
    assert batching.pct == pytest.approx(-60)
    assert interaction.pct == pytest.approx(0)
    assert interaction.extent == "immaterial"
    assert found.total is not None
    assert found.total.pct == pytest.approx(-40)


def test_what_repeats_share_cancels_so_that_exact_effects_have_an_exact_interval() -> None:
    found = analysed(square(shared(100), shared(150), shared(40), shared(60))).responses[P95]
    assert ends(found.main("precision")) == pytest.approx((50, 50))
    assert ends(found.effects[2]) == pytest.approx((0, 0), abs=1e-9)


def test_intervals_of_effects_hold_the_truth_in_95_of_100_draws() -> None:
    rng = np.random.default_rng(22)
    held = np.zeros(3)
    draws = 400
    for _ in range(draws):
        traffic = rng.normal(0.0, 0.2, 5)  # of each repeat, the same for all corners
        logs = [np.log(level) + traffic + rng.normal(0.0, 0.1, 5) for level in (100, 150, 40, 90)]
        found = analysed(square(*(np.exp(log).tolist() for log in logs))).responses[P95]
        truth = ((1.5 * 2.25) ** 0.5, (0.4 * 0.6) ** 0.5, 1.5)
        for i, (effect, ratio) in enumerate(zip(found.effects, truth, strict=True)):
            low, high = ends(effect)
            held[i] += low <= (ratio - 1) * 100 <= high
    assert held / draws == pytest.approx([0.95] * 3, abs=0.03)


def test_an_interaction_is_the_ratio_of_ratios_and_a_main_effect_the_geometric_mean() -> None:
    # Alone: x1.5 and x0.4; together x0.9, where the product would be 0.6.
    found = analysed(square(shared(100), shared(150), shared(40), shared(90))).responses[P95]
    assert found.effects[2].pct == pytest.approx((90 / 100) / (1.5 * 0.4) * 100 - 100)
    assert found.main("precision").pct == pytest.approx(((150 / 100) * (90 / 40)) ** 0.5 * 100 - 100)
    assert found.effects[2].extent == "material"
    alone = {(effect.of[0], effect.at[0]): effect.pct for effect in found.alone}
    assert alone == pytest.approx(
        {
            ("precision", "batching none"): 50,
            ("precision", "batching dynamic"): 125,
            ("batching", "precision fp16"): -60,
            ("batching", "precision int8"): -40,
        }
    )


def test_a_material_interaction_turns_main_effects_into_averages_in_the_sentence() -> None:
    (said, *_) = sentences(analysed(square(shared(100), shared(150), shared(40), shared(90))))
    assert said.startswith("p95 latency: precision (fp16 to int8) +83.7 % (+83.7 to +83.7 %)")
    assert "together -10.0 %" in said
    assert "50.0 % more than the product of each alone (interaction, +50.0 to +50.0 %)" in said
    assert "so each is an average: precision +50.0 %" in said
    assert "-40.0 % (-40.0 to -40.0 %) at precision int8" in said
    (plain, *_) = sentences(analysed(square(shared(100), shared(150), shared(40), shared(60))))
    assert "Each does nearly the same whatever the other is." in plain
    assert "average" not in plain


def test_every_interval_that_is_told_is_counted() -> None:
    cases = {
        "main effects alone": (square(shared(100), shared(150), shared(40), shared(60)), 4),
        "and at each level": (square(shared(100), shared(150), shared(40), shared(90)), 8),
        "a corner is missing": (square(shared(100), "saturated", shared(40), shared(60)), 2),
    }
    for case, (systems, n) in cases.items():
        *told, warned = sentences(analysed(systems))
        assert sum(len(re.findall(r"\S to \S+ %", line)) for line in told) == n, case
        assert warned.startswith(f"Each of these {n} effects has a 95 % interval of its own"), case


def test_an_interval_that_holds_both_leaves_open_whether_they_interact() -> None:
    systems = square((100, 120, 90), (150, 140, 170), (40, 44, 39), (60, 75, 55))
    interaction = analysed(systems).responses[P95].effects[2]
    assert interaction.extent == "open"
    assert "is open." in sentences(analysed(systems))[0]


def test_point_values_have_no_interval_and_claim_no_dependence() -> None:
    found = analysed(square(100, 150, 40, 90))
    assert found.responses[P95].effects[0].low_pct is None
    said = sentences(found)
    assert "depend" not in said[0]
    assert said[1] == "p95 latency: no intervals (one of the figures has none, so these are point values)."
    assert len(said) == 2, "nothing about intervals that there are none of"


def test_a_figure_that_is_not_resolved_leaves_the_effects_without_intervals() -> None:
    systems = square(shared(100), shared(150), shared(40), shared(90))
    waves = Value(
        value=90.0,
        source="measured",
        note="",
        repeats=dict(enumerate(shared(90), start=1)),
        unresolved="the queue's waves are as long",
    )
    systems[3] = with_figures(systems[3], **{P95: waves})
    found = analysed(systems).responses[P95]
    assert all(effect.low_pct is None for effect in found.effects)
    assert found.unresolved == "not resolved: the queue's waves are as long"


def test_a_missing_corner_figure_leaves_no_main_effect_but_what_the_others_tell() -> None:
    found = analysed(square(shared(100), "saturated at 3 requests/s", shared(40), shared(90)))
    response = found.responses[P95]
    assert response.effects == ()
    assert response.why == "int8: saturated at 3 requests/s"
    said, _ = sentences(found)
    assert "no main effects (int8: saturated at 3 requests/s)" in said
    assert "batching -60.0 % (-60.0 to -60.0 %) at precision fp16" in said
    assert "at precision int8" not in said


def test_a_metric_that_no_corner_has_says_why_once() -> None:
    systems = square(*["no meter"] * 4, key="energy", cost="no price")
    said = sentences(analysed(systems))
    assert "energy per 1k: no effect can be told (all: no meter)." in said
    assert "cost per 1k: no effect can be told (all: no price)." in said


def test_a_figure_of_zero_has_no_ratio() -> None:
    found = analysed(square(0.0, 0.01, 0.02, 0.01, key="error_rate"))
    assert "baseline: 0, of which there is no ratio" in found.responses["error_rate"].why


def test_three_factors_have_main_effects_of_all_pairs_and_a_threefold_interaction() -> None:
    settings = {"p": INT8, "b": DYNAMIC, "e": STEPS}
    does = {"p": 1.5, "b": 0.4, "e": 0.8}
    systems = []
    for n in range(4):
        for raised in itertools.combinations("pbe", n):
            level = 100.0
            changed: dict[str, Any] = {}
            for factor in raised:
                level *= does[factor]
                changed |= settings[factor]
            level *= 2.0 if {"p", "b"} <= set(raised) else 1.0
            systems.append(system("".join(raised) or "none", changed, p95=shared(level)))
    (found,) = factorials(by_name(*systems))
    effects = {effect.of: effect.pct for effect in found.responses[P95].effects}
    root = 2.0**0.5
    assert effects == pytest.approx(
        {
            ("precision",): (1.5 * root - 1) * 100,
            ("engine",): -20,
            ("batching",): (0.4 * root - 1) * 100,
            ("precision", "engine"): 0,
            ("precision", "batching"): 100,
            ("engine", "batching"): 0,
            ("precision", "engine", "batching"): 0,
        },
        abs=1e-9,
    )
    assert "interaction precision × batching +100.0 %" in sentences(found)[0]


def test_of_three_levels_only_those_squares_are_told_that_say_something_new() -> None:
    static = {"batching.kind": "static"}
    engines: tuple[tuple[str, dict[str, Any]], ...] = (("generate", {}), ("steps", STEPS))
    policies: tuple[tuple[str, dict[str, Any]], ...] = (
        ("none", {}),
        ("static", static),
        ("dynamic", DYNAMIC),
    )
    systems = by_name(
        *(
            system(f"{engine}-{batching}", own | more, p95=100.0)
            for (engine, own), (batching, more) in itertools.product(engines, policies)
        )
    )
    told = [set(found.systems) for found in factorials(systems)]
    assert len(told) == 2, "static against dynamic follows from both against none"
    assert all("generate-none" in names for names in told)


def test_a_square_beside_the_baseline_is_found_too() -> None:
    first = system("first", {"precision.kind": "fp32", "attention": "eager"}, p95=90.0)
    (found,) = factorials(by_name(first, *square(100, 150, 40, 60)))
    assert found.systems == ("baseline", "int8", "dynamic", "both")


def test_an_incomplete_square_is_no_factorial() -> None:
    baseline, int8, _, both = square(100, 150, 40, 60)
    assert factorials(by_name(baseline, int8, both)) == ()
    assert cube(baseline, both, [baseline, int8, both]) is None
    assert cube(baseline, int8, []) is None


def test_a_system_of_which_no_job_was_completed_is_no_corner() -> None:
    baseline, int8, dynamic, both = square(100, 150, 40, 60)
    lost = msgspec.structs.replace(dynamic, context=None)
    assert factorial_of(baseline, both, [baseline, int8, lost, both]) is None
    assert changed_groups(baseline, lost) == ()


def test_a_level_is_named_by_its_kind_or_by_the_option_that_changed() -> None:
    one = system("one", DYNAMIC)
    two = system("two", DYNAMIC | {"batching.max_size": 16, "compile.mode": "default", "attention": "eager"})
    corners = [
        system("a", DYNAMIC | {"batching.max_size": 16}),
        system("b", DYNAMIC | {"compile.mode": "default"}),
        system("c", DYNAMIC | {"attention": "eager"}),
        system("d", DYNAMIC | {"batching.max_size": 16, "compile.mode": "default"}),
        system("e", DYNAMIC | {"batching.max_size": 16, "attention": "eager"}),
        system("f", DYNAMIC | {"compile.mode": "default", "attention": "eager"}),
    ]
    found = cube(one, two, corners)
    assert found is not None
    assert {factor.title for factor in found.factors} == {
        "batching (max_size 8 to max_size 16)",
        "compile (none to mode default)",
        "attention (sdpa to eager)",
    }


def test_energy_of_several_cards_is_known_to_the_gain_of_their_sensors_only() -> None:
    one = analysed(square(*map(shared, (100, 150, 40, 60)), key="energy", cards=("GPU-0",)))
    systems = square(*map(shared, (100, 150, 40, 60)), key="energy", cards=("GPU-0",))
    assert systems[1].context is not None
    elsewhere = msgspec.structs.replace(systems[1].context, cards=("GPU-1",))
    systems[1] = msgspec.structs.replace(systems[1], context=elsewhere)
    two = analysed(systems)
    assert ends(one.responses[ENERGY].main("precision")) == pytest.approx((50, 50))
    low, high = ends(two.responses[ENERGY].main("precision"))
    assert low == pytest.approx(150 * 0.95 / 1.05 - 100)
    assert high == pytest.approx(150 * 1.05 / 0.95 - 100)


def test_an_invalid_corner_is_named_first() -> None:
    systems = square(100, 150, 40, 60)
    systems[1] = msgspec.structs.replace(systems[1], client=Validity(level="INVALID"))
    assert sentences(analysed(systems))[0].startswith("int8 is INVALID")


def test_a_comparison_is_not_doubted_where_a_factorial_tells_the_changes_apart() -> None:
    recorded = measured("baseline")
    assert recorded.context is not None
    systems = [
        msgspec.structs.replace(
            recorded,
            name=one.name,
            context=msgspec.structs.replace(recorded.context, settings=one.context.settings),
        )
        for one in square(100, 150, 40, 60)
        if one.context is not None
    ]
    alone = compare(systems[0], systems[3], ASSUMED)
    (doubt,) = [doubt for doubt in alone.doubts if doubt.key == "confounded"]
    assert "precision and batching at once" in doubt.text
    assert alone.attribution == ()
    known = compare(systems[0], systems[3], ASSUMED, others=systems)
    assert not [doubt for doubt in known.doubts if doubt.key == "confounded"]
    assert any(line.startswith("p95 latency: precision") for line in known.attribution)
    assert compare(systems[0], systems[3], ASSUMED, others=systems[:2]).attribution == ()
    systems[1] = msgspec.structs.replace(systems[1], client=Validity(level="INVALID"))
    faulty = compare(systems[0], systems[3], ASSUMED, others=systems)
    (doubt,) = [doubt for doubt in faulty.doubts if doubt.key == "confounded"]
    assert doubt.text.endswith("has an INVALID run (int8)")
    assert doubt.remedy == "measure again: int8"
