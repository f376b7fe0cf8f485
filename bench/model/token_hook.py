"""When `generate` chose each token, when each row has ended, and whether its logits were numbers.

A token's time is taken where `generate` asks whether to stop, once per step after the token is chosen;
on CUDA the device is synchronized first, so that the stamp is when the token was known and not when its
kernels were queued. That hook also decides when each row has ended; `generate` itself knows no end token.
It looks at the logit of each chosen token, too: a request for which one is not finite fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from bench.clock import Clock
from bench.model.load import LoadedModel
from bench.records import Request


class _Scores:
    """A logits processor that leaves the logits as they are, and holds them until the hook has looked."""

    def __init__(self) -> None:
        self.held: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.held = scores
        return scores

    # transformers asks for it at every step, and finding it out takes longer than all else here.
    __call__.__signature__ = inspect.signature(__call__)  # type: ignore[attr-defined]


class TokenHook:
    """A stopping criterion that takes each step's time and ends each row at its own length."""

    def __init__(self, batch: Sequence[Request], loaded: LoadedModel, clock: Clock) -> None:
        import torch

        self.times_s: list[float] = []
        self.scores = _Scores()
        self._chosen: list[Any] = []
        self._clock = clock
        self._cuda = loaded.device == "cuda"
        self._synchronize, self._isin = torch.cuda.synchronize, torch.isin
        self._batch = batch
        self._eos_ids = frozenset(loaded.eos_ids)
        device = loaded.device
        self._shortest = min(request.output_tokens for request in batch)
        self._lengths = torch.tensor([request.output_tokens for request in batch], device=device)
        natural = [request.stop == "natural" for request in batch]
        # With nothing to look for, a step looks at no token, and compares nothing before a row can end.
        looks = any(natural) and bool(loaded.eos_ids)
        self._natural = torch.tensor(natural, device=device) if looks else None
        self._eos = torch.tensor(loaded.eos_ids, device=device) if looks else None
        self._ended = torch.zeros(len(batch), dtype=torch.bool, device=device)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Stamp the step whose tokens stand last in `input_ids`; return which rows have ended."""
        if self._cuda:
            self._synchronize()
        self.times_s.append(self._clock.now_s())
        # An argmax takes NaN for the largest, so that the chosen logit tells of any in its row.
        self._chosen.append(self.scores.held.gather(-1, input_ids[:, -1:]))
        self.scores.held = None
        if self._natural is not None:
            self._ended |= self._natural & self._isin(input_ids[:, -1], self._eos)
        if len(self.times_s) < self._shortest:
            return self._ended
        return self._ended | (self._lengths <= len(self.times_s))

    def finite_steps(self) -> list[int]:
        """Return for each row how many steps there were before the first whose logits were not finite."""
        import torch

        finite = torch.cat(self._chosen, dim=1).isfinite()
        steps: list[int] = finite.int().cumprod(dim=1).sum(dim=1).tolist()
        return steps

    def own_tokens(self, row: int, tokens: Sequence[int]) -> list[int]:
        """Cut a row's generated `tokens` to those that its request asked for."""
        request = self._batch[row]
        own = list(tokens[: request.output_tokens])
        if request.stop == "natural":
            end = next((i for i, token in enumerate(own) if token in self._eos_ids), None)
            own = own if end is None else own[: end + 1]
        return own
