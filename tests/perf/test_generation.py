"""The generation benchmark tells the waste of each way apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.records import Request
from tests.perf import generation
from tests.perf.generation import Floor, Measured, Waste, table, waste_of_steps

REQUESTS = [Request(uid=i, due_s=0.0, prompt_ids=range(10 + i), output_tokens=5 + i) for i in range(2)]


def test_the_waste_of_a_way_is_what_that_way_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"prefill_positions": 7, "decode_positions": 7, "padded_positions": 7}
    monkeypatch.setattr(
        generation, "prepared", lambda loaded: SimpleNamespace(facts=counts | {"cache": "none"})
    )

    def way(padded: int) -> generation.Way:
        def run(loaded: Any, requests: Any) -> generation.Tokens:
            counts["prefill_positions"] += 21
            counts["decode_positions"] += 9
            counts["padded_positions"] += padded
            return {}

        return run

    loaded: Any = None
    assert waste_of_steps(way(0), loaded, REQUESTS) == Waste(0.0, 0.0)
    assert waste_of_steps(way(3), loaded, REQUESTS) == Waste(0.0, 0.25)


def test_the_table_shows_each_ways_own_waste_and_what_is_0_by_construction() -> None:
    found = Measured({name: [2.0] for name in generation.WAYS}, [Floor(0.5, 0.5)])
    text = table(REQUESTS, found, {"steps": Waste(0.0, 0.0), "steps in batches": Waste(0.0, 0.25)})
    rows = {line[:16].strip(): line[24:].split() for line in text.splitlines()[2:-2]}
    assert rows["steps"][:2] == ["0%", "0%"]
    assert rows["steps in batches"][:2] == ["0%", "25%"]
    assert rows["transformers"][:2] == ["-", "-"]
    last = text.splitlines()[-1]
    assert last.startswith("waste of one by one, steps: 0 by construction")
