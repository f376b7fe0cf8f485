"""The report of a capacity search: a row a probe, what it comes to, and what is wrong with it."""

from __future__ import annotations

from io import StringIO

import msgspec
from rich.console import Console

from bench.analysis.capacity import Conclusion, Settings, conclude
from bench.report.capacity import capacity_to_markdown, render_capacity
from tests.analysis.probing import probed

PROBES = [
    probed(75.0, p95_ms=750.0),
    probed(84.0, 2, p95_ms=1300.0),
    probed(120.0, 3, p95_ms=None, served_rps=100.0),
    probed(60.0, 4, p95_ms=700.0, errors=0.3),
]


def told(found: Conclusion, width: int = 80) -> str:
    out = StringIO()
    Console(file=out, width=width, no_color=True).print(render_capacity("[baseline]", found))
    return out.getvalue()


def test_each_probe_has_its_row_by_rate_with_its_verdict() -> None:
    text = told(conclude(PROBES, Settings(guess_rps=98.0)))
    assert "Capacity of [baseline]" in text, "a name is never markup"
    rows = [line.split() for line in text.splitlines() if line.strip()[:2].isdigit()]
    assert [row[0] for row in rows] == ["60", "75", "84", "120"]
    assert rows[0][-1] == "errors"
    assert rows[1][1:4] == ["375", "750", "50"]
    assert rows[1][-1] == "ok"
    assert " ".join(rows[2][-3:]) == "p95 too high"
    assert " ".join(rows[3][-3:]) == "∞ queue grows"
    assert max(map(len, text.splitlines())) <= 80


def test_the_bar_crosses_the_limit_where_p95_does() -> None:
    text = told(conclude(PROBES, Settings(guess_rps=98.0)))
    bars = {line.split()[0]: line for line in text.splitlines() if "█" in line}
    assert "████████  |" in bars["75"]
    assert "██████████|███" in bars["84"]


def test_the_answer_stands_with_its_interval_what_binds_and_the_stable_rate() -> None:
    found = conclude([probed(80.0, i, p95_ms=1000.0) for i in range(1, 6)], Settings(guess_rps=98.0))
    text = " ".join(told(found, 300).split())
    assert "Capacity: 80 requests/s (" in text
    assert "the p95 objective binds" in text
    assert "Queue stable up to: 80 requests/s" in text
    assert "Capacity: 80 requests/s (" in capacity_to_markdown("one", found)


def test_a_search_without_an_answer_says_why_and_an_odd_curve_is_told() -> None:
    assert "No capacity: no probe" in told(conclude([], Settings(guess_rps=1.0)))
    odd = conclude([probed(70.0, p95_ms=900.0), probed(80.0, p95_ms=450.0)], Settings(guess_rps=98.0))
    assert "Latency fell as the rate rose" in " ".join(told(odd, 200).split())


def test_markdown_has_a_row_per_probe_and_no_stray_column() -> None:
    text = capacity_to_markdown("one", conclude(PROBES, Settings(guess_rps=98.0)))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(PROBES)
    assert len({line.count("|") for line in rows}) == 1


def test_without_an_objective_the_bars_are_held_against_the_highest() -> None:
    free = [probed(50.0, p95_ms=100.0, limit_ms=None), probed(90.0, p95_ms=200.0, limit_ms=None)]
    text = told(conclude(free, Settings(guess_rps=98.0)))
    assert "█████ " in text
    assert "██████████ " in text
    assert "█|" not in text


def test_a_probe_with_an_invalid_client_is_shown_as_one_and_counted() -> None:
    bad = msgspec.structs.replace(PROBES[1], client="INVALID", faults="requests left late")
    text = told(conclude([PROBES[0], bad, *PROBES[2:]], Settings(guess_rps=98.0)))
    assert "INVALID client" in next(line for line in text.splitlines() if line.strip().startswith("84"))
    assert "Of 4 probes 1 had an INVALID client and do not count." in text
