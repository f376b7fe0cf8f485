"""The host: resident memory of the process tree under test, and CPU energy where RAPL is readable."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import psutil

from bench.meters.rapl import POWERCAP, Rapl
from bench.units import to_gb

RSS_PERIOD_S = 0.2
"""The resident set is not read more often: adding up a tree of processes takes long."""


class HostMeter:
    """Readings of the host (`protocols.PacedMeter`).

    `rss_gb` is the resident set size of `pid` and its descendants (pages shared between them count in
    each); `rapl_package_j` and `rapl_dram_j` are joules of the whole machine since opening.
    """

    def __init__(
        self, pid: int | None = None, *, powercap: Path = POWERCAP, children_every_reads: int = 10
    ) -> None:
        """Watch `pid`, this process by default; raises psutil.NoSuchProcess where there is none.

        The search for new children walks all processes, so only every n-th read does it.
        """
        self._process = psutil.Process(os.getpid() if pid is None else pid)
        self._children: list[psutil.Process] = []
        self._children_every_reads = children_every_reads
        self._reads = 0
        self._rapl = Rapl(powercap)
        self._missing: dict[str, str] = {}
        self._facts = {
            "cpu_logical_cores": psutil.cpu_count(),
            "host_memory_total_gb": to_gb(psutil.virtual_memory().total),
            "rapl_zones": self._rapl.zones,
        }

    @property
    def missing(self) -> dict[str, str]:
        """Field to reason."""
        return self._missing | self._rapl.missing

    @property
    def facts(self) -> dict[str, Any]:
        """The logical cores, the memory in decimal GB and the RAPL zones that are added up."""
        return dict(self._facts)

    @property
    def simulated(self) -> bool:
        """Never: these are the kernel's figures."""
        return False

    @property
    def periods_s(self) -> dict[str, float]:
        """Every field that can be read, and the shortest period at which reading it pays; 0 for any."""
        rss = {} if "rss_gb" in self._missing else {"rss_gb": RSS_PERIOD_S}
        return rss | dict.fromkeys(self._rapl.zones.keys() - self._rapl.missing.keys(), 0.0)

    def read(self, fields: Collection[str] | None = None) -> list[tuple[str, float, str | None]]:
        """Return those `fields` that can be read; raises psutil.NoSuchProcess when the process has ended."""
        readings: list[tuple[str, float, str | None]] = []
        if "rss_gb" not in self._missing and (fields is None or "rss_gb" in fields):
            try:
                readings.append(("rss_gb", to_gb(self._resident_bytes()), None))
            except psutil.AccessDenied as error:
                # Without one member of the tree the sum would be too small.
                self._missing["rss_gb"] = f"rss: permission denied for process {error.pid}"
        if fields is None or not self._rapl.zones.keys().isdisjoint(fields):
            readings += [(field, joules, None) for field, joules in self._rapl.read().items()]
        return readings

    def after(self) -> Mapping[str, Any]:
        """Return nothing: no fact about the host changes while a run lasts."""
        return {}

    def _resident_bytes(self) -> int:
        if self._reads % self._children_every_reads == 0:
            self._children = self._process.children(recursive=True)
        self._reads += 1
        total = self._process.memory_info().rss
        for child in list(self._children):
            try:
                total += child.memory_info().rss
            except psutil.NoSuchProcess:
                self._children.remove(child)
        return total

    def close(self) -> None:
        """Nothing is held open."""
