"""The dated tables that ship with bench: GPU specifications, prices, grid intensities.

They are facts and assumptions with a source, a date and a confidence each, never measurements. `confidence`
is "ok" where independent sources agree, else "check", which the notes of what is made of the row repeat.
"""

from __future__ import annotations

import difflib
import functools
import tomllib
from importlib import resources
from typing import Literal, TypeVar

import msgspec

from bench.errors import ConfigError

T = TypeVar("T")
Confidence = Literal["ok", "check"]


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU's data sheet; dense figures, None where no source gives one or the hardware has none.

    Products of 16-bit inputs accumulate in 32 bit. `l2_mb` is the last cache before memory.
    """

    label: str
    memory_gb: float
    bandwidth_gb_per_s: float
    confidence: Confidence
    source: str
    date: str
    fp16_tflops: float | None = None
    bf16_tflops: float | None = None
    int8_tops: float | None = None
    fp8_tflops: float | None = None
    l2_mb: float | None = None
    tdp_w: float | None = None

    def tflops(self, dtype: str) -> float | None:
        """Return the peak of products of `dtype` (torch's name), 10¹² operations/s; None where unknown."""
        peaks = {"float16": self.fp16_tflops, "bfloat16": self.bf16_tflops, "int8": self.int8_tops}
        return peaks.get(dtype)


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one GPU costs per hour, on demand; `date` is None where the source's snapshot is undated.

    `low` and `high` are what providers ask for the same GPU, None where that was not looked up.
    """

    usd_per_gpu_hour: float
    provider: str
    confidence: Confidence
    source: str
    region: str | None = None
    date: str | None = None
    low: float | None = None
    high: float | None = None
    range_source: str | None = None


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An electricity grid's carbon intensity in a year; `low` and `high` span the published compilations."""

    name: str
    kg_co2e_per_kwh: float
    low: float
    high: float
    date: str
    confidence: Confidence
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


def caution(confidence: Confidence) -> str:
    """Return what a figure's note says of a row: nothing, or that it is to be checked."""
    return "" if confidence == "ok" else "; check: no second source agrees"


def grid_of(code: str) -> Grid:
    """Return the grid of a country code; ConfigError with the nearest ones where the table lacks it."""
    known = grids()
    if code in known:
        return known[code]
    close = difflib.get_close_matches(code.upper(), known, n=1, cutoff=0.5)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ConfigError(
        f"assumptions.grid = {code!r} is unknown{hint}; known are {', '.join(known)}; "
        "or state assumptions.kg_co2e_per_kwh"
    )


def _table(name: str, row: type[T]) -> dict[str, T]:
    text = (resources.files("bench") / "data" / name).read_text(encoding="utf-8")
    # Not strict: a whole number in the file is a number like any other.
    return msgspec.convert(tomllib.loads(text), dict[str, row], strict=False)  # type: ignore[valid-type]
