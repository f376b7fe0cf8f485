"""Requests with random prompts, and what an engine makes of one alone."""

from __future__ import annotations

import random

from bench.records import Request, Stop


def requests(
    vocab: int, lengths: list[tuple[int, int]], stop: Stop = "exact", *, first_uid: int = 0
) -> list[Request]:
    """Draw one request per (prompt tokens, output tokens); the same prompts for the same lengths."""
    rng = random.Random(3)
    return [
        Request(
            uid=uid,
            due_s=0.0,
            prompt_ids=tuple(rng.randrange(5, vocab) for _ in range(prompt)),
            output_tokens=output,
            stop=stop,
        )
        for uid, (prompt, output) in enumerate(lengths, first_uid)
    ]


def cut_at(ids: list[int] | tuple[int, ...], end: int) -> list[int]:
    """Return `ids` up to and including the first `end`; all of them where there is none."""
    kept = list(ids)
    return kept[: kept.index(end) + 1] if end in kept else kept
