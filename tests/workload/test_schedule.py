"""Requests are drawn once from one seed; each law has a random stream of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec
import pytest

from bench.errors import ConfigError
from bench.records import Request
from bench.workload.arrivals import Poisson, Steady
from bench.workload.lengths import Constant, Lognormal, Uniform
from bench.workload.prompts import RandomTokens
from bench.workload.schedule import Traffic, check_context, draw_requests, draw_saturating

from .vocabularies import FakeVocabulary

TRAFFIC = Traffic(
    arrivals=Poisson(),
    input_tokens=Lognormal(mean=60, cv=0.4, max=128),
    output_tokens=Uniform(min=2, max=20),
    prompts=RandomTokens(),
    vocabulary=FakeVocabulary(),
    max_context=256,
    seed=7,
)


def with_law(**laws: object) -> Traffic:
    return msgspec.structs.replace(TRAFFIC, **laws)


def contents(requests: list[Request]) -> list[tuple[Sequence[int], int]]:
    return [(request.prompt_ids, request.output_tokens) for request in requests]


def test_the_same_seed_gives_the_same_requests_and_another_seed_others() -> None:
    first = draw_requests(TRAFFIC, rate_rps=5, n=50)
    assert draw_requests(TRAFFIC, rate_rps=5, n=50) == first
    for seed in (8, (7, 1), (7, 2)):
        other = draw_requests(with_law(seed=seed), rate_rps=5, n=50)
        assert [r.due_s for r in other] != [r.due_s for r in first]
        assert not set(contents(other)) & set(contents(first))


def test_requests_are_numbered_in_order_of_their_due_times_from_start_on() -> None:
    requests = draw_requests(TRAFFIC, rate_rps=10, n=200, start_s=100.0, first_uid=1000)
    due_s = [request.due_s for request in requests]
    assert due_s == sorted(due_s)
    assert 100.0 <= due_s[0] <= due_s[-1] <= 120.0
    assert [request.uid for request in requests] == list(range(1000, 1200))


@pytest.mark.parametrize(("duration_s", "n"), [(60.0, 173), (0.01, 1)])
def test_a_duration_means_the_nearest_whole_number_of_requests_and_at_least_one(
    duration_s: float, n: int
) -> None:
    assert len(draw_requests(TRAFFIC, rate_rps=2.89, duration_s=duration_s)) == n


def test_another_arrival_law_or_rate_leaves_the_requests_themselves_alone() -> None:
    requests = draw_requests(TRAFFIC, rate_rps=5, n=40)
    steady = draw_requests(with_law(arrivals=Steady()), rate_rps=9, n=40)
    assert contents(steady) == contents(requests) == contents(draw_saturating(TRAFFIC, n=40))


def test_another_output_law_leaves_times_and_prompts_alone() -> None:
    requests = draw_requests(TRAFFIC, rate_rps=5, n=40)
    changed = draw_requests(with_law(output_tokens=Constant(tokens=3)), rate_rps=5, n=40)
    assert [(r.due_s, r.prompt_ids) for r in changed] == [(r.due_s, r.prompt_ids) for r in requests]
    assert {r.output_tokens for r in changed} == {3}


def test_another_input_law_leaves_times_and_outputs_alone() -> None:
    requests = draw_requests(TRAFFIC, rate_rps=5, n=40)
    changed = draw_requests(with_law(input_tokens=Constant(tokens=30)), rate_rps=5, n=40)
    assert [(r.due_s, r.output_tokens) for r in changed] == [(r.due_s, r.output_tokens) for r in requests]
    assert {len(r.prompt_ids) for r in changed} == {30}


def test_saturating_requests_are_all_due_together() -> None:
    requests = draw_saturating(TRAFFIC, n=30, due_s=4.0, first_uid=5)
    assert {request.due_s for request in requests} == {4.0}
    assert [request.uid for request in requests] == list(range(5, 35))


def test_laws_that_could_exceed_the_context_are_refused_whatever_is_drawn() -> None:
    check_context(with_law(max_context=148))
    small = with_law(max_context=147)
    for refuse in (check_context, partial(draw_requests, rate_rps=1, n=1), partial(draw_saturating, n=1)):
        with pytest.raises(ConfigError, match="together 148, but the model's context is 147"):
            refuse(small)


def test_the_way_to_stop_is_passed_on() -> None:
    assert {r.stop for r in draw_requests(with_law(stop="natural"), rate_rps=1, n=5)} == {"natural"}
    assert {r.stop for r in draw_requests(TRAFFIC, rate_rps=1, n=5)} == {"exact"}
