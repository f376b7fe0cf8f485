"""One window for all that is not resolved: wherever it is named, and whichever criterion asks for most."""

from __future__ import annotations

import msgspec
import pytest

from bench.analysis.compare import compare
from bench.analysis.longer import longer_windows, window_needed_s
from bench.analysis.metric_set import metric_set
from bench.analysis.system import MetricSet, SystemRuns
from tests.recorded import ASSUMED, OBJECTIVES, offline_run, steady, window_run

LENGTH_S = 10.0


def system(n: int, *, name: str = "baseline", repeats: int = 3, capacity_rps: float = 400.0) -> SystemRuns:
    """Return a system whose windows of 10 s held `n` requests each, evenly due and never waiting."""
    windows = [
        window_run(steady(0.5, n), system=name, repeat=i + 1, offered_rps=n / LENGTH_S)
        for i in range(repeats)
    ]
    return SystemRuns(name=name, offline=offline_run(capacity_rps, system=name), windows=windows)


def measured(n: int, name: str) -> MetricSet:
    return metric_set(system(n, name=name), ASSUMED, OBJECTIVES, origin=name)


@pytest.mark.parametrize(("n", "window_s"), [(27, 75.0), (79, 26.0), (199, 11.0), (200, None), (1000, None)])
def test_a_window_is_as_long_as_its_strictest_criterion_asks(n: int, window_s: float | None) -> None:
    assert window_needed_s(system(n)) == window_s


def test_at_the_length_that_was_named_nothing_more_is_asked() -> None:
    named = window_needed_s(system(27))
    assert named is not None
    assert window_needed_s(system(int(27 * named / LENGTH_S))) is None


def test_no_window_is_long_enough_where_the_queue_never_forgets() -> None:
    assert longer_windows(window_needed_s(system(1000, capacity_rps=100.0))) == (
        "lower the load: no window is long enough"
    )


def test_every_place_names_the_window_that_both_systems_need() -> None:
    one, two = measured(79, "baseline"), measured(27, "optimized")
    assert (one.window_s, two.window_s) == (26.0, 75.0)
    found = compare(one, two, ASSUMED, OBJECTIVES, allow_different=("load",))
    windows = [doubt.remedy for doubt in found.doubts if "window" in doubt.remedy]
    assert windows
    assert set(windows) == {"set window_s = 75 under [protocol]"}
    every = msgspec.json.encode(found).decode()
    assert "times as long" not in every
