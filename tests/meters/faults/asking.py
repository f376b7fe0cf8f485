"""What an experiment would be told of a run that was metered on the modelled machine."""

from __future__ import annotations

from collections.abc import Callable

from bench.analysis.comparability import check, context_of
from bench.analysis.joules import Energy
from bench.analysis.metered import metered
from bench.analysis.metering import METERING
from bench.analysis.system import MetricSet, SystemRuns
from bench.analysis.validity import judge_run
from bench.records import Interval, Run

WINDOW = Interval(start_s=20.0, end_s=30.0)
LONG = Interval(start_s=20.0, end_s=50.0)
NO_COUNTER = ("191:3", "83:3", "nvmlDeviceGetTotalEnergyConsumption:3")
NO_POWER = ("185:3", "186:3", "nvmlDeviceGetPowerUsage:3")
SEES_ALL = "8.6"
"""The compute capability of GPUs whose power sensor sees all of the time."""
Measure = Callable[..., Run]


def energy_of(run: Run) -> Energy:
    devices = metered(run)
    assert not isinstance(devices, str), devices
    (energy,) = devices
    return energy


def faults_of(run: Run) -> list[tuple[str, str]]:
    return [(fault.level, fault.text) for fault in judge_run(run).faults]


def doubts_of(*runs: Run) -> dict[str, str]:
    system = SystemRuns(name="modelled", offline=None, windows=list(runs))
    found = {name: doubt(system) for name, doubt in METERING.items()}
    return {name: doubt[0] for name, doubt in found.items() if doubt is not None}


def compared(one: Run, two: Run) -> None:
    """Raises ResultError where the two may not be compared."""
    first, second = (
        MetricSet(
            name=name,
            origin=name,
            values={},
            context=context_of(SystemRuns(name="modelled", offline=None, windows=[run])),
        )
        for name, run in (("one", one), ("two", two))
    )
    check(first, second)


IDLE = {"cold": Interval(start_s=4.0, end_s=9.0), "resident": Interval(start_s=11.0, end_s=16.0)}
