"""How true the joules are: bench, zeus and plain polling on the same traces of known energy.

`python -m tests.perf.energy_accuracy`. The modelled NVML library (`tests/fake_nvml`) knows the true energy
and shows it as real GPUs do: a power sensor that sees 25 ms of every 100 ms (measured on A100 and H100,
arXiv 2312.02741) or means over 1 s, and an energy counter that advances every 100 ms. All of them read it
through NVIDIA's binding. On `SEEDS` cases per waveform and window, drawn as `tests/fake_nvml/accuracy.py` has
it:

- bench, counter: joules between the first and last tick inside the window;
- bench, polled: the same meter where the GPU has no energy counter;
- bench, blind: as the first, on a counter that adds up what the instant sensor sees. Whether a real one does
  is documented nowhere; no method can then see the rest, and the interval, which is of sampling, does not
  pretend to;
- zeus: the counter at `begin_window` and `end_window`;
- polling: `nvmlDeviceGetPowerUsage` at 10 Hz, trapezoids, on GPUs where that is instant (A100) or means over
  1 s (H100).

Recorded are the error in percent of the true joules (its median and worst) and how often bench's stated
interval holds the truth. Time is virtual, and so are the delays of a real sampler; `real_time` therefore runs
some cases once more on the real clock with the real sampler, all side by side.

What this cannot show: a real sensor's gain (up to 13 %, but the same in all runs of one card). Here it is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from bench.units import PERCENT
from tests.fake_nvml.accuracy import NO_COUNTER, WAVES, Case, Outcome, bench, case, has_zeus, polling, zeus
from tests.fake_nvml.in_process import Modelled, behind_binding
from tests.fake_nvml.real_time import side_by_side

from .recording import Entry, record, summarize

SEEDS = 100
WINDOWS_S = (10.0, 30.0, 60.0)
REAL_S, REAL_SEEDS = 10.0, 2

Measure = Callable[[Modelled, str, float, int], Outcome | str]

WAYS: dict[str, Measure] = {
    "bench, counter": lambda library, wave, s, seed: bench(library, case(wave, s, seed)),
    "bench, polled": lambda library, wave, s, seed: bench(library, case(wave, s, seed), *NO_COUNTER),
    "bench, blind": lambda library, wave, s, seed: bench(library, blind(case(wave, s, seed))),
    "zeus": lambda library, wave, s, seed: zeus(library, case(wave, s, seed)),
    "polling, A100": lambda library, wave, s, seed: polling(library, case(wave, s, seed)),
    "polling, H100": lambda library, wave, s, seed: polling(library, case(wave, s, seed, "H100")),
}


def blind(drawn: Case) -> Case:
    """Return the same case on a counter that sees no more than the sensor."""
    return msgspec.structs.replace(drawn, options=drawn.options | {"counter": "readings"})


class Row(msgspec.Struct, frozen=True):
    """What one way gave on all seeds of a waveform and window; `refused` are the cases without a figure."""

    outcomes: list[Outcome]
    refused: list[str]

    @property
    def errors(self) -> list[float]:
        """Absolute errors in percent of the true joules."""
        return [abs(outcome.error) * PERCENT for outcome in self.outcomes]

    @property
    def covered(self) -> float | None:
        """The share of stated intervals that hold the truth; None where none are stated."""
        stated = [outcome.covered for outcome in self.outcomes if outcome.covered is not None]
        return sum(stated) / len(stated) if stated else None

    def line(self) -> str:
        """Return the row as text for people."""
        if not self.outcomes:
            return f"no figure: {self.refused[0]}"
        widths = [outcome.width for outcome in self.outcomes if outcome.width is not None]
        text = f"median {np.median(self.errors):7.3f} %   worst {max(self.errors):7.3f} %"
        if self.covered is not None:
            text += f"   covered {self.covered:6.1%}   width {np.median(widths):.3%}"
        return text + (f"   {len(self.refused)} without a figure" if self.refused else "")


def measure(library: Modelled, way: str, wave: str, window_s: float, seeds: int = SEEDS) -> Row:
    """Measure the cases of all seeds."""
    found = [WAYS[way](library, wave, window_s, seed) for seed in range(seeds)]
    return Row(
        [each for each in found if isinstance(each, Outcome)],
        [each for each in found if isinstance(each, str)],
    )


def entries_of(name: str, row: Row) -> dict[str, Entry]:
    """Return what is recorded of a row."""
    if not row.outcomes:
        return {}
    entries = {
        name: summarize(row.errors, "error in % of the true joules"),
        f"{name}, worst": _of(
            max(row.errors), max(row.errors), max(row.errors), row, "error in % of the true joules"
        ),
    }
    if row.covered is not None:
        low, high = share_interval(row.covered, len(row.outcomes))
        entries[f"{name}, covered"] = _of(row.covered, low, high, row, "stated intervals that hold the truth")
    return entries


def _of(value: float, low: float, high: float, row: Row, unit: str) -> Entry:
    return Entry(ratio=value, low=low, high=high, repeats=len(row.outcomes), unit=unit)


def share_interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share seen in `n` trials."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def table(library: Modelled, ways: Sequence[str]) -> dict[str, Entry]:
    """Measure and print everything on virtual time."""
    entries: dict[str, Entry] = {}
    for wave in WAVES:
        for window_s in WINDOWS_S:
            print(f"{wave}, {window_s:.0f} s")
            for way in ways:
                row = measure(library, way, wave, window_s)
                print(f"  {way:16}{row.line()}", flush=True)
                entries |= entries_of(f"energy: {wave} {window_s:.0f} s, {way}", row)
    return entries


def real(library: Modelled) -> dict[str, Entry]:
    """Measure some cases on the real clock, and print them."""
    print(f"real time, {REAL_S:.0f} s")
    found: dict[str, list[Outcome]] = {}
    for wave in WAVES:
        for seed in range(REAL_SEEDS):
            for way, outcome in side_by_side(library, case(wave, REAL_S, seed)).items():
                found.setdefault(way, []).append(outcome)
    entries: dict[str, Entry] = {}
    for way, outcomes in found.items():
        row = Row(outcomes, [])
        print(f"  {way:16}{row.line()}", flush=True)
        entries |= entries_of(f"energy: real time {REAL_S:.0f} s, {way}", row)
    return entries


def main() -> None:
    """Measure, print the table and record it; without zeus its rows are left out."""
    ways = [way for way in WAYS if way != "zeus" or has_zeus()]
    if not has_zeus():
        print("zeus: not installed; pip install '.[yardsticks]'")
    with behind_binding() as library:
        entries = table(library, ways) | real(library)
    record(entries)


if __name__ == "__main__":
    main()
