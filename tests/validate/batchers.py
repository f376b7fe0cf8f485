"""Other libraries' in-process batchers behind the interface of the conformance cases.

Each is used as its documentation says, with one batch at a time and the model on a worker thread. What is
not installed is left out with a line: bench needs none of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from bench.serving.policies import DynamicBatching
from tests.serving.conformance import Batcher, Limits, Make, Model, NotOffered
from tests.serving.conformance_bench import BenchBatcher


class _OnLoop:
    """A batcher on an asyncio loop, which has a thread of its own as in a server."""

    def __init__(self, model: Model, limits: Limits) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

        async def make() -> Any:  # on the loop, to which its queue belongs
            return self._make(model, limits)

        self._batcher = self._run(make()).result()

    def call(self, item: int) -> Future[int]:
        return self._run(self._ask(item))

    def end_stream(self) -> None:
        """Do nothing: it does not want to know that no more will come."""

    def stop(self) -> None:
        raise NotOffered("it has no stop")

    def _run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _make(self, model: Model, limits: Limits) -> Any:
        raise NotImplementedError

    async def _ask(self, item: int) -> int:
        raise NotImplementedError


class BatchedThread(_OnLoop):
    """`batched.BatchProcessor`, which computes on a thread of its own."""

    def _make(self, model: Model, limits: Limits) -> Any:
        from batched import BatchProcessor

        return BatchProcessor(model, batch_size=limits.max_size, timeout_ms=limits.max_wait_ms)

    async def _ask(self, item: int) -> int:
        answer: int = await self._batcher.acall(item)
        return answer

    def stop(self) -> None:
        self._batcher.shutdown()


class BatchedAsyncio(_OnLoop):
    """`batched.aio.AsyncBatchProcessor`; it has no stop."""

    def _make(self, model: Model, limits: Limits) -> Any:
        from batched.aio import AsyncBatchProcessor

        async def compute(batch: list[int]) -> list[int]:
            return await asyncio.get_running_loop().run_in_executor(None, model, batch)

        return AsyncBatchProcessor(compute, batch_size=limits.max_size, timeout_ms=limits.max_wait_ms)

    async def _ask(self, item: int) -> int:
        answer: int = await self._batcher(item)
        return answer


class AsyncBatcher(_OnLoop):
    """`async_batcher.AsyncBatcher` with its default concurrency of one."""

    def _make(self, model: Model, limits: Limits) -> Any:
        from async_batcher.batcher import AsyncBatcher as Library

        class Doubling(Library):  # type: ignore[misc]
            def process_batch(self, batch: list[int]) -> list[int]:
                return model(batch)

        return Doubling(max_batch_size=limits.max_size, max_queue_time=limits.max_wait_ms / 1000)

    async def _ask(self, item: int) -> int:
        answer: int = await self._batcher.process(item)
        return answer

    def stop(self) -> None:
        self._run(self._batcher.stop()).result()


class BentoDispatcher(_OnLoop):
    """BentoML's CorkDispatcher. It chooses the window itself; its bound on the latency is far away."""

    def _make(self, model: Model, limits: Limits) -> Any:
        from bentoml._internal.marshal.dispatcher import CorkDispatcher

        def refuse() -> int:
            raise RuntimeError("fallback")

        self._dispatcher = CorkDispatcher(
            60_000, limits.max_size, fallback=refuse, get_batch_size=lambda item: 1
        )

        async def compute(batch: Sequence[int]) -> list[int]:
            return await asyncio.get_running_loop().run_in_executor(None, model, batch)

        return self._dispatcher(compute)

    async def _ask(self, item: int) -> int:
        answer: int = await self._batcher(item)
        return answer

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._dispatcher.shutdown)


class Contender(msgspec.Struct, frozen=True):
    """A batcher and the distribution that it comes from, None for bench itself."""

    make: Make
    distribution: str | None = None

    def version(self) -> str | None:
        """Return what is installed of it, None if nothing is; an empty string for bench itself."""
        if self.distribution is None:
            return ""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None


def _bench(model: Model, limits: Limits) -> Batcher:
    return BenchBatcher(model, DynamicBatching(max_size=limits.max_size, max_wait_ms=limits.max_wait_ms))


CONTENDERS: dict[str, Contender] = {
    "bench": Contender(_bench),
    "batched, thread": Contender(BatchedThread, "batched"),
    "batched, asyncio": Contender(BatchedAsyncio, "batched"),
    "async-batcher": Contender(AsyncBatcher, "async-batcher"),
    "BentoML dispatcher": Contender(BentoDispatcher, "bentoml"),
}
"""Every batcher under comparison, bench's own first."""
