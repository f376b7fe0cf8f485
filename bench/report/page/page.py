"""The page of an evaluation, put together: texts into templates, data and code into one file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib import metadata, resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.analysis.evaluation import Evaluation
from bench.analysis.figure import Figure
from bench.analysis.figures import FIGURES
from bench.report.charts import CHARTS
from bench.report.charts.look import DASHES, PALETTE, SHAPES, Spec, config, systems_scale
from bench.report.page import about, pairs
from bench.report.page.embedded import chart_colours, script_code, script_json, vega_bundle
from bench.report.page.figures import Drawn, drawn_figures, embedded_figure, figure_view
from bench.report.page.view import Page, System

SCHEMA = 1
"""Of the data in the page. 1: title, systems, verdicts, metrics, figures with datasets and charts."""


def render_page(
    evaluation: Evaluation,
    figures: Mapping[str, Callable[[Evaluation], Figure]] = FIGURES,
    charts: Mapping[str, Callable[[Figure], Spec]] = CHARTS,
) -> str:
    """Return the whole page as one HTML document."""
    drawn = drawn_figures(evaluation, figures, charts)
    any_chart = any(spec is not None for _, spec in drawn.values())
    return (
        _environment()
        .get_template("page.html")
        .render(
            page=page_view(evaluation, drawn),
            data=script_json(embedded_data(evaluation, drawn)),
            css=Markup(_own("page.css")),
            colours=chart_colours(),
            script=script_code(_own("page.js")),
            vega=script_code(vega_bundle()) if any_chart else "",
        )
    )


def page_view(evaluation: Evaluation, drawn: Mapping[str, Drawn]) -> Page:
    """Return everything that the templates show."""
    systems = _systems(evaluation)
    views = tuple(pairs.pair_view(pair, systems) for pair in evaluation.pairs)
    return Page(
        title=evaluation.title,
        made=f"bench {_version()}",
        invalid=pairs.invalid_lines(evaluation.sets),
        measured=about.measured(evaluation),
        systems=tuple(systems.values()),
        overview=pairs.overview(evaluation, systems) if len(views) != 1 or len(systems) > 2 else None,
        pairs=views,
        sources=pairs.sources(evaluation.sets),
        figures=tuple(figure_view(figure, drawn=spec is not None) for figure, spec in drawn.values()),
        doubts=pairs.doubts(evaluation),
        assumptions=about.assumptions(evaluation.assumed),
        definitions=about.definitions(),
        origins=about.origins(evaluation),
    )


def embedded_data(evaluation: Evaluation, drawn: Mapping[str, Drawn]) -> dict[str, Any]:
    """Return what the page's script draws from, and what other programs may read out of the file."""
    return {
        "schema": SCHEMA,
        "title": evaluation.title,
        "systems": list(evaluation.sets),
        "verdicts": [
            {
                "system": pair.comparison.optimized.name,
                "baseline": pair.comparison.baseline.name,
                "decision": pair.verdict.decision,
                "binding": pair.verdict.binding,
            }
            for pair in evaluation.pairs
        ],
        "metrics": {
            name: {
                key: [value.value, value.low, value.high]
                for key, value in metrics.values.items()
                if value.value is not None
            }
            for name, metrics in evaluation.sets.items()
        },
        "config": {**config("light"), "background": "transparent"},
        "figures": {kind: embedded_figure(figure, spec) for kind, (figure, spec) in drawn.items()},
    }


def _systems(evaluation: Evaluation) -> dict[str, System]:
    """Return each system with its look, by name; several runs have a baseline each."""
    names = list(evaluation.sets)
    baselines = {pair.comparison.baseline.name for pair in evaluation.pairs}
    looks = [systems_scale(names, values)["range"] for values in (PALETTE, SHAPES, DASHES)]
    return {
        name: System(
            index=index,
            name=name,
            role="baseline" if name in baselines and name != "baseline" else "",
            colour=looks[0][index],
            shape=looks[1][index],
            dash=" ".join(str(length) for length in looks[2][index]),
        )
        for index, name in enumerate(names)
    }


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("bench.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _own(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _version() -> str:
    try:
        return metadata.version("gpu-inference-bench")
    except metadata.PackageNotFoundError:
        return ""
