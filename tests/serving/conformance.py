"""What any batcher owes its callers, as cases that see it from outside only.

A batcher is anything that answers calls by handing lists of items to a model function. The cases run over
bench's own server under every policy, and as a yardstick over other libraries' batchers: the function
doubles numbers, and a case may hold it, or plant what it raises for an item. A case returns when the batcher
keeps its promise and raises AssertionError, in words, when it does not; a call that gets no answer is a
hang, never an endless test.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from typing import Protocol

import msgspec

HANG_S = 2.0
"""A call that has no answer after this long, with nothing else to do, never gets one."""
STOP_S = 1.0
"""How long the callers of a batcher that is stopped may wait, once the model is free."""
IDLE_S = 0.4


class Death(BaseException):
    """No Exception: what an interrupt or an exit request is to the code in between."""


class Hang(AssertionError):
    """Callers were left without an answer."""


class NotOffered(Exception):
    """The batcher has no such thing as the case is about."""


class Model:
    """Doubles the numbers of a batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.raises: dict[int, BaseException] = {}
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.opened.set()

    def __call__(self, batch: Sequence[int]) -> list[int]:
        self.batches.append(list(batch))
        self.entered.set()
        self.opened.wait(10 * HANG_S)
        for item in batch:
            if (error := self.raises.get(item)) is not None:
                raise error
        return [2 * item for item in batch]

    def hold(self) -> None:
        """Let no batch end before `release`."""
        self.opened.clear()

    def release(self) -> None:
        self.opened.set()


class Batcher(Protocol):
    """A batcher around a model, started."""

    def call(self, item: int) -> Future[int]:
        """Send an item; a refusal is an exception of the future. Must not block."""
        ...

    def end_stream(self) -> None:
        """Say that no more will come; nothing for those that do not want to know."""
        ...

    def stop(self) -> None:
        """Stop as its documentation says, and return when that is done; NotOffered where it has no stop."""
        ...


class Limits(msgspec.Struct, frozen=True):
    """The largest batch, and how long a lone item may wait for company."""

    max_size: int = 4
    max_wait_ms: float = 5.0


Make = Callable[[Model, Limits], Batcher]


class Case(msgspec.Struct, frozen=True):
    """A promise and how to find out whether it is kept.

    `live` says that it waits for an answer before the stream ends, `batches` that it needs room for two.
    """

    check: Callable[[Make, Limits], None]
    live: bool = False
    batches: bool = False


def settle(calls: Sequence[Future[int]], within_s: float = HANG_S) -> None:
    """Wait until all `calls` are answered, in whatever way; Hang if some are not."""
    left = wait_for(calls, within_s).not_done
    if left:
        raise Hang(f"{len(left)} of {len(calls)} callers got no answer within {within_s:g} s")


def served(calls: Sequence[Future[int]]) -> list[int]:
    """Return the answers; AssertionError where one is an error."""
    settle(calls)
    errors = [error for call in calls if (error := call.exception()) is not None]
    assert not errors, f"{len(errors)} of {len(calls)} calls failed: {errors[0]!r}"
    return [call.result() for call in calls]


def tidy_up(batcher: Batcher) -> None:
    """Stop a batcher whose stop is not what the case is about."""
    with suppress(NotOffered):
        batcher.stop()


def own_answers(make: Make, limits: Limits) -> None:
    """Callers on four threads each get their own answer."""
    model = Model()
    batcher = make(model, limits)
    calls: dict[int, Future[int]] = {}

    def send(first: int) -> None:
        for item in range(first, first + 25):
            calls[item] = batcher.call(item)

    senders = [threading.Thread(target=send, args=(1000 * k,)) for k in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    batcher.end_stream()
    items = list(calls)
    assert served([calls[item] for item in items]) == [2 * item for item in items], "answers are mixed up"
    computed = sorted(item for batch in model.batches for item in batch)
    assert computed == sorted(items), "an item was computed not once"
    tidy_up(batcher)


def bounded_in_order(make: Make, limits: Limits) -> None:
    """Batches keep to the largest size and to the order of arrival."""
    model = Model()
    batcher = make(model, limits)
    model.hold()
    calls = [batcher.call(item) for item in range(20)]
    model.release()
    batcher.end_stream()
    served(calls)
    sizes = [len(batch) for batch in model.batches]
    assert max(sizes) <= limits.max_size, f"a batch of {max(sizes)} where {limits.max_size} is the most"
    order = [item for batch in model.batches for item in batch]
    assert order == sorted(order), "a later call overtook an earlier one"
    tidy_up(batcher)


def lone_call(make: Make, limits: Limits) -> None:
    """A call without company is answered once its window is over."""
    batcher = make(Model(), limits)
    assert served([batcher.call(1)]) == [2]
    tidy_up(batcher)


def grows_while_busy(make: Make, limits: Limits) -> None:
    """What comes while the model is busy goes together afterwards."""
    model = Model()
    batcher = make(model, limits)
    model.hold()
    calls = [batcher.call(0)]
    assert model.entered.wait(HANG_S), "a lone call is never computed"
    for item in range(1, limits.max_size + 1):
        calls.append(batcher.call(item))
        time.sleep(2 * limits.max_wait_ms / 1000)  # each window is over before the next call
    model.release()
    served(calls)
    sizes = [len(batch) for batch in model.batches]
    assert sizes == [1, limits.max_size], f"batches of {sizes}"
    tidy_up(batcher)


def poison_alone(make: Make, limits: Limits) -> None:
    """An item that the model raises for fails alone."""
    model = Model()
    batcher = make(model, limits)
    model.raises[2] = ValueError("poison")
    calls = [batcher.call(item) for item in range(4)]
    batcher.end_stream()
    settle(calls)
    lost = [item for item, call in enumerate(calls) if call.exception() is not None and item != 2]
    assert not lost, f"{len(lost)} of 3 good items failed with it"
    assert calls[2].exception() is not None, "the poisoned item has an answer"
    tidy_up(batcher)


def goes_on_after_an_exception(make: Make, limits: Limits) -> None:
    """After the model has raised an Exception the next call is served."""
    model = Model()
    batcher = make(model, limits)
    model.raises[1] = ValueError("poison")
    settle([batcher.call(1)])
    assert served([batcher.call(2)]) == [4]
    tidy_up(batcher)


def death_in_the_model(make: Make, limits: Limits) -> None:
    """When the model raises a BaseException every caller is answered."""
    model = Model()
    batcher = make(model, limits)
    model.raises[2] = Death("the end")
    calls = [batcher.call(item) for item in range(12)]
    batcher.end_stream()
    settle(calls)


def calls_after_a_death(make: Make, limits: Limits) -> None:
    """A call after the model raised a BaseException is answered: served or refused."""
    model = Model()
    batcher = make(model, limits)
    model.raises[1] = Death("the end")
    wait_for([batcher.call(1)], HANG_S)
    settle([batcher.call(2)])


def stop_answers_all(make: Make, limits: Limits) -> None:
    """Stopping with 20 calls in the queue answers all of them within a second."""
    model = Model()
    batcher = make(model, limits)
    model.hold()
    calls = [batcher.call(item) for item in range(20)]
    model.entered.wait(HANG_S)
    stopping: Future[None] = Future()

    def stop() -> None:
        try:
            batcher.stop()
            stopping.set_result(None)
        except NotOffered as missing:
            stopping.set_exception(missing)

    threading.Thread(target=stop, daemon=True).start()
    time.sleep(0.02)
    model.release()
    settle(calls, STOP_S)
    try:
        stopping.result(HANG_S)
    except TimeoutError:
        raise Hang("stopping does not end") from None


def call_after_stop(make: Make, limits: Limits) -> None:
    """A call after the stop is answered: refused."""
    batcher = make(Model(), limits)
    first = batcher.call(1)
    batcher.end_stream()
    served([first])
    batcher.stop()
    settle([batcher.call(2)])


def idle_is_free(make: Make, limits: Limits) -> None:
    """A batcher without calls uses no processor time: at most 2 % of a core, the clock's grain included."""
    batcher = make(Model(), limits)
    calls = [batcher.call(item) for item in range(limits.max_size)]
    settle(calls)
    time.sleep(0.05)
    before_s = time.process_time()
    time.sleep(IDLE_S)
    share = (time.process_time() - before_s) / IDLE_S
    assert share <= 0.02, f"{share:.1%} of a core"
    tidy_up(batcher)


CASES: dict[str, Case] = {
    "own answers": Case(own_answers),
    "bounded, in order": Case(bounded_in_order),
    "lone call": Case(lone_call, live=True),
    "grows while busy": Case(grows_while_busy, live=True, batches=True),
    "poison fails alone": Case(poison_alone),
    "goes on after an error": Case(goes_on_after_an_exception, live=True),
    "death in the model": Case(death_in_the_model),
    "call after a death": Case(calls_after_a_death, live=True),
    "stop with 20 queued": Case(stop_answers_all),
    "call after stop": Case(call_after_stop),
    "idle is free": Case(idle_is_free),
}
"""Every promise, by its short name."""
