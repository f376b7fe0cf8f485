"""The self-test's report says what the harness costs, what that proves, and what to do."""

from __future__ import annotations

from io import StringIO
from typing import Any

import msgspec
import pytest
from rich.console import Console

from bench.analysis.paired import Median
from bench.report.selftest import render_selftest
from bench.run.clockwork import Pacing, Queueing
from bench.run.selftest import SCHEMA, Cost, SelfTest


def cost(what: str, median: float, verdict: Any, **changed: Any) -> Cost:
    ratio = Median(median=median, low=median - 0.004, high=median + 0.004, n=20)
    figures = {"throughput": ratio, "p95": ratio, "processor": None, "pairs": 20, "rounds": 20} | changed
    return Cost(what=what, verdict=verdict, **figures)


def result(sampler: Cost, harness: Cost, **changed: Any) -> SelfTest:
    found = SelfTest(
        schema=SCHEMA,
        limit=0.01,
        verdict=harness.verdict or "passed",
        costs=(harness, sampler, cost("token times", 0.998, None)),
        pacing=Pacing(
            requests=400,
            rate_rps=200.0,
            lag_p50_ms=0.004,
            lag_p99_ms=0.12,
            lag_max_ms=0.5,
            scheduling="real-time",
            ok=True,
        ),
        queueing=Queueing(load=0.8, wait=1.99, low=1.9, high=2.08, theory=2.0, ok=True),
        subject={
            "system": "baseline",
            "model": "tiny",
            "precision": "fp16",
            "engine": "generate",
            "policy": "NoBatching",
            "requests_per_trial": 7,
        },
        bare="stock generate",
        sampler={
            "meters": ["host"],
            "period_s": 0.1,
            "reads": 9,
            "read_ms_median": 0.2,
            "read_ms_max": 1.5,
            "failures": [],
        },
        seconds={"stock": 1.234, "served": 1.24, "sampled": 1.25},
        trials_s={"stock": [1.234], "served": [1.24], "sampled": [1.25]},
        provenance={"cpu": "a processor"},
        config_file="configs/x.toml",
    )
    return msgspec.structs.replace(found, **changed)


def rendered(found: SelfTest) -> str:
    out = StringIO()
    Console(file=out, width=80, no_color=True).print(render_selftest(found))
    return out.getvalue()


def shown(found: SelfTest) -> str:
    return " ".join(rendered(found).split())


PASSED = (cost("sampler", 0.999, "passed"), cost("harness", 0.9965, "passed"))


def test_a_passed_test_says_what_it_cost_and_where() -> None:
    text = shown(result(*PASSED))
    assert "Self-test passed: sampler and harness cost at most 1 % of throughput here" in text
    assert "harness -0.35 -0.75 to +0.05 -0.35 - 20 passed" in text
    assert "baseline of configs/x.toml, tiny in fp16 with engine generate" in text
    assert "on a processor" in text
    assert "mean wait 1.990 service times (1.900 to 2.080), theory 2.000: holds" in text
    assert "left 0.004 ms late at the median, p99 0.12 ms" in text


def test_an_exceeded_limit_says_so_with_the_remedy() -> None:
    dear = cost("sampler", 0.97, "exceeded")
    text = shown(result(dear, cost("harness", 0.96, "exceeded")))
    assert "Self-test EXCEEDED: the harness costs more than 1 % of throughput here" in text
    assert "halve protocol.sample_hz (now 10)" in text


def test_what_is_not_resolved_is_said_to_be_so_with_the_interval_that_straddles() -> None:
    text = shown(result(PASSED[0], cost("harness", 0.99, "not resolved")))
    assert "Self-test not resolved" in text
    assert "the interval reaches from -1.40 to -0.60 %, the limit is -1 %; take more pairs" in text


def test_pairs_that_were_left_out_and_too_few_pairs_are_said() -> None:
    few = Median(median=1.0, low=None, high=None, n=3)
    left_out = cost("harness", 1.0, "not resolved", throughput=few, pairs=3)
    text = shown(result(PASSED[0], left_out))
    assert "17 of 20 pairs left out, as their batches differed" in text
    assert "3 pairs give no interval; at least 6 are needed" in text


def test_figures_that_do_not_exist_are_a_dash_and_never_a_zero() -> None:
    none = cost("harness", 1.0, "not resolved", throughput=None, p95=None, pairs=0)
    lines = rendered(result(PASSED[0], none)).splitlines()
    row = next(line for line in lines if line.split()[:1] == ["harness"])
    assert row.split() == ["harness", "-", "-", "-", "-", "0", "not", "resolved"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pacing": {"ok": False, "lag_p99_ms": 3.2}}, "LATE, over 1 ms"),
        ({"queueing": {"ok": False}}, "does NOT hold; report this as a defect"),
    ],
)
def test_a_check_that_failed_stands_out(changed: dict[str, Any], says: str) -> None:
    found = result(*PASSED)
    ((name, fields),) = changed.items()
    found = msgspec.structs.replace(found, **{name: msgspec.structs.replace(getattr(found, name), **fields)})
    assert says in shown(found)


def test_a_modelled_device_and_a_meter_that_failed_are_said() -> None:
    sampler = {
        "meters": ["gpu", "host"],
        "simulated": True,
        "period_s": 0.1,
        "reads": 9,
        "read_ms_median": 0.2,
        "read_ms_max": 1.5,
        "failures": ["gpu lost: GpuLost: gone"],
    }
    text = shown(msgspec.structs.replace(result(*PASSED), sampler=sampler))
    assert "the device is MODELLED; gpu lost: GpuLost: gone" in text
