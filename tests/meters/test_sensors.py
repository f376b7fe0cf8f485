"""What a power reading shows, as data: measured or documented, else unknown."""

from __future__ import annotations

import pytest

from bench.meters.sensors import sensor_facts, sensors
from tests.meters.conftest import ModelledNvml, opened

INSTANT, AVERAGE, LEGACY = "field 186 (instant)", "field 185 (mean of 1 s)", "nvmlDeviceGetPowerUsage"


@pytest.mark.parametrize(
    ("capability", "method", "window_s", "update_s", "share"),
    [
        ("7.0", LEGACY, 0.010, 0.020, 0.5),
        ("8.0", LEGACY, 0.025, 0.101, 0.025 / 0.101),
        ("8.0", INSTANT, 0.025, 0.101, 0.025 / 0.101),
        ("8.6", LEGACY, 1.0, 0.1, 1.0),
        ("8.6", INSTANT, 0.1, 0.1, 1.0),
        ("9.0", INSTANT, 0.025, 0.1, 0.25),
        ("9.0", AVERAGE, 1.0, 0.1, 1.0),
        ("12.0", LEGACY, 1.0, None, None),
        ("12.0", INSTANT, None, None, None),
        (None, LEGACY, None, None, None),
    ],
)
def test_a_reading_averages_over_what_was_measured_of_its_architecture(
    capability: str | None, method: str, window_s: float, update_s: float, share: float
) -> None:
    facts = sensor_facts(method, capability)
    assert facts is not None
    assert (facts["window_s"], facts["update_s"]) == (window_s, update_s)
    assert facts["share_observed"] == (None if share is None else pytest.approx(share))
    assert (facts["source"] is None) == (window_s is None)


def test_every_row_has_a_source_and_no_two_speak_of_the_same() -> None:
    said = [(capability, row.reading) for row in sensors() for capability in row.capability]
    assert len(said) == len(set(said))
    assert all(row.source for row in sensors())
    assert all(row.measured_on for row in sensors() if row.update_s is not None)


def test_where_there_is_no_power_there_is_no_sensor(nvml: ModelledNvml) -> None:
    nvml.configure(mig=True)
    with opened() as meter:
        assert meter.facts["sensor"] is None


@pytest.mark.parametrize(("capability", "window_s"), [("8.0", 0.025), ("8.6", 1.0), ("12.0", 1.0)])
def test_an_old_driver_reads_what_its_architecture_makes_of_the_legacy_call(
    nvml: ModelledNvml, capability: str, window_s: float
) -> None:
    nvml.configure(faults=["186:3", "185:3"], capability=capability)
    with opened() as meter:
        assert meter.facts["sensor"]["reading"] == "legacy"
        assert meter.facts["sensor"]["window_s"] == window_s


def test_where_only_the_mean_can_be_read_the_sensor_is_that_of_the_mean(nvml: ModelledNvml) -> None:
    nvml.configure(faults=["186:3", "nvmlDeviceGetPowerUsage:3"])
    with opened() as meter:
        assert meter.facts["power_method"] is None
        assert meter.facts["sensor"]["reading"] == "average"
