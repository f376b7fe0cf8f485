"""What is remembered of a run is that run's alone, and is forgotten with it."""

from __future__ import annotations

import gc
import weakref

import msgspec

from bench.analysis.recorded import scored
from bench.analysis.remembered import remembered
from bench.records import Interval, Run
from tests.recorded import window_run


def test_a_view_is_computed_once_for_a_run_and_each_other_argument() -> None:
    computed: list[str] = []

    @remembered
    def view(run: Run, field: str = "energy_j") -> str:
        computed.append(field)
        return f"{run.folder} {field}"

    run = window_run()
    assert [view(run), view(run), view(run, "power_w"), view(run, "power_w")] == [
        "baseline.1 energy_j",
        "baseline.1 energy_j",
        "baseline.1 power_w",
        "baseline.1 power_w",
    ]
    assert computed == ["energy_j", "power_w"]


def test_a_run_with_the_same_requests_and_another_window_has_its_own() -> None:
    run = window_run()
    assert scored(run).n == 10
    half = msgspec.structs.replace(run.meta, window=Interval(start_s=10.0, end_s=15.0))
    assert scored(msgspec.structs.replace(run, meta=half)).n == 5
    assert scored(run).n == 10


class Found:
    """What a view found out."""


@remembered
def found(run: Run) -> Found:
    return Found()


def test_nothing_is_kept_of_a_run_that_is_gone() -> None:
    run, other = window_run(), window_run()
    gone, kept = weakref.ref(found(run)), weakref.ref(found(other))
    del run
    gc.collect()
    assert gone() is None
    assert kept() is found(other)
