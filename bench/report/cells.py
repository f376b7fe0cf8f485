"""What stands in a cell of a comparison: figures, change, interval and source of a row, in words.

The terminal, Markdown and the result page say the same because they all take it from here.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.answers import CALLED
from bench.analysis.comparison import Comparison, Row
from bench.analysis.decide import Verdict
from bench.analysis.metrics import METRICS, REQUIRED
from bench.analysis.numbers import percent, shown
from bench.analysis.percentiles import withheld
from bench.records import Value
from bench.units import PERCENT

HEADLINE = {
    *REQUIRED,
    "ttft_p95_ms",
    "tpot_p50_ms",
    "goodput_requests_per_sec",
    "error_rate",
    "weights_gb",
    "mean_batch_size",
    "time_weighted_waste",
    "cost_provisioned_per_1k_requests_usd",
    "perplexity",
    "mean_kl",
    "top1_agreement",
}
"""Metrics that are shown unless all are asked for."""
THROUGHPUTS = {
    CALLED: "the capacity, the highest steady rate at which the objectives hold",
    "(saturated)": "the saturated rate, with every request there at once",
}
"""What throughput may be, by what its note has."""


def shown_rows(comparison: Comparison, *, every: bool) -> list[Row]:
    """Return the headline rows with any figure, and the six required ones whatever they hold."""
    return [
        row
        for name, row in comparison.rows.items()
        if name in REQUIRED
        or (
            (every or name in HEADLINE or not row.known)
            and (row.baseline.value is not None or row.optimized.value is not None)
        )
    ]


def values(row: Row) -> tuple[str, str]:
    """Return both figures with the metric's digits (see `figure`)."""
    digits = METRICS[row.name].digits if row.known else 4
    return figure(row.baseline, digits), figure(row.optimized, digits)


def figure(value: Value, digits: int = 4, *, lack: str = "-") -> str:
    """Return a figure; `lack` for one that was not measured, and in two words why one is withheld."""
    return (withheld(value) or lack) if value.value is None else shown(value.value, digits)


def throughput_note(comparison: Comparison) -> str:
    """Return which of two things the throughput is, and that latency is at another load; '' where unknown."""
    row = comparison.row("throughput_requests_per_sec")
    notes = [value.note for value in (row.baseline, row.optimized) if value.value is not None]
    kinds = [words for sign, words in THROUGHPUTS.items() if any(sign in note for note in notes)]
    return f"Throughput: {', or '.join(kinds)}. Latency: at the load that both had." if kinds else ""


def change(row: Row) -> str:
    """Return the change with its direction in a word; '-' where there is none."""
    found = row.change
    if found.direction in ("not comparable", "not judged"):
        return f"{percent(found.pct_change)} %" if found.pct_change is not None else "-"
    if found.pct_change is None:
        return f"{found.delta:+.3g} {found.direction}"
    return f"{percent(found.pct_change)} % {found.direction}"


def interval(row: Row) -> str:
    """Return the change's 95 % interval; '' where it has none."""
    found = row.change
    if found.low == found.high or found.direction == "not judged":
        return ""
    if found.low_pct is not None and found.high_pct is not None:
        return f"{found.low_pct:+.1f} to {found.high_pct:+.1f} %"
    if found.low is not None and found.high is not None:
        return f"{found.low:+.3g} to {found.high:+.3g}"
    return ""


def source(row: Row, comparison: Comparison) -> str:
    """Return where the figures come from; a figure measured on a CPU says so."""
    found: dict[str, None] = {}
    for side, value in ((comparison.baseline, row.baseline), (comparison.optimized, row.optimized)):
        if value.value is not None:
            on_cpu = side.context is not None and side.context.checked.get("device") == "cpu"
            found[f"{value.source} on CPU" if on_cpu and value.source == "measured" else value.source] = None
    return "/".join(found) or "missing"


def day_rows(comparison: Comparison) -> Iterator[tuple[str, str, str, str]]:
    """Yield label, both figures and what is saved a day, where any figure is known; then the replicas."""
    for day in comparison.per_day:
        if day.baseline is not None or day.optimized is not None:
            label = f"{day.label}, {day.unit}"
            yield label, shown(day.baseline), shown(day.optimized), shown(day.saved)
    row = comparison.row("replicas")
    one, two = row.baseline.value, row.optimized.value
    if one is not None or two is not None:
        saved = None if one is None or two is None else one - two
        yield "replicas needed", shown(one), shown(two), shown(saved)


def day_notes(comparison: Comparison) -> list[str]:
    """Return what is in a day's figures and what is not, figures with the same note together."""
    labels: dict[str, list[str]] = {}
    for day in comparison.per_day:
        if day.note and (day.baseline is not None or day.optimized is not None):
            labels.setdefault(day.note, []).append(day.label)
    return [f"{', '.join(named)}: {note}." for note, named in labels.items()]


def lead(verdict: Verdict) -> list[str]:
    """Return what stands right below the binding reason: what to do, what settles it, what was waived."""
    settle = [f"To settle it: {verdict.settle}."] if verdict.settle else []
    return [
        verdict.advice,
        *settle,
        *(f"Waived by name: {gate.name} ({gate.text})." for gate in verdict.waived),
    ]


def scale(verdict: Verdict) -> list[str]:
    """Return what the verdict was measured by: its thresholds, and the score with its weights."""
    lines = [
        f"A change below {verdict.material_pct:g} % is immaterial; a regression beyond "
        f"{verdict.tolerated_pct:g} % is not tolerated unless an objective bounds it."
    ]
    if verdict.score is not None:
        weights = ", ".join(
            f"{METRICS[name].label} {weight * PERCENT:.0f} %"
            for name, weight in verdict.score.weights.items()
        )
        lines.append(f"Score (secondary): {verdict.score.value:+.1f} %, weights: {weights}.")
    return lines


def basis(verdict: Verdict) -> str:
    """Return what a verdict on figures without intervals must say; else ''."""
    return ", on point values" if verdict.on_point_values else ""


def expected_when(verdict: Verdict) -> str:
    """Say whether the expectations are known to be from before the measurement."""
    return "expected before the run" if verdict.registered else "usually expected"


def differences(comparison: Comparison) -> list[str]:
    """Return each setting in which the systems differ, with both values; a setting one lacks is not set."""
    return [f"{key}: {_set(one)} against {_set(two)}" for key, (one, two) in comparison.differences.items()]


def _set(value: object) -> str:
    return "not set" if value is None else str(value)
