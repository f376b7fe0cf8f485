"""Requests are drawn once from one seed; each law has a random stream of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec
import pytest

from bench.config import Seeds
from bench.errors import ConfigError
from bench.records import Request
from bench.workload.arrivals import Poisson, Steady
from bench.workload.lengths import Constant, Lognormal, Uniform
from bench.workload.prompts import RandomTokens
from bench.workload.schedule import (
    Traffic,
    check_context,
    draw_requests,
    draw_saturating,
    schedule_facts,
)

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


def test_what_is_drawn_to_follow_a_duration_is_due_after_all_that_fills_it() -> None:
    for seed in range(100):  # 85.5 requests: the 86th must still be due within the 15 s
        window = draw_requests(with_law(seed=(seed, 1)), rate_rps=5.7, duration_s=15)
        tail = draw_requests(
            with_law(seed=(seed, 1, 2)), rate_rps=5.7, duration_s=15, start_s=15, first_uid=len(window)
        )
        assert len(window) == 86
        assert window[-1].due_s < 15 <= tail[0].due_s


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


def parts(requests: list[Request]) -> dict[str, list[object]]:
    return {
        "arrivals": [r.due_s for r in requests],
        "lengths": [(len(r.prompt_ids), r.output_tokens) for r in requests],
        "prompts": [r.prompt_ids for r in requests],
    }


@pytest.mark.parametrize("own", ["arrivals", "lengths", "prompts"])
def test_a_seed_of_its_own_changes_one_stream_alone(own: str) -> None:
    same_lengths = with_law(input_tokens=Constant(tokens=40), output_tokens=Uniform(min=2, max=200))
    before = parts(draw_requests(msgspec.structs.replace(same_lengths, max_context=512), rate_rps=5, n=40))
    seeded = msgspec.structs.replace(same_lengths, max_context=512, seeds=Seeds(**{own: 99}))
    after = parts(draw_requests(seeded, rate_rps=5, n=40))
    assert {key for key in before if before[key] != after[key]} == {own}


def test_a_seed_of_its_own_draws_what_the_experiments_seed_of_that_number_would() -> None:
    seeds = Seeds(arrivals=7, lengths=7, prompts=7)
    other = with_law(seed=(1234, 3), seeds=seeds)
    assert draw_requests(other, rate_rps=5, n=20) == draw_requests(with_law(seed=(7, 3)), rate_rps=5, n=20)
    assert draw_requests(with_law(seeds=seeds, seed=1), rate_rps=5, n=20) == draw_requests(
        TRAFFIC, rate_rps=5, n=20
    )


def test_repeats_differ_also_under_seeds_of_their_own() -> None:
    seeds = Seeds(arrivals=1, lengths=2, prompts=3)
    first, second = (
        parts(draw_requests(with_law(seed=(7, repeat), seeds=seeds), rate_rps=5, n=40)) for repeat in (1, 2)
    )
    assert all(first[key] != second[key] for key in first)


def test_the_facts_of_a_schedule_are_its_own_variation() -> None:
    requests = draw_requests(with_law(arrivals=Steady(jitter=0)), rate_rps=10, n=100, start_s=50.0)
    facts = schedule_facts(TRAFFIC, requests)
    assert facts["n"] == 100
    assert facts["rate_rps"] == pytest.approx(10)
    assert facts["gap_cv"] == pytest.approx(0, abs=1e-9)
    assert facts["dispersion"] < 0.1
    assert "clipped_rows" not in facts
