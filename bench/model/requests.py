"""A request on its way into an engine and out of it: checked, tokenized, detokenized.

What is wrong with one request must end that request alone, so it is found before the request shares a
batch with others: a token id outside the vocabulary would fail the whole batch, on CUDA the whole process.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.clock import Clock
from bench.model.load import LoadedModel
from bench.records import Failure, Request


class Tokenized(msgspec.Struct, frozen=True):
    """A request's prompt as ids, and when tokenizing ended; None where there was no text."""

    request: Request
    ids: Sequence[int]
    tokenized_s: float | None = None


def tokenize(request: Request, loaded: LoadedModel, clock: Clock) -> Tokenized | Failure:
    """Return the request's prompt ids, from its text where it has one, or what is wrong with it."""
    prompt, output = len(request.prompt_ids), request.output_tokens
    if prompt < 1 or output < 1 or prompt + output > loaded.max_context:
        return _failure(
            request,
            f"{prompt} prompt and {output} output tokens; both must be at least 1 and their sum at most "
            f"the context of {loaded.max_context}",
        )
    tokenizer = loaded.vocabulary.tokenizer
    if request.text is None or tokenizer is None:
        ids: Sequence[int] = request.prompt_ids
        tokenized_s = None
    else:
        ids = tokenizer.encode(request.text)
        tokenized_s = clock.now_s()
    if len(ids) != prompt:
        return _failure(
            request,
            f"its text is {len(ids)} tokens long, stated are {prompt}; the prompts were drawn with "
            "another tokenizer",
        )
    size = loaded.facts["vocab_size"]
    if min(ids) < 0 or max(ids) >= size:
        return _failure(request, f"a prompt id lies outside the vocabulary of {size}")
    return Tokenized(request, ids, tokenized_s)


def detokenize(ids: Sequence[int], loaded: LoadedModel, clock: Clock) -> float | None:
    """Decode an output as a service would, and return when that was done; None without a tokenizer."""
    tokenizer = loaded.vocabulary.tokenizer
    if tokenizer is None:
        return None
    tokenizer.decode(ids)
    return clock.now_s()


def not_finite(request: Request, loaded: LoadedModel) -> Failure:
    """Return the end of a request whose next token cannot be known, as the largest logit is no number."""
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    hint = "; bf16 or fp32 reaches further" if dtype == "float16" else ""
    return _failure(request, f"its logits are not finite in {dtype}{hint}")


def _failure(request: Request, why: str) -> Failure:
    return Failure(uid=request.uid, error=f"request {request.uid}: {why}")
