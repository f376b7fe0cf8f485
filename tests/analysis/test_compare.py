from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.analysis.compare import COST, THROUGHPUT, compare
from bench.analysis.comparison import Comparison
from bench.analysis.csvfile import parse, render
from bench.analysis.system import Doubt
from bench.analysis.unalike import DEFAULTS
from bench.errors import ResultError
from bench.model.engines import ENGINES
from bench.model.kv_cache import KV_CACHES
from bench.model.precision import PRECISIONS
from bench.records import Value
from bench.serving.policies import POLICIES
from tests.analysis.answering import scored_table
from tests.analysis.answering import system as answered
from tests.analysis.sides import measured, point, side, with_figures
from tests.recorded import ASSUMED, CONFIG, quality, system_runs


def keys(comparison: Comparison) -> list[str]:
    return [doubt.key for doubt in comparison.doubts]


def test_metrics_of_one_side_only_are_shown_and_not_dropped() -> None:
    comparison = compare(side("a"), side("b", {"p99_latency_ms": 3.0, "mine": 4.0}), ASSUMED)
    assert comparison.rows["p99_latency_ms"].change.direction == "not comparable"
    assert comparison.rows["p99_latency_ms"].baseline.note == "the baseline does not have this metric"
    assert not comparison.rows["mine"].known


def test_an_unknown_metric_on_both_sides_is_shown_and_not_judged() -> None:
    comparison = compare(side("a", {"mine": 4.0}), side("b", {"mine": 5.0}), ASSUMED)
    assert comparison.rows["mine"].change.pct_change == pytest.approx(25.0)
    assert comparison.rows["mine"].change.direction == "not judged"


def test_a_day_without_energy_has_no_energy_and_no_carbon() -> None:
    comparison = compare(side("a"), side("b", {"estimated_energy_kwh_per_1k_requests": None}), ASSUMED)
    for day in comparison.per_day[2:]:
        assert (day.optimized, day.saved) == (None, None)
        assert day.baseline is not None


def test_carbon_of_a_day_counts_pue_and_grid() -> None:
    energy, carbon = compare(side("a"), side("b"), ASSUMED).per_day[2:]
    assert energy.baseline == pytest.approx(86.4)
    assert carbon.baseline == pytest.approx(86.4 * 0.5 * 1.2)


@pytest.mark.parametrize(
    ("key", "meta"),
    [
        ("source", {"source": "simulated"}),
        ("gpu", {"facts": {"gpu_name": "NVIDIA L4"}}),
        ("driver", {"facts": {"driver": "600"}}),
        ("seed", {"config": CONFIG | {"seed": 8}}),
        ("load", {"offered_rps": 2.0}),
        ("model", {"config": CONFIG | {"model": {"id": "other", "weights": "pretrained"}}}),
        ("workload", {"config": CONFIG | {"workload": {"arrivals": {"kind": "poisson"}}}}),
    ],
)
def test_a_difference_is_refused_unless_it_is_named(key: str, meta: dict[str, Any]) -> None:
    other = measured("optimized", system_runs("optimized", table=quality(), **meta))
    with pytest.raises(ResultError, match=rf"not comparable: {key} differs.*allow it by name \({key}\)"):
        compare(measured("baseline"), other, ASSUMED)
    allowed = compare(measured("baseline"), other, ASSUMED, allow_different=[key])
    assert allowed.allowed[0].startswith(f"{key} differs")


def test_a_simulated_csv_is_refused_against_a_measured_one() -> None:
    one = parse(render(measured("baseline").values, "baseline"), "b.csv")
    simulated = measured("optimized", system_runs("optimized", source="simulated", table=quality()))
    two = parse(render(simulated.values, "optimized"), "o.csv")
    with pytest.raises(ResultError, match=r"b\.csv and o\.csv are not comparable: source differs"):
        compare(one, two, ASSUMED)


def test_an_unknown_allowance_is_refused_with_the_valid_names() -> None:
    with pytest.raises(ResultError, match="'gpus' cannot be allowed to differ; valid here: source"):
        compare(side("a"), side("b"), ASSUMED, allow_different=["gpus"])


def test_loads_within_one_percent_are_the_same() -> None:
    other = measured("optimized", system_runs("optimized", table=quality(), offered_rps=1.005))
    assert compare(measured("baseline"), other, ASSUMED).allowed == ()


def test_one_changed_setting_is_printed_and_no_doubt() -> None:
    comparison = compare(measured("baseline"), measured("optimized"), ASSUMED)
    assert comparison.differences == {"precision.kind": ("fp16", "int8")}
    assert "confounded" not in keys(comparison)


def test_engine_cache_and_compilation_are_settings_like_any_other() -> None:
    chosen = {
        "engine": {"kind": "steps"},
        "kv_cache": {"kind": "static"},
        "compile": {"mode": "default", "backend": "inductor"},
    }
    usual = {"engine": {"kind": "generate"}, "kv_cache": {"kind": "dynamic"}, "compile": None}
    config = CONFIG | {"systems": {"baseline": usual, "optimized": chosen}}
    sides = [measured(name, system_runs(name, config=config)) for name in ("baseline", "optimized")]
    comparison = compare(sides[0], sides[1], ASSUMED)
    assert comparison.differences == {
        "engine.kind": ("generate", "steps"),
        "kv_cache.kind": ("dynamic", "static"),
        "compile.mode": (None, "default"),
        "compile.backend": (None, "inductor"),
    }
    (several,) = [doubt for doubt in comparison.doubts if doubt.key == "confounded"]
    assert "engine and compile at once" in several.text  # the cache follows from these


@pytest.mark.parametrize(
    ("one", "two", "at_once"),
    [
        ({"engine": "generate"}, {"engine": "steps"}, None),
        ({"engine": "steps"}, {"engine": "transformers-continuous", "kv_cache": "paged"}, None),
        ({}, {"kv_cache": "static", "compile": {"mode": "default"}}, None),
        ({}, {"kv_cache": "static"}, None),
        ({"engine": "generate"}, {"engine": "steps", "kv_cache": "static"}, "engine and kv_cache"),
        ({"kv_cache": "quantized"}, {"engine": "steps"}, "engine and kv_cache"),
        (
            {"kv_cache": "static"},
            {"engine": "transformers-continuous", "kv_cache": "paged"},
            "engine and kv_cache",
        ),
    ],
)
def test_a_cache_that_follows_from_the_engine_or_from_compiling_is_no_change_of_its_own(
    one: dict[str, Any], two: dict[str, Any], at_once: str | None
) -> None:
    usual = {"engine": "generate", "kv_cache": "dynamic", "compile": None}
    systems = {
        name: {
            key: {"kind": value} if isinstance(value, str) else value for key, value in (usual | own).items()
        }
        for name, own in (("baseline", one), ("optimized", two))
    }
    config = CONFIG | {"systems": systems}
    sides = [measured(name, system_runs(name, config=config)) for name in systems]
    said = [doubt.text for doubt in compare(sides[0], sides[1], ASSUMED).doubts if doubt.key == "confounded"]
    if at_once is None:
        assert said == []
    else:
        assert f"differ in {at_once} at once" in said[0]


def test_a_run_made_before_the_engine_could_be_chosen_ran_the_usual_one() -> None:
    usual = {"engine": {"kind": "generate"}, "kv_cache": {"kind": "dynamic"}, "compile": None}
    now = CONFIG | {"systems": {"optimized": CONFIG["systems"]["baseline"] | usual}}
    old = system_runs("baseline", schema=1)
    comparison = compare(
        measured("baseline", old), measured("optimized", system_runs("optimized", config=now)), ASSUMED
    )
    assert comparison.differences == {}


def test_dynamic_batching_of_a_run_made_before_its_options_is_the_same_without_them() -> None:
    dynamic = {"kind": "dynamic", "max_size": 8, "max_wait_ms": 25.0}
    options: dict[str, Any] = {
        "preferred_sizes": [],
        "max_batch_tokens": None,
        "look_ahead": 1,
        "settle_ms": 0.0,
        "deadline": None,
    }
    engine = {"engine": {"kind": "generate"}, "kv_cache": {"kind": "dynamic"}, "compile": None}
    was = CONFIG | {"systems": {"baseline": {"precision": {"kind": "fp16"}, "batching": dynamic}}}

    def against(**changed: Any) -> Comparison:
        batching = dynamic | options | changed
        now = {"precision": {"kind": "int8"}, "batching": batching} | engine
        two = system_runs("optimized", config=CONFIG | {"systems": {"optimized": now}})
        one = system_runs("baseline", config=was, schema=1)
        return compare(measured("baseline", one), measured("optimized", two), ASSUMED)

    same = against()
    assert same.differences == {"precision.kind": ("fp16", "int8")}
    assert "confounded" not in keys(same)
    assert against(preferred_sizes=()).differences == same.differences
    assert against(settle_ms=5.0).differences["batching.settle_ms"] == (0.0, 5.0)
    deadline = {"ms": 900.0, "base_ms": 50.0, "per_request_ms": 10.0}
    assert against(deadline=deadline).differences["batching.deadline.ms"] == (None, 900.0)


def test_two_changed_settings_are_confounded() -> None:
    systems = {
        "baseline": CONFIG["systems"]["baseline"],
        "optimized": {"precision": {"kind": "int8"}, "batching": {"kind": "dynamic", "max_size": 16}},
    }
    config = CONFIG | {"systems": systems}
    one = measured("baseline", system_runs("baseline", config=config))
    two = measured("optimized", system_runs("optimized", config=config))
    comparison = compare(one, two, ASSUMED)
    assert "confounded" in keys(comparison)
    assert comparison.differences["batching.max_size"] == (None, 16)


def test_an_option_of_one_kind_alone_is_a_difference_only_where_it_was_set() -> None:
    def against(**options: Any) -> dict[str, tuple[Any, Any]]:
        chosen = {"kind": "int8", "threshold": 6.0}, {"kind": "dynamic", "settle_ms": 0.0} | options
        own = dict(zip(("precision", "batching"), chosen, strict=True))
        config = CONFIG | {"systems": CONFIG["systems"] | {"optimized": own}}
        runs = [system_runs(name, config=config) for name in ("baseline", "optimized")]
        return compare(measured("baseline", runs[0]), measured("optimized", runs[1]), ASSUMED).differences

    kinds = against(preferred_sizes=[], look_ahead=1)
    assert list(kinds) == ["precision.kind", "batching.kind"]
    assert against(look_ahead=4) == kinds | {"batching.look_ahead": (None, 4)}


def test_the_defaults_of_options_are_those_of_their_kinds() -> None:
    families: dict[str, Mapping[str, Any]]
    families = {"precision": PRECISIONS, "engine": ENGINES, "batching": POLICIES, "kv_cache": KV_CACHES}
    found = {
        f"{family}.{field.name}": msgspec.to_builtins(field.default)
        for family, kinds in families.items()
        for kind in kinds.values()
        for field in msgspec.structs.fields(kind)
        if field.default is not msgspec.NODEFAULT and field.default is not None
    }
    assert json.loads(json.dumps(found)) == DEFAULTS


def test_disordered_percentiles_are_pointed_out() -> None:
    comparison = compare(side("a", {"p50_latency_ms": 5.0, "p95_latency_ms": 4.0}), side("b"), ASSUMED)
    assert "a: p50_latency_ms (5) exceeds p95_latency_ms (4), which cannot be" in [
        doubt.text for doubt in comparison.doubts
    ]


def test_a_mean_that_exceeds_its_maximum_by_the_last_bits_is_no_contradiction() -> None:
    ulp = math.nextafter(4.0, 5.0)
    comparison = compare(side("a", {"average_memory_gb": ulp, "peak_memory_gb": 4.0}), side("b"), ASSUMED)
    assert "order" not in keys(comparison)
    more = compare(side("a", {"average_memory_gb": 4.001, "peak_memory_gb": 4.0}), side("b"), ASSUMED)
    assert "order" in keys(more)


def test_plausible_figures_raise_no_doubt_and_measured_energy_goes_with_its_own_rate() -> None:
    # 300 W at 1 request/s completed; at the capacity of 20 requests/s the same joules would be 6 kW.
    runs = system_runs("optimized", rps=20, watts=300, table=quality())
    comparison = compare(measured("baseline"), measured("optimized", runs), ASSUMED)
    assert not any(key.startswith("implied") for key in keys(comparison))


def test_a_configured_price_is_known_too() -> None:
    doubts = compare(side("a", {"cost_per_1k_requests_usd": 30.0}), side("b"), ASSUMED).doubts
    assert any(doubt.key == "implied price" for doubt in doubts)
    dear = Value(value=90.0, source="assumed", note="")
    doubts = compare(
        side("a", {"cost_per_1k_requests_usd": 30.0}),
        side("b"),
        ASSUMED.__class__(usd_per_gpu_hour=dear, requests_per_day=1),
    ).doubts
    assert not any(doubt.key == "implied price" for doubt in doubts)


def test_doubts_of_both_systems_are_carried_over_and_a_shared_one_stands_once() -> None:
    shared = [Doubt(key="k", text=f"{name}: t", remedy="r") for name in ("a", "b")]
    own = Doubt(key="own", text="b: u", remedy="r")
    comparison = compare(side("a", doubts=(shared[0],)), side("b", doubts=(shared[1], own)), ASSUMED)
    texts = [doubt.text for doubt in comparison.doubts if doubt.key in ("k", "own")]
    assert texts == ["both: t", "b: u"]


def once(value: float, low: float, high: float) -> Value:
    return Value(value=value, source="measured", note="", low=low, high=high, n=10)


def test_the_change_of_the_cost_is_the_mirror_image_of_throughputs_where_the_price_is_one() -> None:
    rates = (once(5.0, 4.9, 5.1), once(10.0, 6.0, 14.0))
    costs = (once(0.5, 0.49, 0.51), once(0.25, 0.179, 0.417))
    one, two = (
        with_figures(measured(name), throughput_requests_per_sec=rates[i], cost_per_1k_requests_usd=costs[i])
        for i, name in enumerate(("baseline", "optimized"))
    )
    rows = compare(one, two, ASSUMED).rows
    throughput, cost = (
        rows[name].change for name in ("throughput_requests_per_sec", "cost_per_1k_requests_usd")
    )
    assert throughput.low_pct is not None
    assert throughput.high_pct is not None
    assert cost.low_pct == pytest.approx((1 / (1 + throughput.high_pct / 100) - 1) * 100)
    assert cost.high_pct == pytest.approx((1 / (1 + throughput.low_pct / 100) - 1) * 100)
    assert cost.low_pct is not None
    assert cost.low_pct > -100
    assert cost.direction == throughput.direction
    dearer = with_figures(two, cost_per_1k_requests_usd=once(0.5, 0.4, 0.6))
    other = compare(one, dearer, ASSUMED).rows["cost_per_1k_requests_usd"].change
    assert other.pct_change == 0.0, "at another price it is a change of its own"
    assert other.low_pct is not None
    assert other.low_pct < 0


def test_a_cost_in_a_csv_is_no_surer_than_the_throughput_that_it_follows_from() -> None:
    def csv(role: str, rps: float, low: float, high: float) -> str:
        sure = f"measured on CPU; offline; 95 % interval {low} to {high} from 5 blocks of one run"
        rows = f"throughput_requests_per_sec,{rps},{sure}\ncost_per_1k_requests_usd,{1 / rps:.6g},\n"
        return f"metric,{role}_value,notes\n{rows}"

    one = parse(csv("baseline", 3.33333, 3.0, 3.7), "b.csv")
    two = parse(csv("optimized", 3.77777, 3.0, 4.6), "o.csv")
    rows = compare(one, two, ASSUMED).rows
    directions = {rows[name].change.direction for name in (THROUGHPUT, COST)}
    assert directions == {"unclear"}


@pytest.mark.parametrize(("worse", "direction"), [(1e-4, "unclear"), (0.03, "worse"), (-0.03, "better")])
def test_perplexity_is_judged_by_the_interval_of_its_ratio(worse: float, direction: str) -> None:
    own = measured("optimized", answered("optimized", scored_table(worse=worse)))
    base = measured("baseline", answered("baseline", {"position": [1], "nll": [2.0]}))
    two = own.values["perplexity"].value
    assert two is not None
    one = two / np.exp(worse)
    found = compare(with_figures(base, perplexity=point(one)), own, ASSUMED)
    change, ratio = found.row("perplexity").change, found.row("perplexity_ratio").optimized
    assert change.direction == direction
    assert ratio.low is not None
    assert change.low_pct == pytest.approx((ratio.low - 1.0) * 100.0)


def test_without_the_ratios_interval_perplexity_has_no_side_and_the_ratio_is_a_point_value() -> None:
    figures = {"perplexity": point(15.5), "perplexity_ratio": point(None, "it was not recorded by position")}
    base = with_figures(measured("baseline"), **figures)
    found = compare(base, with_figures(base, perplexity=point(15.8)), ASSUMED)
    ratio = found.row("perplexity_ratio").optimized
    assert found.row("perplexity").change.direction == "not judged"
    assert ratio.value == pytest.approx(15.8 / 15.5)
    assert ratio.note == "of the two figures; no interval: it was not recorded by position"
