"""A model that overflows for one token, and only for it: whoever has it in the prompt makes NaN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from bench.model.load import LoadedModel
from bench.records import Request

NEVER_DRAWN = range(5)
"""Ids that `drawn.requests` leaves out."""


@contextmanager
def overflowing(loaded: LoadedModel, token: int) -> Iterator[None]:
    """Let the embedding of `token` be infinite; the head must have weights of its own."""
    import torch

    weight = loaded.model.get_input_embeddings().weight
    assert loaded.model.get_output_embeddings().weight is not weight
    with torch.no_grad():
        before = weight[token].clone()
        weight[token] = float("inf")
        try:
            yield
        finally:
            weight[token] = before


def with_token(request: Request, token: int, place: int) -> Request:
    """Return `request` with `token` at `place` of its prompt."""
    ids = list(request.prompt_ids)
    ids[place] = token
    return msgspec.structs.replace(request, prompt_ids=tuple(ids))
