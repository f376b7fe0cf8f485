"""transformers' own continuous batching as an engine: its manager's thread generates, `step` collects.

One bad request ends the manager's thread and with it every other request, therefore each is checked before
it gets there. If the thread dies all the same (out of memory), `step` raises what it died of, and `clear`
starts a new one. Results come through a queue that `step` sleeps on, and a result wakes it at once.

The manager stamps tokens by `time.perf_counter`; these stamps are moved to the engine's clock, which must be
a real one. It packs its rows without padding.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from bench.clock import Clock
from bench.errors import NotAvailable, RunFailed
from bench.model.load import LoadedModel
from bench.model.paged_batching import Limits, PagedBatching, first_line
from bench.model.requests import Tokenized, detokenize, tokenize
from bench.records import Failure, Generation, Request

WAIT_S = 0.005
"""How long a step keeps its caller from admitting others.

Each look takes the interpreter away from the manager's thread for some 0.1 ms: beside iterations of 4 ms on
one core, looks 1 ms apart cost 21 % of processor time, 2 ms apart 10 %, 5 ms apart 3 %.
"""
WAIT_WHEN_FULL_S = 0.05
"""The same while nobody can join anyway."""
_CLOCK_SLACK_S = 1e-3


class ContinuousEngine:
    """`protocols.Engine` over transformers' continuous batching manager."""

    joins = True

    def __init__(self, loaded: LoadedModel, clock: Clock, limits: Limits) -> None:
        """Generate with `loaded` within `limits`, on a real `clock`."""
        self._loaded = loaded
        self._clock = clock
        self._limits = limits
        self._batching: PagedBatching | None = None
        self._offset_s = 0.0
        self._running: dict[str, Tokenized] = {}
        self._failed: list[Failure] = []
        self._added = 0
        self._restarts = 0
        self._facts: dict[str, Any] = {}

    @property
    def max_context(self) -> int:
        """The most prompt plus output tokens that a request may have: the model's, or the whole cache."""
        return min(self._loaded.max_context, self._limits.cache_tokens)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was in force: version, attention, limits, the cache's bytes beside the formula's.

        `restarts` counts the threads that died and were replaced.
        """
        return {"engine": "transformers-continuous", **self._facts, "restarts": self._restarts}

    def prepare(self) -> None:
        """Allocate the cache, start the manager's thread and send one small request through it.

        Raises NotAvailable where the manager does not support the model or the cache does not fit.
        """
        import torch

        self._offset_s = _offset_to_perf_counter_s(self._clock)
        name = self._loaded.facts["id"]
        try:
            self._start()
            self._warm_up()
        except torch.OutOfMemoryError as error:
            self.close()
            raise NotAvailable(
                f"{name}: a KV cache of {self._limits.cache_tokens} tokens does not fit in memory; "
                "lower the policy's max_size or the engine's num_blocks"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
            self.close()
            raise NotAvailable(
                f"{name}: transformers' continuous batching does not run {self._loaded.facts['model_type']} "
                f'models ({first_line(error)}); use engine = "steps" or "generate"'
            ) from error

    def admit(self, batch: Sequence[Request]) -> None:
        """Hand `batch` to the manager, which computes at once; what is wrong with a request ends that alone.

        Raises what the manager's thread died of, if it takes nothing any more.
        """
        for request in batch:
            checked = tokenize(request, self._loaded, self._clock)
            if isinstance(checked, Failure):
                self._failed.append(checked)
            elif len(checked.ids) + request.output_tokens > self.max_context:
                why = f"longer than the whole KV cache of {self.max_context} tokens"
                self._failed.append(Failure(uid=request.uid, error=f"request {request.uid}: {why}"))
            else:
                self._add(checked)

    def step(self, until_s: float) -> list[Generation | Failure]:
        """Return what has ended, waiting for it at most `WAIT_S`, and longer only until `until_s`.

        Raises what the manager's thread died of: torch.OutOfMemoryError, EngineLost for a device that is
        gone, RuntimeError for anything else; and RuntimeError if nothing runs.
        """
        ended: list[Generation | Failure] = [*self._failed]
        self._failed = []
        if not self._running:
            if not ended:
                raise RuntimeError("nothing runs")
            return ended
        batching = self._opened()
        wait_s = 0.0 if ended else self._wait_s(until_s)
        while self._running:
            output = batching.result(wait_s)
            if output is None:
                if not batching.alive:
                    batching.raise_cause()
                break
            wait_s = 0.0
            row = self._running.get(output.request_id)
            if row is None:  # it was cleared away
                continue
            if output.error is not None and not batching.alive:
                batching.raise_cause()
            del self._running[output.request_id]
            ended.append(self._outcome(row, output))
        return ended

    def clear(self) -> None:
        """Cancel all that runs; none of it is ever returned. Start a new thread if the old one is dead."""
        self._failed = []
        ids = list(self._running)
        self._running = {}
        batching = self._opened()
        if batching.alive:
            for request_id in ids:
                batching.cancel(request_id)
        else:
            batching.stop()
            self._start()
            self._restarts += 1

    def close(self) -> None:
        """Stop the thread, free the cache and give the model its attention back."""
        self._running = {}
        self._failed = []
        batching, self._batching = self._batching, None
        if batching is not None:
            # Closing must not hide the error that led to it, and nobody is left to handle another.
            with contextlib.suppress(Exception):
                batching.stop()

    def _start(self) -> None:
        self._batching = PagedBatching(self._loaded.model, self._limits)
        self._facts = self._batching.facts

    def _opened(self) -> PagedBatching:
        if self._batching is None:
            raise RuntimeError("the engine was not prepared, or is closed")
        return self._batching

    def _wait_s(self, until_s: float) -> float:
        full = len(self._running) >= self._limits.requests
        least_s = WAIT_WHEN_FULL_S if full else WAIT_S
        return max(least_s, min(until_s - self._clock.now_s(), 1.0))

    def _warm_up(self) -> None:
        ids = tuple(self._loaded.vocabulary.ordinary_ids[:4])
        self.admit([Request(uid=-1, due_s=0.0, prompt_ids=ids, output_tokens=2)])
        while self._running:
            for outcome in self.step(math.inf):
                if isinstance(outcome, Failure):
                    raise RuntimeError(outcome.error)

    def _add(self, row: Tokenized) -> None:
        request = row.request
        self._added += 1
        request_id = f"{request.uid}#{self._added}"  # another one each time: a cleared request may return
        self._running[request_id] = row
        eos_ids = self._loaded.eos_ids if request.stop == "natural" else ()
        batching = self._opened()
        if not batching.add(request_id, row.ids, request.output_tokens, eos_ids):
            batching.raise_cause()

    def _outcome(self, row: Tokenized, output: Any) -> Generation | Failure:
        uid = row.request.uid
        if output.error is not None:
            return Failure(uid=uid, error=f"request {uid}: {output.error}")
        ids = list(output.generated_tokens)
        if len(output.timestamps) != len(ids):
            why = "was pushed out of a full cache, its tokens' times with it; raise the engine's num_blocks"
            return Failure(uid=uid, error=f"request {uid}: {why}")
        times_s = [stamp + self._offset_s for stamp in output.timestamps]
        finished_s = output.lifespan[1] + self._offset_s
        self._check_order([output.created_time + self._offset_s, *times_s, finished_s])
        return Generation(
            uid=uid,
            token_ids=ids,
            token_s=times_s,
            finished_s=finished_s,
            tokenized_s=row.tokenized_s,
            detokenized_s=detokenize(ids, self._loaded, self._clock),
        )

    def _check_order(self, times_s: Sequence[float]) -> None:
        """Raise RunFailed where the manager's stamps, on our clock, lie outside the request's time."""
        moments = [0.0, *times_s, self._clock.now_s()]
        if any(later < earlier - _CLOCK_SLACK_S for earlier, later in pairwise(moments)):
            raise RunFailed(
                "transformers-continuous: the manager's timestamps do not lie on the run's clock; "
                "the times of its tokens cannot be known"
            )


def _offset_to_perf_counter_s(clock: Clock) -> float:
    """Return what to add to `time.perf_counter()` to get the clock's time, from the tightest of ten looks."""
    looks = []
    for _ in range(10):
        before = time.perf_counter()
        now_s = clock.now_s()
        after = time.perf_counter()
        looks.append((after - before, now_s - (before + after) / 2))
    return min(looks)[1]
