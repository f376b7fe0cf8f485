"""How late requests are sent beside a busy engine: bench's pacer against MLPerf LoadGen's Server scenario.

`python -m tests.perf.dispatch`; LoadGen comes with `pip install '.[yardsticks]'`, and without it only the
pacer's own lag is measured and no ratio recorded. Both send Poisson arrivals at
100 and 1,000 requests/s to a function that does nothing, while an engine thread of the same process works:
0.2 ms of pure Python and a matrix product in turn, or a small decode loop in torch. The lag is the time from
when a request was due to the entry of that function: for the pacer its own stamp, for LoadGen its latency,
as the function reports completion first of all (LoadGen takes that time without the interpreter).

Runs alternate, the order changing from repeat to repeat; a repeat's ratio is the pacer's lag over LoadGen's.
Both are also run with LoadGen under the pacer's switch interval: what is left is due to the sender alone.
What the spin costs shows in the engine's steps per second, as a ratio to those beside LoadGen.
"""

from __future__ import annotations

import argparse
import importlib
import re
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.clock import WallClock
from bench.model.device import use_cpu_threads
from bench.records import Request
from bench.workload.arrivals import Poisson
from bench.workload.pacing import SWITCH_INTERVAL_S, Pacer

from .recording import LATEST, Entry, record, summarize

CLOCK = WallClock()
RATES_RPS = (100, 1000)
PURE_PYTHON_S = 200e-6
LEAD_S = 0.05
SAMPLES = 1024
"""LoadGen's library of samples, which nobody looks at."""


class Outcome(msgspec.Struct, frozen=True):
    """One run: percentiles of the lag in µs, and the engine's steps per second meanwhile."""

    p50_us: float
    p90_us: float
    p99_us: float
    steps_per_s: float


Lags = tuple[float, float, float]
"""The lag's p50, p90 and p99 in µs."""
Send = Callable[[int, float, int], Lags]
"""Sends at a rate for so many seconds with a seed."""


def paced(rate_rps: int, seconds: float, seed: int) -> Lags:
    """Send by bench's pacer."""
    n = round(rate_rps * seconds)
    times_s = Poisson().times_s(n, rate_rps, np.random.default_rng(seed))
    pacer = Pacer(CLOCK, lambda request: CLOCK.now_s())
    start_s = CLOCK.now_s() + LEAD_S
    due_s = [start_s + float(t_s) for t_s in times_s]
    pacer.start([Request(uid=i, due_s=t, prompt_ids=(1,), output_tokens=1) for i, t in enumerate(due_s)])
    pacer.join()
    p50_s, p90_s, p99_s = np.percentile(np.array(pacer.answers) - np.array(due_s), [50, 90, 99])
    return float(p50_s) * 1e6, float(p90_s) * 1e6, float(p99_s) * 1e6


def loadgen(rate_rps: int, seconds: float, seed: int) -> Lags:
    """Send by LoadGen, as it is."""
    lib: Any = importlib.import_module("mlperf_loadgen")

    def issue(samples: Any) -> None:
        lib.QuerySamplesComplete([lib.QuerySampleResponse(sample.id, 0, 0) for sample in samples])

    settings = lib.TestSettings()
    settings.scenario, settings.mode = lib.TestScenario.Server, lib.TestMode.PerformanceOnly
    settings.server_target_qps, settings.schedule_rng_seed = rate_rps, seed
    settings.min_duration_ms = round(seconds * 1000)
    settings.min_query_count = settings.max_query_count = round(rate_rps * seconds)
    sut = lib.ConstructSUT(issue, lambda: None)
    library = lib.ConstructQSL(SAMPLES, SAMPLES, lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        output, logs = lib.LogOutputSettings(), lib.LogSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        logs.log_output, logs.enable_trace = output, False
        lib.StartTestWithLogSettings(sut, library, settings, logs, "audit.config")
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    lib.DestroySUT(sut)
    lib.DestroyQSL(library)
    found = {
        share: int(ns) for share, ns in re.findall(r"([\d.]+) percentile latency \(ns\) *: (\d+)", summary)
    }
    return found["50.00"] / 1000, found["90.00"] / 1000, found["99.00"] / 1000


def loadgen_switching(rate_rps: int, seconds: float, seed: int) -> Lags:
    """Send by LoadGen under the pacer's switch interval."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        return loadgen(rate_rps, seconds, seed)
    finally:
        sys.setswitchinterval(before_s)


SENDERS: dict[str, Send] = {"pacer": paced, "LoadGen": loadgen, "LoadGen switching": loadgen_switching}


def blas_step() -> Callable[[], None]:
    """Return a step of 0.2 ms of pure Python and a matrix product, which releases the interpreter."""
    import torch

    matrix = torch.randn(320, 320, dtype=torch.float64)

    def step() -> None:
        until_s = CLOCK.now_s() + PURE_PYTHON_S
        while CLOCK.now_s() < until_s:
            pass
        torch.mm(matrix, matrix)

    return step


def torch_step() -> Callable[[], None]:
    """Return a decode step of a small model: many short calls into torch, as engines make them."""
    import torch

    torch.manual_seed(0)
    layers = [(torch.randn(256, 1024) / 16, torch.randn(1024, 256) / 32) for _ in range(4)]
    start, head = torch.randn(8, 256), torch.randn(256, 2000)

    def step() -> None:
        with torch.inference_mode():
            hidden = start
            for up, down in layers:
                hidden = torch.nn.functional.layer_norm(hidden + torch.relu(hidden @ up) @ down, (256,))
            (hidden @ head).argmax(-1).tolist()

    return step


ENGINES: dict[str, Callable[[], Callable[[], None]]] = {
    "Python and BLAS": blas_step,
    "torch decode": torch_step,
}


@contextmanager
def busy(step: Callable[[], None]) -> Iterator[Callable[[], float]]:
    """Run `step` over and over on a thread; yields what tells the steps per second so far."""
    stop = threading.Event()
    steps = 0

    def work() -> None:
        nonlocal steps
        while not stop.is_set():
            step()
            steps += 1

    thread = threading.Thread(target=work, daemon=True)
    started_s = CLOCK.now_s()
    thread.start()
    try:
        yield lambda: steps / (CLOCK.now_s() - started_s)
    finally:
        stop.set()
        thread.join()


def measure(send: Send, step: Callable[[], None], rate_rps: int, seconds: float, seed: int) -> Outcome:
    """Return one run's lag and how far the engine came meanwhile."""
    with busy(step) as steps_per_s:
        lags_us = send(rate_rps, seconds, seed)
        return Outcome(*lags_us, steps_per_s())


def is_installed() -> bool:
    """Say whether LoadGen is."""
    try:
        importlib.import_module("mlperf_loadgen")
    except ImportError:
        return False
    return True


def compare(
    make_step: Callable[[], Callable[[], None]], rate_rps: int, names: list[str], args: Any
) -> dict[str, list[Outcome]]:
    """Return the runs of each sender of `names`, one per repeat, in turn."""
    step = make_step()
    found: dict[str, list[Outcome]] = {name: [] for name in names}
    for repeat in range(args.repeats):
        turn = repeat % len(names)
        for name in [*names[turn:], *names[:turn]]:
            found[name].append(measure(SENDERS[name], step, rate_rps, args.seconds, repeat + 1))
    return found


def entries(found: dict[str, list[Outcome]], engine: str, rate_rps: int) -> dict[str, Entry]:
    """Return the ratios of one table."""
    what = f"{rate_rps} requests/s beside {engine}"
    result: dict[str, Entry] = {}
    for other in ("LoadGen", "LoadGen switching"):
        for share in ("p50_us", "p90_us", "p99_us"):
            ratios = [
                getattr(ours, share) / getattr(theirs, share)
                for ours, theirs in zip(found["pacer"], found[other], strict=True)
            ]
            lag = share.removesuffix("_us")
            result[f"dispatch lag {lag} over {other}, {what}"] = summarize(ratios, f"lag {lag}", threads=1)
    steps = [
        ours.steps_per_s / theirs.steps_per_s
        for ours, theirs in zip(found["pacer"], found["LoadGen"], strict=True)
    ]
    result[f"engine steps beside pacer over beside LoadGen, {what}"] = summarize(steps, "steps/s", threads=1)
    return result


def main() -> None:
    """Measure, print a line each, and merge the ratios into the file; there are none without LoadGen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="repeats per engine and rate")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run")
    parser.add_argument("--out", type=Path, default=LATEST)
    args = parser.parse_args()
    use_cpu_threads(1)
    names = list(SENDERS)
    if not is_installed():
        names = ["pacer"]
        print("LoadGen: not installed; pip install '.[yardsticks]'")
    for engine, make_step in ENGINES.items():
        for rate_rps in RATES_RPS:
            found = compare(make_step, rate_rps, names, args)
            for name, outcomes in found.items():
                p50, p90, p99, steps = (
                    statistics.median(getattr(outcome, field) for outcome in outcomes)
                    for field in Outcome.__struct_fields__
                )
                print(
                    f"{engine}, {rate_rps}/s, {name}: lag p50 {p50:.1f}, p90 {p90:.0f}, p99 {p99:.0f} µs; "
                    f"engine {steps:.0f} steps/s"
                )
            if names == ["pacer"]:
                continue
            ratios = entries(found, engine, rate_rps)
            for name, entry in ratios.items():
                print(f"  {entry.line(name)}")
            record(ratios, args.out)


if __name__ == "__main__":
    main()
