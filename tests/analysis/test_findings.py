"""Findings and tradeoffs follow from the figures and claim no more than they show."""

from __future__ import annotations

from typing import Any

from bench.analysis.compare import compare
from tests.analysis.sides import measured, side, with_figures
from tests.recorded import ASSUMED, OBJECTIVES, quality, system_runs, unpaired


def test_tradeoffs_follow_the_numbers() -> None:
    worse = compare(side("a"), side("b", {"p50_latency_ms": 2.0, "p95_latency_ms": 2.0}), ASSUMED)
    assert "slower throughout" in worse.tradeoffs[0]
    mixed = compare(side("a"), side("b", {"p50_latency_ms": 0.5, "p95_latency_ms": 2.0}), ASSUMED)
    assert "the slow tail is longer" in mixed.tradeoffs[0]
    less = compare(side("a"), side("b", {"throughput_requests_per_sec": 0.5}), ASSUMED)
    assert less.tradeoffs[1] == "throughput falls by 50.0 %: one replica carries less load."
    none = compare(side("a"), side("b", {"average_memory_gb": None}), ASSUMED)
    assert "average memory: not comparable" in none.tradeoffs[2]
    assert "unchanged" in none.tradeoffs[3]


def test_a_smaller_gpu_is_named_only_when_the_change_makes_it_possible() -> None:
    gained = compare(side("a", {"average_memory_gb": 22.5}), side("b", {"average_memory_gb": 14.2}), ASSUMED)
    assert any("GPU of 16 GB (T4)" in text for text in gained.findings)
    lost = compare(side("a", {"average_memory_gb": 14.2}), side("b", {"average_memory_gb": 22.5}), ASSUMED)
    assert not any("GPU of" in text for text in lost.findings)


def test_on_a_cpu_no_smaller_gpu_is_promised() -> None:
    on_cpu: dict[str, Any] = {"device": "cpu", "facts": {"gpu_name": None, "driver": None}}
    one, two = (
        with_figures(measured(name, system_runs(name, table=quality(), **on_cpu)), average_memory_gb=figure)
        for name, figure in (("baseline", unpaired(22.5, 22.5)), ("optimized", unpaired(14.2, 14.2)))
    )
    comparison = compare(one, two, ASSUMED)
    assert comparison.tradeoffs[2].endswith(": more of the host's memory is left.")
    assert "GPU" not in comparison.tradeoffs[2]
    assert not any("GPU of" in text for text in comparison.findings)


def test_carbon_is_said_to_be_saved_only_where_energy_clearly_fell() -> None:
    name = "estimated_energy_kwh_per_1k_requests"
    one = with_figures(measured("baseline"), **{name: unpaired(0.030, 0.031, 0.029)})
    fell = compare(one, with_figures(measured("optimized"), **{name: unpaired(0.02, 0.021, 0.019)}), ASSUMED)
    assert any("CO2e depends on the grid: saves" in text for text in fell.findings)
    rose = compare(one, with_figures(measured("optimized"), **{name: unpaired(0.04, 0.041, 0.039)}), ASSUMED)
    assert any("CO2e depends on the grid: adds" in text for text in rose.findings)
    unclear = compare(
        one, with_figures(measured("optimized"), **{name: unpaired(0.028, 0.032, 0.029)}), ASSUMED
    )
    assert unclear.rows[name].change.direction == "unclear"
    assert not any("CO2e" in text for text in unclear.findings)


def test_quality_is_assumed_where_no_file_has_a_row_for_it() -> None:
    assert "not part of the files" in compare(side("a"), side("b"), ASSUMED).tradeoffs[-1]
    empty: dict[str, float | None] = {"mean_kl": None, "perplexity": None}
    said = compare(side("a", empty), side("b", empty), ASSUMED).tradeoffs[-1]
    assert said.startswith("Output quality: not measured")


def test_findings_say_how_far_p95_is_from_the_objective() -> None:
    comparison = compare(
        side("a", {"p95_latency_ms": 1500.0}), side("b", {"p95_latency_ms": 600.0}), ASSUMED, OBJECTIVES
    )
    assert "a: p95 latency 1500 ms is 25 % above the objective of 1200 ms." in comparison.findings
    assert "b: p95 latency 600 ms is 50 % below the objective of 1200 ms." in comparison.findings


def test_a_p95_far_below_the_objective_is_never_said_to_be_all_below_it() -> None:
    near, far = ({"p95_latency_ms": figure} for figure in (2.0, 0.001))
    comparison = compare(side("a", near), side("b", far), ASSUMED, OBJECTIVES)
    assert "a: p95 latency 2 ms is 99.8 % below the objective of 1200 ms." in comparison.findings
    assert any("0.001 ms is more than 99.9 % below the objective" in text for text in comparison.findings)
    almost = compare(
        side("a", {"p95_latency_ms": 1201.0}), side("b", {"p95_latency_ms": 1200.0}), ASSUMED, OBJECTIVES
    )
    assert "a: p95 latency 1201 ms is 0.0833 % above the objective of 1200 ms." in almost.findings
    assert "b: p95 latency 1200 ms is exactly at the objective of 1200 ms." in almost.findings


def test_figures_that_are_alike_in_every_digit_of_a_csv_are_unchanged() -> None:
    old = {"p50_latency_ms": 420.0, "p95_latency_ms": 1100.0, "average_memory_gb": 0.08}
    new = {"p50_latency_ms": 419.999999, "p95_latency_ms": 1100.00001, "average_memory_gb": 0.08000000000001}
    comparison = compare(side("a", old), side("b", new), ASSUMED)
    assert comparison.tradeoffs[0] == "p50 latency is unchanged; p95 latency is unchanged."
    assert comparison.tradeoffs[2] == "average memory: unchanged."
    assert {row.change.direction for row in comparison.rows.values()} == {"same"}
    assert all(row.change.delta == 0.0 for row in comparison.rows.values())
    small = compare(side("a", old), side("b", {**old, "p50_latency_ms": 420.01}), ASSUMED)
    assert small.tradeoffs[0].startswith("p50 latency rises by 0.002 %;")


def test_the_same_bill_is_said_when_whole_gpus_are_rented() -> None:
    runs = system_runs("optimized", rps=4, table=quality())
    comparison = compare(measured("baseline"), measured("optimized", runs), ASSUMED)
    assert any("the bill for rented GPUs stays the same" in text for text in comparison.findings)
