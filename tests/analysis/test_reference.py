"""The tables that ship: every row parses, says where it is from and when, and agrees with itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bench.analysis import reference
from bench.analysis.reference import Gpu

DAY = re.compile(r"20\d\d(-\d\d(-\d\d)?)?")


@pytest.mark.parametrize("table", [reference.gpus, reference.prices, reference.grids])
def test_every_row_has_a_source_a_date_or_its_absence_and_a_confidence(
    table: Callable[[], dict[str, Any]],
) -> None:
    rows = table()
    assert rows
    for name, row in rows.items():
        assert row.source.strip(), name
        assert row.confidence in ("ok", "check"), name
        assert row.date is None or DAY.fullmatch(row.date), name


def test_only_a_price_may_be_undated() -> None:
    assert all(gpu.date for gpu in reference.gpus().values())
    assert all(grid.date for grid in reference.grids().values())


def test_every_priced_gpu_has_a_specification_and_every_span_holds_its_figure() -> None:
    assert set(reference.prices()) <= set(reference.gpus())
    for price in reference.prices().values():
        assert (price.low is None) == (price.high is None) == (price.range_source is None)
        if price.low is not None and price.high is not None:
            assert price.low <= price.usd_per_gpu_hour <= price.high
    for grid in reference.grids().values():
        assert grid.low <= grid.kg_co2e_per_kwh <= grid.high


def test_no_row_with_one_source_claims_that_sources_agree() -> None:
    """Several sources are told apart by a semicolon."""
    for table in (reference.gpus(), reference.prices(), reference.grids()):
        for name, row in table.items():
            assert row.confidence == "check" or ";" in row.source, name
    assert reference.caution("ok") == ""
    assert "check" in reference.caution("check")


def test_what_the_hardware_lacks_is_absent() -> None:
    known = reference.gpus()
    assert known["Tesla T4"].tflops("bfloat16") is None
    assert known["Tesla V100-SXM2-32GB"].tflops("bfloat16") is None
    assert known["Tesla V100-SXM2-32GB"].tflops("int8") is None
    assert known["NVIDIA H200"].tflops("int8") == 1979
    assert known["NVIDIA H200"].tflops("float32") is None


def test_peaks_are_dense() -> None:
    """A figure with sparsity is twice too much, and then eight bits are not twice as fast as sixteen.

    On a GeForce they are four times as fast: it accumulates 16-bit products in 32 bit at half the rate.
    """
    for name, gpu in reference.gpus().items():
        if gpu.fp16_tflops is not None and gpu.int8_tops is not None:
            assert gpu.int8_tops / gpu.fp16_tflops == pytest.approx(
                4.0 if "GeForce" in name else 2.0, rel=0.02
            )
        if gpu.bf16_tflops is not None:
            assert gpu.bf16_tflops == gpu.fp16_tflops


def test_no_gpu_computes_fewer_operations_per_byte_than_it_would_need_to() -> None:
    """A slipped power of ten shows in the ratio of compute to bandwidth, which lies in a narrow band."""
    for name, gpu in reference.gpus().items():
        if gpu.fp16_tflops is not None:
            assert 70 < gpu.fp16_tflops * 1e3 / gpu.bandwidth_gb_per_s < 450, name


def test_a_row_without_source_or_date_is_refused() -> None:
    whole = msgspec.to_builtins(reference.gpus()["NVIDIA H200"])
    for key in ("source", "date", "confidence"):
        with pytest.raises(msgspec.ValidationError, match=key):
            msgspec.convert({k: v for k, v in whole.items() if k != key}, Gpu)
