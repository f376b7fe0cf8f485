"""The figures of a running job as short texts: what is not known is a dash, never a number."""

from __future__ import annotations

from bench.analysis.numbers import shown
from bench.records import Figures

UNKNOWN = "-"


def cells(figures: Figures) -> list[tuple[str, str]]:
    """Return every figure as a label and a value, always in the same places."""
    return [
        ("answered", _answered(figures)),
        ("offered", _with_unit(figures.rate_rps, "req/s")),
        ("tokens", _with_unit(figures.tokens_per_s, "/s", 0)),
        ("p50 so far", _with_unit(figures.p50_ms, "ms")),
        ("p95 so far", _with_unit(figures.p95_ms, "ms")),
        _memory(figures),
        ("queued", _count(figures.queued)),
        ("running", _count(figures.running)),
        ("power", _with_unit(figures.power_w, "W")),
    ]


def failed(figures: Figures) -> str:
    """Return how many of those answered have no result; '' where all have."""
    return f"{figures.failed:,} of the answered failed" if figures.failed else ""


def in_line(figures: Figures) -> str:
    """Return the same in one line."""
    texts = [f"{label} {value}" for label, value in cells(figures)]
    return ", ".join([*texts, failed(figures)] if figures.failed else texts)


def _answered(figures: Figures) -> str:
    if figures.completed is None or figures.due is None:
        return _count(figures.completed)
    return f"{figures.completed:,}/{figures.due:,}"


def _memory(figures: Figures) -> tuple[str, str]:
    if figures.gpu_memory_gb is not None:
        return "GPU memory", _with_unit(figures.gpu_memory_gb, "GB")
    return "host memory", _with_unit(figures.host_memory_gb, "GB")


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _with_unit(value: float | None, unit: str, digits: int | None = None) -> str:
    if value is None:
        return UNKNOWN
    return f"{shown(value, 3) if digits is None else f'{value:,.{digits}f}'} {unit}".replace(" /", "/")
