"""The project's own engine: requests join and leave at every step, and no position is computed in vain.

A step is one forward pass of the stock model over a packed row (`bench.model.ragged`): the newest token of
every running request, and the prompts that joined, whole or in chunks. Keys and values stand in slots
(`bench.model.slot_cache`); running requests occupy slots 0 to n - 1, and when one ends, the last moves
into its slot. A request's greedy tokens are those that it gets alone, exactly in FP32.

A token is stamped when it is known: the copy of a step's tokens to the host waits for the device. All
running requests get a token in every step, so their times are kept once, and each takes its part at its
end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bench.clock import Clock
from bench.config import Compile
from bench.model.device import DeviceErrors
from bench.model.load import LoadedModel
from bench.model.packed import NOT_FINITE, Chunk, Packed
from bench.model.requests import tokenize
from bench.model.rows import Row
from bench.model.slot_support import check_supported
from bench.records import Failure, Generation, Request

if TYPE_CHECKING:
    from bench.model.compiled import CompiledDecode

_PASS_TOKENS = 8192
"""Prompt tokens in one pass where no chunk is set, to bound its memory; a longer prompt goes alone."""


class StepEngine:
    """`protocols.Engine` over a stock model's forward passes."""

    joins = True

    def __init__(
        self,
        loaded: LoadedModel,
        clock: Clock,
        *,
        slots: int,
        prefill_chunk: int | None,
        static: bool,
        compile: Compile | None,
    ) -> None:
        """Run up to `slots` requests of `loaded` together, stamping times on `clock`.

        `prefill_chunk` bounds the prompt tokens of one step. With `static` the cache is allocated once, in
        `prepare`, for `slots` requests of `max_context`; otherwise it grows with its requests. `compile`
        compiles the decode step, which takes a static cache. Raises NotAvailable for a model that cannot
        run in slots, or not compiled.
        """
        check_supported(loaded)
        if compile is not None:
            from bench.model.compiled import check_compilable

            check_compilable(loaded)
        self._loaded = loaded
        self._clock = clock
        self._slots = slots
        self._prefill_tokens = prefill_chunk or _PASS_TOKENS
        self._chunked = prefill_chunk is not None
        self._static = static or compile is not None
        self._compile = compile
        self._compiled: CompiledDecode | None = None
        self._packed: Packed | None = None
        self._eos = frozenset(loaded.eos_ids)
        self._device_errors = DeviceErrors()
        self._counts = {"prefill_positions": 0, "decode_positions": 0, "padded_positions": 0}
        self._peak_tokens = 0
        self._forget()

    def _forget(self) -> None:
        self._admitted: list[Request] = []
        self._waiting: deque[Row] = deque()
        self._rows: list[Row] = []
        self._times: list[float] = []
        self._padded = 0.0
        self._held_tokens = 0
        self._unchanged = False
        """Whether the requests of the next step are those of the last pass."""

    @property
    def max_context(self) -> int:
        """The most prompt plus output tokens that a request may have."""
        return self._loaded.max_context

    @property
    def facts(self) -> Mapping[str, Any]:
        """The positions computed, the cache's bytes beside the formula, the trial, the compilation."""
        found: dict[str, Any] = {
            "engine": "steps",
            "compiled": self._compile is not None,
            "slots": self._slots,
            "prefill_chunk": self._prefill_tokens if self._chunked else None,
            **self._counts,
        }
        if self._packed is not None:
            found |= self._packed.facts(self._peak_tokens)
        if self._compiled is not None:
            found |= self._compiled.facts
        return found

    def prepare(self) -> None:
        """Try the model out, allocate a static cache, compile. Raises NotAvailable if the trial fails."""
        self._packed = Packed(self._loaded, compiled=self._compile is not None)
        if self._static:
            self._packed.allocate(self._slots)
        if self._compile is not None:
            from bench.model.compiled import CompiledDecode

            self._compiled = CompiledDecode(self._packed, self._compile)
        self._packed.cache.begin()

    def admit(self, batch: Sequence[Request]) -> None:
        """Take `batch` in; those beyond the free slots wait here for one."""
        self._admitted.extend(batch)

    def step(self, until_s: float) -> Sequence[Generation | Failure]:
        """Do one iteration and return what ended by it.

        A request whose logits are not finite ends as a Failure. Raises torch.OutOfMemoryError as it came (the
        next step begins by emptying torch's cache), EngineLost where the device fails for good, and
        RuntimeError if nothing runs.
        """
        if not (self._rows or self._waiting or self._admitted):
            raise RuntimeError("nothing runs")
        if self._packed is None:
            self.prepare()
        ended: list[Generation | Failure] = list(self._take_in())
        if self._rows or self._waiting:
            with self._device_errors.handled():
                ended += self._iterate()
        return ended

    def _take_in(self) -> Iterator[Failure]:
        """Tokenize what was admitted since the last step."""
        for request in self._admitted:
            found = tokenize(request, self._loaded, self._clock)
            if isinstance(found, Failure):
                yield found
            else:
                self._waiting.append(Row(found))
        self._admitted = []

    def _iterate(self) -> list[Generation | Failure]:
        joining = self._choose_chunks()
        if self._compiled is None:
            self._pass(self._rows, joining)
            return self._leave()
        ended: list[Generation | Failure] = []
        if joining:
            self._pass([], joining)
            ended += self._leave()
        if self._rows:
            tokens = self._compiled.step(
                [row.tokens[-1] for row in self._rows], [row.length for row in self._rows]
            )
            idle = self._slots - len(self._rows)
            self._counts["padded_positions"] += idle
            self._padded += idle / len(self._rows)
            self._decoded(tokens, self._clock.now_s())
            ended += self._leave()
        return ended

    def _choose_chunks(self) -> list[tuple[Row, Chunk]]:
        """Return whose prompts are computed now, and how much of each; the last may stay unfinished.

        An unfinished one is the first that waits, and its slot is the one after the running ones'.
        """
        chosen: list[tuple[Row, Chunk]] = []
        left = self._prefill_tokens
        for row in self._waiting:
            slot = len(self._rows) + len(chosen)
            need = len(row.ids) - row.prefilled
            if slot == self._slots or left == 0 or (need > left and chosen and not self._chunked):
                break
            take = min(need, left) if self._chunked else need
            chosen.append((row, Chunk(slot, row.prefilled, row.ids[row.prefilled : row.prefilled + take])))
            left = max(0, left - take)
        return chosen

    def _pass(self, rows: list[Row], joining: list[tuple[Row, Chunk]]) -> None:
        """Compute a token for each of `rows` and the chunks of `joining`, in one forward pass."""
        packed = self._packed
        assert packed is not None
        if joining:
            longest = max(len(row.ids) + row.request.output_tokens for row, _ in joining)
            self._reserve(packed, len(self._rows) + len(joining), longest)
        if self._unchanged and not joining:
            tokens = packed.run_on()
        else:
            chunks = [chunk for _, chunk in joining]
            tokens = packed.run([row.tokens[-1] for row in rows], [row.length for row in rows], chunks)
        now_s = self._clock.now_s()
        self._unchanged = not joining
        if rows:
            self._decoded(tokens[: len(rows)], now_s)
        self._joined(joining, tokens[len(rows) :], now_s)

    def _reserve(self, packed: Packed, slots: int, length: int) -> None:
        """Make room for `slots` requests; the number of slots grows by doubling."""
        if slots > packed.cache.slots:
            slots = min(self._slots, max(slots, 2 * packed.cache.slots))
        packed.cache.reserve(slots, length)

    def _decoded(self, tokens: list[int], now_s: float) -> None:
        """Note each running request's next token, known at `now_s`."""
        self._times.append(now_s)
        self._count("decode_positions", len(tokens))
        for row, token in zip(self._rows, tokens, strict=True):
            row.tokens.append(token)

    def _joined(self, joining: list[tuple[Row, Chunk]], tokens: list[int], now_s: float) -> None:
        """Let those whose prompt is complete run; their first token was known at `now_s`.

        So does one whose logits are not finite, only to leave at once.
        """
        for (row, chunk), token in zip(joining, tokens, strict=True):
            row.prefilled += len(chunk.ids)
            self._count("prefill_positions", len(chunk.ids))
            if row.prefilled < len(row.ids) and token != NOT_FINITE:
                return  # the last one; it stays first in the queue
            self._waiting.popleft()
            row.begin(token, now_s, mark=len(self._times), padded=self._padded)
            self._rows.append(row)

    def _count(self, what: str, positions: int) -> None:
        """Count positions that were computed and are held from now on."""
        self._counts[what] += positions
        self._held_tokens += positions
        self._peak_tokens = max(self._peak_tokens, self._held_tokens)

    def _leave(self) -> list[Generation | Failure]:
        """Take out the requests that have ended, and close up the slots.

        What is not finite is wiped before anything moves: nobody's NaN may stay in a slot that others use.
        """
        ended = [slot for slot, row in enumerate(self._rows) if row.has_ended(self._eos)]
        if not ended:
            return []
        assert self._packed is not None
        self._unchanged = False
        cache, unfinished = self._packed.cache, len(self._rows)
        leaving = [self._rows[slot] for slot in ended]
        for slot in ended:
            if not self._rows[slot].is_finite:
                cache.wipe(slot, slot + 1)
        for slot in reversed(ended):
            last = self._rows.pop()
            self._held_tokens -= (self._rows[slot] if slot < len(self._rows) else last).length
            if slot < len(self._rows):
                cache.move(len(self._rows), slot, last.length)
                self._rows[slot] = last
        if self._waiting and self._waiting[0].prefilled:
            cache.move(unfinished, len(self._rows), self._waiting[0].prefilled)
        outcomes = [row.outcome(self._times, self._padded, self._loaded, self._clock) for row in leaving]
        if not self._rows:
            self._times.clear()
        return outcomes

    def clear(self) -> None:
        """Forget all that runs; a cache that grew gives its memory back, another is wiped."""
        self._forget()
        if self._packed is None:
            return
        cache = self._packed.cache
        if self._static:
            cache.wipe(0, cache.slots)
        else:
            cache.release()

    def close(self) -> None:
        """Release the cache and what was compiled; `facts` stay."""
        self._forget()
        # Closing must not hide the error that led to it: a GPU that is gone fails here once more.
        if self._compiled is not None:
            with suppress(Exception):
                self._compiled.release()
        if self._packed is not None:
            with suppress(Exception):
                self._packed.cache.release()
