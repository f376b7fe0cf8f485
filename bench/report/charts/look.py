"""How every chart looks: one palette, one type size, light and dark, on the page and in files alike.

A chart is a Vega-Lite specification. On the page it is drawn by the embedded Vega, for slides by
`vl-convert`, from the same specification: both look alike because they are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Spec = dict[str, Any]
Theme = Literal["light", "dark"]

VEGA_LITE = "6.4"
"""The version of Vega-Lite that draws, among those that vl-convert carries."""
PALETTE = ("#0072b2", "#d55e00", "#00875f", "#b4558f", "#8a6d00", "#4f6fd0", "#a8483a", "#5b7b8c")
"""Colours of the systems in their order, after Okabe and Ito, at least 3:1 on white and on the dark ground.

Source: M. Okabe, K. Ito, Color Universal Design (2008), darkened where they were too light on white.
"""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "stroke")
DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [10, 4], [1, 3], [6, 2, 1, 2])
"""A system is told apart by its dash and shape as well, never by colour alone."""
INK: dict[Theme, str] = {"light": "#1b1f24", "dark": "#e6e8eb"}
FAINT: dict[Theme, str] = {"light": "#d9dde2", "dark": "#3a4048"}
GROUND: dict[Theme, str] = {"light": "#ffffff", "dark": "#14171a"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def systems_scale(systems: Sequence[str], values: Sequence[Any] = PALETTE) -> dict[str, Any]:
    """Return a scale on which every system of an evaluation keeps its value in every chart."""
    return {"domain": list(systems), "range": [values[i % len(values)] for i in range(len(systems))]}


def config(theme: Theme) -> Spec:
    """Return Vega-Lite's `config` of a theme."""
    ink, faint = INK[theme], FAINT[theme]
    text = {
        "labelColor": ink,
        "titleColor": ink,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
    }
    return {
        "background": GROUND[theme],
        "font": FONT,
        "view": {"stroke": None},
        "axis": {**text, "domainColor": ink, "tickColor": ink, "gridColor": faint, "labelLimit": 260},
        "header": text,
        "legend": text,
        "title": {"color": ink, "subtitleColor": ink, "fontSize": 14, "anchor": "start"},
        "text": {"color": ink},
        "rule": {"color": ink},
    }
