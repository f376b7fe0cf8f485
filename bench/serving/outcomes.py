"""A request's end, as a record: served, late, failed, expired or rejected; there is no other.

The stages of a served request are the consecutive spans between its stamps, so they sum to its
latency: due → admitted → tokenized → first token → finished → detokenized.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from bench.records import Completion, Generation, Request, Status
from bench.units import to_ms


class Batch(msgspec.Struct, frozen=True):
    """Requests that were handed to the engine together: when, how many and why then."""

    id: int
    size: int
    admitted_s: float
    reason: str


def describe(error: BaseException) -> str:
    """Return an exception as one line: its class and its message's first line."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0].strip()}" if lines else name


def rejected(request: Request, sent_s: float | None, now_s: float, why: str) -> Completion:
    """Return the outcome of a request that was never let in."""
    return _unserved(request, sent_s, now_s, "rejected", why)


def expired(request: Request, sent_s: float, now_s: float, timeout_s: float) -> Completion:
    """Return the outcome of a request that waited until nobody wanted its answer any more."""
    why = f"not started {timeout_s:g} s after it was due"
    return msgspec.structs.replace(
        _unserved(request, sent_s, now_s, "timeout", why), queue_s=now_s - request.due_s
    )


def failed(request: Request, sent_s: float, now_s: float, why: str, batch: Batch | None = None) -> Completion:
    """Return the outcome of a request without a usable answer; `batch` if it got as far as the engine.

    Only the waiting is known of its stages: the engine's time belongs to none of the others.
    """
    outcome = _unserved(request, sent_s, now_s, "error", why)
    if batch is None:
        return outcome
    return msgspec.structs.replace(
        outcome,
        admitted_s=batch.admitted_s,
        queue_s=batch.admitted_s - request.due_s,
        batch_id=batch.id,
        batch_size=batch.size,
        admit_reason=batch.reason,
    )


def served(
    request: Request, sent_s: float, generation: Generation, batch: Batch, timeout_s: float
) -> Completion:
    """Return the outcome of a request whose answer is sound (see `fault`); done too late is a timeout."""
    first_token_s, finished_s = generation.token_s[0], generation.finished_s
    tokenized_s, detokenized_s = generation.tokenized_s, generation.detokenized_s
    done_s = finished_s if detokenized_s is None else detokenized_s
    late = done_s - request.due_s > timeout_s
    return Completion(
        uid=request.uid,
        due_s=request.due_s,
        sent_s=sent_s,
        admitted_s=batch.admitted_s,
        first_token_s=first_token_s,
        done_s=done_s,
        prompt_tokens=len(request.prompt_ids),
        output_tokens=len(generation.token_ids),
        padded_tokens=generation.padded_tokens,
        batch_id=batch.id,
        batch_size=batch.size,
        admit_reason=batch.reason,
        status="timeout" if late else "ok",
        error=f"done later than {timeout_s:g} s after it was due" if late else None,
        tokenize_s=None if tokenized_s is None else tokenized_s - batch.admitted_s,
        queue_s=batch.admitted_s - request.due_s,
        prefill_s=first_token_s - (batch.admitted_s if tokenized_s is None else tokenized_s),
        decode_s=finished_s - first_token_s,
        detokenize_s=None if detokenized_s is None else detokenized_s - finished_s,
        itl_ms=tuple(to_ms(later - earlier) for earlier, later in pairwise(generation.token_s)),
    )


def fault(request: Request, generation: Generation, admitted_s: float) -> str | None:
    """Say what is wrong with an engine's answer to `request`, None if nothing is.

    An engine that returns another request's tokens, or fewer than were asked for, would look fast.
    """
    tokens = len(generation.token_ids)
    if generation.uid != request.uid:
        return f"the engine answered request {generation.uid} in place of {request.uid}"
    if tokens == 0:
        return "the engine returned no token"
    if request.stop == "exact" and tokens != request.output_tokens:
        return f"the engine returned {tokens} tokens where exactly {request.output_tokens} were asked for"
    if tokens > request.output_tokens:
        return f"the engine returned {tokens} tokens where at most {request.output_tokens} were asked for"
    if len(generation.token_s) != tokens:
        return f"the engine returned {len(generation.token_s)} token times for {tokens} tokens"
    stamps = [admitted_s, generation.tokenized_s, *generation.token_s]
    stamps += [generation.finished_s, generation.detokenized_s]
    known = [stamp for stamp in stamps if stamp is not None]
    if any(later < earlier for earlier, later in pairwise(known)):
        return "the engine's times are out of order"
    return None


def _unserved(request: Request, sent_s: float | None, now_s: float, status: Status, why: str) -> Completion:
    return Completion(
        uid=request.uid,
        due_s=request.due_s,
        sent_s=sent_s,
        done_s=now_s,
        prompt_tokens=len(request.prompt_ids),
        status=status,
        error=why,
    )
