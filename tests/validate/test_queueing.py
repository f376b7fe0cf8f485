"""The queueing validation in a few seconds, and that it would notice a simulator that is wrong."""

from __future__ import annotations

import math

import pytest

from bench.records import Generation, Request
from bench.serving.queue import Ticket
from tests.validate.queueing import (
    QUEUES,
    batch_differences,
    expected_wait_s,
    exponential,
    little_violation,
    replicate,
)


@pytest.mark.parametrize("queue", QUEUES)
def test_the_mean_wait_of_a_known_queue_comes_out(queue: str) -> None:
    draw, second_moment = QUEUES[queue]
    found = replicate(draw, 0.6, 4_000, 8, seed=11)
    low, high = found.wait_s.low, found.wait_s.high
    assert low is not None
    assert high is not None
    expected_s = expected_wait_s(0.6, second_moment)
    assert low < expected_s < high
    assert high - low < 0.3 * expected_s
    assert found.little < 1e-9


def test_a_queue_of_another_law_is_told_apart() -> None:
    found = replicate(exponential, 0.6, 4_000, 8, seed=11)
    assert found.wait_s.low is not None
    assert found.wait_s.low > expected_wait_s(0.6, second_moment=1.0)


@pytest.mark.parametrize("way", ["greedy", "window", "joining"])
def test_batches_are_those_of_a_plain_loop_to_rounding(way: str) -> None:
    worst, little = batch_differences(1_000, seed=3)[way]
    assert worst < 1e-12
    assert little < 1e-12


def test_an_answer_before_its_question_breaks_littles_law() -> None:
    ticket = Ticket(Request(uid=0, due_s=5.0, prompt_ids=(1,), output_tokens=1), 5.0)
    ticket.answer(Generation(uid=0, token_ids=(1,), token_s=(4.0,), finished_s=4.0))
    assert math.isinf(little_violation([ticket]))
