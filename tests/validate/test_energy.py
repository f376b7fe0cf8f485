"""The energy validation on a few cases, and that it would notice joules or intervals that are wrong."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests import fake_nvml
from tests.fake_nvml.accuracy import NO_COUNTER, Case, bench, case
from tests.fake_nvml.in_process import Modelled, behind_binding
from tests.validate.energy import NO_INSTANT, SOURCES, WAVES, checks, covered, outcomes


@pytest.fixture(scope="module")
def library() -> Iterator[Modelled]:
    if fake_nvml.compiler() is None:
        pytest.skip("no C compiler to build the modelled NVML library with")
    with behind_binding() as modelled:
        yield modelled


def with_options(drawn: Case, **options: object) -> Case:
    return msgspec.structs.replace(drawn, options=drawn.options | options)


def test_every_claim_holds_on_a_few_cases(library: Modelled) -> None:
    found = checks(library, seeds=3)
    assert {name: check.ok for name, check in found.items()} == dict.fromkeys(found, True)
    assert {name.split(", ")[1] for name in found} == set(SOURCES)


@pytest.mark.parametrize("wave", WAVES)
def test_a_counter_that_shows_one_percent_more_fails_both_claims(library: Modelled, wave: str) -> None:
    for seed in range(3):
        outcome = bench(library, with_options(case(wave, 10.0, seed), gain=(1.0, 1.01)))
        assert not isinstance(outcome, str)
        assert outcome.error > 0.005
        assert outcome.covered is False


def test_a_window_without_a_figure_is_no_success(library: Modelled) -> None:
    nothing = msgspec.structs.replace(SOURCES["instant power"], without=(*NO_COUNTER, *NO_INSTANT, "185:3"))
    with pytest.raises(ValueError, match=r"square, 10 s, seed 0: .*Not Supported"):
        outcomes(library, nothing, "square", 10.0, 1)


def test_the_share_of_intervals_that_hold_the_truth_counts_what_was_not_covered(library: Modelled) -> None:
    (outcome,) = outcomes(library, SOURCES["counter"], "bursty", 10.0, 1)
    assert covered([outcome]) == 1.0
    assert covered([outcome, msgspec.structs.replace(outcome, covered=False)]) == 0.5
