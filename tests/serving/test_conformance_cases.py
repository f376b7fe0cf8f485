"""bench's server keeps, under every policy, what a batcher owes its callers; a careless one is found out."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from contextlib import suppress

import pytest

from .conformance import CASES, Limits, Model
from .conformance_bench import SAMPLES, bench_under


@pytest.mark.parametrize(
    ("policy", "case"),
    [
        pytest.param(policy, case, id=f"{policy}, {case}")
        for policy in SAMPLES
        for case, promise in CASES.items()
        if not (promise.live and policy == "static")  # it waits for the end of the stream
        if not (promise.batches and policy == "none")
    ],
)
def test_the_server_keeps_what_a_batcher_owes_its_callers(policy: str, case: str) -> None:
    limits = Limits(max_size=SAMPLES[policy].max_batch)
    CASES[case].check(bench_under(SAMPLES[policy]), limits)


class Textbook:
    """The batcher of many a tutorial: a thread, a queue, and no thought of what may go wrong."""

    def __init__(self, model: Model, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self._calls: queue.Queue[tuple[int, Future[int]]] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    def call(self, item: int) -> Future[int]:
        future: Future[int] = Future()
        self._calls.put((item, future))
        return future

    def end_stream(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def _run(self) -> None:
        while True:
            batch = [self._calls.get()]
            with suppress(queue.Empty):
                while True:  # no bound
                    batch.append(self._calls.get(timeout=self._limits.max_wait_ms / 1000))
            try:
                answers = self._model([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001 - the textbook's way
                for _, future in batch:
                    future.set_exception(error)
            except BaseException:  # noqa: BLE001 - nobody is told
                return
            else:
                for (_, future), answer in zip(batch, answers, strict=True):
                    future.set_result(answer)


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        ("bounded, in order", "a batch of 20 where 4 is the most"),
        ("grows while busy", None),
        ("poison fails alone", "3 of 3 good items failed with it"),
        ("death in the model", "12 of 12 callers got no answer"),
    ],
)
def test_the_cases_find_what_a_careless_batcher_breaks(case: str, complaint: str | None) -> None:
    if complaint is None:
        CASES[case].check(Textbook, Limits())
        return
    with pytest.raises(AssertionError, match=complaint):
        CASES[case].check(Textbook, Limits())
