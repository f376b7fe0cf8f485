"""An expectation is confirmed or refuted by the whole interval of a change, and never by a missing one."""

from __future__ import annotations

import pytest

from bench.analysis.decide import decide
from bench.analysis.expectations import Expectation, check_expectations
from bench.config import EXPECTATIONS, Expected
from bench.errors import ConfigError
from tests.analysis.pairs import Change, metrics, pair
from tests.recorded import LIMITS, OBJECTIVES

MEMORY = "average_memory_gb"


def expected(what: Expected, figure: Change, name: str = MEMORY) -> Expectation:
    """Return the fate of one expectation of a figure whose baseline is 20 without scatter."""
    baseline = metrics("baseline", {name: (20.0, 20.0, 20.0)})
    comparison = pair({name: figure}, baseline)
    (found,) = decide(comparison, OBJECTIVES, LIMITS, expectations={name: what}).expectations
    return found


@pytest.mark.parametrize(
    ("what", "figure", "fate"),
    [
        ("lower", (15.0, 15.1, 14.9), "confirmed"),
        ("lower", (19.9, 19.9, 19.9), "confirmed"),
        ("lower", (25.0, 25.1, 24.9), "refuted"),
        ("lower", (20.0, 20.0, 20.0), "refuted"),
        ("lower", (18.0, 19.0, 22.0), "inconclusive"),
        ("higher", (25.0, 25.1, 24.9), "confirmed"),
        ("higher", (15.0, 15.1, 14.9), "refuted"),
        ("higher", (18.0, 19.0, 22.0), "inconclusive"),
        ("unchanged", (20.2, 20.1, 20.0), "confirmed"),
        ("unchanged", (25.0, 25.1, 24.9), "refuted"),
        ("unchanged", (15.0, 15.1, 14.9), "refuted"),
        ("unchanged", (20.0, 21.0, 22.0), "inconclusive"),
        ("may rise", (22.0, 22.1, 21.9), "confirmed"),
        ("may rise", (5.0, 5.1, 4.9), "confirmed"),
        ("may rise", (30.0, 30.1, 29.9), "refuted"),
        ("may rise", (22.0, 23.0, 25.0), "inconclusive"),
        ("may fall", (18.0, 18.1, 17.9), "confirmed"),
        ("may fall", (40.0, 40.1, 39.9), "confirmed"),
        ("may fall", (10.0, 10.1, 9.9), "refuted"),
    ],
)
def test_both_ends_of_the_interval_decide(what: Expected, figure: Change, fate: str) -> None:
    found = expected(what, figure)
    assert found.fate == fate, found.text
    assert "95 % interval" in found.text or figure == (20.0, 20.0, 20.0) or "interval" in found.text


@pytest.mark.parametrize(
    ("what", "figure", "fate"),
    [
        ("unchanged", (0.0, 0.0, 0.0), "confirmed"),
        ("may rise", (0.0, 0.0, 0.0), "confirmed"),
        ("unchanged", (0.01, 0.011, 0.009), "refuted"),
        ("higher", (0.01, 0.011, 0.009), "confirmed"),
        ("lower", (0.0, 0.01, 0.0), "inconclusive"),
    ],
)
def test_a_rise_from_zero_has_no_percentage_and_is_beyond_any(
    what: Expected, figure: Change, fate: str
) -> None:
    comparison = pair({"error_rate": figure})
    (found,) = decide(comparison, OBJECTIVES, LIMITS, expectations={"error_rate": what}).expectations
    assert found.fate == fate, found.text


def test_without_an_interval_it_is_said_to_be_on_point_values() -> None:
    found = expected("lower", (15.0,))
    assert found.fate == "confirmed"
    assert found.text == "average memory falls by 25.0 %, on point values"
    alike = expected("lower", (19.9999999,))
    assert (alike.fate, alike.text) == ("refuted", "average memory is unchanged, on point values")


def test_a_missing_figure_confirms_and_refutes_nothing() -> None:
    found = expected("lower", "the meter failed")
    assert found.fate == "not measured"
    assert found.text == "optimized: the meter failed"


def test_a_metric_that_neither_side_has_is_named_by_its_label() -> None:
    (found,) = decide(
        pair(), OBJECTIVES, LIMITS, expectations={"cost_provisioned_per_1k_requests_usd": "lower"}
    ).expectations
    assert found.label != found.name


@pytest.mark.parametrize(
    ("changes", "fate"),
    [
        ({}, "confirmed"),
        ({"mean_kl": (0.02,)}, "refuted"),
        ({"mean_kl": (0.003, 0.006, 0.004)}, "inconclusive"),
        ({"mean_kl": "weights are random", "perplexity": "weights are random"}, "not measured"),
    ],
)
def test_a_small_loss_is_one_within_the_quality_gate(changes: dict[str, Change], fate: str) -> None:
    verdict = decide(pair(changes), OBJECTIVES, LIMITS, expectations={"quality": "small loss"})
    assert [found.fate for found in verdict.expectations] == [fate]
    (gate,) = [gate for gate in verdict.gates if gate.name == "quality"]
    assert verdict.expectations[0].text == gate.text


def test_the_usual_expectations_are_of_figures_that_there_are() -> None:
    check_expectations(EXPECTATIONS)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"average_memory": "lower"}, r"did you mean 'average_memory_gb'\?"),
        ({"quality": "lower"}, "expected 'small loss'"),
        ({"p50_latency_ms": "small loss"}, "'small loss' is for quality"),
    ],
)
def test_an_expectation_that_nothing_could_meet_is_refused(table: dict[str, Expected], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_expectations(table)
