"""Bars under headings, system by system: each with its figure at the right and its interval at its end."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.figure import Dataset, Figure
from bench.report.charts.drawing import coloured, label_room, rows, tooltip
from bench.report.charts.listing import keyed, layered, named, text_layers, told, unnamed
from bench.report.charts.look import FAINT_BAND, Spec


def bars(
    figure: Figure,
    name: str,
    *,
    heading: str,
    figure_text: str,
    x: Spec,
    keys: tuple[str, str, str],
    beside: tuple[str, ...] = (),
    band: tuple[str, str] | None = None,
    where: tuple[Spec, ...] = (),
    extra: tuple[Spec, ...] = (),
) -> Spec:
    """Return the view of a dataset's rows: a bar to the field `keys[0]`, its interval from `[1]` to `[2]`.

    `figure_text` is the expression of the text at the right, `x` the axis, `beside` the fields that
    are written under each heading, a line each, `band` the fields of a wider span. `where` are transforms of
    all rows, `extra` further layers.
    """
    dataset: Dataset = figure.datasets[name]
    placed = (*where, keyed("system", figure_text))
    value, low, high = keys
    along = {**x, "type": "quantitative"}
    words = tooltip(dataset)
    letters = max(6, min(22, label_room(figure.systems) // 6))
    layers: list[Spec] = [*text_layers(name, heading, beside, where)]
    layers.append(
        {
            **rows(name, *placed),
            "mark": {"type": "bar", "height": {"band": 0.62}, "opacity": 0.85},
            "encoding": {
                "x": {**along, "field": value},
                "y": named(letters),
                "color": coloured(figure, legend=False),
                "tooltip": words,
            },
        }
    )
    if band is not None:
        layers.append(
            _span(name, placed, along, band, {"strokeWidth": 7, "color": FAINT_BAND, "opacity": 0.45})
        )
    layers.append(_span(name, placed, along, (low, high), {"strokeWidth": 1.5}))
    layers.append(
        {
            **rows(name, *placed),
            "mark": {"type": "point", "opacity": 0, "tooltip": None},
            "encoding": {"x": {**along, "field": value}, "y": told()},
        }
    )
    return layered(*layers, *extra)


def _span(name: str, placed: Sequence[Spec], along: Spec, ends: tuple[str, str], mark: Spec) -> Spec:
    known = {"filter": f"isValid(datum.{ends[0]}) && isValid(datum.{ends[1]})"}
    return {
        **rows(name, *placed, known),
        "mark": {"type": "rule", "tooltip": None, **mark},
        "encoding": {"x": {**along, "field": ends[0]}, "x2": {"field": ends[1]}, "y": unnamed()},
    }
