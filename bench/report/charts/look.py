"""How every chart looks: one palette, one type size, light and dark, on the page and in files alike.

A chart is a Vega-Lite specification. On the page it is drawn by the embedded Vega, for slides by
`vl-convert`, from the same specification: both look alike because they are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Spec = dict[str, Any]
Theme = Literal["light", "dark"]

HIDDEN: Spec = {"name": "hidden", "value": []}
"""The parameter that the page's switches set."""
SHOWN: Spec = {"filter": "indexof(hidden, datum.system) < 0"}
"""The transform by which rows of hidden systems go."""
VEGA_LITE = "6.4"
"""The version of Vega-Lite that draws, among those that vl-convert carries."""
PALETTE = ("#0072b2", "#d55e00", "#875a5a", "#9678ff", "#00a55a", "#c300a5", "#d20f2d", "#ff4b96")
"""Colours of the systems in their order: at least 3:1 on white and on the dark ground, and told apart by eyes
without one kind of cones (any two by 15, neighbours by 30 of CIE 1976's colour difference).

The first two are of M. Okabe and K. Ito, Color Universal Design (2008); the others were searched for, as no
published palette of eight keeps that contrast on both grounds. Dichromats as by G. Machado et al., A
Physiologically-based Model for Simulation of Color Vision Deficiency (2009).
"""
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "M0,-1L.3,-.4L1,-.3L.5,.1L.6,.8L0,.5L-.6,.8L-.5,.1L-1,-.3L-.3,-.4Z",
)
"""The last is a star."""
DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [10, 4], [1, 3], [6, 2, 1, 2])
"""A system is told apart by its dash and shape as well, never by colour alone."""
_DIRECTIONS = {
    "better": ("#0090a0", "triangle-up"),
    "worse": ("#d20f2d", "triangle-down"),
    "unclear": ("#7b8794", "circle"),
    "not resolved": ("#7b8794", "cross"),
    "same": ("#7b8794", "square"),
    "not judged": ("#7b8794", "diamond"),
}
DIRECTION_COLOURS: Spec = {
    "domain": list(_DIRECTIONS),
    "range": [colour for colour, _ in _DIRECTIONS.values()],
}
DIRECTION_SHAPES: Spec = {"domain": list(_DIRECTIONS), "range": [shape for _, shape in _DIRECTIONS.values()]}
"""What a change is, told by shape as well as by colour."""
FAINT_BAND = "#8a94a0"
"""A band behind the marks, drawn nearly transparent."""
INK: dict[Theme, str] = {"light": "#1b1f24", "dark": "#e6e8eb"}
FAINT: dict[Theme, str] = {"light": "#d9dde2", "dark": "#3a4048"}
GROUND: dict[Theme, str] = {"light": "#ffffff", "dark": "#14171a"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def systems_scale(systems: Sequence[str], values: Sequence[Any] = PALETTE) -> dict[str, Any]:
    """Return a scale on which every system of an evaluation keeps its value in every chart.

    Colours repeat after eight systems; shapes and dashes then start one further on, so that a colour with a
    shape, or with a dash, belongs to one system alone (of up to 64).
    """
    turn = 0 if values is PALETTE else 1
    places = [(i + turn * (i // len(PALETTE))) % len(values) for i in range(len(systems))]
    return {"domain": list(systems), "range": [values[place] for place in places]}


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
        "tick": {"color": ink},
        "point": {"color": ink},
    }
