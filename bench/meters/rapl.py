"""CPU and DRAM energy by RAPL, from the kernel's powercap tree.

Each `intel-rapl:*` zone (AMD CPUs use the same names) counts microjoules and wraps at
`max_energy_range_uj`. Packages are added up, and so are `dram` zones, which on servers lie outside the
package. `core` and `uncore` lie inside it and `psys` around it: adding them would count twice. Some
multi-die CPUs show one counter under two names; the second is dropped. A total of which one part
cannot be read is missing, never a partial sum.
"""

from __future__ import annotations

from pathlib import Path

from bench.units import UJ_PER_J

POWERCAP = Path("/sys/class/powercap")
FIELDS = {"rapl_package_j": "package", "rapl_dram_j": "dram"}
"""Field to the beginning of its zones' names."""
_MIRROR_UJ = 1e6
_MIRROR_SHARE = 1e-6
"""Two counters that agree to 1 J or to 1e-6 are one counter."""


class _Zone:
    """One counter, unwrapped from its opening on."""

    def __init__(self, folder: Path, name: str) -> None:
        """Read the range and the first value; raises OSError or ValueError."""
        self.name = name
        self._counter = folder / "energy_uj"
        self.first_uj = self._last_uj = _number(self._counter)
        try:
            self._range_uj = _number(folder / "max_energy_range_uj")
        except FileNotFoundError:
            self._range_uj = 0
        if self._range_uj <= 0:
            raise ValueError("no_max_range")
        self._total_uj = 0

    def total_j(self) -> float:
        """Return the joules since opening; exact while read at least once per wrap (minutes)."""
        now_uj = _number(self._counter)
        delta_uj = now_uj - self._last_uj
        self._total_uj += delta_uj if delta_uj >= 0 else delta_uj + self._range_uj
        self._last_uj = now_uj
        return self._total_uj / UJ_PER_J


class Rapl:
    """The machine's package and DRAM energy since opening; what cannot be read is in `missing`."""

    def __init__(self, root: Path = POWERCAP) -> None:
        """Find the zones under `root` and read each once."""
        self.missing: dict[str, str] = {}
        self.zones: dict[str, list[str]] = {}
        self._zones: dict[str, list[_Zone]] = {}
        named = _named_zones(root)
        for field, prefix in FIELDS.items():
            folders = [(folder, name) for folder, name in named if name.startswith(prefix)]
            try:
                zones = _without_mirrors([_Zone(folder, name) for folder, name in folders])
            except (OSError, ValueError) as error:
                self.missing[field] = _reason(error)
                continue
            if zones:
                self._zones[field] = zones
                self.zones[field] = [zone.name for zone in zones]
            else:
                self.missing[field] = "rapl: absent"

    def read(self) -> dict[str, float]:
        """Return the joules since opening per field; a field that fails moves to `missing`."""
        totals = {}
        for field, zones in list(self._zones.items()):
            try:
                totals[field] = sum(zone.total_j() for zone in zones)
            except (OSError, ValueError) as error:
                self.missing[field] = _reason(error)
                del self._zones[field]
        return totals


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _named_zones(root: Path) -> list[tuple[Path, str]]:
    """List (folder, name) once per zone: sysfs shows a subzone both flat and inside its parent."""
    folders: dict[str, Path] = {}
    for pattern in ("intel-rapl:*", "intel-rapl:*/intel-rapl:*"):
        for folder in sorted(root.glob(pattern)):
            folders.setdefault(folder.name, folder)
    named = []
    for folder in folders.values():
        try:
            named.append((folder, (folder / "name").read_text(encoding="utf-8").strip()))
        except OSError:
            continue  # without a name it is no zone
    return named


def _without_mirrors(zones: list[_Zone]) -> list[_Zone]:
    kept: list[_Zone] = []
    for zone in zones:
        if not any(_same(zone.first_uj, other.first_uj) for other in kept):
            kept.append(zone)
    return kept


def _same(a_uj: int, b_uj: int) -> bool:
    return abs(a_uj - b_uj) <= max(_MIRROR_UJ, _MIRROR_SHARE * max(a_uj, b_uj))


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "rapl: permission"
    if isinstance(error, OSError):
        return f"rapl: unreadable ({error.strerror})"
    return "rapl: no_max_range" if str(error) == "no_max_range" else "rapl: counter is no number"
