from __future__ import annotations

from typing import Any

import pytest

from bench.analysis.figures.batches import batches
from bench.records import Completion
from tests.analysis.figures.evaluating import cells, evaluation_of, of_requests, of_runs
from tests.recorded import completion


def _batch(of: int, first: int, **changes: Any) -> list[Completion]:
    return [completion(10.0 + (first + i) / 100, batch_id=first, batch_size=of, **changes) for i in range(of)]


def test_a_batch_counts_once_and_each_of_its_requests_once() -> None:
    rows = [*_batch(8, 0), *(row for i in range(8) for row in _batch(1, 100 + i))]
    figure = batches(evaluation_of(of_requests(rows)))
    assert cells(figure, "sizes", "of", "size", "percent", "n") == [
        ("batches", "1", pytest.approx(800 / 9, rel=1e-4), 8),
        ("batches", "8", pytest.approx(100 / 9, rel=1e-4), 1),
        ("requests", "1", 50.0, 8),
        ("requests", "8", 50.0, 8),
    ]
    assert "1.78 with baseline" in figure.reading


def test_many_sizes_are_put_together_by_powers_of_two() -> None:
    rows = [row for size in range(1, 17) for row in _batch(size, 50 * size)]
    figure = batches(evaluation_of(of_requests(rows)))
    assert [size for (size,) in cells(figure, "sizes", "size", of="batches")] == [
        "1",
        "2",
        "3–4",
        "5–8",
        "9–16",
    ]
    assert sum(n for (n,) in cells(figure, "sizes", "n", of="batches")) == 16
    assert "powers of two" in figure.datasets["sizes"].thinned


def test_reasons_are_shares_that_fill_a_bar() -> None:
    rows = [
        *_batch(3, 0, admit_reason="window 20 ms", wait_reason="window"),
        *_batch(1, 100, admit_reason="size", wait_reason="busy"),
    ]
    figure = batches(evaluation_of(of_requests(rows)))
    keys = ("of", "reason", "percent", "start", "end")
    assert cells(figure, "reasons", *keys) == [
        ("went because", "window", 75.0, 0.0, 75.0),
        ("went because", "size", 25.0, 75.0, 100.0),
        ("waited because", "window", 75.0, 0.0, 75.0),
        ("waited because", "busy", 25.0, 75.0, 100.0),
    ]


def test_padding_is_that_of_the_metrics_and_what_is_missing_is_said() -> None:
    known = batches(evaluation_of(of_requests(_batch(4, 0))))
    shares = dict(cells(known, "padding", "of", "percent"))
    # Two padded positions to 8 of the prompt and 4 of decoding; one of each in prefill and decode.
    assert shares["all positions"] == pytest.approx(200 / 14, rel=1e-4)
    assert shares["prefill positions"] == pytest.approx(100 / 9, rel=1e-4)
    assert shares["decode positions"] == 20.0
    unknown = batches(
        evaluation_of(of_requests(_batch(4, 0, padded_tokens=None, padded_prefill_tokens=None)))
    )
    assert unknown.datasets["padding"].rows == ()
    assert any("padding was not recorded" in note for note in unknown.notes)


def test_without_batches_there_is_nothing_to_draw() -> None:
    assert "no repeat at a common rate was completed" in batches(evaluation_of(of_runs())).missing
