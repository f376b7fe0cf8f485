"""Every system of an experiment in one table: what many systems side by side are looked at for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from bench.analysis.decide import Verdict
from bench.analysis.metrics import METRICS
from bench.analysis.numbers import shown
from bench.analysis.percentiles import OVERLOADED, withheld
from bench.analysis.system import MetricSet
from bench.records import Value

COLUMNS = {
    "offline_output_tokens_per_sec": "tok/s",
    "p50_latency_ms": "p50",
    "p95_latency_ms": "p95",
    "ttft_p95_ms": "TTFT95",
    "mean_batch_size": "batch",
    "time_weighted_waste": "waste",
}
"""The metrics shown, with headings short enough for 80 columns; times are in ms."""
LEGEND = (
    "tok/s: output tokens when saturated. p50, p95, TTFT95: ms at the common rate; over: cannot carry it. "
    "batch: mean size. waste: share of the engine's time spent on padding. Verdicts are against the first "
    "system; (D): the client or the device was DEGRADED."
)
"""What the table's short words mean."""
_SHORT = {"not enough evidence": "unclear", "adopt with guardrails": "guardrails"}
"""Verdicts that are too long for the column."""


def render_overview(sets: Mapping[str, MetricSet], decisions: Mapping[str, str]) -> Table:
    """Return the table; `decisions` are the verdicts by system, against the first one.

    `over` stands for the latency of a system that cannot carry the rate, INVALID in place of a verdict
    for an INVALID run; `(D)` is a DEGRADED one.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, expand=False)
    table.caption = LEGEND
    table.caption_justify = "left"
    table.add_column("system", no_wrap=True)
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict")
    for cells in _rows(sets, decisions):
        table.add_row(*map(Text, cells))
    return table


def overview_to_markdown(sets: Mapping[str, MetricSet], decisions: Mapping[str, str]) -> str:
    """Return the same as Markdown."""
    lines = [
        "| system | " + " | ".join(COLUMNS.values()) + " | verdict |",
        "|---|" + "---:|" * len(COLUMNS) + "---|",
    ]
    lines += ["| " + " | ".join(cells) + " |" for cells in _rows(sets, decisions)]
    return "\n".join(lines) + "\n"


def reasons_in_words(sets: Mapping[str, MetricSet], verdicts: Mapping[str, Verdict]) -> list[str]:
    """Return why systems are not adopted: a line per verdict and reason, with the systems it holds for.

    An INVALID one has no verdict in the table, and so no reason here.
    """
    found: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        client = sets[name].client
        if not verdict.decision.startswith("adopt") and (client is None or client.level != "INVALID"):
            short = _SHORT.get(verdict.decision, verdict.decision)
            found.setdefault(f"{short}: {verdict.in_short}", []).append(name)
    return [f"{reason}: {', '.join(names)}" for reason, names in found.items()]


def _rows(sets: Mapping[str, MetricSet], decisions: Mapping[str, str]) -> Iterator[Sequence[str]]:
    for name, metrics in sets.items():
        cells = [_cell(key, metrics.values.get(key)) for key in COLUMNS]
        decision = decisions.get(name, "baseline")
        level = metrics.client.level if metrics.client is not None else "VALID"
        verdict = _SHORT.get(decision, decision)
        yield [name, *cells, {"VALID": verdict, "DEGRADED": f"{verdict} (D)"}.get(level, level)]


def _cell(key: str, value: Value | None) -> str:
    if value is None or value.value is None:
        return "over" if value is not None and withheld(value) == OVERLOADED else "–"
    return shown(value.value, min(METRICS[key].digits, 3))
