"""A request on its way through the step engine: its prompt, its tokens so far, and when they were known."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bench.clock import Clock
from bench.model.load import LoadedModel
from bench.model.packed import NOT_FINITE
from bench.model.requests import Tokenized, detokenize, not_finite
from bench.records import Failure, Generation


class Row:
    """What the engine knows of one request.

    Every running request gets a token in every decode step, so the steps' times stand in one list for all;
    `mark` is where those of this request's second and later tokens begin. `padded` is the engine's running
    sum of padding per request at that moment.
    """

    def __init__(self, prompt: Tokenized) -> None:
        """Begin with a prompt of which nothing is computed."""
        self.request = prompt.request
        self.ids = prompt.ids
        self.prefilled = 0
        self.tokens: list[int] = []
        self._tokenized_s = prompt.tokenized_s
        self._first_s = 0.0
        self._mark = 0
        self._padded = 0.0

    @property
    def length(self) -> int:
        """The position of its newest token, which is not in the cache yet."""
        return self.prefilled + len(self.tokens) - 1

    @property
    def is_finite(self) -> bool:
        """Whether its newest token was chosen among finite logits."""
        return self.tokens[-1] != NOT_FINITE

    def begin(self, token: int, now_s: float, *, mark: int, padded: float) -> None:
        """Take the first token, known at `now_s`."""
        self.tokens.append(token)
        self._first_s, self._mark, self._padded = now_s, mark, padded

    def has_ended(self, eos_ids: Collection[int]) -> bool:
        """Say whether its newest token is its last."""
        if len(self.tokens) == self.request.output_tokens or not self.is_finite:
            return True
        return self.request.stop == "natural" and self.tokens[-1] in eos_ids

    def outcome(
        self, times_s: Sequence[float], padded: float, loaded: LoadedModel, clock: Clock
    ) -> Generation | Failure:
        """Return its result; `times_s` and `padded` are the engine's as they are now."""
        if not self.is_finite:
            return not_finite(self.request, loaded)
        own = (self._first_s, *times_s[self._mark : self._mark + len(self.tokens) - 1])
        return Generation(
            uid=self.request.uid,
            token_ids=self.tokens,
            token_s=own,
            finished_s=own[-1],
            tokenized_s=self._tokenized_s,
            detokenized_s=detokenize(self.tokens, loaded, clock),
            padded_decode_tokens=padded - self._padded,
        )
