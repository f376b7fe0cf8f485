"""The rows of the fake engine, and how time passes for them: a static batch, or rows that come and go.

Between two events (an end, or the moment at which the caller wants to be asked again) nothing about the
rows changes but their context, which grows by a token per row and step. So the times of all steps up to the
next event are one arithmetic series of second order, computed at once, and cost hardly more than one step.
"""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import chain
from typing import overload

import msgspec
import numpy as np

from bench.clock import Clock
from bench.records import Failure, Generation, Request, ServiceLaw

_PASS_TOKENS = 8192
"""Prompt tokens in one pass where no chunk is set; a longer prompt goes alone."""
_FEW = 64
"""Up to so many numbers Python is quicker than numpy."""


class Row(msgspec.Struct, gc=False):
    """A request in the engine that gets `n` tokens; `left` of its prompt are still to be computed."""

    request: Request
    prompt: int
    left: int
    n: int
    tokens: Sequence[int]
    first_s: float = 0.0
    since: int = 0
    """Where the times of its second and later tokens begin in the log of decode steps."""
    tokenized_s: float | None = None


class Stamps(Sequence[float]):
    """A row's token times: its own first one, then a part of the log of decode steps that all rows share.

    Copying them out would cost a day of traffic half a gigabyte, for numbers that are rarely read.
    """

    __slots__ = ("_begin", "_end", "_first_s", "_log")

    def __init__(self, first_s: float, log: array[float], begin: int, end: int) -> None:
        """Refer to `log[begin:end]`; the log may grow later, but not change."""
        self._first_s = first_s
        self._log = log
        self._begin = begin
        self._end = end

    def __len__(self) -> int:
        return 1 + self._end - self._begin

    def __iter__(self) -> Iterator[float]:
        return chain((self._first_s,), self._log[self._begin : self._end])

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        if isinstance(index, slice):
            return list(self)[index]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        return self._log[self._begin + place - 1] if place else self._first_s


class PaddedRows:
    """The rows of a static batch."""

    def __init__(self, clock: Clock, law: ServiceLaw) -> None:
        self._clock = clock
        self._law = law
        self._rows: list[Row] = []

    @property
    def requests(self) -> list[Request]:
        """Return the requests that run."""
        return [row.request for row in self._rows]

    def admit(self, rows: Sequence[Row]) -> None:
        """Let `rows` run."""
        self._rows += rows

    def clear(self) -> None:
        """Forget all rows."""
        self._rows = []

    def step(self, until_s: float) -> list[Generation | Failure]:
        """Run the batch to its end, whatever `until_s` says; RuntimeError if there is none."""
        rows, law = self._rows, self._law
        if not rows:
            raise RuntimeError("nothing runs")
        size = len(rows)
        width = max([row.prompt for row in rows])
        steps = max([row.n for row in rows])
        start_s = self._clock.now_s() + law.request_s * size
        first_s = start_s + law.prefill_s + law.prefill_s_per_token * size * width
        log = _decode_stamps(law, first_s, size, size * (width + 1), steps - 1)
        finished_s = log[-1] if log else first_s
        self._clock.sleep_until(finished_s)
        self._rows = []
        tokenized_s = start_s if law.request_s else None
        return [
            Generation(
                uid=row.request.uid,
                token_ids=row.tokens,
                token_s=Stamps(first_s, log, 0, row.n - 1),
                finished_s=finished_s,
                tokenized_s=tokenized_s,
                padded_prefill_tokens=width - row.prompt,
                padded_decode_tokens=steps - row.n,
            )
            for row in rows
        ]


class SteppedRows:
    """Rows that come and go by themselves, and the time of every decode step that one of them needs.

    Joining prompts ride along with a decode step of the others, in one pass with one constant part, that
    of a prefill; with `alternating` they have a pass of their own, and a decode step of all rows follows.
    """

    def __init__(
        self, clock: Clock, law: ServiceLaw, prefill_chunk: int | None, *, alternating: bool
    ) -> None:
        self._clock = clock
        self._law = law
        self._chunk = prefill_chunk
        self._alternating = alternating
        self.clear()

    @property
    def requests(self) -> list[Request]:
        """Return the requests that run."""
        return [row.request for row in (*(row for _, _, row in self._ends), *self._prompts)]

    def admit(self, rows: Sequence[Row]) -> None:
        """Let `rows` run."""
        self._prompts += rows
        self._new += rows

    def clear(self) -> None:
        """Forget all rows."""
        self._new: list[Row] = []  # not tokenized yet
        self._prompts: deque[Row] = deque()
        self._ends: list[tuple[int, int, Row]] = []  # a heap: the decode step at which a row ends
        self._order = 0
        self._context = 0  # tokens that the decoding rows hold
        self._log = array("d")  # when each decode step was done since the engine was last idle

    def step(self, until_s: float) -> list[Generation | Failure]:
        """Iterate until a row ends or `until_s` is reached; return the rows that have ended.

        Raises RuntimeError if there are no rows.
        """
        if self._new:
            self._tokenize()
        while self._prompts or self._ends:
            prompts = bool(self._prompts)
            ended: list[Generation | Failure] = []
            if prompts:
                self._pass()
                ended = self._ended()
            if self._ends and (self._alternating or not prompts):
                self._decode(until_s, most=1 if prompts else sys.maxsize)
                ended += self._ended()
            if ended or self._clock.now_s() >= until_s:
                return ended
        raise RuntimeError("nothing runs")

    def _tokenize(self) -> None:
        if self._law.request_s:
            now_s = self._clock.now_s()
            for row in self._new:
                now_s += self._law.request_s
                row.tokenized_s = now_s
            self._clock.sleep_until(now_s)
        self._new = []

    def _pass(self) -> None:
        """Compute admitted prompts, and unless these have a pass of their own a token for every row."""
        law, rows = self._law, 0 if self._alternating else len(self._ends)
        done, positions = self._chosen()
        now_s = self._clock.now_s() + law.prefill_s + law.prefill_s_per_token * positions
        if rows:
            now_s += law.decode_s_per_sequence * rows + law.decode_s_per_context_token * self._context
            self._log.append(now_s)
            self._context += rows
        self._clock.sleep_until(now_s)
        decoded = len(self._log)
        for row in done:
            row.first_s = now_s
            row.since = decoded
            self._context += row.prompt + 1
            self._order += 1
            heappush(self._ends, (decoded + row.n - 1, self._order, row))

    def _chosen(self) -> tuple[list[Row], int]:
        """Return the prompts that the next pass completes, and all positions that it computes of any."""
        prompts, done, positions = self._prompts, [], 0
        limit = _PASS_TOKENS if self._chunk is None else self._chunk
        while prompts and positions < limit:
            row = prompts[0]
            part = row.left if self._chunk is None else min(row.left, limit - positions)
            if positions and positions + part > limit:
                break
            row.left -= part
            positions += part
            if row.left == 0:
                done.append(prompts.popleft())
        return done, positions

    def _decode(self, until_s: float, most: int) -> None:
        """Do up to `most` decode steps, until a row ends or a step has reached `until_s`."""
        rows = len(self._ends)
        steps = min(most, self._ends[0][0] - len(self._log))
        if steps < 1:
            return
        law, now_s = self._law, self._clock.now_s()
        # No step is shorter than the first, as the context only grows.
        first_s = law.decode_s + law.decode_s_per_sequence * rows
        first_s += law.decode_s_per_context_token * self._context
        if until_s <= now_s:
            steps = 1
        elif first_s > 0 and until_s < math.inf:
            steps = min(steps, max(1, math.ceil((until_s - now_s) / first_s)))
        stamps = _decode_stamps(law, now_s, rows, self._context, steps)
        if stamps[-1] > until_s:
            steps = min(steps, 1 + bisect_left(stamps, until_s))
            del stamps[steps:]
        self._log += stamps
        self._context += steps * rows
        self._clock.sleep_until(self._log[-1])

    def _ended(self) -> list[Generation | Failure]:
        ended: list[Generation | Failure] = []
        log, ends = self._log, self._ends
        decoded = len(log)
        while ends and ends[0][0] == decoded:
            row = heappop(ends)[-1]
            self._context -= row.prompt + row.n
            ended.append(
                Generation(
                    uid=row.request.uid,
                    token_ids=row.tokens,
                    token_s=Stamps(row.first_s, log, row.since, decoded),
                    finished_s=log[-1] if row.n > 1 else row.first_s,
                    tokenized_s=row.tokenized_s,
                )
            )
        if not ends:
            self._log = array("d")
        return ended


def _decode_stamps(law: ServiceLaw, now_s: float, rows: int, context: int, steps: int) -> array[float]:
    """Return when each of `steps` decode steps of the same rows is done; they hold `context` before."""
    step_s = law.decode_s + law.decode_s_per_sequence * rows + law.decode_s_per_context_token * context
    half_s = law.decode_s_per_context_token * rows / 2
    if steps < _FEW:
        return array("d", [now_s + i * (step_s + (i - 1) * half_s) for i in range(1, steps + 1)])
    i = np.arange(1, steps + 1, dtype=np.float64)
    return array("d", (now_s + i * (step_s + (i - 1) * half_s)).tobytes())
