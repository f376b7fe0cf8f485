"""The engine loop on a thread of its own, behind `submit`: what a client in this process talks to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from bench.clock import Clock
from bench.protocols import Engine, Policy
from bench.records import Request
from bench.serving.loop import EngineLoop
from bench.serving.queue import RequestQueue, Ticket


class Server:
    """Serves from `start` to `drain` or `close`; as a context manager, from entry to exit; used once.

    At most `queue_limit` requests wait at a time. `timeout_s` counts from a request's due time on `clock`.
    """

    def __init__(
        self, policy: Policy, engine: Engine, clock: Clock, *, queue_limit: int, timeout_s: float
    ) -> None:
        """Connect the parts; nothing runs yet, but requests may already be submitted."""
        self._queue = RequestQueue(clock, queue_limit)
        self._engine = engine
        self._loop = EngineLoop(self._queue, policy, engine, clock, timeout_s)
        # A daemon, so that an engine that hangs cannot keep the interpreter from exiting.
        self._thread = threading.Thread(target=self._run, name="engine-loop", daemon=True)
        self._prepared = threading.Event()
        self._unprepared: BaseException | None = None
        self._engine_facts: Mapping[str, Any] | None = None
        self._error: BaseException | None = None

    @property
    def error(self) -> BaseException | None:
        """What ended the loop before its time, None if nothing did."""
        return self._error

    @property
    def engine_facts(self) -> Mapping[str, Any]:
        """The engine's facts; after the end, those from before it was closed."""
        return self._engine.facts if self._engine_facts is None else self._engine_facts

    @property
    def n_waiting(self) -> int:
        """How many requests wait at this moment; for any thread."""
        return self._queue.n_waiting

    @property
    def n_running(self) -> int:
        """How many requests the engine holds at this moment; for any thread."""
        return self._loop.n_running

    def start(self) -> None:
        """Start the engine thread, and return when the engine is prepared; raises what preparing raised.

        The engine is prepared, driven and at the end closed on one thread: CUDA graphs belong to a thread.
        """
        self._thread.start()
        self._prepared.wait()
        if self._unprepared is not None:
            raise self._unprepared

    def submit(self, request: Request, on_done: Callable[[Ticket], None] | None = None) -> Ticket:
        """Send a request, from any thread; it is always answered, and this never raises.

        `on_done` is called with the ticket when it is, on the engine's thread.
        """
        return self._queue.submit(request, on_done)

    def dismiss(self, why: str) -> None:
        """Reject what waits, as nobody wants it any more, and go on serving what runs and what comes."""
        self._queue.dismiss(why)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Let nothing more in and wait until all is answered; return False if `timeout_s` passed before.

        Re-raises what ended the loop before its time; all requests are answered then, too.
        """
        self._queue.close()
        self._thread.join(timeout_s)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def close(self) -> None:
        """Reject what waits, let what runs end, and stop; may be called more than once."""
        self._queue.discard()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def abandon(self) -> None:
        """Reject what waits and stop after the step at hand, without waiting for that: it may hang."""
        self._loop.stop()
        self._queue.discard()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._engine.prepare()
        except BaseException as error:  # noqa: BLE001 - a thread has no caller: `start` re-raises it
            self._unprepared = self._error = error
            self._queue.discard()
            self._engine.close()
            return
        finally:
            self._prepared.set()
        try:
            self._loop.run()
        except BaseException as error:  # noqa: BLE001 - likewise: `drain` re-raises it
            self._error = error
        self._engine_facts = dict(self._engine.facts)
        self._engine.close()
