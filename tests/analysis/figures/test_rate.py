from __future__ import annotations

import msgspec
import pytest

from bench.analysis.figures.rate import rate
from bench.analysis.system import SystemRuns
from bench.records import Completion, Interval, Probe
from tests.analysis.figures.evaluating import cells, evaluation_of, invalid, of_requests, of_runs
from tests.analysis.probing import recorded
from tests.recorded import completion, system_runs

PACER = {"n": 400, "lag_p99_s": 0.0001, "late": 0}


def _probe(
    rate_rps: float, start_s: float, latency_s: float, grows_s: float = 0.0, repeat: int = 1
) -> tuple[Probe, list[Completion]]:
    """Return a probe of 20 s whose latency rises by `grows_s` per second."""
    window = Interval(start_s=start_s, end_s=start_s + 20.0)
    n = round(20.0 * rate_rps)
    rows = [
        completion(start_s + i / rate_rps, latency_s + grows_s * i / rate_rps, uid=1000 * round(start_s) + i)
        for i in range(n)
    ]
    return Probe(rate_rps=rate_rps, window=window, repeat=repeat, due=n), rows


def searched(name: str = "baseline") -> SystemRuns:
    probes = [
        _probe(10.0, 100.0, 0.4),
        _probe(15.0, 200.0, 0.8),
        _probe(15.3, 300.0, 0.6, repeat=2),
        _probe(15.1, 350.0, 0.61, repeat=3),
        _probe(20.0, 400.0, 1.5),
        _probe(30.0, 500.0, 0.5, grows_s=0.8),
    ]
    return of_runs(name=name, capacity=recorded(probes, system=name, facts={"guess_rps": 20.0}))


def test_every_probe_is_a_point_and_an_overloaded_one_has_no_latency() -> None:
    figure = rate(evaluation_of(searched()))
    assert cells(figure, "points", "rate_rps", "state", "p50_ms", "p95_ms") == [
        (10.0, "steady", 400.0, 400.0),
        (15.0, "steady", 800.0, 800.0),
        (15.1, "steady", 610.0, 610.0),
        (15.3, "steady", 600.0, 600.0),
        (20.0, "steady", 1500.0, 1500.0),
        (30.0, "overloaded", None, None),
    ]
    assert cells(figure, "objective", "ms") == [(1200.0,)]


def test_probes_near_one_rate_are_one_point_of_the_line() -> None:
    figure = rate(evaluation_of(searched()))
    assert cells(figure, "curve", "rate_rps", "p95_ms") == [(10.0, 400.0), (15.1, 610.0), (20.0, 1500.0)]


def test_a_probe_that_was_not_sent_as_asked_is_invalid_and_none_of_the_line() -> None:
    sound, (unsent, rows) = _probe(10.0, 100.0, 0.4), _probe(15.0, 200.0, 0.8)
    run = recorded([sound, (msgspec.structs.replace(unsent, due=900), rows)], facts={"guess_rps": 20.0})
    figure = rate(evaluation_of(of_runs(capacity=run)))
    assert cells(figure, "points", "rate_rps", "state", "p95_ms") == [
        (10.0, "steady", 400.0),
        (15.0, "INVALID", None),
    ]
    assert cells(figure, "curve", "rate_rps") == [(10.0,)]


def test_the_capacity_is_that_of_the_comparison() -> None:
    evaluation = evaluation_of(searched())
    value = evaluation.sets["baseline"].values["throughput_requests_per_sec"]
    figure = rate(evaluation)
    assert value.value is not None
    assert cells(figure, "capacity", "rate_rps", "binds") == [(pytest.approx(value.value, rel=1e-4), "p95")]
    assert figure.reading.startswith("The objectives hold up to ")


def test_the_repeats_at_the_common_rate_are_points_too() -> None:
    figure = rate(evaluation_of(system_runs("a", (0.4, 0.6)), system_runs("b", (1.3, 1.3))))
    keys = ("system", "rate_rps", "job", "p95_ms")
    assert cells(figure, "points", *keys) == [
        ("a", 1.0, "repeats at the common rate", 500.0),
        ("b", 1.0, "repeats at the common rate", 1300.0),
    ]
    assert figure.reading == "Measured at 1 requests/s; no queue grew."
    assert any("No capacity was searched" in note for note in figure.notes)


def test_a_saturated_system_is_overloaded_at_the_common_rate() -> None:
    rows = [completion(10.0 + i / 50, 0.3 + i / 25) for i in range(500)]
    figure = rate(evaluation_of(of_requests(rows, offered_rps=50.0)))
    assert cells(figure, "points", "rate_rps", "state", "p95_ms") == [(50.0, "overloaded", None)]
    assert "the queue grew with baseline" in figure.reading


def test_a_rate_above_the_saturated_throughput_is_no_queue_that_grew() -> None:
    figure = rate(evaluation_of(system_runs("a", rps=9.0), system_runs("b", rps=0.5)))
    assert cells(figure, "points", "system", "state", "p95_ms") == [
        ("a", "steady", 500.0),
        ("b", "above the saturated throughput", None),
    ]
    assert figure.reading == (
        "Measured at 1 requests/s; no queue grew; more was asked than is answered when saturated with b."
    )


def test_of_an_invalid_system_and_of_one_without_p95_no_growth_is_known() -> None:
    rows = [completion(10.0 + i / 50, 0.3 + i / 25) for i in range(500)]
    grown = of_requests(rows, "late")
    failing = of_requests([completion(10.0 + i / 50, status="error") for i in range(500)], "failing")
    sound = of_requests([completion(10.0 + i / 50) for i in range(500)], "sound")
    figure = rate(invalid(evaluation_of(grown, failing, sound), "late"))
    assert cells(figure, "points", "system", "state", "p95_ms") == [
        ("late", "INVALID", None),
        ("failing", "no p95", None),
        ("sound", "steady", 500.0),
    ]
    assert figure.reading == (
        "Measured at 50 requests/s; whether the queue grew is not known of late and failing; "
        "no other queue grew."
    )


def test_the_capacity_of_an_invalid_system_is_not_claimed() -> None:
    reading = rate(invalid(evaluation_of(searched()), "baseline")).reading
    assert reading == "There is no capacity to go by; the notes say why."


def test_runs_at_different_rates_make_one_line_per_system() -> None:
    slow = system_runs("a", (0.4, 0.4), n=10)
    fast = system_runs("a", (0.7, 0.7), n=20)
    renamed = [msgspec.structs.replace(runs, name=f"run{i}/a") for i, runs in enumerate((slow, fast))]
    figure = rate(evaluation_of(*renamed))
    assert cells(figure, "curve", "system", "line", "rate_rps", "p95_ms") == [
        ("run0/a", "a", 1.0, 400.0),
        ("run1/a", "a", 2.0, 700.0),
    ]


def test_without_probes_and_windows_there_is_no_rate() -> None:
    assert "no capacity was searched" in rate(evaluation_of(of_runs())).missing
