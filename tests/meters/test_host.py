"""Resident memory of a process tree, and RAPL on a temporary powercap tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.meters.host import HostMeter

RANGE_UJ = 262_143_328_850


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int | None = RANGE_UJ) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    if range_uj is not None:
        (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


def count(path: Path, energy_uj: int) -> None:
    (path / "energy_uj").write_text(f"{energy_uj}\n")


def values(meter: HostMeter) -> dict[str, float]:
    return {field: value for field, value, _ in meter.read()}


def test_rss_is_the_process_resident_set_in_decimal_gb(tmp_path: Path) -> None:
    meter = HostMeter(powercap=tmp_path)
    expected_gb = psutil.Process().memory_info().rss / 1e9
    ((field, value, gpu_uuid),) = meter.read()
    assert (field, gpu_uuid) == ("rss_gb", None)
    # Other processes' children of this test run would only add to it.
    assert 0.9 * expected_gb < value
    assert not meter.simulated


def test_rss_counts_the_children_too(tmp_path: Path) -> None:
    child_code = "b = bytearray(100_000_000); print('up', flush=True); input()"
    alone_gb = values(HostMeter(powercap=tmp_path))["rss_gb"]
    with subprocess.Popen(
        [sys.executable, "-c", child_code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        meter = HostMeter(powercap=tmp_path, children_every_reads=1_000)
        with_child_gb = values(meter)["rss_gb"]
        child.communicate(b"\n")
    after_gb = values(meter)["rss_gb"]
    assert with_child_gb - alone_gb > 0.09
    assert with_child_gb - after_gb > 0.09, "a child that has ended no longer counts"


def test_a_new_child_is_found_within_the_stated_number_of_reads(tmp_path: Path) -> None:
    meter = HostMeter(powercap=tmp_path, children_every_reads=2)
    meter.read()
    child_code = "b = bytearray(100_000_000); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", child_code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        unseen_gb, seen_gb = values(meter)["rss_gb"], values(meter)["rss_gb"]
        child.communicate(b"\n")
    assert seen_gb - unseen_gb > 0.09


def test_a_watched_process_that_has_ended_is_an_error_and_not_zero(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        meter = HostMeter(child.pid, powercap=tmp_path)
        assert values(meter)["rss_gb"] > 0
        child.communicate(b"\n")
    with pytest.raises(psutil.NoSuchProcess):
        meter.read()


def test_the_resident_set_is_read_less_often_than_the_counters_and_apart_from_them(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    meter = HostMeter(powercap=tmp_path)
    assert meter.periods_s == {"rss_gb": 0.2, "rapl_package_j": 0.0}
    assert [field for field, _, _ in meter.read({"rss_gb"})] == ["rss_gb"]
    count(package, 3_000_000)
    assert meter.read({"rapl_package_j"}) == [("rapl_package_j", 2.0, None)]
    assert meter.after() == {}


def test_a_denied_process_makes_rss_missing_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(self: psutil.Process) -> None:
        raise psutil.AccessDenied(self.pid)

    meter = HostMeter(powercap=tmp_path)
    monkeypatch.setattr(psutil.Process, "memory_info", deny)
    assert meter.read() == []
    assert meter.missing["rss_gb"] == f"rss: permission denied for process {os.getpid()}"


def test_the_facts_describe_the_host(tmp_path: Path) -> None:
    facts = HostMeter(powercap=tmp_path).facts
    assert facts["cpu_logical_cores"] == os.cpu_count()
    assert facts["host_memory_total_gb"] == pytest.approx(psutil.virtual_memory().total / 1e9)


def test_packages_and_drams_are_added_up_and_nothing_else(tmp_path: Path) -> None:
    zones = {
        "package-0": zone(tmp_path, "intel-rapl:0", "package-0", 10_000_000),
        "core": zone(tmp_path, "intel-rapl:0:0", "core", 20_000_000),
        "dram-0": zone(tmp_path, "intel-rapl:0:1", "dram", 30_000_000),
        "package-1": zone(tmp_path, "intel-rapl:1", "package-1", 40_000_000),
        "uncore": zone(tmp_path, "intel-rapl:1:0", "uncore", 50_000_000),
        "dram-1": zone(tmp_path, "intel-rapl:1:1", "dram", 60_000_000),
        "psys": zone(tmp_path, "intel-rapl:2", "psys", 70_000_000),
        "mmio": zone(tmp_path, "intel-rapl-mmio:0", "package-0", 80_000_000),
    }
    meter = HostMeter(powercap=tmp_path)
    assert values(meter)["rapl_package_j"] == 0.0
    for n, path in enumerate(zones.values()):
        count(path, (n + 1) * 10_000_000 + 10**n)
    now = values(meter)
    assert now["rapl_package_j"] == pytest.approx((10**0 + 10**3) / 1e6)
    assert now["rapl_dram_j"] == pytest.approx((10**2 + 10**5) / 1e6)
    assert meter.missing == {}
    assert meter.facts["rapl_zones"] == {
        "rapl_package_j": ["package-0", "package-1"],
        "rapl_dram_j": ["dram", "dram"],
    }


def test_a_subzone_inside_its_parents_folder_counts_once(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    inner = zone(tmp_path, "intel-rapl:0/intel-rapl:0:0", "dram", 7_000_000)
    (tmp_path / "intel-rapl:0:0").symlink_to(inner)
    meter = HostMeter(powercap=tmp_path)
    count(inner, 9_000_000)
    assert values(meter)["rapl_dram_j"] == 2.0


def test_a_counter_that_wraps_goes_on_rising(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    meter = HostMeter(powercap=tmp_path)
    for lap in (1, 2):
        count(package, 2_000_000)
        assert values(meter)["rapl_package_j"] == pytest.approx(
            3.0 * lap + (lap - 1) * (RANGE_UJ / 1e6 - 3.0)
        )
        count(package, RANGE_UJ - 1_000_000)
        assert values(meter)["rapl_package_j"] == pytest.approx(lap * RANGE_UJ / 1e6)


def test_one_counter_under_two_names_counts_once(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0-die-0", 50_000_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-0-die-1", 50_000_040_000)
    meter = HostMeter(powercap=tmp_path)
    count(first, 50_010_000_000)
    count(second, 50_010_040_000)
    assert values(meter)["rapl_package_j"] == 10.0


def test_without_rapl_both_fields_are_absent(tmp_path: Path) -> None:
    meter = HostMeter(powercap=tmp_path / "none")
    assert meter.missing == {"rapl_package_j": "rapl: absent", "rapl_dram_j": "rapl: absent"}
    assert set(values(meter)) == {"rss_gb"}


def test_a_package_without_dram_leaves_only_dram_missing(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    meter = HostMeter(powercap=tmp_path)
    assert meter.missing == {"rapl_dram_j": "rapl: absent"}
    assert values(meter)["rapl_package_j"] == 0.0


def test_a_denied_counter_is_missing_and_never_a_partial_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    denied = zone(tmp_path, "intel-rapl:1", "package-1", 9_000_000)
    read_text = Path.read_text

    def deny_one(self: Path, encoding: str | None = None, errors: str | None = None) -> str:
        if self == denied / "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(self, encoding, errors)

    monkeypatch.setattr(Path, "read_text", deny_one)
    meter = HostMeter(powercap=tmp_path)
    assert meter.missing["rapl_package_j"] == "rapl: permission"
    assert "rapl_package_j" not in values(meter)


def test_without_its_range_a_counter_is_missing_for_a_wrap_could_not_be_told(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000, range_uj=None)
    assert HostMeter(powercap=tmp_path).missing["rapl_package_j"] == "rapl: no_max_range"


def test_a_counter_that_vanishes_while_sampling_ends_its_field(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    meter = HostMeter(powercap=tmp_path)
    (package / "energy_uj").unlink()
    assert set(values(meter)) == {"rss_gb"}
    assert meter.missing["rapl_package_j"] == "rapl: unreadable (No such file or directory)"


def test_a_counter_that_is_no_number_is_missing(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    (package / "energy_uj").write_text("n/a\n")
    assert HostMeter(powercap=tmp_path).missing["rapl_package_j"] == "rapl: counter is no number"
