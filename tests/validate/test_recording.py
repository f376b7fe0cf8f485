"""What a validation writes beside what others wrote."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tests.validate.recording import Check, record


def test_entries_of_other_validations_stay(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    record({"b": Check(value=1.0, bound=2.0, direction="at most", n=3, seed=7)}, path)
    record({"a": Check(value=1.0, bound=2.0, direction="at least", n=1)}, path)
    record({"b": Check(value=4.0, bound=2.0, direction="at most", n=5, seed=8)}, path)
    found = json.loads(path.read_text())
    assert list(found) == ["a", "b"]
    assert found["a"]["ok"] is False
    assert found["b"] == {"value": 4.0, "bound": 2.0, "direction": "at most", "ok": False, "n": 5, "seed": 8}


def test_a_value_that_is_no_number_never_holds() -> None:
    assert not Check(value=math.nan, bound=1.0, direction="at most", n=1).ok
    assert not Check(value=math.nan, bound=1.0, direction="at least", n=1).ok
