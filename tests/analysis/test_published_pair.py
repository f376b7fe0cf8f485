"""The published pair: every derived figure is known, so the whole path from text to verdict is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.csvfile import parse
from bench.analysis.decide import Verdict, decide
from bench.analysis.plausible import broken_identities, implied_kw, implied_usd_per_hour
from bench.analysis.system import Assumed, missing
from bench.config import Objectives, Quality

PAIR = Path(__file__).parent.parent / "data" / "published_pair"
ASSUMED = Assumed(
    usd_per_gpu_hour=missing("not needed"), requests_per_day=250_000, kg_co2e_per_kwh=0.40, pue=1.0
)
OBJECTIVES = Objectives(p95_latency_ms=1200)
PUBLISHED = {
    "p50_latency_ms": (40.0, 9.52381),
    "p95_latency_ms": (-160.0, -16.326531),
    "throughput_requests_per_sec": (14.0, 77.777778),
    "average_memory_gb": (-8.3, -36.888889),
    "cost_per_1k_requests_usd": (-2.8, -37.837838),
    "estimated_energy_kwh_per_1k_requests": (-1.1, -34.375),
}
PUBLISHED_DIRECTIONS = {
    "p50_latency_ms": "worse",
    "p95_latency_ms": "better",
    "throughput_requests_per_sec": "better",
    "average_memory_gb": "better",
    "cost_per_1k_requests_usd": "better",
    "estimated_energy_kwh_per_1k_requests": "better",
}
PUBLISHED_DAY = {
    ("cost, sustained", "USD"): (1850.0, 1150.0, 700.0),
    ("energy", "kWh"): (800.0, 525.0, 275.0),
    ("CO2e", "kg"): (320.0, 210.0, 110.0),
}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    sides = [
        parse((PAIR / name).read_text(encoding="utf-8"), name)
        for name in ("baseline_inference_metrics.csv", "optimized_inference_metrics.csv")
    ]
    return compare(sides[0], sides[1], ASSUMED)


@pytest.fixture(scope="module")
def verdict(comparison: Comparison) -> Verdict:
    return decide(comparison, OBJECTIVES, Quality())


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_delta_and_percentage_comes_out(comparison: Comparison, name: str) -> None:
    delta, pct_change = PUBLISHED[name]
    change = comparison.rows[name].change
    assert change.delta == pytest.approx(delta)
    assert change.pct_change == pytest.approx(pct_change, abs=1e-6)
    assert change.direction == PUBLISHED_DIRECTIONS[name]
    assert change.low_pct is None, "a bare CSV carries no interval"


def test_the_file_without_notes_is_read_like_the_one_with_notes(comparison: Comparison) -> None:
    assert comparison.rows["p50_latency_ms"].baseline.note == "Median end-to-end inference latency"
    assert comparison.rows["p50_latency_ms"].optimized.note == ""
    assert comparison.rows["p50_latency_ms"].optimized.source == "stated"


@pytest.mark.parametrize("key", PUBLISHED_DAY)
def test_the_published_day_comes_out(comparison: Comparison, key: tuple[str, str]) -> None:
    day = next(day for day in comparison.per_day if (day.label, day.unit) == key)
    assert (day.baseline, day.optimized, day.saved) == pytest.approx(PUBLISHED_DAY[key])


def test_the_two_broken_identities_are_pointed_out_with_their_figures(comparison: Comparison) -> None:
    texts = {doubt.key: doubt.text for doubt in comparison.doubts if doubt.text.startswith("baseline")}
    assert "479.5 USD an hour" in texts["implied price"]
    assert "207 kW" in texts["implied power"]
    assert implied_usd_per_hour(7.4, 18) == pytest.approx(479.52)
    assert implied_kw(3.2, 18) == pytest.approx(207.36)


def test_an_implied_power_just_beyond_any_gpu_is_not_rounded_to_what_one_draws() -> None:
    energy = "estimated_energy_kwh_per_1k_requests"
    text = f"metric,baseline_value\nthroughput_requests_per_sec,7\n{energy},0.05\n"
    doubts = broken_identities(parse(text, "b.csv"), ASSUMED)
    assert "is 1.26 kW; the hungriest GPU known here draws 1 kW" in doubts[0].text


def test_the_decision_is_the_published_one_on_point_values(verdict: Verdict) -> None:
    assert verdict.decision == "adopt with guardrails"
    assert verdict.on_point_values


def test_the_first_guardrail_is_that_quality_was_assumed(verdict: Verdict) -> None:
    assert verdict.guardrails[0].startswith("Output quality was assumed, not measured")
    assert any("p50" in guardrail for guardrail in verdict.guardrails[1:]), "p50 rose by 9.5 %"


def test_the_files_are_the_published_ones_byte_for_byte() -> None:
    sizes = {path.name: path.stat().st_size for path in PAIR.glob("*.csv")}
    assert sizes == {"baseline_inference_metrics.csv": 429, "optimized_inference_metrics.csv": 186}
