"""An engine that only takes time: a latency law instead of a model, for tests and simulations.

It is a static batch as stock generation runs it: prompts are padded to the longest, every step
computes all rows, and the batch ends with its longest output. Prefill takes
`prefill_s_per_token` × positions (padding included); each decode step takes
`decode_s + decode_s_per_sequence` × rows. Decoding is bound by memory traffic, so on real devices
`decode_s` is the large part, and that is why batching pays.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Sequence

from bench.clock import Clock
from bench.records import Generation, Request

FailOn = Callable[[Sequence[Request]], BaseException | None]
"""Looks at a batch before it runs and returns what the engine is to raise, None to let it run."""


class FakeEngine:
    """Implements `protocols.Engine` without torch; the first token comes with the prefill.

    On a VirtualClock it moves the time, on a WallClock it sleeps. Tokens are a hash of the prompt and
    the position, so they are the same in every batch, as greedy decoding's should be. With
    `stop = "natural"` the hash also picks the output's length, at most the one asked for.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        prefill_s_per_token: float = 0.0,
        decode_s: float = 0.0,
        decode_s_per_sequence: float = 0.0,
        max_context: int = 4096,
        vocabulary_size: int = 32_000,
        fail_on: FailOn = lambda batch: None,
    ) -> None:
        """Take all times in seconds."""
        self._clock = clock
        self._prefill_s_per_token = prefill_s_per_token
        self._decode_s = decode_s
        self._decode_s_per_sequence = decode_s_per_sequence
        self._max_context = max_context
        self._vocabulary_size = vocabulary_size
        self._fail_on = fail_on

    @property
    def max_context(self) -> int:
        """The most prompt plus output tokens that a request may have."""
        return self._max_context

    def generate(self, batch: Sequence[Request]) -> list[Generation]:
        """Let the batch's time pass and return its generations; raises what `fail_on` returned."""
        if (error := self._fail_on(batch)) is not None:
            raise error
        rows = len(batch)
        outputs = [self._output_tokens(request) for request in batch]
        longest_prompt = max(len(request.prompt_ids) for request in batch)
        steps = max(outputs)
        token_s = [self._pass(self._prefill_s_per_token * rows * longest_prompt)]
        while len(token_s) < steps:
            token_s.append(self._pass(self._decode_s + self._decode_s_per_sequence * rows))
        return [
            Generation(
                uid=request.uid,
                token_ids=self._tokens(request, n),
                token_s=tuple(token_s[:n]),
                finished_s=token_s[-1],
                padded_tokens=longest_prompt - len(request.prompt_ids) + steps - n,
            )
            for request, n in zip(batch, outputs, strict=True)
        ]

    def _pass(self, duration_s: float) -> float:
        """Let `duration_s` go by and return the time then."""
        self._clock.sleep_until(self._clock.now_s() + duration_s)
        return self._clock.now_s()

    def _output_tokens(self, request: Request) -> int:
        if request.stop == "exact":
            return request.output_tokens
        return 1 + _hash(request.prompt_ids) % request.output_tokens

    def _tokens(self, request: Request, n: int) -> tuple[int, ...]:
        prompt = _hash(request.prompt_ids)
        return tuple(_hash((position,), prompt) % self._vocabulary_size for position in range(n))


def _hash(numbers: Sequence[int], start: int = 0) -> int:
    """Return a checksum that is the same in every process and on every machine."""
    return zlib.crc32(array("q", numbers).tobytes(), start)
