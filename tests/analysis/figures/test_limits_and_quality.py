"""The figures of physical limits and output quality: shares of what is possible and of what is tolerated."""

from __future__ import annotations

import msgspec

from bench.analysis.figures.limits import limits
from bench.analysis.figures.quality import quality
from bench.records import Value
from tests.analysis.figures.compared import evaluation, row, rows, uncompared
from tests.analysis.pairs import metrics
from tests.analysis.sides import with_figures
from tests.recorded import LIMITS

BASELINE = metrics("baseline")


def known(value: float, low: float | None = None, high: float | None = None, note: str = "") -> Value:
    return Value(value=value, source="measured", note=note, low=low, high=high)


def test_the_share_of_the_limit_is_in_percent_with_its_interval_and_what_the_limit_is() -> None:
    mbu = known(0.4, 0.35, 0.45, "of 4800 GB/s (specification)")
    figure = limits(uncompared(with_figures(BASELINE, decode_mbu=mbu)))
    found = row(figure, "limits", what="MBU: memory bandwidth, decode")
    assert (found["pct"], found["low_pct"], found["high_pct"]) == (40.0, 35.0, 45.0)
    assert "4800 GB/s" in str(found["by"])
    assert "MBU: memory bandwidth, decode 40 % (baseline)" in figure.reading


def test_a_floor_is_a_share_of_the_time_that_was_measured() -> None:
    own = with_figures(BASELINE, decode_mbu=known(0.4), decode_floor_ms=known(5.0), tpot_p50_ms=known(20.0))
    found = row(limits(uncompared(own)), "limits", what="decode floor / TPOT")
    assert (found["pct"], found["floor_ms"], found["measured_ms"]) == (25.0, 5.0, 20.0)


def test_without_a_share_the_reason_is_said() -> None:
    lost = Value(value=None, source="missing", note="no specification is known")
    own = with_figures(
        BASELINE, decode_mbu=lost, prefill_mfu=lost, decode_floor_ms=lost, prefill_floor_ms=lost
    )
    assert limits(uncompared(own)).missing == "no specification is known"


def test_the_limit_of_a_measure_is_a_hundred_percent_of_what_is_tolerated() -> None:
    half = known(1 - (1 - LIMITS.min_top1_agreement) / 2)
    own = with_figures(
        metrics("optimized"),
        mean_kl=known(2 * LIMITS.max_mean_kl, 1.5 * LIMITS.max_mean_kl, 3 * LIMITS.max_mean_kl),
        top1_agreement=half,
    )
    figure = quality(evaluation(BASELINE, own))
    kl = row(figure, "quality", measure="mean KL, nats")
    assert (kl["pct"], kl["low_pct"], kl["high_pct"], kl["outcome"]) == (200.0, 150.0, 300.0, "fail")
    assert kl["limit"] == f"at most {LIMITS.max_mean_kl:g}"
    agreement = row(figure, "quality", measure="top-1 agreement")
    assert agreement["pct"] == 50.0
    assert "fail: optimized" in figure.reading


def test_an_interval_that_holds_no_change_begins_at_none() -> None:
    ratio = known(1.001, 0.999, 1.003)
    own = with_figures(metrics("optimized"), perplexity_ratio=ratio)
    found = row(quality(evaluation(BASELINE, own)), "quality", measure="perplexity ratio")
    assert found["low_pct"] == 0.0
    assert float(found["high_pct"] or 0.0) > float(found["pct"] or 0.0) > 0.0


def test_of_a_range_the_nearer_end_is_what_is_tolerated() -> None:
    # 0.9 and 1.2 are 0.1 and 0.2 from no change; 1.05 is half of the way to the nearer.
    wide = msgspec.structs.replace(LIMITS, max_length_ratio=1.2)
    own = with_figures(metrics("optimized"), output_length_ratio=known(1.05))
    found = row(quality(evaluation(BASELINE, own, limits=wide)), "quality", measure="length ratio")
    assert found["limit"] == "0.9 to 1.2"
    assert (found["pct"], found["limit_pct"]) == (50.0, 100.0)


def test_a_measure_without_a_limit_has_no_place_on_the_axis_of_what_is_tolerated() -> None:
    own = with_figures(metrics("one"), kl_p99=known(0.01, 0.005, 0.02), identical_outputs=known(0.9))
    found = rows(quality(evaluation(BASELINE, own)), "quality")
    for measure in ("KL p99, nats", "identical outputs"):
        (held,) = [one for one in found if one["measure"] == measure]
        assert (held["drawn"], held["pct"], held["high_pct"], held["limit_pct"]) == (False, None, None, None)
    drawn = [one["drawn"] for one in found]
    assert drawn == sorted(drawn, key=lambda one: not one)
    assert "mean KL, nats" in [one["measure"] for one in found if one["drawn"]]


def test_a_change_away_from_the_limit_uses_nothing_of_what_is_tolerated() -> None:
    own = with_figures(metrics("optimized"), perplexity_ratio=known(0.9, 0.8, 0.95))
    found = row(quality(evaluation(BASELINE, own)), "quality", measure="perplexity ratio")
    assert (found["pct"], found["low_pct"], found["high_pct"]) == (0.0, 0.0, 0.0)


def test_without_measured_quality_the_gates_reason_is_said() -> None:
    values = {
        name: Value(value=None, source="missing", note="quality.tokens is 0")
        for name in ("perplexity", "perplexity_ratio", "mean_kl", "top1_agreement")
    }
    blind = msgspec.structs.replace(metrics("optimized"), values=metrics("optimized").values | values)
    assert "quality.tokens is 0" in quality(evaluation(BASELINE, blind)).missing
    assert "one system only" in quality(uncompared(BASELINE)).missing
