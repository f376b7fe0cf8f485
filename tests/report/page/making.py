"""Evaluations made of a few recorded seconds, with any names, and figures of our own to show them by."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from typing import Any

import msgspec

from bench.analysis.compare import compare
from bench.analysis.decide import decide
from bench.analysis.evaluation import Evaluation, Judged, Origin
from bench.analysis.figure import Cell, Column, Dataset, Figure
from bench.analysis.metric_set import metric_set
from bench.analysis.system import MetricSet
from bench.report.charts.look import HIDDEN, SHOWN, Spec, systems_scale
from tests.recorded import ASSUMED, CONFIG, LIMITS, OBJECTIVES, quality, system_runs

IMAGE = '<img src=x onerror="window.hacked=1">'
SCRIPT = "</script><script>window.hacked=2</script><!--"
QUOTES = "\"'`&amp; ${1} {{ 7*7 }} \u2028 日本 🐢"
HOSTILE = (IMAGE, SCRIPT, QUOTES)
VOID = {"meta", "link", "input", "img", "br", "hr"}


def evaluation(
    names: Sequence[str] = ("baseline", "optimized"),
    *,
    title: str = "trial",
    model: str = "m",
    doubts: Sequence[str] = (),
    changes: Callable[[MetricSet], MetricSet] = lambda metrics: metrics,
    **origin: Any,
) -> Evaluation:
    """Return systems of which each is a little faster than the one before, against the first."""
    config = CONFIG | {"model": {"id": model}}
    table = quality(kl=2e-3, agree=0.98, n=1000)
    systems = {
        name: system_runs(
            name, tuple(0.5 - 0.05 * i + step for step in (0.0, 0.01, -0.01)), table=table, config=config
        )
        for i, name in enumerate(names)
    }
    sets = {
        name: changes(metric_set(runs, ASSUMED, OBJECTIVES, origin=f"runs/{name}"))
        for name, runs in systems.items()
    }
    baseline, *others = sets.values()
    pairs = []
    for other in others:
        comparison = compare(baseline, other, ASSUMED, OBJECTIVES)
        pairs.append(Judged(comparison=comparison, verdict=decide(comparison, OBJECTIVES, LIMITS)))
    usual: dict[str, Any] = {
        "folder": "20260101T000000Z-abc",
        "config_file": "trial.toml",
        "command": ("bench", "run", "trial.toml"),
        "provenance": {"commit": "abc", "dirty": True, "packages": {"torch": "2.13"}},
        "written": {"name": title},
        "rate_rps": 1.0,
    }
    return Evaluation(
        title=title,
        systems=systems,
        sets=sets,
        pairs=tuple(pairs),
        origins=(Origin(**(usual | origin)),),
        objectives=OBJECTIVES,
        assumed=ASSUMED,
        doubts=tuple(doubts),
    )


@functools.cache
def hostile() -> Evaluation:
    """Return an evaluation in which everything that a person names is an attack."""
    return evaluation(
        HOSTILE,
        title=IMAGE,
        model=SCRIPT,
        doubts=[IMAGE],
        folder=QUOTES,
        config_file=f"{SCRIPT}.toml",
        command=("bench", "run", f"{IMAGE}.toml"),
        provenance={"commit": SCRIPT, "cpu": IMAGE, "packages": {IMAGE: QUOTES}},
        written={"name": SCRIPT, IMAGE: QUOTES},
    )


def points(found: Evaluation) -> Figure:
    """Return a figure with a point per system and second, one of them infinite."""
    rows: tuple[dict[str, Cell], ...] = tuple(
        {
            "system": name,
            "second": second,
            "latency": 100.5 * (i + 1) + second if second else math.inf,
            "what": name,
        }
        for i, name in enumerate(found.sets)
        for second in range(3)
    )
    columns = (
        Column("system", "system"),
        Column("second", "time, s"),
        Column("latency", "latency, ms", 5),
        Column("what", "what"),
    )
    return Figure(
        kind="points",
        title=f"Points of {found.title}",
        systems=tuple(found.sets),
        reading="Latency rises with time.",
        datasets={"points": Dataset(columns=columns, rows=rows, caption="points", thinned="every third row")},
        notes=(f"Mind {IMAGE}.",),
    )


def absent(found: Evaluation) -> Figure:
    """Return a figure of which nothing was measured."""
    return Figure(kind="absent", title="Power", systems=tuple(found.sets), missing=f"no GPU {IMAGE}")


def points_chart(figure: Figure) -> Spec:
    """Return points coloured by system, twice, one view below the other, as wide as the page."""
    view: Spec = {
        "width": "container",
        "data": {"name": "points"},
        "transform": [SHOWN, {"filter": "isValid(datum.latency)"}],
        "mark": {"type": "point", "filled": True, "size": 200, "tooltip": {"content": "data"}},
        "encoding": {
            "x": {"field": "second", "type": "quantitative"},
            "y": {"field": "latency", "type": "quantitative"},
            "color": {
                "field": "system",
                "type": "nominal",
                "scale": systems_scale(figure.systems),
                "legend": None,
            },
        },
    }
    rows = [dict(row) for row in figure.datasets["points"].rows]
    return {"datasets": {"points": rows}, "params": [HIDDEN], "vconcat": [view, view]}


FIGURES: dict[str, Callable[[Evaluation], Figure]] = {"points": points, "absent": absent}
CHARTS: dict[str, Callable[[Figure], Spec]] = {"points": points_chart}


class Element(msgspec.Struct):
    """An element of a page: its tag, attributes, elements inside, and text inside."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Element] = []
    pieces: list[str] = []

    @property
    def text(self) -> str:
        """All text inside, as it stands."""
        return "".join(self.pieces)

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Return every element inside with this tag and these attributes; `_` stands for `-`."""
        wanted = {key.strip("_").replace("_", "-"): value for key, value in attributes.items()}
        found = []
        for child in self.children:
            if (not tag or child.tag == tag) and wanted.items() <= child.attributes.items():
                found.append(child)
            found += child.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> Element:
        """Return the only such element."""
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def words(self) -> str:
        """All text inside, with single spaces."""
        return " ".join(self.text.split())


class _Tree(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.close_cells({"td": {"td"}, "tr": {"td", "tr"}}.get(tag, set()))
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def close_cells(self, tags: set[str]) -> None:
        """Close what HTML closes by itself in a table."""
        while self.open[-1].tag in tags:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        self.close_cells({"tbody": {"td", "tr"}, "tr": {"td"}}.get(tag, set()))
        closed = self.open.pop()
        assert closed.tag == tag, f"</{tag}> where </{closed.tag}> was to come"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.pieces.append(data)


def parsed(html: str) -> Element:
    """Return a page as a tree; fail where an element is not closed, or closed twice."""
    tree = _Tree()
    tree.feed(html)
    tree.close()
    (page,) = tree.open
    return page


def texts(elements: Sequence[Element]) -> list[str]:
    return [element.words for element in elements]
