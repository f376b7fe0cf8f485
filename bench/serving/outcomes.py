"""A request's end, as a record: served, late, failed, expired or rejected; there is no other.

The stages of a served request are the consecutive spans between its stamps, so they sum to its
latency: due → admitted → tokenized → first token → finished → detokenized.

While requests are served only their stamps are kept; the records are made from these afterwards, so that
making them takes no time from the system that is measured.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from bench.records import Completion, Generation, Request, Status
from bench.units import to_ms


class Batch(msgspec.Struct, frozen=True):
    """Requests that were handed to the engine together.

    `size` is how many ran once these had joined. `held_s` and `held_reason` are the last time the policy
    left somebody waiting and why, `busy_s` is when the engine last came to an end of a step; both before
    `admitted_s`. `timeout_s` is the server's.
    """

    id: int
    size: int
    admitted_s: float
    reason: str
    held_s: float
    held_reason: str
    busy_s: float
    timeout_s: float

    def wait_reason(self, sent_s: float) -> str | None:
        """Say what a request sent at `sent_s` was last left waiting for; None if it never was."""
        if sent_s <= self.held_s:
            return self.held_reason
        return "busy" if sent_s < self.busy_s else None


class Refusal(msgspec.Struct, frozen=True):
    """An end without an answer: the status, why, when, and the batch if it got as far as the engine.

    `unsent` says that the request was never even sent.
    """

    status: Status
    why: str
    at_s: float
    batch: Batch | None = None
    unsent: bool = False


def describe(error: BaseException) -> str:
    """Return an exception as one line: its class and its message's first line."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0].strip()}" if lines else name


def unserved(request: Request, sent_s: float, refusal: Refusal) -> Completion:
    """Return the outcome of a request without a usable answer.

    Only the waiting is known of its stages: the engine's time belongs to none of the others.
    """
    batch = refusal.batch
    waited_until_s = refusal.at_s if batch is None else batch.admitted_s
    queued = batch is not None or refusal.status == "timeout"
    return Completion(
        uid=request.uid,
        due_s=request.due_s,
        sent_s=None if refusal.unsent else sent_s,
        admitted_s=None if batch is None else batch.admitted_s,
        done_s=refusal.at_s,
        prompt_tokens=len(request.prompt_ids),
        batch_id=None if batch is None else batch.id,
        batch_size=None if batch is None else batch.size,
        admit_reason=None if batch is None else batch.reason,
        wait_reason=None if batch is None else batch.wait_reason(sent_s),
        status=refusal.status,
        error=refusal.why,
        queue_s=waited_until_s - request.due_s if queued else None,
    )


def given_up(request: Request, sent_s: float, now_s: float, timeout_s: float) -> Completion:
    """Return the record of a request that had no outcome when its run was given up: there is no `done_s`.

    Whatever comes of it after its deadline is a timeout; before that it is an error, "unfinished".
    """
    late = now_s - request.due_s > timeout_s
    return Completion(
        uid=request.uid,
        due_s=request.due_s,
        sent_s=sent_s,
        prompt_tokens=len(request.prompt_ids),
        status="timeout" if late else "error",
        error=f"not done {timeout_s:g} s after it was due"
        if late
        else f"unfinished {now_s - request.due_s:.3g} s after it was due",
    )


def answered(request: Request, sent_s: float, generation: Generation, batch: Batch) -> Completion:
    """Return the outcome of a request that the engine answered; an unsound answer is an error."""
    if why := fault(request, generation, batch.admitted_s):
        done_s = max(batch.admitted_s, generation.finished_s)
        return unserved(request, sent_s, Refusal("error", why, done_s, batch))
    return _served(request, sent_s, generation, batch)


def _served(request: Request, sent_s: float, generation: Generation, batch: Batch) -> Completion:
    """Return the outcome of a request whose answer is sound; done too late is a timeout."""
    first_token_s, finished_s = generation.token_s[0], generation.finished_s
    tokenized_s, detokenized_s = generation.tokenized_s, generation.detokenized_s
    done_s = finished_s if detokenized_s is None else detokenized_s
    late = done_s - request.due_s > batch.timeout_s
    return Completion(
        uid=request.uid,
        due_s=request.due_s,
        sent_s=sent_s,
        admitted_s=batch.admitted_s,
        first_token_s=first_token_s,
        done_s=done_s,
        prompt_tokens=len(request.prompt_ids),
        output_tokens=len(generation.token_ids),
        padded_tokens=generation.padded_prefill_tokens + generation.padded_decode_tokens,
        padded_prefill_tokens=generation.padded_prefill_tokens,
        batch_id=batch.id,
        batch_size=batch.size,
        admit_reason=batch.reason,
        wait_reason=batch.wait_reason(sent_s),
        status="timeout" if late else "ok",
        error=f"done later than {batch.timeout_s:g} s after it was due" if late else None,
        tokenize_s=None if tokenized_s is None else tokenized_s - batch.admitted_s,
        queue_s=batch.admitted_s - request.due_s,
        prefill_s=first_token_s - (batch.admitted_s if tokenized_s is None else tokenized_s),
        decode_s=finished_s - first_token_s,
        detokenize_s=None if detokenized_s is None else detokenized_s - finished_s,
        itl_ms=tuple(to_ms(later - earlier) for earlier, later in pairwise(generation.token_s)),
    )


def fault(request: Request, generation: Generation, admitted_s: float) -> str | None:
    """Say what is wrong with an engine's answer to `request`, None if nothing is.

    An engine that returns fewer tokens than were asked for would look fast.
    """
    tokens = len(generation.token_ids)
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
