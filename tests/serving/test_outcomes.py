"""An outcome's stages sum to its latency, and an engine's wrong answer is recognised."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench.records import Generation
from bench.serving.outcomes import Batch, Refusal, answered, describe, fault, unserved

from .traffic import assert_stages_sum_to_latency, request

BATCH = Batch(
    id=4,
    size=2,
    admitted_s=12.0,
    reason="window",
    held_s=11.0,
    held_reason="window",
    busy_s=10.8,
    timeout_s=60.0,
)
SOUND = Generation(
    uid=1,
    token_ids=(7, 8, 9),
    token_s=(12.5, 12.75, 13.25),
    finished_s=14.0,
    tokenized_s=12.25,
    detokenized_s=14.5,
    padded_prefill_tokens=4,
    padded_decode_tokens=2,
)


def within(timeout_s: float) -> Batch:
    return msgspec.structs.replace(BATCH, timeout_s=timeout_s)


def changed(**fields: Any) -> Generation:
    return msgspec.structs.replace(SOUND, **fields)


def test_a_served_request_with_text_has_all_five_stages() -> None:
    outcome = answered(request(1, due_s=10.0), 10.5, SOUND, BATCH)
    assert (outcome.status, outcome.error) == ("ok", None)
    assert (outcome.due_s, outcome.sent_s, outcome.admitted_s) == (10.0, 10.5, 12.0)
    assert (outcome.first_token_s, outcome.done_s) == (12.5, 14.5)
    assert outcome.queue_s == 2.0
    assert outcome.tokenize_s == 0.25
    assert outcome.prefill_s == 0.25
    assert outcome.decode_s == 1.5
    assert outcome.detokenize_s == 0.5
    assert outcome.itl_ms == (250.0, 500.0)
    assert (outcome.prompt_tokens, outcome.output_tokens, outcome.padded_tokens) == (4, 3, 6)
    assert (outcome.batch_id, outcome.batch_size, outcome.admit_reason) == (4, 2, "window")
    assert_stages_sum_to_latency(outcome)


def test_stages_that_did_not_happen_are_missing_and_not_zero() -> None:
    generation = changed(tokenized_s=None, detokenized_s=None)
    outcome = answered(request(1, due_s=10.0), 10.0, generation, BATCH)
    assert outcome.tokenize_s is None
    assert outcome.detokenize_s is None
    assert outcome.prefill_s == 0.5
    assert outcome.done_s == 14.0
    assert_stages_sum_to_latency(outcome)


def test_a_request_that_is_done_too_late_is_a_timeout_and_keeps_its_times() -> None:
    outcome = answered(request(1, due_s=10.0), 10.0, SOUND, within(4.25))
    assert outcome.status == "timeout"
    assert outcome.error == "done later than 4.25 s after it was due"
    assert outcome.done_s == 14.5
    assert_stages_sum_to_latency(outcome)
    assert answered(request(1, due_s=10.0), 10.0, SOUND, within(4.5)).status == "ok"


def test_unserved_requests_have_no_tokens_and_no_times_of_a_service() -> None:
    outcomes = [
        unserved(request(1), 0.5, Refusal("rejected", "full", 0.5)),
        unserved(request(1), 0.5, Refusal("timeout", "not started", 9.0)),
        unserved(request(1), 0.5, Refusal("error", "too long", 0.6)),
    ]
    assert [outcome.status for outcome in outcomes] == ["rejected", "timeout", "error"]
    for outcome in outcomes:
        assert outcome.output_tokens == 0
        assert outcome.error
        assert outcome.first_token_s is None
        assert outcome.admitted_s is None
        assert outcome.batch_id is None
        assert outcome.itl_ms is None
        assert outcome.decode_s is None
    assert outcomes[1].queue_s == 9.0


def test_a_failed_request_tells_the_batch_in_which_it_failed() -> None:
    outcome = unserved(request(1, due_s=10.0), 10.0, Refusal("error", "ValueError: no", 13.0, BATCH))
    assert (outcome.batch_id, outcome.batch_size, outcome.admitted_s) == (4, 2, 12.0)
    assert (outcome.queue_s, outcome.prefill_s, outcome.decode_s) == (2.0, None, None)


@pytest.mark.parametrize(
    ("generation", "complaint"),
    [
        (changed(token_ids=(), token_s=()), "no token"),
        (changed(token_ids=(7, 8), token_s=(12.5, 12.75)), "2 tokens where exactly 3"),
        (changed(token_ids=(7, 8, 9, 1), token_s=(12.5,) * 4), "4 tokens where exactly 3"),
        (changed(token_s=(12.5, 12.75)), "2 token times for 3 tokens"),
        (changed(token_s=(12.5, 13.25, 12.75)), "out of order"),
        (changed(tokenized_s=12.6), "out of order"),
        (changed(tokenized_s=11.9), "out of order"),
        (changed(finished_s=13.0), "out of order"),
        (changed(detokenized_s=13.9), "out of order"),
    ],
)
def test_a_wrong_answer_is_recognised(generation: Generation, complaint: str) -> None:
    assert complaint in (fault(request(1), generation, admitted_s=12.0) or "")


def test_a_sound_answer_is_accepted() -> None:
    assert fault(request(1), SOUND, admitted_s=12.0) is None
    assert fault(request(1), changed(tokenized_s=None, detokenized_s=None), admitted_s=12.0) is None


def test_natural_stopping_may_end_early_but_not_late() -> None:
    natural = msgspec.structs.replace(request(1), stop="natural", output_tokens=4)
    assert fault(natural, SOUND, admitted_s=12.0) is None
    at_most_two = msgspec.structs.replace(natural, output_tokens=2)
    assert "at most 2" in (fault(at_most_two, SOUND, admitted_s=12.0) or "")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("first\nsecond"), "ValueError: first"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("\n  CUDA error: x  \nmore"), "RuntimeError: CUDA error: x"),
    ],
)
def test_an_error_is_described_by_its_class_and_first_line(error: Exception, text: str) -> None:
    assert describe(error) == text
