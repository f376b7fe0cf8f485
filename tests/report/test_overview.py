"""The table of many systems: what is overloaded or was driven badly is not read as a figure or a verdict."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from bench.analysis.system import Jobs, MetricSet, Validity
from bench.records import Value
from bench.report.overview import overview_to_markdown, reasons_in_words, render_overview
from tests.analysis.pairs import FASTER, judge


def side(name: str, level: str | None = None, p50_ms: float | None = 12.345) -> MetricSet:
    note = "measured on CPU" if p50_ms is not None else "saturated at 3 requests/s: its queue grew"
    p50 = Value(value=p50_ms, source="measured" if p50_ms is not None else "missing", note=note)
    client = None if level is None else Validity(level=level)  # type: ignore[arg-type]
    return MetricSet(
        name=name,
        origin=f"x/{name}",
        values={"p50_latency_ms": p50},
        context=None,
        jobs=Jobs(),
        client=client,
    )


SETS = {
    "first": side("first"),
    "good": side("good", "VALID"),
    "late": side("late", "INVALID"),
    "somewhat": side("somewhat", "DEGRADED"),
    "slow": side("slow", "VALID", None),
}
DECISIONS = {"good": "adopt with guardrails", "late": "adopt", "somewhat": "hold", "slow": "reject"}


def rows() -> dict[str, list[str]]:
    lines = overview_to_markdown(SETS, DECISIONS).splitlines()[2:]
    return {cells[0]: cells for cells in ([c.strip() for c in line.strip("| ").split("|")] for line in lines)}


def test_each_system_has_a_row_with_its_figures_and_its_verdict() -> None:
    assert rows()["first"][-1] == "baseline"
    assert rows()["good"][2] == "12.3"
    assert rows()["good"][-1] == "guardrails"


def test_an_overloaded_system_has_no_latency_and_a_missing_figure_no_number() -> None:
    assert rows()["slow"][2] == "over"
    assert rows()["good"][1] == "–"


def test_an_invalid_client_leaves_no_verdict_and_a_degraded_one_is_marked() -> None:
    assert rows()["late"][-1] == "INVALID"
    assert rows()["somewhat"][-1] == "hold (D)"


def test_a_verdict_that_is_not_to_adopt_has_its_reason_once_with_all_that_share_it() -> None:
    energy = "estimated_energy_kwh_per_1k_requests"
    held = judge(FASTER | {"mean_kl": "weights are random", energy: "no GPU here"})
    verdicts = {"good": judge(FASTER), "late": held, "somewhat": held, "slow": held}
    lines = reasons_in_words(SETS, verdicts)
    assert lines == ["hold: quality and energy not measured: somewhat, slow"]
    assert reasons_in_words(SETS, {"good": judge()})[0].startswith("hold: no material benefit")


def test_the_terminal_table_fits_80_columns_and_says_what_its_words_mean() -> None:
    out = StringIO()
    Console(file=out, width=80).print(render_overview(SETS, DECISIONS))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "guardrails" in text
    assert "over: cannot carry it" in text
