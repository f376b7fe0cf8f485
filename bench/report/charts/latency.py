"""The chart of latencies: the share of requests within a time, and below it how each system's are spread."""

from __future__ import annotations

from bench.analysis.figure import Dataset, Figure
from bench.report.charts.drawing import chart, rows, tooltip
from bench.report.charts.look import Spec
from bench.report.charts.panels import (
    GUTTER,
    across,
    beside,
    chosen,
    dashed,
    ends_of_choice,
    layer,
    panel,
    right_of_gutter,
    told_apart,
    zoomed,
)

ROOM = 1.04
"""The axis reaches this much beyond the shortest and the longest."""
HEIGHT = 240
NARROW = 430
"""Up to this width a lane has no room for figures beside its name."""
SHOWN_TIME = {"filter": "datum.what == what"}
IN_SIGHT = right_of_gutter("ms", "ms")
MARKED = {"filter": "datum.percentile == 'p50' || datum.percentile == 'p95'"}
FOOT, TOP, HEAD = 0.96, 0.36, "0.04"
"""A lane's bars stand between the first two parts of its height, its name begins at the third."""
TEXT: Spec = {"baseline": "top", "fontSize": 12}


def latency(figure: Figure) -> Spec:
    """Return the curves and the lanes of one time at a time: latency, TTFT or TPOT."""
    return chart(
        figure,
        *figure.datasets,
        params=[chosen("what", "Time", _times(figure))],
        vconcat=[_curves(figure), _lanes(figure)],
        spacing=14,
        resolve={"scale": {"x": "shared"}},
    )


def _times(figure: Figure) -> list[str]:
    return list(dict.fromkeys(str(row["what"]) for row in figure.datasets["ecdf"].rows))


def _x(figure: Figure, field: str, *, bare: bool = False) -> Spec:
    """Return the axis of the chosen time, logarithmic."""
    ends = ends_of_choice("what", {what: _ends(figure, what) for what in _times(figure)})
    scale: Spec = {"type": "log", "nice": False, **ends}
    axis = {"title": "ms", "labelOverlap": "greedy", "labelSeparation": 8}
    return across(field, scale=scale, axis=None if bare else axis)


def _ends(figure: Figure, what: str) -> tuple[float, float]:
    """Return the ends of a time's axis: those of its rows and of its objective, with some room."""
    every = [row for name in ("ecdf", "objective") for row in figure.datasets[name].rows]
    found = [row["ms"] for row in every if row["what"] == what and isinstance(row["ms"], float)]
    return float(f"{min(found) / ROOM:.5g}"), float(f"{max(found) * ROOM:.5g}")


def _objective(figure: Figure, *, bare: bool) -> list[Spec]:
    if not figure.datasets["objective"].rows:
        return []
    rule = {"strokeDash": [4, 3], "strokeWidth": 1.5}
    words = tooltip(figure.datasets["objective"])
    data = rows("objective", SHOWN_TIME, IN_SIGHT, switched=False)
    return [layer(data, "rule", rule, x=_x(figure, "ms", bare=bare), tooltip=words)]


def _objective_name(figure: Figure) -> list[Spec]:
    """Return the objective's name beside its rule, on the side where there is room."""
    found = figure.datasets["objective"].rows
    if not found:
        return []
    low, high = _ends(figure, "latency")
    on_right = float(found[0]["ms"] or 0.0) ** 2 > low * high  # of a logarithmic axis
    text = {"align": "right", "dx": -5} if on_right else {"align": "left", "dx": 5}
    told = {"calculate": "datum.name + ' ' + format(datum.ms, ',~r') + ' ms'", "as": "told"}
    data = rows("objective", SHOWN_TIME, IN_SIGHT, told, switched=False)
    y = {"value": HEIGHT - 14 if on_right else 16}
    return [layer(data, "text", {**text, "fontSize": 12}, x=_x(figure, "ms"), y=y, text={"field": "told"})]


def _curves(figure: Figure) -> Spec:
    looks, ecdf = told_apart(figure), rows("ecdf", SHOWN_TIME, IN_SIGHT)
    y = {
        "field": "percent",
        "type": "quantitative",
        "scale": {"domain": [0, 100]},
        "axis": beside(values=[0, 25, 50, 75, 95, 100]),
    }
    curve: Spec = {"x": _x(figure, "ms"), "y": y, "color": looks["color"]}
    step = {"interpolate": "step-after", "strokeWidth": 2}
    touched = {"opacity": 0, "size": 90}
    layers = [
        *_objective(figure, bare=False),
        *_objective_name(figure),
        layer({**ecdf, "params": [zoomed("closer")]}, "line", step, **curve, strokeDash=dashed(figure)),
        layer(ecdf, "point", touched, **curve, tooltip=tooltip(figure.datasets["ecdf"])),
    ]
    percentiles = figure.datasets["percentiles"]
    if _known(percentiles):
        mark = {"filled": True, "size": 85, "opacity": 1}
        data, words = rows("percentiles", SHOWN_TIME, MARKED, IN_SIGHT), tooltip(percentiles)
        layers.append(layer(data, "point", mark, **curve, shape=looks["shape"], tooltip=words))
    return panel("('Requests within a ' + what + ' (%); marks: pooled p50 and p95')", layers, HEIGHT)


def _known(percentiles: Dataset) -> bool:
    return any(row["ms"] is not None for row in percentiles.rows)


def _lanes(figure: Figure) -> Spec:
    """Return a lane per system with its histogram, its name and its p50 and p95 in figures."""
    n, looks = len(figure.systems), told_apart(figure)
    color = looks["color"]
    bars = rows(
        "histogram",
        SHOWN_TIME,
        right_of_gutter("from_ms", "ms"),
        *_at(foot=f"{FOOT}", top=f"{FOOT} - {FOOT - TOP} * datum.height"),
    )
    once: Spec = {"aggregate": [{"op": "count", "as": "n"}], "groupby": ["system", "lane"]}
    names = rows("histogram", SHOWN_TIME, once, *_at(head=HEAD))
    span: Spec = {"x": _x(figure, "from_ms", bare=True), "x2": {"field": "to_ms"}}
    stand: Spec = {"y": _lane(figure, "foot"), "y2": {"field": "top"}}
    words = tooltip(figure.datasets["histogram"])
    room = {"expr": f"width - {GUTTER} - (width > {NARROW} ? 270 : 14)"}
    # Names are in ink, for a system's colour has no contrast for text; its mark stands before it.
    name: Spec = {**TEXT, "align": "left", "fontWeight": 600, "limit": room}
    mark: Spec = {"filled": True, "size": 60, "opacity": 1, "yOffset": 6}
    y = _lane(figure, "head")
    layers = [
        *_objective(figure, bare=True),
        layer(bars, "bar", {"opacity": 0.7, "binSpacing": 0}, **span, **stand, color=color, tooltip=words),
        layer(names, "point", mark, x={"value": GUTTER + 8}, y=y, **looks),
        layer(names, "text", name, x={"value": GUTTER + 17}, y=y, text={"field": "system"}),
        *_lane_figures(figure),
    ]
    return panel("('Spread of the ' + what)", layers, max(32, 56 - 2 * n) * n)


def _lane_figures(figure: Figure) -> list[Spec]:
    """Return p50 and p95 as lines through the lanes, and in figures at their right where there is room."""
    percentiles = figure.datasets["percentiles"]
    if not _known(percentiles):
        return []
    both = (
        f"(isValid(datum.{p}) ? '{p} ' + format(datum.{p}, ',.4~r') + ' ms' : 'no {p}')"
        for p in ("p50", "p95")
    )
    told: list[Spec] = [
        {"pivot": "percentile", "value": "ms", "groupby": ["system", "lane"]},
        {"filter": f"width > {NARROW}"},
        {"calculate": "'pooled ' + " + " + ',  ' + ".join(both), "as": "told"},
    ]
    figures = rows("percentiles", SHOWN_TIME, MARKED, *told, *_at(head=HEAD))
    ticks = rows("percentiles", SHOWN_TIME, MARKED, IN_SIGHT, *_at(foot=f"{FOOT}", top=f"{TOP - 0.06}"))
    stand: Spec = {"y": _lane(figure, "foot"), "y2": {"field": "top"}, "tooltip": tooltip(percentiles)}
    right: Spec = {"x": {"value": {"expr": "width - 4"}}, "y": _lane(figure, "head")}
    return [
        layer(ticks, "rule", {"strokeWidth": 2}, x=_x(figure, "ms", bare=True), **stand),
        layer(figures, "text", {**TEXT, "align": "right"}, **right, text={"field": "told"}),
    ]


def _at(**parts: str) -> list[Spec]:
    """Return what places things within a lane, by parts of its height."""
    return [{"calculate": f"datum.lane + {part}", "as": name} for name, part in parts.items()]


def _lane(figure: Figure, field: str) -> Spec:
    down = {"domain": [0, len(figure.systems)], "reverse": True, "nice": False}
    return {"field": field, "type": "quantitative", "scale": down, "axis": None}
