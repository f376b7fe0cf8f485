"""What the harness costs the system that it measures: the same batches bare and through the harness.

`make perf` runs the shipped model in FP32 on one thread over the same batches in three ways, in turn, by the
code of `bench selftest` (`bench.run.overhead`): bare `model.generate` in a loop; the harness, with queue,
tickets, loop, sender and the hook that takes each token's time; and that with the sampler reading the host at
10 Hz (NVML needs a GPU and is not in it). The ratio of a pair is the time through the harness over the time
bare. Nothing here asserts a speed: it prints a line each and writes `results/perf/latest.json`.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from bench.clock import WallClock
from bench.config import Model
from bench.meters.host import HostMeter
from bench.model.bare import generate_bare
from bench.model.device import use_cpu_threads
from bench.model.generate import GenerateEngine
from bench.model.load import LoadedModel, load_model
from bench.model.precision import PRECISIONS
from bench.records import Request
from bench.run.overhead import Subject, Trial, measure
from bench.serving.policies import DynamicBatching
from bench.workload.arrivals import Steady
from bench.workload.lengths import Constant
from bench.workload.prompts import RandomTokens
from bench.workload.schedule import Traffic, draw_saturating
from tests.perf.recording import LATEST, Entry, record, summarize
from tests.run.driving import quiet

BATCH = 4
INPUT_TOKENS, OUTPUT_TOKENS = 160, 48
WAYS = {"served": "serving over bare", "sampled": "serving and sampling over bare"}


def main() -> None:
    """Measure, print a line each, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=120, help="interleaved rounds")
    parser.add_argument("--seconds", type=float, default=0.3, help="of one way of a round")
    parser.add_argument("--out", type=Path, default=LATEST)
    args = parser.parse_args()
    use_cpu_threads(1)
    clock = WallClock()
    loaded = load_model(Model(id="tiny"), PRECISIONS["fp32"](), "sdpa", "cpu")
    subject = Subject(
        engine=GenerateEngine(loaded, clock),
        policy=DynamicBatching(max_size=BATCH, max_wait_ms=1000),
        clock=clock,
        meters={"host": HostMeter()},
        period_s=0.1,
        generate=partial(generate_bare, loaded),
    )
    rounds = measure(subject, partial(_draw, loaded), pairs=args.pairs, seconds=args.seconds, emit=quiet)
    batches = rounds.requests // BATCH
    unit = f"time of {batches} batches of {BATCH}, {INPUT_TOKENS}+{OUTPUT_TOKENS} tokens, tiny fp32"
    results: dict[str, Entry] = {}
    for way, name in WAYS.items():
        results[name] = summarize(rounds.ratios(way, "stock", _took_s), unit, threads=1)
        print(results[name].line(name))
    record(results, args.out)


def _took_s(trial: Trial) -> float:
    return trial.took_s


def _draw(loaded: LoadedModel, n: int) -> list[Request]:
    traffic = Traffic(
        arrivals=Steady(),
        input_tokens=Constant(tokens=INPUT_TOKENS),
        output_tokens=Constant(tokens=OUTPUT_TOKENS),
        prompts=RandomTokens(),
        vocabulary=loaded.vocabulary,
        max_context=loaded.max_context,
        seed=1,
    )
    return draw_saturating(traffic, n=n)


if __name__ == "__main__":
    main()
