"""Energy: on a modelled GPU whose true energy is known, the joules are true and their interval holds it.

`python -m tests.validate.energy`. bench's meter reads the modelled NVML library through the real binding, on
virtual time with the delays of a real sampler, and the analysis makes joules of it (`tests/fake_nvml`). On
`SEEDS` cases of each waveform (batches after one another, bursts, drift) and window, by each source of energy
that a GPU may offer, three claims: the error is within the bound, the stated interval holds the truth in 95
of 100 cases of each waveform, and it is no wider than it must be (its median, low to high, as a share).

The interval is of what sampling leaves open. A sensor's gain is not in question here: it is 1.
"""

from __future__ import annotations

import statistics
import sys

import msgspec

from tests import fake_nvml
from tests.fake_nvml.accuracy import NO_COUNTER, Outcome, bench, case
from tests.fake_nvml.in_process import Modelled, behind_binding
from tests.validate.recording import Check, record

SEEDS = 100
WAVES = ("square", "bursty", "drifting")
COVERED = 0.95
NO_INSTANT = ("186:3", "nvmlDeviceGetPowerUsage:3")


class Source(msgspec.Struct, frozen=True):
    """What the GPU does not offer, so that energy comes from the next best source.

    `worst` is the largest error and `widest` the median width of the interval, by the window's length in
    seconds. Power that is seen for a quarter of the time has no largest error: a load in step with the sensor
    can be anything. Of the rest only the limit of 700 W is known, and no idle power, and so wide it is.
    """

    without: tuple[str, ...]
    worst: dict[float, float]
    widest: dict[float, float]


SOURCES = {
    "counter": Source((), {10.0: 0.005, 30.0: 0.005}, {10.0: 0.005, 30.0: 0.002}),
    "mean power": Source((*NO_COUNTER, *NO_INSTANT), {10.0: 0.05}, {10.0: 0.4}),
    "instant power": Source((*NO_COUNTER, "185:3"), {}, {10.0: 2.5}),
}


def outcomes(library: Modelled, source: Source, wave: str, window_s: float, seeds: int) -> list[Outcome]:
    """Measure the cases of all seeds; raises ValueError where bench gives no figure."""
    found = []
    for seed in range(seeds):
        outcome = bench(library, case(wave, window_s, seed), *source.without)
        if isinstance(outcome, str):
            raise ValueError(f"{wave}, {window_s:.0f} s, seed {seed}: {outcome}")
        found.append(outcome)
    return found


def checks(library: Modelled, seeds: int = SEEDS) -> dict[str, Check]:
    """Measure everything and hold it against the bounds."""
    found: dict[str, Check] = {}
    for name, source in SOURCES.items():
        for window_s in source.widest:
            cases = {wave: outcomes(library, source, wave, window_s, seeds) for wave in WAVES}
            everything = [outcome for each in cases.values() for outcome in each]
            if window_s in source.worst:
                found[f"energy, {name}, {window_s:.0f} s: worst error"] = Check(
                    value=max(abs(outcome.error) for outcome in everything),
                    bound=source.worst[window_s],
                    direction="at most",
                    n=len(everything),
                    seed=0,
                )
            found[f"energy, {name}, {window_s:.0f} s: width of the interval"] = Check(
                value=statistics.median(outcome.width or 0.0 for outcome in everything),
                bound=source.widest[window_s],
                direction="at most",
                n=len(everything),
                seed=0,
            )
            found[f"energy, {name}, {window_s:.0f} s: intervals that hold the truth"] = Check(
                value=min(covered(each) for each in cases.values()),
                bound=COVERED,
                direction="at least",
                n=seeds,
                seed=0,
            )
    return found


def covered(found: list[Outcome]) -> float:
    """Return the share of the stated intervals that hold the truth."""
    return sum(outcome.covered is True for outcome in found) / len(found)


def main() -> None:
    """Run, print a line per claim and record them; SystemExit 1 where there is no C compiler."""
    if fake_nvml.compiler() is None:
        sys.exit("no C compiler to build the modelled NVML library with")
    with behind_binding() as library:
        found = checks(library)
    for name, check in found.items():
        print(f"{name}: {check}")
    record(found)


if __name__ == "__main__":
    main()
