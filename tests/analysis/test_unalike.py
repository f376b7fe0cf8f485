"""What differs between two systems and is not refused is named, and the energy of two cards is widened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bench.analysis.change import Change
from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.metric_set import metric_set
from bench.analysis.system import MetricSet, SystemRuns
from bench.analysis.unalike import widened_by_gain
from bench.errors import ResultError
from bench.records import Sample
from tests.analysis.sides import side, with_figures
from tests.recorded import (
    ASSUMED,
    OBJECTIVES,
    constant_power,
    offline_run,
    quality,
    sample,
    unpaired,
    window_run,
)

ENERGY = "estimated_energy_kwh_per_1k_requests"


def on(name: str, *cards: str | None, telemetry: Sequence[Sample] | None = None, **facts: Any) -> MetricSet:
    """Return a measured system whose repeats were each made on the card named, with these GPU facts."""
    windows = [
        window_run(
            telemetry=telemetry,
            system=name,
            repeat=i,
            facts={"gpu_uuid": card} | ({"meters": {"gpu": {"uuid": card} | facts}} if facts else {}),
        )
        for i, card in enumerate(cards or ("GPU-0",) * 3, start=1)
    ]
    system = SystemRuns(name=name, offline=offline_run(system=name, table=quality()), windows=windows)
    return metric_set(system, ASSUMED, OBJECTIVES, origin=f"runs/{name}")


def energy(metrics: MetricSet, *kwh: float) -> MetricSet:
    return with_figures(metrics, **{ENERGY: unpaired(*kwh)})


def said(comparison: Comparison) -> dict[str, str]:
    return {doubt.key: doubt.text for doubt in comparison.doubts}


def between(baseline: MetricSet, optimized: MetricSet) -> tuple[Change, str]:
    found = compare(
        energy(baseline, 0.030, 0.030, 0.030), energy(optimized, 0.028, 0.028, 0.028), ASSUMED, OBJECTIVES
    )
    return found.rows[ENERGY].change, said(found).get("several cards", "")


def test_energy_of_two_cards_is_known_to_the_gain_of_both_sensors_only() -> None:
    same, nothing = between(on("a"), on("b"))
    assert nothing == ""
    assert same.direction == "better"
    assert same.low_pct == same.high_pct == pytest.approx(-100 / 15)
    change, text = between(on("a"), on("b", "GPU-1", "GPU-1", "GPU-1"))
    assert "not all was measured on one card (a: GPU-0, b: GPU-1)" in text
    assert change.pct_change == pytest.approx(-100 / 15)
    assert change.low_pct == pytest.approx((28 / 30 * 0.95 / 1.05 - 1) * 100)
    assert change.high_pct == pytest.approx((28 / 30 * 1.05 / 0.95 - 1) * 100)
    assert change.low == pytest.approx(0.028 * 0.95 / 1.05 - 0.030)
    assert change.direction == "unclear"


def test_repeats_on_two_cards_are_doubted_also_where_both_systems_used_both() -> None:
    one, two = (on(name, "GPU-0", "GPU-1", "GPU-0") for name in ("a", "b"))
    change, text = between(one, two)
    assert change.direction == "unclear"
    assert "a: GPU-0 / GPU-1, b: GPU-0 / GPU-1" in text
    assert "a: its own runs differ in card (GPU-0 / GPU-1)" in [doubt.text for doubt in one.doubts]


def test_a_card_is_known_by_its_meter_and_an_unknown_one_is_no_other() -> None:
    change, text = between(on("a", mig=False), on("b", "GPU-1", "GPU-1", mig=False))
    assert "a: GPU-0, b: GPU-1" in text
    assert between(on("a"), on("b", None, None, None))[1] == ""
    assert change.low_pct is not None


def test_a_point_value_stays_one_between_cards() -> None:
    point = Change(delta=-2.0, pct_change=-6.7, direction="better")
    assert widened_by_gain(point, 30.0) == point
    sure = widened_by_gain(Change(delta=-20.0, pct_change=-67, low=-21, high=-19, direction="better"), 30.0)
    assert sure.direction == "better"


def test_how_the_gpu_was_set_must_be_the_same_where_it_is_known() -> None:
    base: dict[str, Any] = {"power_limit_w": 700.0, "sm_clock_limit_mhz": 1980, "ecc": True}
    for key, other in (("power_limit_w", 350.0), ("sm_clock_limit_mhz", 1200), ("ecc", False)):
        one, two = on("a", **base), on("b", **base | {key: other})
        with pytest.raises(ResultError, match=rf"{key} differs \({base[key]} against {other}\).*\({key}\)"):
            compare(one, two, ASSUMED)
        assert compare(one, two, ASSUMED, allow_different=[key]).allowed
        assert compare(one, on("b", **(base | {key: None})), ASSUMED).allowed == ()
    assert compare(on("a", **base), on("b", **base), ASSUMED).allowed == ()


def test_energy_by_different_meters_is_doubted() -> None:
    counted, polled = on("a"), on("b", telemetry=constant_power(counter=False))
    text = said(compare(counted, polled, ASSUMED))["several meters"]
    assert "(a: counter, b: instant_poll)" in text
    assert "several meters" not in said(compare(counted, on("b"), ASSUMED))
    unmetered = on("b", telemetry=[])
    assert "several meters" not in said(compare(counted, unmetered, ASSUMED))


def sampled(field: str, *values: float) -> list[Sample]:
    """Return constant power, and a field that goes through `values` from 5 s to 25 s."""
    step_s = 20.0 / len(values)
    return [
        *constant_power(),
        *(sample(5.0 + i * step_s, field, value) for i, value in enumerate([*values, values[-1]])),
    ]


def test_a_power_cap_of_one_system_alone_is_doubted_and_not_refused() -> None:
    def capped(name: str, share: float) -> MetricSet:
        return on(name, telemetry=sampled("throttle_sw_power_s", *(share * t for t in range(20))))

    found = compare(capped("a", 0.0), capped("b", 0.3), ASSUMED)
    assert found.allowed == ()
    assert "(a: 0 % of the time, b: 30 %)" in said(found)["power cap"]
    assert "power cap" not in said(compare(capped("a", 0.295), capped("b", 0.3), ASSUMED))
    assert "power cap" not in said(compare(on("a"), capped("b", 0.3), ASSUMED))


def test_another_clock_is_doubted_as_locked_clocks_cannot_be_read() -> None:
    def at(name: str, *mhz: float) -> MetricSet:
        return on(name, telemetry=sampled("sm_clock_mhz", *mhz))

    found = compare(at("a", *[1980.0] * 20), at("b", *[1200.0] * 20), ASSUMED)
    assert "(a: 1980 MHz, b: 1200 MHz)" in said(found)["clocks"]
    before_the_window = at("b", *[1200.0] * 4, *[1980.0] * 16)
    assert "clocks" not in said(compare(at("a", *[1980.0] * 20), before_the_window, ASSUMED))
    assert "clocks" not in said(compare(at("a", *[1980.0] * 20), at("b", *[1900.0] * 20), ASSUMED))
    assert "clocks" not in said(compare(on("a"), at("b", *[1200.0] * 20), ASSUMED))


def test_bare_files_say_nothing_that_could_differ() -> None:
    assert (
        not {"several cards", "several meters", "clocks", "power cap"}
        & said(compare(side("a"), side("b"), ASSUMED)).keys()
    )
