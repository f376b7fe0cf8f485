"""Length laws draw whole numbers in their range, with the stated mean after truncation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import choose
from bench.errors import ConfigError
from bench.protocols import Lengths
from bench.workload.lengths import LENGTHS, Constant, Lognormal, Uniform


def mean_of(law: Lognormal) -> float:
    return float(np.arange(law.min, law.max + 1) @ law.probabilities())


@pytest.mark.parametrize(
    "law",
    [
        Lognormal(mean=650, cv=0.4, max=2048),
        Lognormal(mean=220, cv=0.4, max=512),
        Lognormal(mean=100, cv=2.0, max=128),
        Lognormal(mean=60, cv=1.0, min=50, max=5000),
        Lognormal(mean=1.5, cv=0.4, max=2),
        Lognormal(mean=127.99, cv=0.4, max=128),
        Lognormal(mean=650.5, cv=0.001, max=2048),
    ],
)
def test_the_stated_mean_is_the_mean_of_what_is_drawn_after_truncation(law: Lognormal) -> None:
    assert mean_of(law) == pytest.approx(law.mean, rel=1e-9)
    drawn = law.draw(20_000, np.random.default_rng(5))
    standard_error = drawn.std() / np.sqrt(len(drawn))
    assert abs(drawn.mean() - law.mean) < 4 * standard_error
    assert drawn.min() >= law.min
    assert drawn.max() <= law.max


@given(data=st.data(), cv=st.floats(0.05, 3), low=st.integers(1, 50), width=st.integers(2, 400))
def test_any_mean_inside_the_range_can_be_had(data: st.DataObject, cv: float, low: int, width: int) -> None:
    mean = data.draw(st.floats(low + 0.01, low + width - 0.01))
    law = Lognormal(mean=mean, cv=cv, min=low, max=low + width)
    assert mean_of(law) == pytest.approx(mean, rel=1e-6)


def test_cv_is_the_spread_of_the_law_where_truncation_cuts_nothing_off() -> None:
    drawn = Lognormal(mean=300, cv=0.4, max=20_000).draw(50_000, np.random.default_rng(6))
    assert drawn.std() / drawn.mean() == pytest.approx(0.4, rel=0.03)


def test_a_lognormal_law_is_skewed_to_the_right() -> None:
    drawn = Lognormal(mean=300, cv=0.4, max=20_000).draw(20_000, np.random.default_rng(6))
    assert np.median(drawn) == pytest.approx(300 / np.sqrt(1 + 0.4**2), rel=0.02)


@pytest.mark.parametrize(
    ("mean", "low", "high"), [(512.0, 1, 512), (600.0, 1, 512), (5.0, 10, 512), (10.0, 10, 512)]
)
def test_an_impossible_mean_is_refused_with_the_range(mean: float, low: int, high: int) -> None:
    table = {"kind": "lognormal", "mean": mean, "cv": 0.4, "min": low, "max": high}
    with pytest.raises(ConfigError, match=rf"workload\.input_tokens: mean = {mean:g} must lie between"):
        choose(LENGTHS, table, "x.toml", "workload.input_tokens")


def test_a_uniform_law_reaches_both_ends_equally_often() -> None:
    drawn = Uniform(min=3, max=6).draw(8000, np.random.default_rng(7))
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [3, 4, 5, 6]
    assert np.all(np.abs(counts - 2000) < 200)


def test_an_empty_uniform_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="min = 9 is above max = 3"):
        choose(LENGTHS, {"kind": "uniform", "min": 9, "max": 3}, "x.toml", "workload.input_tokens")


def test_a_constant_law_is_constant() -> None:
    assert Constant(tokens=7).draw(4, np.random.default_rng(0)).tolist() == [7, 7, 7, 7]


@pytest.mark.parametrize(
    "law", [Constant(tokens=9), Uniform(min=2, max=9), Lognormal(mean=5, cv=3, max=9)], ids=repr
)
def test_longest_is_reached_and_never_exceeded(law: Lengths) -> None:
    assert law.draw(5000, np.random.default_rng(8)).max() == law.longest == 9
