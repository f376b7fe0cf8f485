"""The dated tables that ship with bench: GPU specifications, prices, grid intensities.

They are facts and assumptions with a source each, never measurements.
"""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU's data sheet; dense figures, None where no source gives one."""

    label: str
    memory_gb: float
    bandwidth_gb_per_s: float
    confidence: str
    source: str
    fp16_tflops: float | None = None
    int8_tops: float | None = None
    fp8_tflops: float | None = None
    tdp_w: float | None = None


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one GPU costs per hour, on demand; `date` is None where the source's snapshot is undated."""

    usd_per_gpu_hour: float
    provider: str
    source: str
    region: str | None = None
    date: str | None = None


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An electricity grid's carbon intensity; `low` and `high` span the published compilations."""

    name: str
    kg_co2e_per_kwh: float
    low: float
    high: float
    years: str
    source: str


@functools.cache
def gpus() -> dict[str, Gpu]:
    """Return the GPU specifications by NVML name."""
    return _table("gpus.toml", Gpu)


@functools.cache
def prices() -> dict[str, Price]:
    """Return the prices by NVML name."""
    return _table("prices.toml", Price)


@functools.cache
def grids() -> dict[str, Grid]:
    """Return the grid intensities by country code."""
    return _table("grid.toml", Grid)


def _table(name: str, row: type[T]) -> dict[str, T]:
    text = (resources.files("bench") / "data" / name).read_text(encoding="utf-8")
    # Not strict: a whole number in the file is a number like any other.
    return msgspec.convert(tomllib.loads(text), dict[str, row], strict=False)  # type: ignore[valid-type]
