"""What is said to be the same was looked at, and a system's own runs must agree as well."""

from __future__ import annotations

from typing import Any

import pytest

from bench.analysis.compare import compare
from bench.analysis.comparison import Comparison
from bench.analysis.gates import comparability
from bench.analysis.metric_set import metric_set
from bench.analysis.system import MetricSet, SystemRuns
from bench.errors import ResultError
from tests.recorded import ASSUMED, OBJECTIVES, offline_run, quality, system_runs, window_run


def measured(name: str, **meta: Any) -> MetricSet:
    return of(system_runs(name, table=quality(), **meta))


def of(system: SystemRuns) -> MetricSet:
    return metric_set(system, ASSUMED, OBJECTIVES, origin=f"runs/{system.name}")


def on_cpu(cpu: str | None) -> dict[str, Any]:
    return {
        "device": "cpu",
        "facts": {"gpu_name": None, "driver": None},
        "provenance": {"dirty": False, "cpu": cpu},
    }


def said(baseline: MetricSet, optimized: MetricSet) -> str:
    return comparability(compare(baseline, optimized, ASSUMED)).text


def resumed(name: str, **changes: Any) -> SystemRuns:
    """Return a system whose last repeat was made elsewhere."""
    windows = [
        window_run(system=name, repeat=1),
        window_run(system=name, repeat=2),
        window_run(system=name, repeat=3, **changes),
    ]
    return SystemRuns(name=name, offline=offline_run(system=name, table=quality()), windows=windows)


def test_two_cpus_are_not_comparable_unless_it_is_allowed() -> None:
    one, two = measured("baseline", **on_cpu("Xeon A")), measured("optimized", **on_cpu("Xeon B"))
    with pytest.raises(ResultError, match=r"cpu differs \(Xeon A against Xeon B\).*\(cpu\)"):
        compare(one, two, ASSUMED)
    assert compare(one, two, ASSUMED, allow_different=["cpu"]).allowed


def test_on_a_gpu_the_hosts_cpu_may_differ() -> None:
    one = measured("baseline", provenance={"cpu": "Xeon A"})
    two = measured("optimized", provenance={"cpu": "Xeon B"})
    assert compare(one, two, ASSUMED).allowed == ()


def test_the_gate_names_what_was_checked_on_a_gpu_and_on_a_cpu() -> None:
    text = said(measured("baseline"), measured("optimized"))
    assert text == "same source, device, GPU, driver, model, seed, traffic, load and kind of throughput"
    text = said(measured("baseline", **on_cpu("Xeon")), measured("optimized", **on_cpu("Xeon")))
    assert text == "same source, device, CPU, model, seed, traffic, load and kind of throughput"


def test_the_gate_claims_nothing_that_is_not_known_of_both() -> None:
    text = said(measured("baseline", **on_cpu("Xeon")), measured("optimized", **on_cpu(None)))
    assert text == "same source, device, model, seed, traffic, load and kind of throughput; not known: CPU"
    unread = measured("optimized", facts={"driver": None})
    assert said(measured("baseline"), unread).endswith("; not known: driver")


def test_a_load_that_is_known_of_one_side_only_is_not_compared() -> None:
    alone = SystemRuns(name="optimized", offline=offline_run(system="optimized"), windows=[])
    comparison = compare(measured("baseline"), of(alone), ASSUMED)
    assert isinstance(comparison, Comparison)
    assert "not known: load" in comparability(comparison).text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"facts": {"gpu_name": "NVIDIA L4"}}, "its own runs differ in GPU (NVIDIA H200 / NVIDIA L4)"),
        ({"facts": {"driver": "600"}}, "its own runs differ in driver (595 / 600)"),
        ({"offered_rps": 2.0}, "its own runs differ in load (1.0 / 2.0)"),
        ({"device": "cpu", "provenance": {"cpu": "X"}}, "its own runs differ in device (cuda / cpu)"),
    ],
)
def test_a_system_whose_own_runs_differ_is_doubted(changes: dict[str, Any], text: str) -> None:
    found = of(resumed("optimized", **changes))
    assert f"optimized: {text}" in [doubt.text for doubt in found.doubts]


def test_runs_on_two_cpus_are_told_apart() -> None:
    system = system_runs("optimized", table=quality(), **on_cpu("Xeon A"))
    other = window_run(system="optimized", repeat=4, **on_cpu("Xeon B"))
    mixed = SystemRuns(name="optimized", offline=system.offline, windows=[*system.windows, other])
    assert "optimized: its own runs differ in CPU (Xeon A / Xeon B)" in [d.text for d in of(mixed).doubts]


def test_the_gate_does_not_call_the_same_what_differs_within_both_systems() -> None:
    facts = {"driver": "600"}
    text = said(of(resumed("baseline", facts=facts)), of(resumed("optimized", facts=facts)))
    assert text.startswith(
        "same source, device, GPU, model, seed, traffic, load and kind of throughput; different between"
    )
    assert text.endswith("different between the runs of one system: driver")


def test_a_system_that_was_moved_is_not_comparable_with_one_that_was_not() -> None:
    with pytest.raises(ResultError, match="driver differs"):
        compare(measured("baseline"), of(resumed("optimized", facts={"driver": "600"})), ASSUMED)


def test_simulated_and_measured_runs_of_one_system_are_refused() -> None:
    with pytest.raises(ResultError, match="optimized: some of its runs are measured and others simulated"):
        of(resumed("optimized", source="simulated"))
