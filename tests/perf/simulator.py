"""How fast the simulator is: a day of traffic, in CPU seconds.

`python -m tests.perf.simulator`. The traffic is that of `configs/customer-support.toml` as Poisson arrivals:
250,000 requests of 650 + 220 tokens spread over a day. Counted is all of it: drawing due times and lengths,
queue, policy, engine, answers, and the latencies read at the end. `dynamic` runs static batches, `continuous`
the step engine's model, under one law that is about that of an 8B model in 16 bit on a data-centre GPU.
Recorded are the requests per CPU second over 100,000, and how much faster than the day the day passes.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import msgspec
import numpy as np

from bench.clock import VirtualClock
from bench.config import Experiment, decode_experiment, read_toml
from bench.model.fake import FakeEngine, Style
from bench.protocols import Policy
from bench.records import ServiceLaw
from bench.run.synthetic import Laws
from bench.run.virtual import collector_at_rest
from bench.serving.loop import simulate_tickets
from bench.serving.policies import ContinuousBatching, DynamicBatching
from bench.units import DAY_S, per_day_to_rps
from tests.perf.recording import Entry, record, summarize

CONFIG = Path("configs/customer-support.toml")
LAW = ServiceLaw(
    prefill_s=0.01,
    prefill_s_per_token=4e-5,
    decode_s=0.006,
    decode_s_per_sequence=5e-5,
    decode_s_per_context_token=3e-8,
)
SIZE = 16
WAYS: dict[str, tuple[Policy, Style]] = {
    "dynamic": (DynamicBatching(max_size=SIZE, max_wait_ms=25), "static"),
    "continuous": (ContinuousBatching(max_size=SIZE), "steps"),
}
WANTED_PER_CPU_S = 100_000
REPEATS = 7


class Day(msgspec.Struct, frozen=True):
    """A simulated day: what it cost, and figures that show that it was simulated."""

    cpu_s: float
    p95_s: float
    mean_batch: float


def experiment() -> Experiment:
    """Return the customer-support experiment with Poisson arrivals."""
    written = read_toml(CONFIG)
    written["workload"] = {**written["workload"], "arrivals": "poisson"}
    return decode_experiment(written, str(CONFIG))


def simulate_day(laws: Laws, policy: Policy, style: Style, n: int, seed: int) -> Day:
    """Simulate `n` requests at their daily rate."""
    begun_s = time.process_time()
    rate_rps = per_day_to_rps(laws.experiment.workload.requests_per_day)
    clock = VirtualClock()
    with collector_at_rest():  # as `bench simulate` does
        requests = laws.open_loop(n, rate_rps, (seed,))
        tickets = simulate_tickets(
            requests, policy, FakeEngine(clock, LAW, style=style), clock, queue_limit=n, timeout_s=math.inf
        )
    latency_s = [(ticket.done_s or math.nan) - ticket.request.due_s for ticket in tickets]
    p95_s = float(np.percentile(latency_s, 95))
    cpu_s = time.process_time() - begun_s
    sizes = [ticket.batch.size for ticket in tickets if ticket.batch is not None]
    return Day(cpu_s, p95_s, float(np.mean(sizes)))


def main() -> None:
    """Measure both policies in turn, print a line each, and record the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    laws = Laws(experiment=experiment())
    n = round(laws.experiment.workload.requests_per_day)
    simulate_day(laws, *WAYS["dynamic"], 1_000, 0)  # imports, and numpy's first calls
    days: dict[str, list[Day]] = {name: [] for name in WAYS}
    for repeat in range(repeats):
        for name, (policy, style) in WAYS.items():
            days[name].append(simulate_day(laws, policy, style, n, repeat))
    entries: dict[str, Entry] = {}
    for name, found in days.items():
        unit = f"requests per CPU second over {WANTED_PER_CPU_S:,}, a day of {n:,} requests, {name}"
        speeds = summarize([n / day.cpu_s / WANTED_PER_CPU_S for day in found], unit)
        entries[f"simulator, {name}"] = speeds
        unit = f"simulated over CPU time, a day of {n:,} requests, {name}"
        entries[f"simulator, a day with {name}"] = summarize([DAY_S / day.cpu_s for day in found], unit)
        cpu_s = float(np.median([day.cpu_s for day in found]))
        print(
            f"{name}: {n / cpu_s:,.0f} requests per CPU second, a day in {cpu_s:.2f} s "
            f"(p95 {found[0].p95_s:.2f} s, mean batch {found[0].mean_batch:.1f})"
        )
    for name, entry in entries.items():
        print(entry.line(name))
    record(entries)


if __name__ == "__main__":
    main()
