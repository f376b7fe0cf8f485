from __future__ import annotations

from bench.model.memory import FIELDS, reset_peaks, torch_memory


def test_on_the_cpu_torchs_memory_is_missing_with_a_reason_and_never_zero() -> None:
    reset_peaks("cpu")
    figures = torch_memory("cpu")
    assert tuple(figures) == FIELDS
    for value in figures.values():
        assert (value.value, value.source) == (None, "missing")
        assert "no account of memory" in value.note
