"""Rows under headings in one view: names at the left, figures at the right, marks between them.

A row's key is its place, its name and its figure; the two axes show a part of it each. So a chart of many
rows follows its container's width like any other, and a row that is hidden goes with its texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.report.charts.drawing import PIXELS_PER_LETTER, rows
from bench.report.charts.look import Spec

STEP_PX = 19
APART, BOLD = "\u2063", "\u2064"
"""What parts a key and what marks a heading, both invisible."""
HEADING, ROW = 0, 9
"""Parts of a group in their order: the heading, the lines of text under it from 1 on, and its rows."""
FITTED: Spec = {"name": "autosize", "value": {"type": "fit-x", "contains": "padding"}}
"""The parameter that fits a chart of rows into its container's width, as Vega's own signal.

Vega-Lite's `autosize` warns where the height goes by steps, although `fit-x` leaves it alone; so the view is
one level down, where Vega-Lite fits nothing by itself.
"""
Y: Spec = {"field": "key", "type": "nominal", "sort": "ascending"}


def keyed(label: str, figure: str) -> Spec:
    """Return what gives each row its key: `label` is a field, `figure` an expression for the text."""
    return _key(ROW, f"datum['{label}']", f"({figure})")


def _key(part: int, name: str, figure: str) -> Spec:
    place = f"format(datum.place, '05d') + '{part}{APART}'"
    return {"calculate": f"{place} + {name} + '{APART}' + {figure}", "as": "key"}


def _first(*fields: str) -> Spec:
    """Return what leaves one row of each group, with the place of its first."""
    return {"aggregate": [{"op": "min", "field": "place", "as": "place"}], "groupby": list(fields)}


def named(letters: int = 18) -> Spec:
    """Return the axis of the names, at the left."""
    return Y | {"axis": _axis(1, "left", letters)}


def told(letters: int = 18) -> Spec:
    """Return the axis of the figures, at the right."""
    return Y | {"axis": _axis(2, "right", letters)}


def unnamed() -> Spec:
    """Return the same rows without an axis, for further marks."""
    return Y | {"axis": None}


def heading_layer(name: str, heading: str, *, switched: bool, where: Sequence[Spec] = ()) -> Spec:
    """Return the layer that makes room for the headings, which the axis of the names then shows."""
    key = _key(HEADING, f"'{BOLD}' + datum['{heading}']", "''")
    return {
        **rows(name, *where, _first(heading), key, switched=switched),
        "mark": {"type": "text", "text": ""},
        "encoding": {"y": unnamed()},
    }


def text_layers(
    name: str, heading: str, beside: Sequence[str] = (), where: Sequence[Spec] = ()
) -> Iterator[Spec]:
    """Return the layers of headings inside the view, and, under each, of the texts in the fields `beside`."""
    bold, small = {"fontWeight": "bold", "fontSize": 12}, {"fontSize": 11, "opacity": 0.85}
    for i, field in enumerate((heading, *beside)):
        known = {"filter": f"isValid(datum['{field}'])"}
        yield {
            **rows(name, *where, known, _first(field, heading), _key(i, "''", "''")),
            "mark": {"type": "text", "align": "left", "limit": {"expr": "width"}, **(small if i else bold)},
            "encoding": {
                "y": unnamed(),
                "x": {"value": 2},
                "text": {"field": field},
                "tooltip": {"field": field, "title": "By" if i else "Figure"},
            },
        }


def layered(*layers: Spec) -> Spec:
    """Return the view of the layers, each axis drawn by the one that has it; `FITTED` goes with its chart."""
    own: Spec = {"resolve": {"axis": {"y": "independent"}}}
    view = {**own, "width": "container", "height": {"step": STEP_PX}, "layer": list(layers)}
    return {**own, "layer": [view]}


def _axis(part: int, orient: str, letters: int) -> Spec:
    text = f"split(datum.label, '{APART}')[{part}]"
    is_heading = f"indexof(datum.label, '{BOLD}') >= 0"
    return {
        "title": None,
        "orient": orient,
        "domain": False,
        "ticks": False,
        "labelPadding": 4,
        "labelLimit": int(letters * PIXELS_PER_LETTER),
        "labelExpr": f"replace({text}, '{BOLD}', '')",
        "labelFontWeight": {"condition": {"test": is_heading, "value": "bold"}, "value": "normal"},
    }
