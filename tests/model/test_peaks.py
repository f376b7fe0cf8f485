"""What the device reaches: plausible figures, reasons for the rest, nothing kept."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from bench.model import peaks
from bench.model.peaks import measure_peaks


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "CPU_COPY_BYTES", 1 << 22)
    monkeypatch.setattr(peaks, "CPU_PRODUCT_S", 1e-4)
    monkeypatch.setattr(peaks, "TRIALS", 3)


def test_a_copy_and_a_product_are_measured_in_plausible_units() -> None:
    found = measure_peaks("cpu", ["float32"], seconds=0.01)
    assert 0.05 < found["copy_gb_per_s"] < 2000
    assert 1e-4 < found["matmul_tflops"]["float32"] < 100
    assert found["matmul_size"]["float32"] >= peaks.CPU_FIRST_SIZE
    assert found["why"] == {}


def test_a_type_that_torch_cannot_multiply_has_a_reason_and_no_figure() -> None:
    found = measure_peaks("cpu", ["int8", "float32"], seconds=0.01)
    assert set(found["matmul_tflops"]) == {"float32"}
    assert "int8" in found["why"]["int8"]


def test_what_torch_refuses_is_a_reason_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def refuse(*args: Any, **options: Any) -> Any:
        raise RuntimeError("not enough memory\nsecond line")

    monkeypatch.setattr(torch, "ones", refuse)
    monkeypatch.setattr(torch, "matmul", refuse)
    found = measure_peaks("cpu", ["float32"], seconds=0.01)
    assert found["why"] == {"copy": "not enough memory", "float32": "not enough memory"}
    assert "copy_gb_per_s" not in found
    assert found["matmul_tflops"] == {}


def test_a_device_twice_as_slow_measures_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures follow the clock: each call takes as long as the clock says."""
    seconds = {"now": 0.0}
    for took_s, expected in ((0.5, 2 * (1 << 22) / 0.5 / 1e9), (1.0, 2 * (1 << 22) / 1.0 / 1e9)):
        calls = iter(range(10_000))

        def now(step_s: float = took_s, ticks: Any = calls) -> float:
            seconds["now"] = next(ticks) * step_s
            return seconds["now"]

        monkeypatch.setattr("bench.model.peaks.time.perf_counter", now)
        found = measure_peaks("cpu", [], seconds=1.0)
        n = found["copy_bytes"]
        assert found["copy_gb_per_s"] == pytest.approx(expected * n / (1 << 22))


def test_nothing_stays_allocated() -> None:
    import torch

    def held() -> int:
        gc.collect()
        return sum(t.numel() for t in gc.get_objects() if issubclass(type(t), torch.Tensor))

    before = held()
    measure_peaks("cpu", ["float32"], seconds=0.01)
    assert held() == before


def test_the_last_cache_is_read_where_the_kernel_tells_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peaks, "_CPU_CACHES", tmp_path)
    assert measure_peaks("cpu", [], 0.0)["cache_bytes"] is None
    for name, size in (("index0", "48K"), ("index3", "32M"), ("index4", "what")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "size").write_text(f"{size}\n")
    assert measure_peaks("cpu", [], 0.0)["cache_bytes"] == 32 << 20
