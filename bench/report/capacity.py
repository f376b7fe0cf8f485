"""A capacity search for people: every probe of the latency-against-rate curve, and what it comes to.

Nothing is computed here but the length of bars: they show p95 against its limit, or against the highest.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.analysis.answers import CALLED
from bench.analysis.capacity import Conclusion
from bench.analysis.numbers import shown
from bench.analysis.trials import Trial

HEADINGS = ("rate", "p50", "p95", "TTFT95", "good", "inside")
LEGEND = (
    "rate: requests/s offered. p50, p95, TTFT95: ms. good: requests/s within the objective. inside: requests "
    "in the system on average. The bar is p95; | is its limit."
)
"""What the table's short words mean."""
BAR = 20
"""Characters of a bar …"""
LIMIT_AT = 10
"""… and where the limit stands in it."""


def render_capacity(system: str, found: Conclusion) -> Group:
    """Return the curve as a table, then the answer with its interval and what binds."""
    table = Table(
        title=Text(f"Capacity of {system}", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=LEGEND,
        caption_justify="left",
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("verdict")
    for cells in _rows(found.curve):
        style = "" if cells[-1] == "ok" else "red" if cells[-1].startswith(("queue", "INVALID")) else "yellow"
        table.add_row(*(Text(cell) for cell in cells[:-1]), Text(cells[-1], style=style))
    return Group(table, *(Text(line) for line in _answer(found)))


def capacity_to_markdown(system: str, found: Conclusion) -> str:
    """Return the same as Markdown."""
    lines = [f"**Capacity of {system}**", "", f"| {' | '.join(HEADINGS)} | p95 | verdict |"]
    lines.append("|" + "---:|" * len(HEADINGS) + "---|---|")
    lines += [f"| {' | '.join(cell.replace('|', '¦') for cell in row)} |" for row in _rows(found.curve)]
    return (
        "\n".join([*lines, "", LEGEND.replace("|", "¦"), "", *(f"- {line}" for line in _answer(found))])
        + "\n"
    )


def _rows(curve: Sequence[Trial]) -> list[tuple[str, ...]]:
    highest_ms = max(
        (t.p95_ms for t in curve if t.p95_ms is not None and t.stable and t.counts), default=None
    )
    rows = []
    for t in curve:
        figures = (t.rate_rps, t.p50_ms, t.p95_ms, t.ttft_p95_ms, t.goodput_rps, t.in_system)
        rows.append((*(shown(figure, 3) for figure in figures), _bar(t, highest_ms), _verdict(t)))
    return rows


def _bar(t: Trial, highest_ms: float | None) -> str:
    """Return p95 as a bar; without a limit the highest of a stable queue is as long as the limit would be."""
    if t.p95_ms is None:
        return "∞"
    limit_ms = highest_ms if t.margin is None else t.p95_ms / (1.0 + t.margin)
    if not limit_ms:
        return ""
    length = min(round(LIMIT_AT * t.p95_ms / limit_ms), BAR)
    bar = ("█" * length).ljust(BAR)
    if t.margin is None:
        return bar.rstrip()
    return f"{bar[:LIMIT_AT]}|{bar[LIMIT_AT:]}".rstrip()


def _verdict(t: Trial) -> str:
    if not t.counts:
        return "INVALID client"
    if t.binds is None:
        return "ok"
    stopped = " (stopped early)" if t.stopped else ""
    return {"queue": f"queue grows{stopped}", "errors": "errors", "p95": "p95 too high"}[t.binds]


def _answer(found: Conclusion) -> list[str]:
    value = found.capacity
    if value.value is None:
        lines = [f"No capacity: {value.note}."]
    else:
        interval = ""
        if value.low is not None and value.high is not None:
            interval = f" ({shown(value.low)} to {shown(value.high)})"
        lines = [f"Capacity: {shown(value.value)} requests/s{interval}; {value.note.removeprefix(CALLED)}."]
    if found.invalid:
        lines.append(f"Of {len(found.curve)} probes {found.invalid} had an INVALID client and do not count.")
    stable = found.stable_rps
    if stable.value is not None:
        lines.append(f"Queue stable up to: {shown(stable.value)} requests/s; {stable.note}.")
    if not found.monotone:
        lines.append("Latency fell as the rate rose: something else than the rate changed between probes.")
    return lines
