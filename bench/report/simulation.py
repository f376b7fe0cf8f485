"""A fitted law, and what a simulation predicts beside what was measured, as terminal reports.

Predicted figures stand under *simulated*, with the interval over the draws, which does not hold the error of
the law itself; a figure or a system that is missing says why. Readable at 80 columns and without colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.analysis.fit import MIN_JOBS, Fit, Quality
from bench.analysis.metrics import METRICS
from bench.analysis.numbers import shown
from bench.analysis.stats import minimum_count
from bench.records import Value
from bench.run.fitted import LeftOut
from bench.run.simulate import FitReport, Prediction, PredictionReport, SystemFit
from bench.units import PERCENT, to_ms

UNITS = {
    "prefill_s": "ms per prefill",
    "prefill_s_per_token": "ms per prompt position",
    "decode_s": "ms per step",
    "decode_s_per_sequence": "ms per step and row",
    "decode_s_per_context_token": "ms per step and token held",
    "request_s": "ms per request",
}
WORTH_A_WARNING = 0.25
"""Spans that scatter around their law by more than this share of their mean are pointed out."""


def render_fit(report: FitReport) -> Group:
    """Return the laws of all systems, each with its quality."""
    parts: list[RenderableType] = []
    for system in report.systems:
        parts += [_law(system), *_lines(_quality(system.fit))]
    return Group(*parts, *_left_out(report.left_out))


def render_prediction(report: PredictionReport) -> Group:
    """Return predicted beside measured for each system."""
    parts: list[RenderableType] = []
    for prediction in report.systems:
        parts += [_figures(prediction), *_lines(_notes(prediction))]
    return Group(*parts, *_left_out(report.left_out))


def _left_out(systems: Iterable[LeftOut]) -> list[Text]:
    return [Text(f"{system.system} is left out: {system.reason}") for system in systems]


def _law(system: SystemFit) -> Table:
    style = "static batches" if system.fit.style == "static" else "steps that requests join and leave"
    jobs = f"{len(system.jobs)} job{'s' * (len(system.jobs) != 1)}"
    title = f"{system.system}: service law on {system.device}, {style} ({jobs})"
    table = _table(title)
    table.add_column("coefficient")
    table.add_column("value", justify="right")
    table.add_column("± s.e.\n(jackknife)", justify="right")
    table.add_column("unit", overflow="fold")
    table.add_column("n", justify="right")
    for name, coefficient in system.fit.coefficients.items():
        error = shown(None if coefficient.error is None else to_ms(coefficient.error), 2)
        value = shown(to_ms(coefficient.value))
        table.add_row(name.replace("_s", "", 1), value, error, UNITS[name], str(coefficient.n))
    return table


def _quality(fit: Fit) -> list[str]:
    error = (
        f"± s.e.: the jackknife over the {fit.jobs} jobs; '-' where one job decides, or nothing was fitted"
    )
    if fit.jobs < MIN_JOBS:
        error = f"± s.e.: unknown, as it takes {MIN_JOBS} jobs to see how they differ"
    lines = [error, _said("prefill", fit.prefill)]
    if fit.decode is not None:
        lines.append(_said("decode", fit.decode))
    lines += _scatter(fit)
    lines += [f"{name.replace('_s', '', 1)}: {c.note}" for name, c in fit.coefficients.items() if c.note]
    return lines


def _said(what: str, quality: Quality) -> str:
    explained = "nothing varied" if quality.r2 is None else f"R² {quality.r2:.3f}"
    return f"{what}: {explained}, residual {quality.residual * PERCENT:.1f} % of the mean, {quality.n} spans"


def _figures(prediction: Prediction) -> Table:
    table = _table(
        f"{prediction.system} at {prediction.rate_rps:.3g} requests/s, {_policy(prediction.batching)}"
    )
    table.add_column("metric", min_width=16)
    table.add_column("unit")
    table.add_column("simulated", justify="right")
    table.add_column("measured", justify="right")
    table.add_column("deviation", justify="right")
    for figure in prediction.figures:
        metric = METRICS[figure.name]
        deviation = "-" if figure.deviation is None else f"{figure.deviation * PERCENT:+.1f} %"
        values = (_value(value, metric.digits) for value in (figure.predicted, figure.measured))
        table.add_row(metric.label, metric.unit, *values, deviation)
    return table


def _notes(prediction: Prediction) -> list[str]:
    traffic = (
        "the recorded requests again" if prediction.replayed else "requests drawn from the workload's laws"
    )
    draws = "the repeats' own traffic" if prediction.replayed else f"{prediction.draws} draws"
    lines = [
        f"simulated: {prediction.requests} scored requests, {traffic}",
        f"simulated brackets: 95 % interval of the draws ({draws}); the law's own error is not in it",
    ]
    if prediction.fewest < (need := minimum_count(0.95)):
        lines.append(f"{prediction.fewest} scored requests per draw are too few for p95, which needs {need}")
    if not prediction.alike:
        measured = _policy(prediction.measured_batching)
        lines.append(f"measured: at {prediction.measured_rps:.3g} requests/s, {measured}")
    lines += _scatter(prediction.fit)
    if prediction.max_batch > prediction.fit.rows[1] > 0:
        rows = f"{prediction.fit.rows[0]} to {prediction.fit.rows[1]}"
        lines.append(
            f"extrapolated: steps may have {prediction.max_batch} rows, the law was fitted to {rows}"
        )
    reasons: dict[str, list[str]] = {}
    for figure in prediction.figures:
        for side, value in (("simulated", figure.predicted), ("measured", figure.measured)):
            if value.value is None:
                reasons.setdefault(f"{side}, {value.note}", []).append(METRICS[figure.name].label)
    return lines + [f"{', '.join(labels)}: {reason}" for reason, labels in reasons.items()]


def _scatter(fit: Fit) -> list[str]:
    named = (("prefill", fit.prefill), ("decode step", fit.decode))
    return [
        f"a {what} scatters by {quality.residual * PERCENT:.0f} % around the law; the simulation has none, "
        "so its tails may be too short"
        for what, quality in named
        if quality is not None and quality.residual > WORTH_A_WARNING
    ]


def _value(value: Value, digits: int) -> Text:
    text = Text(shown(value.value, digits))
    if value.value is not None and value.low is not None and value.low != value.high:
        text.append(f"\n[{shown(value.low, digits)}, {shown(value.high, digits)}]", style="dim")
    return text


def _policy(batching: Mapping[str, Any]) -> str:
    """Return a policy in words, without the options that are off."""
    options = [
        f"{key} {value}"
        for key, value in batching.items()
        if key != "kind" and value not in (None, 0, 0.0, "", (), [])
    ]
    return f"batching {batching['kind']}" + (f" ({', '.join(options)})" if options else "")


def _table(title: str) -> Table:
    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _lines(lines: Iterable[str]) -> list[RenderableType]:
    return [*(Text(f"- {line}") for line in lines), Text()]
