"""An engine that only takes time: a service law instead of a model, for simulations and tests.

It has three styles. `static` is stock generation: prompts are padded to the longest, every step computes
all rows, and all are answered when the longest output ends. `steps` is the project's own loop: prompts
join without padding, in the same pass as a decode step of the others, and a row leaves when it ends.
`alternating` is that loop with a compiled decode step: joining prompts have a pass of their own before it.
On a VirtualClock time is moved, so a day of traffic passes in seconds; on a WallClock it is slept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from bench.clock import Clock
from bench.model.fake_rows import PaddedRows, Row, SteppedRows
from bench.records import Failure, Generation, Request, ServiceLaw

Style = Literal["static", "steps", "alternating"]
FailOn = Callable[[Sequence[Request]], BaseException | None]
"""Looks at all that runs before a step and returns what the step is to raise, None to let it run."""
FailAlone = Callable[[Request], str | None]
"""Says why a request is to end as a `Failure` by itself, None to let it run."""

INSTANT = ServiceLaw()
"""A law under which nothing takes any time."""


class FakeEngine:
    """Implements `protocols.Engine` without torch; the first token comes with the prefill.

    Token ids, and with `stop = "natural"` the number of tokens, at most the one asked for, are a pure
    function of the prompt's length and three of its ids: the same in every batch and process, as greedy
    decoding's should be, at a cost that does not grow with the prompt. `prefill_chunk` bounds the prompt
    tokens of a pass; a static batch computes whole prompts, whatever it says.
    """

    def __init__(
        self,
        clock: Clock,
        law: ServiceLaw = INSTANT,
        *,
        style: Style = "static",
        prefill_chunk: int | None = None,
        max_context: int = 4096,
        vocabulary_size: int = 32_000,
        fail_on: FailOn | None = None,
        fail_alone: FailAlone | None = None,
    ) -> None:
        """Take `law`'s times on `clock`."""
        self._law = law
        self._style = style
        self._prefill_chunk = prefill_chunk
        self._max_context = max_context
        self._vocabulary_size = vocabulary_size
        self._fail_on = fail_on
        self._fail_alone = fail_alone
        self._failures: list[Failure] = []
        self._rows: PaddedRows | SteppedRows
        if style == "static":
            self._rows = PaddedRows(clock, law)
        else:
            self._rows = SteppedRows(clock, law, prefill_chunk, alternating=style == "alternating")

    @property
    def max_context(self) -> int:
        """The most prompt plus output tokens that a request may have."""
        return self._max_context

    @property
    def joins(self) -> bool:
        """Whether requests may be admitted while others run: in all styles but `static`."""
        return self._style != "static"

    @property
    def facts(self) -> Mapping[str, Any]:
        """The style and the law, so that no run of it can be taken for a measurement."""
        law = {name: getattr(self._law, name) for name in self._law.__struct_fields__}
        return {"engine": "fake", "style": self._style, "prefill_chunk": self._prefill_chunk, "law": law}

    def prepare(self) -> None:
        """Do nothing: there is nothing to load."""

    def admit(self, batch: Sequence[Request]) -> None:
        """Take `batch` in; RuntimeError where something runs that cannot be joined."""
        if self._style == "static" and (self._failures or self._rows.requests):
            raise RuntimeError("a static batch cannot be joined while it runs")
        rows: list[Row] = []
        vocabulary_size, fail_alone = self._vocabulary_size, self._fail_alone
        for request in batch:
            ids, n = request.prompt_ids, request.output_tokens
            length = len(ids)
            if length < 1 or n < 1 or length + n > self._max_context:
                why = f"request {request.uid}: {length} + {n} tokens, the context is {self._max_context}"
                self._failures.append(Failure(uid=request.uid, error=why))
                continue
            if fail_alone is not None and (fault := fail_alone(request)) is not None:
                self._failures.append(Failure(uid=request.uid, error=fault))
                continue
            number = hash((length, ids[0], ids[length >> 1], ids[-1]))  # of integers: no process differs
            if request.stop == "natural":
                n = 1 + (number >> 24) % n
            first = number % vocabulary_size
            tokens: Sequence[int] = range(first, first + n)
            if first + n > vocabulary_size:
                tokens = tuple(token % vocabulary_size for token in tokens)
            rows.append(Row(request, length, length, n, tokens))
        self._rows.admit(rows)

    def step(self, until_s: float) -> Sequence[Generation | Failure]:
        """Let time pass until something ends or `until_s` is reached; raises what `fail_on` returned.

        A static batch runs to its end, as `generate` does. Raises RuntimeError if nothing runs.
        """
        if self._fail_on is not None and (error := self._fail_on(self._rows.requests)) is not None:
            raise error
        if self._failures:
            failures, self._failures = self._failures, []
            return failures
        return self._rows.step(until_s)

    def clear(self) -> None:
        """Forget all that runs."""
        self._failures.clear()
        self._rows.clear()

    def close(self) -> None:
        """Forget all that runs."""
        self.clear()
